"""The ticks of the dispatcher with a broker that notes what it gets, what the queue does with many records, and what
both do after the database's clock was set. On both databases. The broker itself, on a real server. And the worker
processes as `status` knows them."""

import base64
import json
import threading
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

import celery
import pytest
import redis
from sqlalchemy import Connection, delete, event, func, insert, select, true
from sqlalchemy.exc import DBAPIError
from support.data.batches import (
    ENVIRONMENT_ID,
    TESTER,
    attempts,
    enqueue,
    look,
    look_at_batch,
    make_batch,
    make_environment,
    rescue,
    statuses,
)
from support.data.calls import called
from support.data.moving_clock import ON_SQLITE, MovingDatabase
from support.fleets.scripted_fleet import HELD, UNKNOWN, PublishedIds, ScriptedFleet, StillPace, make_dispatcher
from support.judges.status_moves import seen_moves
from support.processes.waiting import wait_until

from models.batch import BatchState
from models.reason import PAUSE_CURES, PauseReason, Reason
from models.record_states import OtpState, PairingState, Status
from models.tenant_fact import FactName, TenantFact
from worker import __version__
from worker.batches.commands import Batches, HoursChange
from worker.batches.mending import give
from worker.clocks import ClockWatch, boot_time
from worker.config.environment import Environment
from worker.config.settings import ConfigError, Settings, Tuning
from worker.database import engine
from worker.database.engine import DISPATCH_LOCK
from worker.database.errors import is_away
from worker.dispatch import FIRST_WINDOW, MESSAGES_TOGETHER, SMALLEST_WINDOW, USUAL, CeleryBroker, Dispatcher
from worker.fleet import (
    GONE_AFTER,
    KEPT_FOR,
    NAMED_FOR,
    KnownProcess,
    Processes,
    Sickness,
    count_well,
    read_processes,
)
from worker.leases.lease import Leases
from worker.leases.moves import put_first
from worker.leases.queue import CHUNK, SOON, Queue, forget_messages
from worker.reports.facts import BatchStatus, read_statuses
from worker.reports.stall import STILL_AFTER, Cause
from worker.rules.hours import DailyHours
from worker.rules.resync import NeedsFlag, ResyncKnowledge
from worker.rules.steps import Active, Retry

SENT = {"otp1_state": OtpState.SENT, "otp1_posts": 1}
HALF_DONE = {"otp1_state": OtpState.ANSWERED, "otp1_posts": 1}
SECOND_ID = "7b1f5b1e-93d2-4a53-8a44-0f4d3f0e2c02"
THIRD_ID = "7b1f5b1e-93d2-4a53-8a44-0f4d3f0e2c03"


@dataclass
class Stage:
    """A dispatcher, and all that it meets."""

    database: MovingDatabase
    broker: PublishedIds = field(default_factory=PublishedIds)
    paces: dict[str, StillPace] = field(default_factory=lambda: defaultdict(StillPace))
    environments: dict[str, Environment] = field(
        default_factory=lambda: {"default": make_environment(license="license")}
    )

    def configure(self, name: str, environment_id: str, license_: str = "license") -> None:
        self.environments[name] = make_environment(name=name, environment_id=environment_id, license=license_)

    def environment(self, name: str) -> Environment:
        if name not in self.environments:
            raise ConfigError(f"environment {name!r} is not configured")
        return self.environments[name]

    def dispatcher(self, **settings: Any) -> Dispatcher:
        chosen, pace = Settings(tuning=Tuning(**settings)), lambda environment: self.paces[environment.license]
        return make_dispatcher(self.database, self.broker, chosen, environment=self.environment, pace=pace)

    def tick(self, **settings: Any) -> int:
        return self.dispatcher(**settings).tick()


@pytest.fixture
def stage(database: MovingDatabase) -> Stage:
    return Stage(database)


# What is due goes onto the queue.


def test_while_an_environment_is_learned_few_records_go_at_once_and_more_with_each_otp_that_is_taken(
    stage: Stage,
) -> None:
    make_batch(stage.database, 20)
    stage.environments["default"] = make_environment(license="license", resync_on_first_call=None)
    assert [stage.tick(), stage.tick()] == [3, 0]
    write_resync(stage.database, ResyncKnowledge(taken=8))
    assert stage.tick() == 4
    write_resync(stage.database, ResyncKnowledge(NeedsFlag.NO))
    assert stage.tick() == 13


def write_resync(database: MovingDatabase, known: ResyncKnowledge) -> None:
    fact = {"environment_id": ENVIRONMENT_ID, "name": FactName.RESYNC_ON_FIRST_CALL, "seen_at": database.now()}
    database.change(delete(TenantFact), insert(TenantFact).values(fact | {"value": asdict(known)}))


