"""A database that is away: how that shows, and waiting until it is back."""

from __future__ import annotations

from collections.abc import Callable

import structlog
import tenacity
from sqlalchemy import exc

from worker.database.sqlstates import AWAY, sqlstate_of

log = structlog.get_logger()

# Looks, each a second after the one before, or half of one more or less: a fleet should not look all at once.
LOOKS, APART = 60, tenacity.wait_random(0.5, 1.5)


def is_away(error: BaseException) -> bool:
    """The database is away, or did not do what it was asked for this time: nothing that a change of ours would mend."""
    # A connection may not come in time, either: while the database stands still, others hold all of them.
    if isinstance(error, exc.TimeoutError):
        return True
    if not isinstance(error, exc.DBAPIError):
        return False
    state = sqlstate_of(error.orig)
    # Without a code it comes from the driver, which lost its connection or got none; or from SQLite, which is locked.
    return state in AWAY if state else error.connection_invalidated or isinstance(error, exc.OperationalError)


def wait_until_back(
    reach: Callable[[], object], is_stopping: Callable[[], bool], sleep: Callable[[float], None]
) -> None:
    """Until `reach` finds the database there; no longer than this process works, and LOOKS looks at most: about a
    minute, or more where each has to time out. Raises what it raised last."""
    tenacity.Retrying(
        retry=tenacity.retry_if_exception(is_away),
        wait=APART,
        stop=lambda state: state.attempt_number >= LOOKS or is_stopping(),
        before_sleep=_tell_once,
        sleep=sleep,
        reraise=True,
    )(reach)


def _tell_once(state: tenacity.RetryCallState) -> None:
    if state.attempt_number == 1:
        log.warning("database_away", looks=LOOKS, meanwhile="the message is kept in hand")
