"""The parts of a worker and of its ticks: leases, activations, the dispatcher, and the upkeep of batches. A worker that
could do no work, because its database refuses it or because it fails while others work, ends at its start with one line
that names the cure. Otherwise each of its attempts could cost an OTP. If the database is away later, one line a minute
says so."""

import logging
import sys
import threading
from collections.abc import Callable
from contextlib import suppress

from sqlalchemy import Connection, select
from sqlalchemy.exc import DBAPIError

from models.attempt import AttemptLine
from models.batch import Batch, BatchState
from models.reason import PAUSE_CURES, PauseReason
from worker.audit import this_person
from worker.batches.commands import Batches
from worker.batches.long_list import Turns
from worker.batches.people import People
from worker.batches.preparation import Failures, Preparation
from worker.batches.upkeep import Consequences, Upkeep
from worker.clocks import ClockWatch, LogInterval
from worker.config.environment import Environment, Environments
from worker.config.settings import UNUSABLE_SETUP, ConfigError, Settings
from worker.database.engine import Database
from worker.database.errors import INSUFFICIENT_PRIVILEGE, READ_ONLY, TAKES_NO_WRITES, explain, is_away, sqlstate_of
from worker.database.postgresql import OtherEncoding
from worker.database.schema import SchemaOutdated, read_revision, refuse_older
from worker.dispatch import Broker, Dispatcher
from worker.fleet import FAILS_ALONE, GONE_AFTER, NETWORK, Fitness, Processes, Sickness, count_well, name_this_process
from worker.leases.lease import Leases
from worker.leases.queue import Queue, has_pending
from worker.notices import Notifier, make_webhook
from worker.pingone.clients import Clients
from worker.pingone.diagnosis import measure_drift
from worker.pingone.errors import CredentialsRefused, NotDelivered, OutcomeUnknown
from worker.pingone.retry_policy import explain_hold
from worker.pingone.transport import read_authorities
from worker.process.broker import dropped
from worker.process.parts import Parts, part
from worker.records.activation import NOTHING_TO_DO, WORKER_ENDS, Activation, fail_if_dead_letter
from worker.rules.breaker import Thresholds
from worker.tenants import LearnedResync, Resync


class Activations:
    """The activations of one process, one for each thread and environment, since an HTTP client belongs to one thread.
    Thread-safe. `make` builds an Activation for the calling thread."""

    def __init__(
        self, environments: Environments, leases: Leases, fitness: Fitness, make: Callable[[Environment], Activation]
    ) -> None:
        self._environments = environments
        self._leases = leases
        self._fitness = fitness
        self._make = make
        self._thread = threading.local()

    def activate_record(self, record_id: int, name: str) -> str:
        """Make an attempt at one record of the environment with this name, and say how it ended. Raises DeadLettered
        for a dead letter. If the environment is not configured here, raises ConfigError, or, if another process is
        healthy, hands the record back and ends this process; if the record belongs to another environment, nothing is
        done."""
        try:
            activation = self._find_activation(name)
        except ConfigError as error:
            if self._leases.find_foreign_batch(record_id, name) is None:
                return NOTHING_TO_DO
            if not self._fitness.fall_sick(Sickness(PauseReason.ENVIRONMENT, str(error))):
                raise
            self._leases.hand_back(record_id, 0.0)
            return WORKER_ENDS
        return fail_if_dead_letter(activation.activate_record(record_id))

    def _find_activation(self, name: str) -> Activation:
        """Find the calling thread's activation for the environment with this name. Raises ConfigError."""
        activations: dict[str, Activation] = self._thread.__dict__.setdefault("activations", {})
        if name not in activations:
            activations[name] = self._make(self._environments.get(name))
        return activations[name]


