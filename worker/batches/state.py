"""The only writer of Batch.state: one arrow of its table of transitions, with every column that follows from the state.

Each function gives the statement; the caller names the batch with `.where(...)` and executes it in a transaction of its
own. A batch that is in none of the named states is left alone, so that whoever comes late changes nothing.
"""

from collections.abc import Collection
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Update, update

from models.base import LONGEST_DETAIL
from models.batch import TRANSITIONS, Batch, BatchState
from models.reason import PAUSE_CURES, PauseReason

# A database's time: known already, or an expression by its clock.
Moment = datetime | ColumnElement[Any]

# Columns of a batch whose held-back rows go from now on: the inventory is read again, since a reading gives up no
# record that does not go yet.
READ_ANEW: dict[str, Any] = {"inventory_read_at": None}
# What depends on the state; each statement sets all of it, so that nothing of the state before is left.
_EMPTY = {"reason": None, "detail": None, "probe_at": None, "resumes_at": None, "closes_at": None}


def let_run(sources: Collection[BatchState], *, closes_at: datetime | None, since: Moment) -> Update:
    """Let a batch run from `since` on, until its hours end at `closes_at`; None: it has no hours."""
    return _move(sources, BatchState.RUNNING, closes_at=closes_at, running_since=since)


def pause(
    sources: Collection[BatchState],
    reason: PauseReason,
    detail: str | None = None,
    *,
    resumes_at: datetime | None = None,
    probe_at: Moment | None = None,
) -> Update:
    """Pause a batch. `detail`: a sentence for a person, by default the reason's cure. It goes on by itself at
    `resumes_at`, or tries a few records at `probe_at`; with neither, a person has to resume it."""
    said = (detail or PAUSE_CURES[reason])[:LONGEST_DETAIL]
    return _move(sources, BatchState.PAUSED, reason=reason, detail=said, resumes_at=resumes_at, probe_at=probe_at)


def cancel(sources: Collection[BatchState]) -> Update:
    """Cancel a batch; its records are cancelled by `worker.leases`."""
    return _move(sources, BatchState.CANCELLED)


def _move(sources: Collection[BatchState], target: BatchState, **columns: Any) -> Update:
    """Raises ValueError for an arrow that is not in the table."""
    for source in sources:
        if (source, target) not in TRANSITIONS:
            raise ValueError(f"no arrow leads from {source} to {target}")
    return update(Batch).where(Batch.state.in_(sources)).values(_EMPTY | columns | {"state": target})
