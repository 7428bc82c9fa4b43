"""The ticks of the dispatcher, on both databases, with a broker that notes what it gets."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import event
from support.data.batches import (
    ENVIRONMENT_ID,
    TESTER,
    attempts,
    look,
    look_at_batch,
    make_batch,
    make_environment,
    statuses,
)
from support.data.moving_clock import MovingDatabase
from support.fleets.dispatchers import make_dispatcher

from models.attempt import Outcome
from models.batch import BatchState
from models.reason import PAUSE_CURES, PauseReason
from models.record_states import OtpState, Status
from worker.batches.commands import Batches
from worker.config.environment import Environment
from worker.config.settings import ConfigError, Settings, Tuning
from worker.database.engine import DISPATCH_LOCK
from worker.dispatch import FIRST_WINDOW, SMALLEST_WINDOW, Dispatcher
from worker.leases.settlement import CallSummary
from worker.leases.worker import Leases
from worker.rules.progress import Active

UNKNOWN = {"otp1_state": OtpState.SENT, "otp1_posts": 1}
HALF_DONE = {"otp1_state": OtpState.ANSWERED, "otp1_posts": 1}
SECOND_ID = "7b1f5b1e-93d2-4a53-8a44-0f4d3f0e2c02"


@dataclass
class RecordingBroker:
    """Keeps what was published, in order: record id and environment's name."""

    published: list[tuple[int, str]] = field(default_factory=list)
    # What Flower would show of each.
    labels: dict[int, str] = field(default_factory=dict)
    waiting: int = 0
    is_out_of_reach: bool = False

    @property
    def ids(self) -> list[int]:
        return [record_id for record_id, _ in self.published]

    def count_waiting(self) -> int:
        return self.waiting

    def publish(
        self, ids: Sequence[int], environment: str, *, labels: Mapping[int, str], is_ahead: bool = False
    ) -> None:
        if self.is_out_of_reach:
            raise ConnectionError("the broker is out of reach")
        self.labels |= {record_id: labels[record_id] for record_id in ids}
        self.published += [(record_id, environment) for record_id in ids]


@dataclass
class StillPace:
    rate: float = 30.0
    hold: float = 0.0

    def read_hold_left(self) -> float:
        return self.hold


@dataclass
class Stage:
    """A dispatcher, and all that it meets."""

    database: MovingDatabase
    broker: RecordingBroker = field(default_factory=RecordingBroker)
    paces: dict[str, StillPace] = field(default_factory=dict)
    environments: dict[str, Environment] = field(default_factory=dict)

    def configure(self, name: str, environment_id: str, license_: str = "license") -> None:
        self.environments[name] = make_environment(name=name, environment_id=environment_id, license=license_)

    def pace(self, environment: Environment) -> StillPace:
        return self.paces.setdefault(environment.license, StillPace())

    def environment(self, name: str) -> Environment:
        if name not in self.environments:
            raise ConfigError(f"environment {name!r} is not configured")
        return self.environments[name]

    def dispatcher(self, **settings: Any) -> Dispatcher:
        chosen = Settings(tuning=Tuning(**settings))
        return make_dispatcher(self.database, self.broker, chosen, environment=self.environment, pace=self.pace)

    def tick(self, **settings: Any) -> int:
        return self.dispatcher(**settings).tick()


@pytest.fixture
def stage(database: MovingDatabase) -> Stage:
    stage = Stage(database)
    stage.configure("default", ENVIRONMENT_ID)
    return stage


def test_every_message_says_batch_row_and_serial_number(stage: Stage) -> None:
    made = make_batch(stage.database, [{"serial_number": "A1"}, {"serial_number": "B2"}], name="july")
    read = make_batch(stage.database, [UNKNOWN | {"serial_number": "C3"}], name="june", state=BatchState.CANCELLED)
    assert stage.tick() == 3
    assert [stage.broker.labels[each] for each in (*made.ids, read.id)] == [
        "july, row 2, A1",
        "july, row 3, B2",
        "june, row 2, C3",
    ]