class WorkerParts(Parts):
    """Builds the parts of a worker. `broker`: where the dispatcher publishes; `only_batch`: the id of the only batch
    that this process works on, None for all."""

    def __init__(
        self,
        settings: Settings,
        broker: Broker,
        load: Callable[[str], Environment] | None = None,
        *,
        only_batch: int | None = None,
    ) -> None:
        super().__init__(settings, load)
        self._only_batch = only_batch
        # Set when the worker is asked to end: it finishes the records in hand, and begins no others.
        self.stopping = threading.Event()
        self._broker = broker
        # What was learned about each environment, by its id.
        self._resyncs: dict[str, LearnedResync] = {}

    @part
    def leases(self) -> Leases:
        return Leases(self.database, lease=self.settings.tuning.lease, max_attempts=self.settings.max_attempts)

    @part
    def processes(self) -> Processes:
        return Processes(self.database, name_this_process(), lambda: dropped.count, lambda: self.redis.ping())

    @part
    def fitness(self) -> Fitness:
        return Fitness(self.processes)

    def handle_failing_alone(self, why: str) -> None:
        """End this process if others reach PingOne."""
        self.fitness.fall_sick(Sickness(NETWORK, why))

    @part
    def upkeep(self) -> Upkeep:
        return Upkeep(self.database, Thresholds(**self.settings.tuning.breaker))

    @part
    def consequences(self) -> Consequences:
        return Consequences(self.upkeep, self.fitness, self.environments)

    @part
    def replays(self) -> Batches:
        """The commands for batches, given in the name of the replay schedule."""
        return Batches(self.database, this_person(self.settings, name="schedule"))

    def replay_by_schedule(self) -> None:
        """Replay the dead letters whose failures may pass with time. Without a schedule, replay nothing: the message
        then does not come from beat, and being able to write to the broker must not be enough to command a replay."""
        if self.settings.replay_cron:
            self.replays.replay_transient(self._only_batch)

    @part
    def activations(self) -> Activations:
        return Activations(self.environments, self.leases, self.fitness, self._make_activation)

    def _make_activation(self, environment: Environment) -> Activation:
        return Activation(
            environment,
            self.settings,
            self.leases,
            self.clients.client(environment),
            self.clients.pairings(environment),
            self.paces.of(environment),
            self.keyring,
            self.consequences,
            is_stopping=lambda: self.stopping.is_set() or self.fitness.is_sick,
            clock=self.clients.clock(environment),
            resync=self._find_resync(environment),
        )

    def _find_resync(self, environment: Environment) -> Resync:
        if environment.resync_on_first_call is not None:
            return Resync(environment.resync_on_first_call)
        with self.building:
            if environment.environment_id not in self._resyncs:
                actor = this_person(self.settings, name="worker")
                self._resyncs[environment.environment_id] = LearnedResync(
                    self.database, environment.environment_id, actor, self.upkeep.end_trials
                )
            return self._resyncs[environment.environment_id]

    @part
    def preparation(self) -> Preparation:
        return Preparation(
            self.database,
            self.environments,
            self.clients,
            Turns(self.database, self._only_batch),
            People(self.database, self.settings.tuning.names_per_request),
            self.tokens,
            Failures(self.consequences, self.upkeep, longest_hold=self.settings.tuning.longest_hold),
            is_stopping=lambda: self.stopping.is_set() or self.fitness.is_sick,
        )

    def wait(self, seconds: float) -> None:
        """Wait for this many seconds, or until this process stops."""
        self.stopping.wait(seconds)

    @part
    def queue(self) -> Queue:
        return Queue(self.database, lease=self.settings.tuning.lease, over_after=self.settings.tuning.over_after)

    @part
    def notifier(self) -> Notifier:
        return Notifier(
            self.database,
            lambda name, environment_id: self.environments.license_of(name) or environment_id,
            make_webhook(self.settings),
            self.stopping.is_set,
            only_batch=self._only_batch,
        )

    @part
    def clock_watch(self) -> ClockWatch:
        return ClockWatch()

    @part
    def dispatcher(self) -> Dispatcher:
        """One dispatcher for all ticks: otherwise most of a tick's time would go into building its statements."""
        return Dispatcher(
            self.database,
            self.queue,
            self._broker,
            self.settings,
            self.environments,
            self.paces,
            self.consequences,
            self.upkeep,
            self.pace_memory,
            self.processes,
            self.clock_watch,
            only_batch=self._only_batch,
        )


# Errors of a database with a wrong URL or role: waiting does not help.
_LASTING = (READ_ONLY, INSUFFICIENT_PRIVILEGE)
# This is also `on` in a standby.
_SELECT_READ_ONLY = "SELECT current_setting('transaction_read_only')"
# How many of the latest attempts of all processes are searched for an answer from PingOne.
_LATEST = 200


def end_if_unusable(database: Database) -> None:
    """End the process if PostgreSQL answers but is unusable: a standby, an encoding other than UTF8, a role without
    privileges, no schema or an older one. A later schema is fine: workers continue during an upgrade."""
    if not database.is_sqlite and (fault := find_fault(database)):
        # Our console is not set up in a Celery process, and its log may go elsewhere.
        print(f"oathbulk: {fault}", file=sys.stderr, flush=True)  # noqa: T201
        sys.exit(UNUSABLE_SETUP)