def test_a_tick_queues_once_what_is_due_and_every_message_says_batch_row_and_serial_number(stage: Stage) -> None:
    later = {"scheduled_at": stage.database.read_clock() + timedelta(seconds=300)}
    made = make_batch(stage.database, [{"serial_number": "A1"}, {"serial_number": "B2"}, later], name="july")
    read = make_batch(stage.database, [SENT | {"serial_number": "C3"}], name="june", state=BatchState.CANCELLED)

    assert [stage.tick(queue_lease=600), stage.tick(queue_lease=600)] == [3, 0]
    assert statuses(stage.database, made) == [Status.QUEUED, Status.QUEUED, Status.PENDING]
    told = ["july, row 2, A1", "july, row 3, B2", "june, row 2, C3"]
    assert stage.broker.labels == dict(zip((*made.ids[:2], read.id), told, strict=True))
    assert sorted(stage.broker.ids) == sorted(stage.broker.labels)
    stage.database.ahead = 301
    assert stage.tick(queue_lease=600) == 1


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_tick_makes_few_trips_to_the_database(stage: Stage) -> None:
    """Each statement is one, and so are the begin and the end of a transaction: where PostgreSQL is far away, a tick
    waits for nothing else."""
    trips, dispatcher = list[str](), stage.dispatcher(window=2)

    def begin(connection: Connection) -> None:
        if not connection.connection.dbapi_connection.autocommit:
            trips.extend(("BEGIN", "COMMIT"))

    def count_trips() -> int:
        trips.clear()
        dispatcher.tick()
        return len(trips)

    dispatcher.tick()
    event.listen(stage.database.engine, "begin", begin)
    event.listen(stage.database.engine, "before_cursor_execute", lambda *args: trips.append(args[2]))
    idle = count_trips()
    make_batch(stage.database, 5)
    filled = count_trips()
    assert len(stage.broker.ids) == 2
    assert (idle, filled, count_trips()) == (4, 11, 8)


def test_what_somebody_waits_for_goes_ahead_of_all_that_waits_on_the_queue(stage: Stage) -> None:
    made = make_batch(stage.database, 3)
    with stage.database.changing_many() as connection:
        put_first(connection, made.batch_id, made.ids[2:])
    stage.tick()
    assert (stage.broker.ahead, stage.broker.ids) == ([made.ids[2]], [made.ids[2], *made.ids[:2]])


@pytest.mark.parametrize(
    ("rate", "settled", "window"),
    [(1.0, 0, SMALLEST_WINDOW), (10.0, 0, 100), (500.0, 0, FIRST_WINDOW), (1000.0, 600, 900), (80.0, 600, 800)],
)
def test_the_window_is_what_the_pace_allows_in_ten_seconds_and_grows_with_what_was_settled(
    stage: Stage, rate: float, settled: int, window: int
) -> None:
    make_batch(stage.database, [{"status": Status.ACTIVE}] * settled + [{}] * 1000)
    stage.paces["license"].rate = rate
    assert stage.tick() == window


def test_environments_of_one_license_share_a_window_and_another_license_has_its_own(stage: Stage) -> None:
    stage.configure("second", SECOND_ID)
    stage.configure("third", THIRD_ID, license_="another license")
    first = make_batch(stage.database, 3, name="first")
    for name, environment_id in (("second", SECOND_ID), ("third", THIRD_ID)):
        make_batch(stage.database, 3, name=name, environment=name, environment_id=environment_id)

    assert [stage.tick(window=4), stage.tick(window=4)] == [7, 0]
    assert sorted(stage.broker.environments) == ["default"] * 2 + ["second"] * 2 + ["third"] * 3
    assert set(stage.broker.ids[:2]) < set(first.ids)


@pytest.mark.parametrize(("rate", "lease"), [(100.0, 60), (0.5, 400)])
def test_a_message_has_time_for_two_full_windows_before_it_counts_as_lost(
    stage: Stage, rate: float, lease: int
) -> None:
    made = make_batch(stage.database, 2)
    stage.paces["license"].rate = rate
    stage.tick(window=100, queue_lease=60)

    for ahead, queued in ((lease / 2, 0), (lease + 2, 2)):
        stage.database.ahead = ahead
        assert stage.tick(window=100) == queued
    assert sorted(stage.broker.ids) == sorted(made.ids * 2)


# What holds the queue back.


