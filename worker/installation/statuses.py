"""Reads how the batches of an installation stand, and which workers live; if due work stands still, the broker is asked
too."""

from __future__ import annotations

from dataclasses import replace

from models.batch import Batch
from worker.batches.finding import find_batch
from worker.embedded.home import find_run_alone
from worker.fleet import read_processes
from worker.installation.installation import Installation
from worker.reports import facts
from worker.reports.facts import BatchStatus
from worker.reports.stall import Fleet


def read_statuses(installation: Installation, batch: str | None = None) -> list[BatchStatus]:
    """Read how this batch stands, or all of them, the latest first; none where nothing was loaded yet. If the due work
    of one stands still, the broker is asked too, since that may be why. Raises UnknownBatch, NothingLoaded."""
    if batch is None and installation.is_empty:
        return []
    statuses = facts.read_statuses(installation.database, batch, installation.license_of)
    only_batch = _find_only_batch(installation)
    statuses = [replace(status, fleet=replace(status.fleet, only_batch=only_batch)) for status in statuses]
    if not any(status.still_for for status in statuses):
        return statuses
    # Not at the top: hardly any status asks a broker, and Redis' client takes a sixth of that command's start.
    from worker.installation.broker_check import find_broker_fault

    fault = find_broker_fault(installation.settings)
    return [replace(status, fleet=replace(status.fleet, broker=fault)) for status in statuses]


def read_fleet(installation: Installation, batch: str) -> Fleet:
    """Read which worker processes live, to say whether this batch is worked on. Raises UnknownBatch, NothingLoaded."""
    with installation.database.reading() as connection:
        name = find_batch(connection, batch, Batch.name, may_be_purged=True).name
        processes = read_processes(installation.database, connection)
    return Fleet(processes, batch=name, only_batch=_find_only_batch(installation))


def _find_only_batch(installation: Installation) -> str | None:
    """Find the batch on which all workers work alone: that of `run BATCH` in this home. Where the database is elsewhere
    there may be other workers, which work on all; then None."""
    settings = installation.settings
    return find_run_alone(settings.home) if settings.is_embedded_database else None