def claim_and_vanish(leases: Leases, record_id: int) -> None:
    """What a worker leaves that is killed in the middle of its call."""
    assert leases.claim(record_id, ENVIRONMENT_ID) is not None


# What is due goes onto the queue.


def test_a_tick_queues_what_is_due_and_publishes_its_ids(stage: Stage) -> None:
    made = make_batch(stage.database, 3)

    assert stage.tick() == 3

    assert statuses(stage.database, made) == [Status.QUEUED] * 3
    assert sorted(stage.broker.published) == [(record_id, "default") for record_id in made.ids]


def test_nothing_is_published_twice(stage: Stage) -> None:
    made = make_batch(stage.database, 3)
    stage.tick()

    assert stage.tick() == 0
    assert sorted(stage.broker.ids) == made.ids


def test_a_record_is_queued_when_it_is_due_and_no_sooner(stage: Stage) -> None:
    make_batch(stage.database, scheduled_at=stage.database.read_clock() + timedelta(seconds=300))

    assert stage.tick() == 0
    stage.database.ahead = 301
    assert stage.tick() == 1


def test_the_window_bounds_what_is_queued_or_in_work(stage: Stage, leases: Leases) -> None:
    make_batch(stage.database, 10)
    assert stage.tick(window=4) == 4

    claim_and_vanish(leases, stage.broker.ids[0])
    assert stage.tick(window=4) == 0

    claimed = leases.claim(stage.broker.ids[1], ENVIRONMENT_ID)
    assert claimed is not None
    leases.settle(claimed, claimed.progress.with_otp_answered(1), Active(), CallSummary(1))
    assert stage.tick(window=4) == 1


@pytest.mark.parametrize(("rate", "window"), [(1.0, SMALLEST_WINDOW), (10.0, 100), (500.0, FIRST_WINDOW)])
def test_the_window_is_what_the_pace_allows_in_ten_seconds(stage: Stage, rate: float, window: int) -> None:
    make_batch(stage.database, FIRST_WINDOW + 1)
    stage.paces["license"] = StillPace(rate)

    assert stage.tick() == window


@pytest.mark.parametrize(("rate", "window"), [(1000.0, 900), (80.0, 800)])
def test_the_window_grows_with_what_was_settled_as_far_as_the_pace_goes(stage: Stage, rate: float, window: int) -> None:
    make_batch(stage.database, [{"status": Status.ACTIVE}] * 600 + [{}] * 1000)
    stage.paces["license"] = StillPace(rate)

    assert stage.tick() == window


def test_environments_of_one_license_share_a_window(stage: Stage) -> None:
    stage.configure("second", SECOND_ID)
    first = make_batch(stage.database, 3, name="first")
    make_batch(stage.database, 3, name="second", environment="second", environment_id=SECOND_ID)

    assert stage.tick(window=4) == 4

    assert sorted(name for _, name in stage.broker.published) == ["default"] * 2 + ["second"] * 2
    assert set(stage.broker.ids[:2]) < set(first.ids)
    assert stage.tick(window=4) == 0


def test_a_window_filled_by_one_environment_is_full_for_its_license(stage: Stage) -> None:
    stage.configure("second", SECOND_ID)
    make_batch(stage.database, 4, name="first")
    stage.tick(window=4)
    make_batch(stage.database, 4, name="second", environment="second", environment_id=SECOND_ID)

    assert stage.tick(window=4) == 0


def test_another_license_has_a_window_of_its_own(stage: Stage) -> None:
    stage.configure("second", SECOND_ID, license_="another license")
    make_batch(stage.database, 3, name="first")
    make_batch(stage.database, 3, name="second", environment="second", environment_id=SECOND_ID)

    assert stage.tick(window=2) == 4