def test_a_hold_stops_neither_another_license_nor_the_rescue(stage: Stage, leases: Leases) -> None:
    stage.configure("second", SECOND_ID, license_="another license")
    held = make_batch(stage.database, 2, name="first")
    stage.tick()
    leases.claim(held.ids[0], ENVIRONMENT_ID)
    free = make_batch(stage.database, 1, name="second", environment="second", environment_id=SECOND_ID)
    stage.paces["license"].read_hold_left = lambda: 100.0
    stage.database.ahead = 61
    stage.broker.ids.clear()

    assert stage.tick() == 1
    assert stage.broker.ids == free.ids
    assert statuses(stage.database, held) == [Status.PENDING] * 2
    stage.paces["license"].read_hold_left = lambda: 0.0
    assert stage.tick() > 0


def test_nothing_is_published_while_the_queue_holds_a_window(stage: Stage) -> None:
    make_batch(stage.database, 3)
    for waiting, queued in ((5, 0), (4, 3)):
        stage.broker.waiting = waiting
        assert stage.tick(window=5) == queued


# On SQLite it waits: there is one writer at a time.
@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_dispatcher_that_finds_another_at_work_does_nothing(stage: Stage) -> None:
    made = make_batch(stage.database, 3)

    with stage.database.writing() as connection:
        assert stage.database.try_lock(connection, DISPATCH_LOCK)
        assert stage.tick() == 0

    assert statuses(stage.database, made) == [Status.PENDING] * 3


