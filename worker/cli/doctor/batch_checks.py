"""The check of batches: whether due work stands still, and why, as `oathbulk status` says it."""

from __future__ import annotations

from collections.abc import Sequence

from worker.batches.finding import read_running
from worker.cli.doctor.finding import Finding, fault
from worker.installation.installation import Installation
from worker.installation.lookups import read_statuses
from worker.observability.counting import format_duration
from worker.reports.facts import BatchStatus


def read_running_statuses(installation: Installation) -> list[BatchStatus]:
    """Read how each running batch stands that has work left."""
    with installation.database.reading() as connection:
        names = [batch.name for batch in read_running(connection)]
    return [status for name in names for status in read_statuses(installation, name)]


def check_batches(running: Sequence[BatchStatus]) -> Finding:
    """Name each running batch whose due work does not move, with the reason and what mends it."""
    if not running:
        return Finding("batches", "none has work left that may run")
    stalled = [(status, stall) for status in running if (stall := status.stall)]
    if not stalled:
        return Finding("batches", f"work left in {_name(running)}; none stands still")
    details = [
        f"{status.name}: nothing has moved for {format_duration(status.standstill)}. {stall.detail}"
        for status, stall in stalled
    ]
    # Batches often stand still for the same reason.
    cures = dict.fromkeys(stall.cure for _, stall in stalled)
    return fault("batches", " ".join(details), " ".join(cures))


def _name(statuses: Sequence[BatchStatus]) -> str:
    return ", ".join(status.name for status in statuses)
