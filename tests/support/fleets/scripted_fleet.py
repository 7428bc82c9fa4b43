"""A dispatcher that is real but for the broker and the paces that a test brings, and workers whose every attempt ends
as a test says."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from types import SimpleNamespace
from typing import Any

from sqlalchemy import false, update

from models.batch import Batch
from models.reason import PauseReason
from support.data.batches import ENVIRONMENT_ID, TESTER, Made, look_at_batch, make_environment
from support.data.calls import called
from support.data.moving_clock import MovingDatabase
from worker.batches.commands import Batches
from worker.batches.upkeep import Upkeep
from worker.clocks import ClockWatch, boot_time
from worker.config.environment import Environment, Environments
from worker.config.settings import Settings
from worker.database.engine import Database
from worker.dispatch import Broker, Dispatcher
from worker.fleet import Processes
from worker.leases.lease import Claim, Leases
from worker.leases.queue import Queue
from worker.pingone.errors import Answer
from worker.rules.breaker import Thresholds
from worker.rules.steps import Decision, Pause, Retry


def make_dispatcher(
    database: Database,
    broker: Broker,
    settings: Settings,
    *,
    environment: Callable[[str], Environment],
    pace: Callable[[Environment], Any],
    upkeep: Upkeep | None = None,
    queue: Queue | None = None,
    clock_watch: ClockWatch | None = None,
) -> Dispatcher:
    """`pace` gives what the dispatcher asks of a pace, `rate` and `read_hold_left()`. Without `upkeep`, batches are
    paused where their environment is another one, and nothing else happens to them at a tick."""
    queue = queue or Queue(database, lease=settings.tuning.lease, over_after=settings.tuning.over_after)
    stopping = SimpleNamespace(stop_process_or_batch=(upkeep or Upkeep(database, Thresholds())).pause)
    return Dispatcher(
        database,
        queue,
        broker,
        settings,
        Environments(environment),
        SimpleNamespace(of=pace),
        stopping,
        upkeep or SimpleNamespace(update_batches=lambda: None, is_due=false()),
        SimpleNamespace(synchronize=lambda _: None),
        Processes(database, "test:1"),
        clock_watch or ClockWatch(),
    )


THRESHOLDS = Thresholds(
    forbidden=3, devices_gone=4, unauthorized=3, refused=4, refused_share=0.5, spent=12, unanswered=4
)
# A thousand seconds: what failed does not come back while a test looks at the rest.
LATER = 1000.0
UNKNOWN = Retry(LATER, is_counted=True, why="outcome_unknown")
UNDELIVERED = Retry(LATER, is_counted=False, why="not_delivered")
HELD = Retry(LATER, is_counted=False, why="hold")
PATIENT = 60.0
# One for each database object: building its statements takes longer than many a test.
_make_queue = cache(Queue)


class StillPace:
    rate = 30.0

    def read_hold_left(self) -> float:
        return 0.0


class PublishedIds:
    """A broker that keeps the ids that were published, in order, with their environments and what Flower would show."""

    def __init__(self) -> None:
        self.ids: list[int] = []
        self.ahead: list[int] = []
        self.environments: list[str] = []
        self.labels: dict[int, str] = {}
        self.waiting = 0
        self.was_wiped = False

    def is_new(self) -> bool:
        was_wiped, self.was_wiped = self.was_wiped, False
        return was_wiped

    def count_waiting(self) -> int:
        return self.waiting

    def publish(
        self, ids: Sequence[int], environment: str, *, labels: Mapping[int, str], is_ahead: bool = False
    ) -> None:
        self.ids += ids
        self.ahead += ids if is_ahead else ()
        self.environments += [environment] * len(ids)
        self.labels |= labels


class ScriptedFleet:
    """A dispatcher that tends, and workers whose every attempt ends as the test says."""

    def __init__(self, database: MovingDatabase, leases: Leases) -> None:
        self.database = database
        self.batches = Batches(database, TESTER)
        self.upkeep = Upkeep(database, THRESHOLDS)
        # PingOne's last answer in every attempt from here on.
        self.answer: Answer | None = None
        self._leases = leases
        self._queue = _make_queue(database)
        self._broker = PublishedIds()
        self._dispatcher = make_dispatcher(
            database,
            self._broker,
            Settings(),
            environment=lambda name: make_environment(),
            pace=lambda environment: StillPace(),
            upkeep=self.upkeep,
            queue=self._queue,
            # Time that a test lets pass, passes for everybody.
            clock_watch=ClockWatch(lambda: boot_time() + database.ahead, lambda: 0.0),
        )

    def tick(self) -> list[int]:
        """Make a tick. Returns the ids that it put onto the queue, sorted: what became due at the same moment goes in
        any order."""
        return sorted(self.tick_in_order())

    def tick_in_order(self) -> list[int]:
        """Make a tick. Returns the ids that it put onto the queue, the first to go first."""
        before = len(self._broker.ids)
        self._dispatcher.tick()
        return self._broker.ids[before:]

    def pass_time(self, seconds: float) -> None:
        self.database.ahead += seconds

    def set_clock(self, text: str) -> None:
        """The database's time, in UTC."""
        moment = datetime.fromisoformat(text).replace(tzinfo=UTC)
        self.database.ahead += (moment - self.database.read_clock()).total_seconds()

    def claim(self, record_id: int) -> Claim:
        claimed = self._leases.claim(record_id, ENVIRONMENT_ID)
        assert claimed is not None
        return claimed

    def settle(self, claimed: Claim, decision: Decision, requests: int = 1) -> None:
        """A second later than whatever came before it."""
        self.pass_time(1)
        did_nothing = decision in (UNDELIVERED, HELD) or isinstance(decision, Pause)
        progress = claimed.progress.with_otp_unsent(1) if did_nothing else claimed.progress
        assert self._leases.settle(claimed, progress, decision, called(requests, answer=self.answer))

    def end(self, record_id: int, decision: Decision, requests: int = 1) -> None:
        self.settle(self.claim(record_id), decision, requests)

    def end_all(self, ids: Sequence[int], decision: Decision) -> None:
        for record_id in ids:
            self.end(record_id, decision)

    def fail(self, made: Made, times: int, decision: Decision = UNKNOWN, requests: int = 1) -> list[PauseReason | None]:
        """Make so many more attempts at a batch's records, and let the breaker judge after each: what it said."""
        verdicts = []
        for _ in range(times):
            with self.database.writing() as connection:
                (record_id,) = self._queue.enqueue(connection, made.batch_id, 1, PATIENT)
            self.end(record_id, decision, requests)
            verdicts.append(self.upkeep.apply_breaker(made.batch_id))
        return verdicts

    def begin_outage(self, made: Made) -> None:
        assert self.fail(made, THRESHOLDS.unanswered) == [None] * (THRESHOLDS.unanswered - 1) + [PauseReason.OUTAGE]

    def state(self, made: Made) -> tuple[str, str | None]:
        batch = look_at_batch(self.database, made.batch_id)
        return batch.state, batch.reason

    def set_canary(self, made: Made, records: int) -> None:
        self._hold_back("canary", made, records)

    def set_trial(self, made: Made, records: int) -> None:
        self._hold_back("trial", made, records)

    def _hold_back(self, column: str, made: Made, records: int) -> None:
        with self.database.writing() as connection:
            connection.execute(update(Batch).where(Batch.id == made.batch_id).values({column: records}))

    def seconds_to_probe(self, made: Made) -> float:
        batch = look_at_batch(self.database, made.batch_id)
        assert batch.probe_at is not None
        return float((batch.probe_at - self.database.read_clock()).total_seconds())
