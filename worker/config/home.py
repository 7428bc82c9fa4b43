"""Where the home is: the directory of an installation, with its settings, keys and database unless they are
elsewhere."""

from collections.abc import Mapping
from pathlib import Path

# The file that shows that shipments were loaded into a home.
DATABASE = "oathbulk.db"


def find_home(variables: Mapping[str, str]) -> Path:
    """Find the home: the one that OATHBULK_HOME names, else the user's own, from whichever directory a command is
    called; for a user id without a home directory, as in some containers, one in the working directory.
    https://specifications.freedesktop.org/basedir-spec/latest/"""
    if named := variables.get("OATHBULK_HOME", ""):
        return Path(named)
    state = Path(variables.get("XDG_STATE_HOME", ""))
    if state.is_absolute():
        return state / "oathbulk"
    try:
        return Path.home() / ".local" / "state" / "oathbulk"
    except RuntimeError:
        return Path(".oathbulk").absolute()
