"""The single-machine stack: a home, its keys, a Valkey server, and child processes that end with their parent; and what
an installation may lack of it.

Only installation and cli import it. Begin with `home`, `valkey` or `children`.
"""

from importlib.util import find_spec


def name_cure(extra: str) -> str:
    """Say how an installation gets what this extra brings.

    Without a command of pip: oathbulk is on no package index, so a name there may be that of somebody else's package.
    """
    return f"install oathbulk again, as docs/deployment.md says, with the extra `{extra}`"


def can_serve() -> bool:
    """Whether the packages are here by which the desk and the simulator answer requests."""
    return find_spec("starlette") is not None and find_spec("uvicorn") is not None
