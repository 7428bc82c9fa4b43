"""Tries a write under a lease again while the lease lasts, if the database was away for a moment."""

from __future__ import annotations

from collections.abc import Callable
from time import sleep

import tenacity
from sqlalchemy.exc import DBAPIError

from worker.clocks.boot_clock import boot_time
from worker.database.away import is_away
from worker.database.sqlite import is_refused_by_disk

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


def _may_pass(error: BaseException) -> bool:
    """Whether the database may be back in a moment. A full disk counts as no, so that whoever can make room hears of it
    at once."""
    return is_away(error) and not (isinstance(error, DBAPIError) and is_refused_by_disk(error))
