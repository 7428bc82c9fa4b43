"""oathbulk at work: activates the tokens of a shipment, one record a task. `tasks` and `celery` are where Celery comes
in, `__main__` and `cli` where a person does; every other package says in its first lines what it is for."""

import os
import sys
from importlib.machinery import PathFinder

# Read by the build as well (pyproject.toml); importlib.metadata would take as long to import as Python to start.
__version__ = "0.1.0"


def _warn_of_other_packages() -> None:
    """Say on stderr, at each start, if one of the packages beside this one would be imported from elsewhere: another
    program brings a package of this name too, and one of the two then fails with errors that nobody understands."""
    ours = os.path.dirname(os.path.dirname(__file__))  # noqa: PTH120 - pathlib takes a tenth of a command's start
    for name in ("models", "migrations"):
        spec = PathFinder.find_spec(name)
        place = os.path.dirname(spec.origin or "") if spec else ""  # noqa: PTH120 - as above
        if sys.stderr and place and os.path.dirname(place) != ours:  # noqa: PTH120 - as above
            cure = "install oathbulk in an environment of its own, and unset PYTHONPATH"
            sys.stderr.write(f"oathbulk: the package {name} in {place} is another program's: {cure}\n")


_warn_of_other_packages()
