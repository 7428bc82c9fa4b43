"""The only writer of Batch.state: each function follows an arrow of the transition table, and sets every column that
depends on the state.

Each function returns the statement; the caller adds `.where(...)` for the batch and executes it in its transaction. The
statement changes no batch outside the `sources` states, so a late caller has no effect.
"""

from collections.abc import Collection
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Update, update

from models.base import LONGEST_DETAIL
from models.batch import TRANSITIONS, Batch, BatchState
from models.reason import PAUSE_CURES, PauseReason

# A time by the database's clock: a known value, or an expression.
Moment = datetime | ColumnElement[Any]

# Columns to set when records that were held back may run: the inventory has to be read again, since earlier readings
# gave up no record that was not allowed to run yet.
READ_ANEW: dict[str, Any] = {"inventory_read_at": None}
# Columns that depend on the state; each statement sets them all, so no value of the old state is left.
_EMPTY = {"reason": None, "detail": None, "probe_at": None, "resumes_at": None, "closes_at": None}


def let_run(sources: Collection[BatchState], *, closes_at: datetime | None, since: Moment) -> Update:
    """Let a batch run, counted from `since`, until its hours end at `closes_at`; None: it has no hours."""
    return _move(sources, BatchState.RUNNING, closes_at=closes_at, running_since=since)


def pause(
    sources: Collection[BatchState],
    reason: PauseReason,
    detail: str | None = None,
    *,
    resumes_at: datetime | None = None,
    probe_at: Moment | None = None,
) -> Update:
    """Pause a batch. `detail`: a sentence for a person, by default the cure for the reason. The batch resumes by itself
    at `resumes_at`, or tries a few records at `probe_at`; with neither, a person has to resume it."""
    sentence = (detail or PAUSE_CURES[reason])[:LONGEST_DETAIL]
    return _move(sources, BatchState.PAUSED, reason=reason, detail=sentence, resumes_at=resumes_at, probe_at=probe_at)


def cancel(sources: Collection[BatchState]) -> Update:
    """Cancel a batch; its records are cancelled by `worker.leases`."""
    return _move(sources, BatchState.CANCELLED)


def _move(sources: Collection[BatchState], target: BatchState, **columns: Any) -> Update:
    """Build the statement. Raises ValueError for an arrow that is not in the table."""
    for source in sources:
        if (source, target) not in TRANSITIONS:
            raise ValueError(f"no arrow leads from {source} to {target}")
    return update(Batch).where(Batch.state.in_(sources)).values(_EMPTY | columns | {"state": target})
