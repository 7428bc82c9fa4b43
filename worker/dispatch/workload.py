"""Finds the licenses that have work left, each with its pace and its batches."""

from __future__ import annotations

from dataclasses import dataclass, field

from sqlalchemy import and_, bindparam, or_, select

from models.batch import Batch, BatchState
from models.reason import PauseReason
from worker.batches.upkeep import Consequences
from worker.config.environment import Environment, Environments
from worker.config.settings import ConfigError
from worker.database.engine import Database
from worker.leases.moves import LAST_START
from worker.leases.order import has_pending
from worker.leases.queue import Queue
from worker.pace.paces import Paces
from worker.pace.slots import Pace
from worker.rules import breaker
from worker.tenants import read_resync

# Batches that may have work for a tick, the oldest first: those with records in the window, and those that are not
# paused and have pending records.
_UNFINISHED = (
    select(
        Batch.id,
        Batch.name,
        Batch.environment,
        Batch.environment_id,
        Batch.state,
        Batch.canary_row,
        Batch.trial_row,
        Batch.outages,
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
    """A batch with pending records, and how much of it may go: only rows up to `last_row` during a canary or a trial;
    no more than `most` records at once while it probes whether an outage is over, or while it is not known whether its
    environment wants `oathResync` with OTP 1."""

    batch_id: int
    name: str
    environment: str
    last_row: int | None = None
    most: int | None = None


@dataclass(slots=True)
class LicenseWork:
    """The batches with work whose environments belong to one license, and so share its pace."""

    pace: Pace
    # All batches that have records pending, queued or in work, by id.
    batch_ids: set[int] = field(default_factory=set)
    # Those among them that run, the oldest first.
    running: list[BatchWork] = field(default_factory=list)
    # Those among them that were cancelled and may need reads, the oldest first.
    cancelled: list[BatchWork] = field(default_factory=list)


class Workload:
    """Reads which batches have work, and stops those whose environment is not configured as it was at load.
    `only_batch`: the id of the one that is looked at; None: all are."""

    def __init__(
        self,
        database: Database,
        queue: Queue,
        environments: Environments,
        paces: Paces,
        consequences: Consequences,
        *,
        only_batch: int | None = None,
    ) -> None:
        self._database = database
        self._queue = queue
        self._environments = environments
        self._paces = paces
        self._consequences = consequences
        ends_soon = Batch.closes_at <= database.now(LAST_START)
        self._batches = _UNFINISHED.add_columns(ends_soon.label("ends_soon"))
        if only_batch is not None:
            self._batches = self._batches.where(Batch.id == only_batch)

    def find_unfinished(self) -> list[LicenseWork]:
        """Find every license with work left. A batch whose last records are all queued or in work counts too, since it
        takes room in its license's window; one whose environment is not configured as it was at load does not."""
        with self._database.reading() as connection:
            in_window = list(self._queue.count_window(connection))
            batches = connection.execute(self._batches, {"in_window": in_window}).all()
        licenses: dict[str, LicenseWork] = {}
        for batch in batches:
            environment = self._find_environment(batch.id, batch.environment, batch.environment_id)
            if environment is None:
                continue
            work = licenses.setdefault(environment.license, LicenseWork(self._paces.of(environment)))
            work.batch_ids.add(batch.id)
            last_row = min(filter(None, (batch.canary_row, batch.trial_row)), default=None)
            most = breaker.PROBES if batch.outages else self._choose_most(environment)
            due = BatchWork(batch.id, batch.name, environment.name, last_row, most)
            if batch.state == BatchState.RUNNING and not batch.ends_soon:
                work.running.append(due)
            elif batch.state == BatchState.CANCELLED:
                work.cancelled.append(due)
        return list(licenses.values())

    def _choose_most(self, environment: Environment) -> int | None:
        """How many records of a batch may go at once while its environment is still to be learnt."""
        if environment.resync_on_first_call is not None:
            return None
        with self._database.reading() as connection:
            return read_resync(connection, environment.environment_id).most_at_once

    def _find_environment(self, batch_id: int, name: str, environment_id: str) -> Environment | None:
        """The environment that a batch was loaded for. None: it is not configured so any more, and the batch or this
        process was stopped."""
        try:
            environment = self._environments.get(name)
        except ConfigError as error:
            self._consequences.stop_process_or_batch(batch_id, PauseReason.ENVIRONMENT, str(error))
            return None
        if environment.environment_id != environment_id:
            self._consequences.stop_process_or_batch(batch_id, PauseReason.ENVIRONMENT)
            return None
        return environment
