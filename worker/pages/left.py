"""What is left to do of a batch: its report without the tokens that later batches made active."""

from __future__ import annotations

from dataclasses import replace

from models.record_states import Status
from models.refused_row import REFUSED
from worker.reports.batch_report.contents import Report


def leave_out_active(report: Report) -> Report:
    """The report without the dead letters, cancelled records and refused rows whose tokens later batches made active.
    Which of a group's tokens these are is not looked up: the groups name all."""
    count_active, count_left = report.taken_over.count_active, report.taken_over.count_left
    counts = replace(
        report.counts,
        dead_letter=report.counts.dead_letter - count_active(Status.DEAD_LETTER),
        cancelled=report.counts.cancelled - count_active(Status.CANCELLED),
        refused=report.counts.refused - count_active(REFUSED),
    )
    dead = count_left(Status.DEAD_LETTER, {group.reason: group.count for group in report.dead_letters})
    letters = [replace(group, count=dead[group.reason]) for group in report.dead_letters if group.reason in dead]
    letters.sort(key=lambda group: -group.count)
    rows = count_left(REFUSED, {group.reason: group.count for group in report.refused or ()})
    refused = tuple(replace(group, count=rows[group.reason]) for group in report.refused or () if group.reason in rows)
    return replace(
        report,
        counts=counts,
        dead_letters=tuple(letters),
        refused=None if report.refused is None else refused,
    )
