"""Where the home is: the directory of an installation, with its settings, keys and database unless they are
elsewhere."""

import os
import stat
from collections.abc import Mapping
from pathlib import Path

# Where the home was until it had a place that is the same from everywhere.
EARLIER_HOME = ".oathbulk"
# The file that shows that shipments were loaded into a home.
DATABASE = "oathbulk.db"


def find_home(variables: Mapping[str, str]) -> Path:
    """Find the home: the one that OATHBULK_HOME names; else that of an earlier version in the working directory, since
    its shipments must not be sent again; else the user's own."""
    if named := variables.get("OATHBULK_HOME", ""):
        return Path(named)
    return find_earlier_home() or user_home(variables)


def user_home(variables: Mapping[str, str]) -> Path:
    """The home of this user, from whichever directory a command is called; for a user id without a home directory, as
    in some containers, one in the working directory.
    https://specifications.freedesktop.org/basedir-spec/latest/"""
    state = Path(variables.get("XDG_STATE_HOME", ""))
    if state.is_absolute():
        return state / "oathbulk"
    try:
        return Path.home() / ".local" / "state" / "oathbulk"
    except RuntimeError:
        return Path(EARLIER_HOME).absolute()


def find_earlier_home() -> Path | None:
    """Find a home of an earlier version in the working directory; None if there is none, or none of this user's: what
    another user has put there says nothing."""
    path = Path(EARLIER_HOME).absolute()
    try:
        facts = path.lstat()
    except OSError:
        return None
    is_own = stat.S_ISDIR(facts.st_mode) and facts.st_uid == os.geteuid()
    return path if is_own and (path / DATABASE).exists() else None
