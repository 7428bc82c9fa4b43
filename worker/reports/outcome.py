"""How the records of a batch stand: counted from them, or, once they were purged, as it was written down then."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, Select, func, select, text

from models.reason import NEEDS_MENDING
from models.record import Record, all_posts
from models.record_indexes import IS_PREPARED, LACKS_TOKEN, LACKS_USER
from models.record_states import Status
from worker.leases.replay import is_replayable
from worker.reports.refused_rows import count_refused


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """The records of a batch that have one status and reason: how many, and sums over them. `finalized_at`: when the
    last of them took its final status. `next_due_at`: when the first of them that is prepared is due. `replayable`: how
    many of them a replay could send again; `seeds`: how many have a seed."""

    status: str
    reason: str | None
    records: int
    resynced: int
    unproved: int
    imported: int
    paired: int
    attempts: int
    otp_posts: int
    requests: int
    rate_limited: int
    lack_user: int = 0
    lack_token: int = 0
    replayable: int = 0
    seeds: int = 0
    finalized_at: datetime | None = None
    next_due_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """The groups of a batch's records, and how many of its rows are refused, by reason; None if of these the number
    alone is known."""

    groups: Sequence[Group]
    refused: Mapping[str, int] | None

    @property
    def counts(self) -> dict[str, int]:
        """Records by status."""
        return count_by_status(self.groups)

    @property
    def replayable(self) -> dict[str, int]:
        """Dead letters that a replay helps, by reason."""
        helped = (group for group in self.groups if group.replayable and group.reason not in NEEDS_MENDING)
        return {group.reason or "": group.replayable for group in helped}

    @property
    def finished_at(self) -> datetime | None:
        """When the last record took its final status; None if none did."""
        return max((group.finalized_at for group in self.groups if group.finalized_at), default=None)

    def to_json(self) -> dict[str, Any]:
        """The outcome as a purged batch keeps it."""
        return {"groups": [_keep(group) for group in self.groups], "refused": self.refused}


def count_by_status(groups: Iterable[Group]) -> dict[str, int]:
    """Count the records of these groups by status; every status is named."""
    counts = {str(status): 0 for status in Status}
    for group in groups:
        counts[group.status] += group.records
    return counts


def read_outcome(connection: Connection, batch: Row[*tuple[Any, ...]]) -> Outcome:
    """Read how the records of a batch stand, or how they ended before they were purged."""
    if batch.purged_at is not None:
        return _read_kept(batch.outcome)
    groups = [Group(**row._mapping) for row in connection.execute(_group_records(batch.id))]
    return Outcome(groups, count_refused(connection, batch))


def _keep(group: Group) -> dict[str, Any]:
    """What is kept of a group whose records are purged: nothing of what could have been done with them."""
    kept = asdict(group) | {"next_due_at": None, "finalized_at": _iso_or_none(group.finalized_at)}
    del kept["replayable"], kept["seeds"]
    return kept


def _read_kept(outcome: Mapping[str, Any]) -> Outcome:
    """Read what `Outcome.to_json` wrote."""
    groups = [Group(**group | {"finalized_at": _read_time(group["finalized_at"])}) for group in outcome["groups"]]
    return Outcome(groups, outcome["refused"])


def _group_records(batch_id: int) -> Select[*tuple[Any, ...]]:
    """Select the counts and sums of the batch's records, a row for each status and reason."""
    return (
        select(
            Record.status,
            Record.reason,
            func.count().label("records"),
            func.count().filter(Record.resynced).label("resynced"),
            func.count().filter(Record.status == Status.ACTIVE, all_posts() == 0).label("unproved"),
            func.count().filter(Record.is_token_made, Record.is_in_inventory).label("imported"),
            func.count().filter(Record.is_device_made, Record.device_id != "").label("paired"),
            func.count().filter(text(LACKS_USER)).label("lack_user"),
            func.count().filter(text(LACKS_TOKEN)).label("lack_token"),
            func.count()
            .filter(Record.status == Status.DEAD_LETTER, Record.otps.is_not(None), is_replayable())
            .label("replayable"),
            func.count(Record.next_counter).label("seeds"),
            func.coalesce(func.sum(Record.attempts), 0).label("attempts"),
            func.coalesce(func.sum(all_posts()), 0).label("otp_posts"),
            func.coalesce(func.sum(Record.requests), 0).label("requests"),
            func.coalesce(func.sum(Record.rate_limited), 0).label("rate_limited"),
            func.max(Record.finalized_at).label("finalized_at"),
            func.min(Record.scheduled_at).filter(text(IS_PREPARED)).label("next_due_at"),
        )
        .where(Record.batch_id == batch_id)
        .group_by(Record.status, Record.reason)
    )


def _iso_or_none(at: datetime | None) -> str | None:
    return at.isoformat() if at else None


def _read_time(at: str | None) -> datetime | None:
    return datetime.fromisoformat(at) if at else None
