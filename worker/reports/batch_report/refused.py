"""Reads the refused rows of a batch for its report: how many for which reason, and the first of them."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Row

from models.refused_row import RefusedRow
from models.row_fault import FAULT_CURES, RowFault
from worker.reports.batch_report.contents import RefusedGroup
from worker.reports.batch_report.tally import MOST_PER_REASON
from worker.reports.refused_rows import RefusedLine, count_refused, read_refused


def read_refused_groups(connection: Connection, batch: Row[*tuple[Any, ...]]) -> tuple[RefusedGroup, ...] | None:
    """Read the refused rows by reason, the most frequent first; None if the batch was loaded before they were kept."""
    counts = count_refused(connection, batch)
    if counts is None:
        return None
    return tuple(
        RefusedGroup(reason, count, FAULT_CURES[RowFault(reason)], _read_first(connection, batch.id, reason))
        for reason, count in counts.items()
    )


def _read_first(connection: Connection, batch_id: int, reason: str) -> tuple[RefusedLine, ...]:
    """Read the first rows that were refused for this reason."""
    mine = (RefusedRow.batch_id == batch_id, RefusedRow.reason == reason)
    return tuple(read_refused(connection, *mine, limit=MOST_PER_REASON))