def test_the_older_batch_goes_first_and_half_done_records_first_of_all_its_own(stage: Stage) -> None:
    now = stage.database.read_clock()
    older = make_batch(
        stage.database,
        [
            {},
            {"otp_expires_at": now + timedelta(seconds=90)},
            {"otp_expires_at": now + timedelta(seconds=30)},
            HALF_DONE,
        ],
        name="older",
    )
    newer = make_batch(stage.database, [{}, HALF_DONE], name="newer")

    stage.tick()

    order = [older.ids[place] for place in (3, 2, 1, 0)] + [newer.ids[place] for place in (1, 0)]
    assert stage.broker.ids == order


@pytest.mark.parametrize(("rate", "lease"), [(100.0, 60), (0.5, 400)])
def test_a_message_has_time_for_two_full_windows_before_it_counts_as_lost(
    stage: Stage, rate: float, lease: int
) -> None:
    make_batch(stage.database, 2)
    stage.paces["license"] = StillPace(rate)
    stage.tick(window=100, queue_lease=60)

    stage.database.ahead = lease - 2
    assert stage.tick(window=100) == 0
    stage.database.ahead = lease + 2
    assert stage.tick(window=100) == 2


# What holds the queue back.


def test_nothing_is_published_during_a_hold(stage: Stage) -> None:
    make_batch(stage.database, 3)
    stage.paces["license"] = StillPace(hold=10.0)
    assert stage.tick() == 0

    stage.paces["license"].hold = 0.0
    assert stage.tick() == 3


def test_a_hold_of_one_license_does_not_stop_another(stage: Stage) -> None:
    stage.configure("second", SECOND_ID, license_="another license")
    make_batch(stage.database, 1, name="first")
    second = make_batch(stage.database, 1, name="second", environment="second", environment_id=SECOND_ID)
    stage.paces["license"] = StillPace(hold=10.0)

    stage.tick()

    assert stage.broker.ids == second.ids


def test_nothing_is_published_while_the_queue_holds_a_window(stage: Stage) -> None:
    made = make_batch(stage.database, 3)
    stage.broker.waiting = 5
    assert stage.tick(window=5) == 0
    assert statuses(stage.database, made) == [Status.PENDING] * 3

    stage.broker.waiting = 4
    assert stage.tick(window=5) == 3


def test_a_hold_does_not_stop_the_rescue(stage: Stage, leases: Leases) -> None:
    made = make_batch(stage.database, 2)
    stage.tick()
    claim_and_vanish(leases, made.ids[0])
    stage.paces["license"].hold = 100.0
    stage.database.ahead = 61

    assert stage.tick() == 0
    assert statuses(stage.database, made) == [Status.PENDING] * 2


def test_a_dispatcher_that_finds_another_at_work_does_nothing(stage: Stage) -> None:
    if stage.database.is_sqlite:
        pytest.skip("on SQLite it waits: there is one writer at a time")
    made = make_batch(stage.database, 3)

    with stage.database.writing() as connection:
        assert stage.database.try_lock(connection, DISPATCH_LOCK)
        assert stage.tick() == 0

    assert statuses(stage.database, made) == [Status.PENDING] * 3


