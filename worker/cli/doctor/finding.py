"""What a check finds, and how it is made so that nothing it meets can hold up the others."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import redis
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from models.encrypted import DecryptionError
from worker.config.settings import ConfigError
from worker.database.errors import explain
from worker.database.postgresql import OtherEncoding
from worker.database.schema import SchemaOutdated
from worker.embedded.home import EmbeddedError
from worker.pingone.errors import PingOneError

# Seconds after which a check is left alone: somewhat more than PostgreSQL is given to connect.
LONGEST_CHECK = 12.0
# The cure where what is wrong says it all.
ASK_AGAIN = "mend that, and ask again"
# Failures of a check that a person can mend; any other is a fault of our own.
_EXPECTED_FAILURES = (
    ConfigError,
    SQLAlchemyError,
    OtherEncoding,
    SchemaOutdated,
    redis.RedisError,
    PingOneError,
    EmbeddedError,
    DecryptionError,
    OSError,
)


class State(StrEnum):
    """What a check came to."""

    WELL = "well"
    FAULT = "fault"
    # The check could not be made; that is no failure.
    NOT_KNOWN = "not_known"


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check has found: `detail` says what is there, what is wrong, or why that is not known; `cure` what to do
    about it, if there is something to do."""

    check: str
    detail: str
    state: State = State.WELL
    cure: str = ""

    @property
    def is_well(self) -> bool:
        """Whether nothing is wrong, as far as is known."""
        return self.state is not State.FAULT

    def to_json(self) -> dict[str, Any]:
        found = {"check": self.check, "is_well": self.is_well, "state": self.state, "detail": self.detail}
        return found | {"cure": self.cure or None}


def fault(check: str, detail: str, cure: str) -> Finding:
    """Make the finding of what is wrong, with its cure."""
    return Finding(check, detail, State.FAULT, cure)


def not_known(check: str, why: str, cure: str = "") -> Finding:
    """Make the finding of a check that could not be made; `cure` says what would let it be made."""
    return Finding(check, f"not known: {why}", State.NOT_KNOWN, cure)


def examine(
    check: str, look: Callable[[], str | Finding], cure: str = ASK_AGAIN, *, longest: float = LONGEST_CHECK
) -> Finding:
    """Make one check: `look` returns a finding, or the detail of a good one, or raises what is wrong. It has `longest`
    seconds; `cure` is for what it raises, and for the time that is over."""
    results: list[str | Finding | Exception] = []
    # A daemon, so that the command ends although the check never does.
    thread = threading.Thread(target=_catch, args=(look, results), name=check, daemon=True)
    thread.start()
    thread.join(longest)
    if not results:
        return fault(check, f"no answer within {longest:g} s", cure)
    result = results[0]
    if isinstance(result, Exception):
        return _explain(check, result, cure)
    return result if isinstance(result, Finding) else Finding(check, result)


def _catch(look: Callable[[], str | Finding], results: list[str | Finding | Exception]) -> None:
    try:
        results.append(look())
    except Exception as error:
        results.append(error)


def _explain(check: str, error: Exception, cure: str) -> Finding:
    """Make the finding of a failure that a person can mend; any other is raised."""
    if not isinstance(error, _EXPECTED_FAILURES):
        raise error
    if isinstance(error, DBAPIError):
        explanation = explain(error)
        return fault(check, explanation.fault, explanation.cure)
    if isinstance(error, OtherEncoding):
        detail, _, cure = str(error).partition(": ")
        return fault(check, detail, cure)
    # The first line alone: the error of a driver goes on with advice of its own.
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return fault(check, lines[0], cure)
