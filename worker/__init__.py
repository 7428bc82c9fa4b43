"""oathbulk activates the tokens of a shipment: one record is one Celery task. Celery enters through `tasks` and
`celery`, people through `__main__` and `cli`. Every other package states its purpose in its first lines."""

import os
import sys
from importlib.machinery import PathFinder

# The build reads this too (pyproject.toml). Importing importlib.metadata would take as long as starting Python.
__version__ = "1.0.0"


def _warn_of_other_packages() -> None:
    """Warn on stderr, at each start, if one of the packages beside this one would be imported from elsewhere. This
    happens if another program installs a package with the same name; one of the two then fails with confusing
    errors."""
    ours = os.path.dirname(os.path.dirname(__file__))  # noqa: PTH120 - pathlib takes a tenth of the startup time
    for name in ("models", "migrations"):
        spec = PathFinder.find_spec(name)
        place = os.path.dirname(spec.origin or "") if spec else ""  # noqa: PTH120 - as above
        if sys.stderr and place and os.path.dirname(place) != ours:  # noqa: PTH120 - as above
            cure = "install oathbulk in an environment of its own, and unset PYTHONPATH"
            sys.stderr.write(f"oathbulk: the package {name} in {place} is another program's: {cure}\n")


_warn_of_other_packages()