def test_a_tick_beside_another_of_its_process_asks_the_database_for_nothing(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_batch(stage.database, 3)
    dispatcher, depth, asked = stage.dispatcher(), stage.broker.count_waiting, list[object]()
    event.listen(stage.database.engine, "engine_connect", lambda connection: asked.append(connection))

    def tick_meanwhile() -> int:
        before = len(asked)
        assert before
        assert dispatcher.tick() == 0
        assert len(asked) == before
        return depth()

    monkeypatch.setattr(stage.broker, "count_waiting", tick_meanwhile)
    assert dispatcher.tick() == 3


def test_a_publish_that_fails_hands_every_record_back(stage: Stage) -> None:
    made = make_batch(stage.database, 3)
    stage.broker.is_out_of_reach = True

    with pytest.raises(ConnectionError):
        stage.tick()

    assert statuses(stage.database, made) == [Status.PENDING] * 3
    assert [look(stage.database, record_id).attempts for record_id in made.ids] == [0] * 3
    stage.broker.is_out_of_reach = False
    assert stage.tick() == 3


def test_a_publish_that_fails_hands_the_records_of_every_environment_back(stage: Stage) -> None:
    stage.configure("second", SECOND_ID)
    first = make_batch(stage.database, 2, name="first")
    second = make_batch(stage.database, 2, name="second", environment="second", environment_id=SECOND_ID)
    stage.broker.is_out_of_reach = True

    with pytest.raises(ConnectionError):
        stage.tick()

    assert statuses(stage.database, first) == statuses(stage.database, second) == [Status.PENDING] * 2


def test_what_a_worker_took_before_the_publish_failed_stays_with_it(stage: Stage, leases: Leases) -> None:
    made = make_batch(stage.database)

    class Half(RecordingBroker):
        """The message went out, and its confirmation did not come back."""

        def publish(
            self, ids: Sequence[int], environment: str, *, is_ahead: bool = False, labels: object = None
        ) -> None:
            claim_and_vanish(leases, ids[0])
            raise ConnectionError

    stage.broker = Half()
    with pytest.raises(ConnectionError):
        stage.tick()

    assert statuses(stage.database, made) == [Status.ACTIVATING]


# Batches that do not run.


def test_a_paused_batch_waits(stage: Stage) -> None:
    make_batch(stage.database, [{}, UNKNOWN, HALF_DONE], state=BatchState.PAUSED)

    assert stage.tick() == 0


def test_a_cancelled_batch_is_swept_and_owed_reads_go_out(stage: Stage) -> None:
    made = make_batch(stage.database, [{}, HALF_DONE, UNKNOWN], state=BatchState.CANCELLED)

    assert stage.tick() == 1

    assert statuses(stage.database, made) == [Status.CANCELLED, Status.CANCELLED, Status.QUEUED]
    assert stage.broker.ids == [made.ids[2]]


def test_reads_of_a_cancelled_batch_come_before_new_calls(stage: Stage) -> None:
    make_batch(stage.database, 3, name="running")
    cancelled = make_batch(stage.database, [UNKNOWN], name="cancelled", state=BatchState.CANCELLED)

    stage.tick(window=2)

    assert stage.broker.ids[0] == cancelled.id
    assert len(stage.broker.ids) == 2


def test_an_owed_read_waits_for_its_time_and_for_room(stage: Stage) -> None:
    now = stage.database.read_clock()
    later = UNKNOWN | {"scheduled_at": now + timedelta(seconds=30)}
    make_batch(stage.database, [UNKNOWN, UNKNOWN, UNKNOWN, later], state=BatchState.CANCELLED)

    assert stage.tick(window=2) == 2
    stage.database.ahead = 31
    assert stage.tick(window=10) == 2


def test_what_comes_back_after_a_cancel_is_swept_at_the_next_tick(stage: Stage, leases: Leases) -> None:
    made = make_batch(stage.database, 2, not_found=1)
    stage.tick()
    claim_and_vanish(leases, made.ids[0])
    Batches(stage.database, TESTER).cancel(made.name)
    stage.database.ahead = 61

    stage.tick()

    assert statuses(stage.database, made) == [Status.CANCELLED] * 2


# The environment that a batch is bound to.


def test_a_batch_pauses_when_its_environment_has_another_id(stage: Stage) -> None:
    made = make_batch(stage.database)
    stage.configure("default", SECOND_ID)

    assert stage.tick() == 0

    batch = look_at_batch(stage.database, made.batch_id)
    assert (batch.state, batch.reason) == (BatchState.PAUSED, PauseReason.ENVIRONMENT)
    assert batch.detail == PAUSE_CURES[PauseReason.ENVIRONMENT]
    assert statuses(stage.database, made) == [Status.PENDING]


def test_a_batch_pauses_when_its_environment_is_not_configured(stage: Stage) -> None:
    made = make_batch(stage.database, environment="staging")

    assert stage.tick() == 0

    batch = look_at_batch(stage.database, made.batch_id)
    assert (batch.state, batch.reason) == (BatchState.PAUSED, PauseReason.ENVIRONMENT)
    assert batch.detail == "environment 'staging' is not configured"


def test_it_goes_on_when_the_environment_is_back_and_a_person_resumes(stage: Stage) -> None:
    made = make_batch(stage.database)
    stage.configure("default", SECOND_ID)
    stage.tick()

    stage.configure("default", ENVIRONMENT_ID)
    assert stage.tick() == 0
    Batches(stage.database, TESTER).resume(made.name)
    assert stage.tick() == 1


def test_a_batch_of_the_wrong_environment_does_not_stop_the_others(stage: Stage) -> None:
    make_batch(stage.database, name="lost", environment="staging")
    good = make_batch(stage.database, name="good")

    assert stage.tick() == 1
    assert stage.broker.ids == good.ids


# Lost messages and dead workers.


def test_a_lost_message_is_sent_again(stage: Stage) -> None:
    made = make_batch(stage.database)
    stage.tick(queue_lease=60)
    stage.database.ahead = 59
    assert stage.tick(queue_lease=60) == 0

    stage.database.ahead = 61
    assert stage.tick(queue_lease=60) == 1

    assert stage.broker.ids == made.ids * 2
    assert look(stage.database, made.id).attempts == 0


def test_the_record_of_a_dead_worker_comes_back_to_be_read(stage: Stage, leases: Leases) -> None:
    made = make_batch(stage.database)
    stage.tick()
    claim_and_vanish(leases, made.id)
    stage.database.ahead = 61

    stage.tick(call_deadline=20, read_delay=120)
    record = look(stage.database, made.id)
    assert record.scheduled_at - record.otp_sent_at == timedelta(seconds=145)
    stage.database.ahead = 144
    assert stage.tick() == 0

    stage.database.ahead = 146
    assert stage.tick() == 1
    claimed = leases.claim(made.id, ENVIRONMENT_ID)
    assert claimed is not None
    assert claimed.progress.needs_read
    assert not claimed.is_otp1_marked
    assert [line.outcome for line in attempts(stage.database, made.id)] == [Outcome.LOST]


def test_a_batch_finishes_though_every_other_message_and_worker_is_lost(stage: Stage, leases: Leases) -> None:
    made = make_batch(stage.database, 6)
    for step in range(1, 12):
        stage.tick(window=3)
        for record_id in stage.broker.ids[::2]:
            claimed = leases.claim(record_id, ENVIRONMENT_ID)
            if claimed is not None and claimed.progress.needs_read and not claimed.is_otp1_marked:
                leases.settle(claimed, claimed.progress, Active(), CallSummary(1))
        stage.broker.published.clear()
        stage.database.ahead = 100.0 * step

    assert statuses(stage.database, made) == [Status.ACTIVE] * 6


# Two dispatchers.


@pytest.fixture
def second_database(database: MovingDatabase, database_url: str) -> Iterator[MovingDatabase]:
    """The same database, as another process has it."""
    second = MovingDatabase(database_url)
    yield second
    second.close()


def test_two_dispatchers_at_once_never_queue_a_record_twice(
    stage: Stage, leases: Leases, second_database: MovingDatabase
) -> None:
    made = make_batch(stage.database, 60)
    other = Stage(second_database, environments=stage.environments)
    both_ready = threading.Barrier(2)

    def tick_to_the_end(mine: Stage) -> None:
        """Each round: both tick at the same moment, and what one published becomes active."""
        for _ in range(20):
            both_ready.wait(timeout=30)
            before = len(mine.broker.ids)
            mine.tick(window=6)
            for record_id in mine.broker.ids[before:]:
                claimed = leases.claim(record_id, ENVIRONMENT_ID)
                assert claimed is not None
                leases.settle(claimed, claimed.progress.with_otp_answered(1), Active(), CallSummary(1))

    with ThreadPoolExecutor(2) as threads:
        list(threads.map(tick_to_the_end, (stage, other)))

    assert sorted(stage.broker.ids + other.broker.ids) == made.ids
    assert statuses(stage.database, made) == [Status.ACTIVE] * 60
