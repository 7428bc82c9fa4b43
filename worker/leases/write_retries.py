"""Tries a write under a lease again while the lease lasts, if the database was away for a moment; and waits for
a database that is away before a record is claimed."""

from __future__ import annotations

from collections.abc import Callable
from time import sleep

import structlog
import tenacity
from sqlalchemy.exc import DBAPIError

from worker.clocks import boot_time
from worker.database.errors import is_away, is_refused_by_disk

log = structlog.get_logger()

# How often the database is tried while it is away: for about a minute.
LOOKS = 60
# Seconds between two tries: one, and at random up to half a second more or less, so that the workers of a fleet do not
# all try at the same time.
APART = tenacity.wait_random(0.5, 1.5)

# The second try is made at once: where a connection went away, another may be good. Then up to 0.2, 0.4, 0.8 … and 2
# seconds pass between two tries, at random, so that threads which were in each other's way do not meet again.
_WAIT_BETWEEN_TRIES = tenacity.wait_random_exponential(multiplier=0.2, max=2)


def write_until(ends_at: float, write: Callable[[], bool], was_written: Callable[[], bool]) -> bool:
    """Call `write` until it succeeds, and return whether it found its lease. A call that failed may have been committed
    all the same, and would not find the lease a second time: then `was_written` is asked. After `ends_at` (by
    `boot_time`) no try begins; raises what the last one raised."""
    try:
        return write()
    except Exception as failure:
        if not _may_pass(failure) or boot_time() >= ends_at:
            raise
    # Built only now: nearly every write succeeds at once.
    return tenacity.Retrying(
        retry=tenacity.retry_if_exception(_may_pass),
        wait=_WAIT_BETWEEN_TRIES,
        stop=lambda state: boot_time() + state.upcoming_sleep >= ends_at,
        sleep=lambda seconds: sleep(seconds),
        reraise=True,
    )(lambda: write() or was_written())


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
        log.warning("database_away", looks=LOOKS, meanwhile="the message is kept in hand")


def _may_pass(error: BaseException) -> bool:
    """Whether the database may be back in a moment. A full disk counts as no, so that whoever can make room hears of it
    at once."""
    return is_away(error) and not (isinstance(error, DBAPIError) and is_refused_by_disk(error))