def find_fault(database: Database) -> str | None:
    """Say why this PostgreSQL is unusable; None if nothing is wrong, or if the database is out of reach for now."""
    try:
        with database.reading() as connection:
            # This reads a table, for which the role may lack the privilege.
            revision = read_revision(connection)
            if connection.exec_driver_sql(_SELECT_READ_ONLY).scalar() == "on":
                return str(TAKES_NO_WRITES)
            refuse_older(revision)
    except (OtherEncoding, SchemaOutdated) as error:
        return str(error)
    except DBAPIError as error:
        return str(explain(error)) if sqlstate_of(error.orig) in _LASTING else None
    return None


def end_if_unfit(
    database: Database, processes: Processes, environments: Environments, clients: Clients, deadline: float
) -> None:
    """Record that this process is alive and, before it takes a message, ask PingOne with its credentials over its
    network. If that fails and other processes are healthy, end this process with one line. If the database is away, or
    no other process is healthy, let it begin. `deadline`: seconds for each request."""
    try:
        processes.show_life()
        sickness = _find_sickness(database, processes.name, environments, clients, deadline)
        is_spared = sickness is None or not processes.fall_sick(sickness)
    except Exception as error:
        if not is_away(error):
            raise
        return
    if sickness is not None and not is_spared:
        _end_alone(sickness)


def end_without_authorities(processes: Processes) -> None:
    """End the process if it cannot read its environment's certificate authorities: without them it cannot call PingOne,
    whether other processes are healthy or not."""
    try:
        read_authorities()
    except ConfigError as error:
        sickness = Sickness(PauseReason.ENVIRONMENT, str(error))
        with suppress(DBAPIError):
            if processes.fall_sick(sickness):
                _end_alone(sickness)
        print(f"oathbulk: {error}", file=sys.stderr, flush=True)  # noqa: T201
        sys.exit(UNUSABLE_SETUP)


def _end_alone(sickness: Sickness) -> None:
    # Our console is not set up in a Celery process, and its log may go elsewhere.
    print(f"oathbulk: only this worker is failing: {sickness.detail}", file=sys.stderr, flush=True)  # noqa: T201
    sys.exit(FAILS_ALONE)


def _find_sickness(
    database: Database, this_process: str, environments: Environments, clients: Clients, deadline: float
) -> Sickness | None:
    """Try what a first record would need, in each environment with work. Returns None if that succeeds, or fails for
    other processes too."""
    with database.reading() as connection:
        if count_well(database, connection) < 2:
            return None
        has_work = Batch.state != BatchState.CANCELLED, has_pending()
        names = connection.scalars(select(Batch.environment).where(*has_work).distinct()).all()
    for name in names:
        try:
            environment = environments.get(name)
            clients.access_tokens(environment).get()
            measure_drift(environment, deadline=deadline)
        except ConfigError as error:
            return Sickness(PauseReason.ENVIRONMENT, str(error))
        except CredentialsRefused:
            return Sickness(PauseReason.CREDENTIALS, PAUSE_CURES[PauseReason.CREDENTIALS])
        except (NotDelivered, OutcomeUnknown) as error:
            with database.reading() as connection:
                if _are_others_answered(database, connection, this_process):
                    return Sickness(NETWORK, explain_hold(error))
    return None


def _are_others_answered(database: Database, connection: Connection, this_process: str) -> bool:
    """Whether PingOne has answered another process in the last half minute."""
    lately = AttemptLine.ended_at > database.now(-GONE_AFTER)
    lines = select(AttemptLine.worker, AttemptLine.calls, lately.label("is_late"))
    latest = connection.execute(lines.order_by(AttemptLine.id.desc()).limit(_LATEST)).all()
    others = [line.calls or () for line in latest if line.is_late and line.worker not in (None, this_process)]
    return any("correlation_id" in call for calls in others for call in calls)


class AwayLines(logging.Filter):
    """Logs one line a minute for tasks that fail while the database is away, instead of a traceback for each."""

    def __init__(self) -> None:
        super().__init__()
        self._interval = LogInterval()

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if not isinstance(error, DBAPIError) or not is_away(error):
            return True
        record.msg, record.args = "database_away: %s", (str(explain(error)),)
        record.exc_info = record.exc_text = None
        record.levelno, record.levelname = logging.WARNING, "WARNING"
        return self._interval.begin_if_over()
