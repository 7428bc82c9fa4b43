"""The licenses that have work left, each with its pace and its batches."""

from __future__ import annotations

from dataclasses import dataclass, field

from sqlalchemy import and_, bindparam, or_, select

from models.batch import Batch, BatchState
from models.reason import PauseReason
from worker.batches.consequences import Consequences
from worker.config.environments import Environments
from worker.config.settings import ConfigError, Environment
from worker.database.engine import Database
from worker.leases.moves import LAST_START, has_pending
from worker.leases.queue import Queue
from worker.pace.paces import Paces
from worker.pace.slots import Pace

# Batches that may have work for a tick, the oldest first.
_UNFINISHED = (
    select(
        Batch.id, Batch.environment, Batch.environment_id, Batch.state, Batch.canary_row, Batch.trial_row, Batch.outages
    )
    .where(
        or_(
            Batch.id.in_(bindparam("in_window", expanding=True)),
            and_(Batch.state != BatchState.PAUSED, has_pending()),
        )
    )
    .order_by(Batch.id)
)


@dataclass(frozen=True, slots=True)
class BatchWork:
    """A batch with pending records, and how much of it may go: rows up to the last of its canary, or of its first
    records in an unknown environment; a few while probing."""

    batch_id: int
    environment: str
    last_row: int | None = None
    is_probing: bool = False


@dataclass(slots=True)
class LicenseWork:
    """The batches that share one pace, since their environments do."""

    pace: Pace
    # All that have records pending, queued or in work.
    batch_ids: set[int] = field(default_factory=set)
    # Of these, the oldest first.
    running: list[BatchWork] = field(default_factory=list)
    cancelled: list[BatchWork] = field(default_factory=list)


class Workload:
    """Reads which batches have work. Those whose environment is not configured as it was at load are stopped."""

    def __init__(
        self, database: Database, queue: Queue, environments: Environments, paces: Paces, consequences: Consequences
    ) -> None:
        self._database = database
        self._queue = queue
        self._environments = environments
        self._paces = paces
        self._consequences = consequences
        is_closing = Batch.closes_at <= database.now(LAST_START)
        self._batches = _UNFINISHED.add_columns(is_closing.label("is_closing"))

    def find_unfinished(self) -> list[LicenseWork]:
        """Every license with work left, whose environment is configured as it was at load. A batch of which all that
        is left is in the queue or in work counts too: it fills its license's window."""
        with self._database.reading() as connection:
            in_window = list(self._queue.count_window(connection))
            batches = connection.execute(self._batches, {"in_window": in_window}).all()
        licenses: dict[str, LicenseWork] = {}
        for batch in batches:
            environment = self._bound(batch.id, batch.environment, batch.environment_id)
            if environment is None:
                continue
            work = licenses.setdefault(environment.license, LicenseWork(self._paces.of(environment)))
            work.batch_ids.add(batch.id)
            last_row = min(filter(None, (batch.canary_row, batch.trial_row)), default=None)
            due = BatchWork(batch.id, environment.name, last_row, batch.outages > 0)
            if batch.state == BatchState.RUNNING and not batch.is_closing:
                work.running.append(due)
            elif batch.state == BatchState.CANCELLED:
                work.cancelled.append(due)
        return list(licenses.values())

    def _bound(self, batch_id: int, name: str, environment_id: str) -> Environment | None:
        """The environment that the batch was loaded for; without it, the batch pauses."""
        try:
            environment = self._environments.get(name)
        except ConfigError as error:
            self._consequences.stop_process_or_batch(batch_id, PauseReason.ENVIRONMENT, str(error))
            return None
        if environment.environment_id != environment_id:
            self._consequences.stop_process_or_batch(batch_id, PauseReason.ENVIRONMENT)
            return None
        return environment
