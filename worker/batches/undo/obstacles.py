"""What stands in the way of a revocation, in words that say what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from worker.pace.errors import PaceOutOfReach
from worker.pingone.errors import CredentialsRefused, Forbidden, NotDelivered, PingOneError

_FORBIDDEN = (
    "PingOne forbids the worker application to read or revoke tokens: give it the role that imports them, or set "
    "PINGONE_IMPORT_CLIENT_ID and PINGONE_IMPORT_CLIENT_SECRET to an application that has it"
)


class CannotGoOn(Exception):
    """PingOne or Redis stands in the way of a revocation; the message says what to do."""


@contextmanager
def explaining_failures() -> Iterator[None]:
    """Raise CannotGoOn in place of a failure of PingOne's or of Redis' that only a person can mend."""
    try:
        yield
    except (CredentialsRefused, NotDelivered):
        raise
    except Forbidden as failure:
        raise CannotGoOn(f"{_FORBIDDEN} ({failure})") from failure
    except PingOneError as failure:
        raise CannotGoOn(f"PingOne does not do it ({failure}): give the command again later") from failure
    except PaceOutOfReach as failure:
        raise CannotGoOn("Redis is out of reach: check OATHBULK_REDIS_URL and the server") from failure
