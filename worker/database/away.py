"""Recognizes errors that mean that the database is away, and waits until it is back.

Away means that it cannot be reached, or refuses its work for a reason that passes by itself or that an administrator
removes.
"""

from __future__ import annotations

from collections.abc import Callable

import tenacity
from sqlalchemy import exc

from worker.database.sqlstates import AWAY, sqlstate_of

# How often the database is tried while it is away: for about a minute.
LOOKS = 60
# Seconds between two tries: one, and at random up to half a second more or less, so that the workers of a fleet do not
# all try at the same time.
APART = tenacity.wait_random(0.5, 1.5)


def is_away(error: BaseException) -> bool:
    """Whether this error means that the database is away or could not do its work this time, and no fault of ours."""
    # No connection became free in time: while the database stands still, other threads hold all of them.
    if isinstance(error, exc.TimeoutError):
        return True
    if not isinstance(error, exc.DBAPIError):
        return False
    state = sqlstate_of(error.orig)
    # An error without a code comes from the driver, which lost its connection or got none; or from SQLite, whose file
    # is locked.
    return state in AWAY if state else error.connection_invalidated or isinstance(error, exc.OperationalError)


def wait_until_back(
    reach: Callable[[], object], is_stopping: Callable[[], bool], sleep: Callable[[float], None]
) -> None:
    """Call `reach` until it succeeds, or until this process is stopping, and LOOKS times at most.

    That takes about a minute, or longer if each call has to time out. Raises the last error of `reach`.
    """
    tenacity.Retrying(
        retry=tenacity.retry_if_exception(is_away),
        wait=APART,
        stop=lambda state: state.attempt_number >= LOOKS or is_stopping(),
        before_sleep=_warn_once,
        sleep=sleep,
        reraise=True,
    )(reach)


def _warn_once(state: tenacity.RetryCallState) -> None:
    if state.attempt_number == 1:
        # Not at the top: commands import this module too, and log nothing.
        import structlog

        structlog.get_logger().warning("database_away", looks=LOOKS, meanwhile="the message is kept in hand")