# SQLite has no such limit: what is suspended in a write keeps every other process from writing.
@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_process_that_is_suspended_in_a_change_of_many_records_loses_its_lock(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_batch(stage.database, 3)
    soon = func.set_config("idle_in_transaction_session_timeout", "200", true())
    monkeypatch.setattr(engine, "_END_IF_IDLE", soon)

    def stand_still() -> None:
        with stage.database.changing_many() as connection:
            wait_until(lambda: stage.tick() == 3, "another has the lock")
            connection.execute(select(1))

    with pytest.raises(DBAPIError) as ended:
        stand_still()
    assert is_away(ended.value)


def test_a_tick_beside_another_of_its_process_asks_the_database_for_nothing(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_batch(stage.database, 3)
    dispatcher, asked = stage.dispatcher(), list[object]()
    event.listen(stage.database.engine, "engine_connect", lambda connection: asked.append(connection))

    def tick_meanwhile() -> int:
        before = len(asked)
        assert before
        assert dispatcher.tick() == 0
        assert len(asked) == before
        return 0

    monkeypatch.setattr(stage.broker, "count_waiting", tick_meanwhile)
    assert dispatcher.tick() == 3


def test_what_a_wiped_broker_lost_is_queued_again_at_the_next_tick_but_what_a_worker_has_taken(
    stage: Stage, leases: Leases
) -> None:
    made, dispatcher = make_batch(stage.database, 3), stage.dispatcher()
    dispatcher.tick()
    assert leases.claim(made.ids[0], ENVIRONMENT_ID)
    stage.broker.was_wiped = True
    published = [dispatcher.tick() for _ in range(3)]
    assert (published, stage.broker.ids) == ([0, 2, 0], [*made.ids, *made.ids[1:]])


def test_a_publish_that_fails_hands_the_records_of_every_environment_back_but_what_a_worker_has_taken(
    stage: Stage, leases: Leases, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.configure("second", SECOND_ID)
    first = make_batch(stage.database, 2, name="first")
    second = make_batch(stage.database, 2, name="second", environment="second", environment_id=SECOND_ID)

    def fail(*_: Any, **__: Any) -> None:
        """The message went out, and its confirmation did not come back."""
        leases.claim(first.ids[0], ENVIRONMENT_ID)
        raise ConnectionError

    monkeypatch.setattr(stage.broker, "publish", fail)
    with pytest.raises(ConnectionError):
        stage.tick()
    monkeypatch.undo()

    assert statuses(stage.database, first) == [Status.ACTIVATING, Status.PENDING]
    assert statuses(stage.database, second) == [Status.PENDING] * 2
    assert [look(stage.database, record_id).attempts for record_id in second.ids] == [0] * 2
    assert stage.tick() == 3


# Batches that do not run.


def test_of_stopped_batches_only_owed_reads_go_at_their_time_and_before_new_calls(stage: Stage) -> None:
    now = stage.database.read_clock()
    later, past = now + timedelta(seconds=30), now - timedelta(seconds=1)
    running = make_batch(stage.database, 3, name="running")
    make_batch(stage.database, [{}, SENT, HALF_DONE], name="paused", state=BatchState.PAUSED)
    # Two that wait, one whose message was lost, and one whose OTPs expire need no read.
    pasts = [
        {},
        HALF_DONE,
        {"status": Status.QUEUED, "lease_until": past},
        {"otp_expires_at": now + timedelta(hours=1)},
    ]
    pasts += [SENT, SENT, HALF_DONE | {"verdict": Reason.REJECTED}, SENT | {"scheduled_at": later}]
    cancelled = make_batch(stage.database, pasts, name="cancelled", state=BatchState.CANCELLED)

    assert stage.tick(window=2) == 2
    assert set(stage.broker.ids) < set(cancelled.ids[4:7])
    assert statuses(stage.database, cancelled)[:4] == [Status.CANCELLED] * 4
    stage.database.ahead = 31
    assert stage.tick(window=5) == 3
    assert set(stage.broker.ids[:4]) == set(cancelled.ids[4:])
    assert stage.broker.ids[4] in running.ids


@pytest.mark.parametrize(
    ("name", "detail"),
    [("default", PAUSE_CURES[PauseReason.ENVIRONMENT]), ("staging", "environment 'staging' is not configured")],
)
def test_a_batch_whose_environment_is_another_or_gone_pauses_alone_until_it_is_back_and_a_person_resumes(
    stage: Stage, name: str, detail: str
) -> None:
    made = make_batch(stage.database, environment=name)
    good = make_batch(stage.database, name="good", environment="good")
    stage.configure("default", SECOND_ID)
    stage.configure("good", ENVIRONMENT_ID)

    assert stage.tick() == 1
    assert stage.broker.ids == good.ids
    batch = look_at_batch(stage.database, made.batch_id)
    assert (batch.state, batch.reason, batch.detail) == (BatchState.PAUSED, PauseReason.ENVIRONMENT, detail)
    assert statuses(stage.database, made) == [Status.PENDING]

    stage.configure(name, ENVIRONMENT_ID)
    assert stage.tick() == 0
    Batches(stage.database, TESTER).resume(made.name)
    assert stage.tick() == 1


def test_two_dispatchers_at_once_never_queue_a_record_twice(stage: Stage, leases: Leases, database_url: str) -> None:
    made = make_batch(stage.database, 60)
    both_ready = threading.Barrier(2)

    def tick_to_the_end(mine: Stage) -> None:
        """Each round: both tick at the same moment, and what one published becomes active."""
        for _ in range(20):
            both_ready.wait(timeout=30)
            before = len(mine.broker.ids)
            mine.tick(window=6)
            for record_id in mine.broker.ids[before:]:
                claimed = leases.claim(record_id, ENVIRONMENT_ID)
                leases.settle(claimed, claimed.progress.with_otp_answered(1), Active(), called(1))

    # The same database, as another process has it.
    with closing(MovingDatabase(database_url)) as second, ThreadPoolExecutor(2) as threads:
        other = Stage(second, environments=stage.environments)
        list(threads.map(tick_to_the_end, (stage, other)))

    assert sorted(stage.broker.ids + other.broker.ids) == made.ids
    assert statuses(stage.database, made) == [Status.ACTIVE] * 60


# The queue: onto it, off it, and the rescue.


def test_half_done_goes_first_then_what_expires_soonest_then_owed_reads_then_the_rest(database: MovingDatabase) -> None:
    now = database.read_clock()
    made = make_batch(
        database,
        [
            {"scheduled_at": now - timedelta(seconds=50)},
            {"scheduled_at": now - timedelta(seconds=90)},
            {"otp_expires_at": now + timedelta(seconds=100)},
            {"otp_expires_at": now + timedelta(seconds=40)},
            HALF_DONE | {"scheduled_at": now - timedelta(seconds=1)},
            HALF_DONE | {"scheduled_at": now - timedelta(seconds=2), "otp_expires_at": now + timedelta(seconds=500)},
            {"otp1_state": OtpState.SENT, "scheduled_at": now - timedelta(seconds=1)},
            {"verdict": Reason.INVALID_OTP, "scheduled_at": now - timedelta(seconds=2)},
        ],
    )
    make_batch(database, name="other")

    queued = enqueue(database, made, room=3) + enqueue(database, made, room=0) + enqueue(database, made)

    assert [made.ids.index(record_id) for record_id in queued] == [5, 4, 3, 2, 7, 6, 1, 0]


@pytest.mark.parametrize("columns", [{"user_id": ""}, {"is_in_inventory": False}])
def test_a_record_that_is_not_prepared_is_not_due(database: MovingDatabase, columns: dict[str, Any]) -> None:
    assert enqueue(database, make_batch(database, **{"device_id": ""} | columns)) == []


def test_more_records_go_onto_the_queue_and_off_it_than_one_statement_names(database: MovingDatabase) -> None:
    made = make_batch(database, CHUNK + 1)
    queued = enqueue(database, made, room=CHUNK + 1)
    assert sorted(queued) == made.ids
    assert set(statuses(database, made)) == {Status.QUEUED}

    with database.writing() as connection:
        Queue(database).unqueue(connection, queued)
    assert set(statuses(database, made)) == {Status.PENDING}
    assert look(database, made.ids[0]).attempts == 0
    assert sorted(enqueue(database, made, room=CHUNK + 1)) == made.ids


def test_the_window_counts_what_is_queued_or_in_work_and_only_queued_records_are_taken_off_the_queue(
    database: MovingDatabase,
) -> None:
    made = make_batch(database, [{"status": status} for status in Status], name="first")
    second = make_batch(database, name="second", status=Status.QUEUED)
    make_batch(database, name="third", status=Status.ACTIVE)

    with database.writing() as connection:
        assert Queue(database).count_window(connection) == {made.batch_id: 2, second.batch_id: 1}
        Queue(database).unqueue(connection, made.ids)
    assert statuses(database, made) == [Status.PENDING if status == Status.QUEUED else status for status in Status]


def test_a_lost_message_makes_its_record_due_again_and_a_dead_worker_leaves_a_lost_attempt(
    database: MovingDatabase, leases: Leases
) -> None:
    made = make_batch(database, 2, attempts=5, attempts_forgiven=5)
    enqueue(database, made, lease=60)
    claimed = leases.claim(made.ids[0], ENVIRONMENT_ID)

    for ahead, rescued in ((30, 0), (61, 2)):
        database.ahead = ahead
        assert rescue(database) == rescued

    dead, lost = [look(database, record_id) for record_id in made.ids]
    assert (lost.status, lost.lease_until, lost.attempts) == (Status.PENDING, None, 5)
    assert (dead.status, dead.lease_id, dead.lease_until) == (Status.PENDING, None, None)
    assert (dead.attempts, dead.otp1_state, dead.otp1_posts) == (6, OtpState.SENT, 1)
    (line,) = [line for record_id in made.ids for line in attempts(database, record_id)]
    # Numbered from the last replay.
    assert (claimed.progress.attempts, line.number) == (1, 1)
    assert (line.outcome, line.reason) == ("lost", "lease_ran_out")
    assert (line.lease_id, line.worker) == (claimed.lease_id, None)
    assert enqueue(database, made) == [dead.id, lost.id]


def test_records_whose_messages_were_lost_with_their_server_are_due_at_once_and_a_worker_keeps_its_own(
    database: MovingDatabase, leases: Leases
) -> None:
    made = make_batch(database, 2)
    enqueue(database, made, lease=600)
    leases.claim(made.ids[0], ENVIRONMENT_ID)
    forget_messages(database)
    database.ahead = 1
    assert rescue(database) == 1
    assert statuses(database, made) == [Status.ACTIVATING, Status.PENDING]


PAIRING = {"device_id": "", "pairings": 1}


@pytest.mark.parametrize(
    ("past", "waits"),
    [
        ({}, True),
        ({"otp1_posts": 1, "verdict": Reason.REJECTED}, True),
        (PAIRING | {"pairing": PairingState.SENT}, True),
        (PAIRING | {"pairing": PairingState.MISSED}, True),
        # A device that was found is to be read, and nothing was ever marked for it.
        ({"pairing": PairingState.SENT, "otp_sent_at": None}, True),
        ({"not_found": 1}, False),
    ],
    ids=["unknown fate", "verdict", "pairing sent", "pairing missed", "nothing marked", "nothing sent"],
)
def test_what_needs_a_read_waits_until_the_lost_call_is_over_and_what_needs_none_is_due_at_once(
    database: MovingDatabase, leases: Leases, past: dict[str, Any], waits: bool
) -> None:
    assert Tuning(call_deadline=20, read_delay=120).over_after == 145
    started = database.read_clock()
    made = make_batch(database, **{"otp_sent_at": started} | past)
    enqueue(database, made)
    assert leases.claim(made.id, ENVIRONMENT_ID).is_otp1_marked is (past == {})
    database.ahead = 61
    rescue(database, over_after=145.0)

    record = look(database, made.id)
    assert (record.scheduled_at - started >= timedelta(seconds=145)) is waits
    assert past or record.scheduled_at - record.otp_sent_at == timedelta(seconds=145)
    assert (enqueue(database, made) == []) is waits


def test_the_rescue_touches_nothing_that_is_pending_or_final_and_asks_for_no_batchs_state(
    database: MovingDatabase,
) -> None:
    made = make_batch(database, [{"status": status} for status in Status], state=BatchState.PAUSED)
    database.ahead = 10_000

    assert rescue(database) == 2
    assert seen_moves(database) == [(status, Status.PENDING) for status in (Status.QUEUED, Status.ACTIVATING)]
    assert statuses(database, made).count(Status.PENDING) == 3


# The database's clock is set: no lease is taken away, no device is read too soon, nothing waits for an hour.

HOUR = 3600.0


@pytest.fixture
def unmoved_fleet(scripted_fleet: ScriptedFleet) -> ScriptedFleet:
    """A dispatcher that has seen the clock once, and whose own clock does not move with it."""
    scripted_fleet._dispatcher._clock_watch = ClockWatch(boot_time, lambda: 0.0)
    scripted_fleet.tick()
    return scripted_fleet


@pytest.mark.parametrize("step", [-HOUR, -90.0, 90.0, HOUR])
def test_after_a_step_leases_stay_where_they_are_and_nothing_is_read_too_soon(
    unmoved_fleet: ScriptedFleet, leases: Leases, step: float
) -> None:
    database, made = unmoved_fleet.database, make_batch(unmoved_fleet.database, 4)
    unmoved_fleet.tick()
    unmoved_fleet.end(made.ids[2], Retry(30.0, is_counted=True, why="outcome_unknown"))
    living, _ = [unmoved_fleet.claim(record_id) for record_id in made.ids[:2]]
    sent_at = look(database, living.record_id).otp_sent_at

    database.ahead += step
    assert unmoved_fleet.tick() == []

    living_record, _, lost, queued = [look(database, record_id) for record_id in made.ids]
    assert timedelta(seconds=30) < lost.scheduled_at - database.read_clock() < timedelta(seconds=56)
    assert (living_record.status, queued.status) == (Status.ACTIVATING, Status.QUEUED)
    # By it a device that somebody else made is known; only what would lie in the future is forgotten.
    assert living_record.otp_sent_at <= sent_at
    assert (living_record.otp_sent_at == sent_at) is (step > 0)
    assert leases.settle(living, living.progress.with_otp_answered(1), Active(), called(1))
    # 60 s of lease are more than the 55 s until it may be read.
    unmoved_fleet._dispatcher._clock_watch = ClockWatch(lambda: boot_time() + database.ahead, lambda: 0.0)
    unmoved_fleet.pass_time(61)
    assert set(made.ids[1:3]) <= set(unmoved_fleet.tick())
    assert unmoved_fleet.claim(made.ids[1]).progress.is_open


def test_nothing_waits_for_an_hour_because_the_clock_was_an_hour_ahead(unmoved_fleet: ScriptedFleet) -> None:
    database, made = unmoved_fleet.database, make_batch(unmoved_fleet.database, 2)
    out = make_batch(database, 5, name="out")
    database.ahead += HOUR
    unmoved_fleet.begin_outage(out)
    unmoved_fleet.tick()
    for record_id, decision in zip(made.ids, (HELD, UNKNOWN), strict=True):
        unmoved_fleet.end(record_id, decision)

    database.ahead -= HOUR
    unmoved_fleet.tick()

    due_in = [look(database, record_id).scheduled_at - database.read_clock() for record_id in made.ids]
    assert due_in[0] <= timedelta(seconds=SOON)
    assert due_in[1] < timedelta(seconds=60)
    assert unmoved_fleet.seconds_to_probe(out) <= 15


def test_a_daily_window_that_a_wrong_clock_had_closed_is_looked_at_again(unmoved_fleet: ScriptedFleet) -> None:
    made = make_batch(unmoved_fleet.database, 1)
    unmoved_fleet.set_clock("2026-11-27T12:00:00")
    unmoved_fleet._dispatcher._clock_watch = ClockWatch(boot_time, lambda: 0.0)
    unmoved_fleet.tick()
    unmoved_fleet.batches.resume(made.name, HoursChange(DailyHours.parse("18:00-13:00", "UTC")))
    for step, state in ((2 * HOUR, ("paused", "window")), (-2 * HOUR, ("running", None))):
        unmoved_fleet.database.ahead += step
        unmoved_fleet.tick()
        assert unmoved_fleet.state(made) == state


# The broker.

# The list in Redis of a queue's usual messages.
USUAL_LIST = f"celery\x06\x16{USUAL}"


def activate(record_id: int, environment: str) -> None:
    """What the messages ask for; nobody does it here."""


@pytest.fixture
def app(valkey_url: str) -> celery.Celery:
    return celery.Celery(broker=valkey_url, set_as_current=False)


@pytest.fixture
def broker(app: celery.Celery) -> CeleryBroker:
    return CeleryBroker(app, app.task(activate).name, "celery")


def test_messages_go_out_in_small_pieces_and_none_is_left_behind(
    broker: CeleryBroker, valkey_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thousand in one piece would keep this process' other threads from their calls."""
    pieces = list[int]()
    execute = redis.client.Pipeline.execute

    def counted(pipeline: redis.client.Pipeline, *args: Any, **options: Any) -> object:
        pieces.append(len(pipeline))
        return execute(pipeline, *args, **options)

    monkeypatch.setattr(redis.client.Pipeline, "execute", counted)
    assert broker.count_waiting() == 0
    count = 5 * MESSAGES_TOGETHER + 3
    broker.publish(range(count), "default", labels={})
    assert broker.count_waiting() == redis.Redis.from_url(valkey_url).llen(USUAL_LIST) == count
    assert (max(pieces), pieces.count(MESSAGES_TOGETHER)) == (MESSAGES_TOGETHER, 5)


def test_a_message_carries_an_id_and_says_so_to_flower(broker: CeleryBroker, valkey_url: str) -> None:
    broker.publish([7, 8], "staging", labels={7: "july, row 2, ACME7"})

    messages = [json.loads(message) for message in redis.Redis.from_url(valkey_url).lrange(USUAL_LIST, 0, -1)]

    bodies = [json.loads(base64.b64decode(message["body"])) for message in messages]
    assert [(args, kwargs) for args, kwargs, _ in bodies] == [([8, "staging"], {}), ([7, "staging"], {})]
    headers = [message["headers"] for message in messages]
    told = [(each["task"].rpartition(".")[2], each["argsrepr"]) for each in headers]
    assert told == [("activate", "record 8"), ("activate", "july, row 2, ACME7")]
    assert headers[0]["id"] != headers[1]["id"]


def test_what_goes_ahead_is_taken_before_what_waits_already(app: celery.Celery, broker: CeleryBroker) -> None:
    broker.publish([1, 2], "large", labels={})
    broker.publish([7], "small", labels={}, is_ahead=True)
    assert broker.count_waiting() == 3
    assert [broker.is_new(), broker.is_new()] == [True, False]

    with app.connection_for_read() as connection, connection.SimpleQueue("celery") as queue:
        taken = [queue.get(timeout=5).payload[0][0] for _ in range(3)]

    assert taken == [7, 1, 2]


# The worker processes as the database knows them, and work that is due and does not move: for how long, and why, as
# `status` reads it.

BROKEN = Sickness("network", "PingOne cannot be reached.")


def known(database: MovingDatabase) -> dict[str, KnownProcess]:
    with database.reading() as connection:
        return {process.name: process for process in read_processes(database, connection)}


def begin(database: MovingDatabase, *names: str) -> list[Processes]:
    processes = [Processes(database, name) for name in names]
    for process in processes:
        process.show_life()
    return processes


@ON_SQLITE
def test_a_process_lives_as_long_as_it_shows_it_and_says_its_version(database: MovingDatabase) -> None:
    (process,) = begin(database, "host:1")
    for ahead, is_alive in ((0, True), (GONE_AFTER + 1, False)):
        database.ahead += ahead
        assert known(database)["host:1"].is_alive is is_alive
    process.show_life()
    assert known(database)["host:1"].is_alive
    assert known(database)["host:1"].version == __version__


@ON_SQLITE
def test_a_process_says_how_long_a_trip_to_each_server_takes_it(database: MovingDatabase) -> None:
    asked = iter([None, redis.ConnectionError("away")])

    def ask() -> None:
        if failure := next(asked):
            raise failure

    process = Processes(database, "host:1", ask_redis=ask)
    process.show_life()
    first = known(database)["host:1"]
    assert (first.database_trip, first.redis_trip) == (None, None)
    process.show_life()
    second = known(database)["host:1"]
    assert None not in (second.database_trip, second.redis_trip)


@ON_SQLITE
def test_one_that_ends_is_forgotten_and_so_is_one_that_was_killed_long_ago(database: MovingDatabase) -> None:
    ended, _ = begin(database, "host:1", "host:2")
    ended.leave()
    assert known(database).keys() == {"host:2"}
    database.ahead += KEPT_FOR + 1
    begin(database, "host:3")
    assert known(database).keys() == {"host:3"}


def test_a_tick_is_noted_every_few_seconds(database: MovingDatabase) -> None:
    (process,) = begin(database, "host:1")
    assert known(database)["host:1"].seconds_since_tick is None
    noted = set()
    for _ in range(8):
        with database.writing() as connection:
            process.note_tick(connection)
            noted.add(connection.scalar(select(process.last_tick_at)))
        database.ahead += 1
    assert len(noted) == 2

    # A clock that was set back does not leave the last tick in the future.
    database.ahead -= 3600
    with database.writing() as connection:
        process.note_tick(connection)
    assert abs(known(database)["host:1"].seconds_since_tick) < 60


@ON_SQLITE
def test_one_that_fails_alone_is_named_for_a_while_and_the_last_one_that_is_well_cannot_fall_sick(
    database: MovingDatabase,
) -> None:
    make_batch(database)
    # One that is gone is no help.
    begin(database, "host:0")
    database.ahead += GONE_AFTER + 1
    sick, well = begin(database, "host:1", "host:2")
    assert [sick.fall_sick(BROKEN), well.fall_sick(BROKEN)] == [True, False]

    found = known(database)["host:1"]
    assert (found.reason, found.detail, found.is_alive) == (BROKEN.reason, BROKEN.detail, False)
    assert [known(database)[name].sick_since is None for name in ("host:1", "host:2")] == [False, True]
    with database.reading() as connection:
        assert count_well(database, connection) == 1
    assert read_status(database, "shipment").to_json()["sick_processes"] == ["host:1"]

    # As long as its supervisor may wait before it starts it again.
    database.ahead += NAMED_FOR + 1
    assert "host:1" not in known(database)


def test_of_many_that_fall_sick_at_once_one_stays(database: MovingDatabase) -> None:
    processes = begin(database, *[f"host:{number}" for number in range(6)])
    with ThreadPoolExecutor(len(processes)) as pool:
        spared = list(pool.map(lambda process: process.fall_sick(BROKEN), processes))
    assert sorted(spared) == [False] + [True] * 5


def read_status(database: MovingDatabase, name: str) -> BatchStatus:
    (status,) = read_statuses(database, name)
    return status


@ON_SQLITE
def test_a_batch_whose_due_work_does_not_move_says_for_how_long_and_why_until_an_attempt_ends(
    database: MovingDatabase, scripted_fleet: ScriptedFleet
) -> None:
    made = make_batch(database, 3)
    first, second, _ = scripted_fleet.tick()
    assert (read_status(database, made.name).still_for or 0.0) < 5
    assert read_status(database, made.name).stall is None

    # However it ends, it is movement.
    for record_id, decision in ((first, UNKNOWN), (second, Active())):
        database.ahead += STILL_AFTER + 1
        still = read_status(database, made.name)
        assert still.still_for > STILL_AFTER
        assert (still.stall.cause, still.to_json()["stall"]["cause"]) == (Cause.WORKER, "worker")
        scripted_fleet.end(record_id, decision)
        assert read_status(database, made.name).stall is None


@ON_SQLITE
def test_a_short_backoff_does_not_delay_the_word_that_no_worker_runs(
    database: MovingDatabase, scripted_fleet: ScriptedFleet
) -> None:
    made = make_batch(database, 1)
    scripted_fleet.end(*scripted_fleet.tick(), Retry(STILL_AFTER / 2, is_counted=True, why="outcome_unknown"))
    database.ahead += STILL_AFTER + 1
    assert read_status(database, made.name).stall.cause == Cause.WORKER
    # A worker may still need a moment for it.
    begin(database, "host:1")
    assert read_status(database, made.name).stall is None


@ON_SQLITE
def test_what_is_stopped_or_not_due_yet_does_not_stand_still(database: MovingDatabase) -> None:
    for state in (BatchState.PAUSED, BatchState.CANCELLED):
        make_batch(database, 2, name=state, state=state)
    tomorrow = database.read_clock() + timedelta(days=1)
    make_batch(database, 1, name="early", scheduled_at=tomorrow)
    database.ahead += 10 * STILL_AFTER
    assert [(status.still_for, status.stall) for status in read_statuses(database)] == [(None, None)] * 3


@ON_SQLITE
def test_a_wave_that_begins_after_a_long_rest_does_not_stand_still(
    database: MovingDatabase, scripted_fleet: ScriptedFleet
) -> None:
    tomorrow = database.read_clock() + timedelta(days=1)
    made = make_batch(database, [{}, {"not_before": tomorrow, "scheduled_at": tomorrow}])
    scripted_fleet.end(*scripted_fleet.tick(), Active())
    database.ahead += timedelta(days=1).total_seconds() + 1
    assert read_status(database, made.name).stall is None
    (dated,) = scripted_fleet.tick()
    assert read_status(database, made.name).stall is None
    database.ahead += STILL_AFTER
    assert read_status(database, made.name).stall is not None
    scripted_fleet.end(dated, Active())


@ON_SQLITE
def test_a_token_given_out_after_a_long_rest_does_not_stand_still(
    database: MovingDatabase, scripted_fleet: ScriptedFleet
) -> None:
    make_batch(database, [{}, *({"user_id": "", "serial_number": f"001{number}"} for number in range(2))])
    scripted_fleet.end(*scripted_fleet.tick(), Active())
    database.ahead += 10 * STILL_AFTER
    give(database, TESTER, "shipment", "0010", str(UUID(int=1)))
    assert read_status(database, "shipment").stall is None
    # Whoever gives out one token after the other is told all the same that none of them moves.
    database.ahead += STILL_AFTER - 1
    give(database, TESTER, "shipment", "0011", str(UUID(int=2)))
    database.ahead += 1
    assert read_status(database, "shipment").stall is not None
