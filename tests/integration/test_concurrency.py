"""Many threads and processes at the same records, and a worker that stood still while its turn passed to another. On
both databases."""

import json
import os
import random
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import support.fleets.rival_worker
from sqlalchemy import func, insert, select, text, update
from support.data.batches import (
    ENVIRONMENT_ID,
    TESTER,
    Made,
    attempts,
    count,
    enqueue,
    look,
    look_at_batch,
    make_batch,
    rescue,
    statuses,
)
from support.data.moving_clock import MovingDatabase
from support.fleets.scripted_fleet import ScriptedFleet
from support.judges.status_moves import seen_moves
from support.processes.waiting import wait_until

from models.attempt import AttemptLine, Outcome
from models.encrypted import Keyring, generate_key
from models.inventory_job import InventoryJob, JobKind, JobState
from models.reason import Reason
from models.record import Record
from models.record_states import FINAL, Status
from worker.batches.commands import Batches, NotPossible
from worker.batches.long_list import LEASE, Turns
from worker.batches.preparation import Superseded
from worker.batches.tokens import Tokens
from worker.config.tuning import Tuning
from worker.leases.queue import Queue
from worker.leases.settlement import CallSummary, Claim
from worker.leases.worker import Leases
from worker.rules.steps import Active, DeadLetter, Decision, Retry
from worker.vault.rotation import reencrypt

# For what is no SQL of its own on either database.
ON_ONE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
WAY = (Status.PENDING, Status.QUEUED, Status.ACTIVATING, Status.ACTIVE)


def at_once(*work: Callable[[], Any]) -> list[Any]:
    """Runs each in a thread of its own, all from the same moment on."""
    ready = threading.Barrier(len(work))

    def begin(mine: Callable[[], Any]) -> Any:
        ready.wait(timeout=30)
        return mine()

    with ThreadPoolExecutor(len(work)) as threads:
        return list(threads.map(begin, work))


@contextmanager
def counting(database: MovingDatabase) -> Iterator[set[int]]:
    """Counts the records of all statuses together, over and over, while the block runs."""
    statement = select(Record.status, func.count()).group_by(Record.status)
    sums, is_over = set[int](), threading.Event()

    def watch() -> None:
        while not is_over.wait(0.01):
            with database.reading() as connection:
                sums.add(sum(records for _, records in connection.execute(statement)))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield sums
    finally:
        is_over.set()
        watcher.join()


def test_two_processes_with_the_same_messages_settle_every_record_once(
    database: MovingDatabase, database_url: str
) -> None:
    made = make_batch(database, 40)
    enqueue(database, made)
    paths = os.pathsep.join(str(Path(support.fleets.rival_worker.__file__).parents[level]) for level in (2, 3))

    def work(seed: int) -> dict[str, list[int]]:
        asked = json.dumps({"url": database_url, "ids": made.ids, "threads": 8, "seed": seed})
        argv, env = [sys.executable, "-m", "support.fleets.rival_worker"], os.environ | {"PYTHONPATH": paths}
        ended = subprocess.run(argv, env=env, input=asked, stdout=subprocess.PIPE, text=True, timeout=60, check=True)
        done: dict[str, list[int]] = json.loads(ended.stdout)
        return done

    with counting(database) as sums:
        first, second = at_once(lambda: work(0), lambda: work(100))

    assert sorted(first["claimed"] + second["claimed"]) == made.ids
    assert sorted(first["settled"] + second["settled"]) == made.ids
    records = [look(database, record_id) for record_id in made.ids]
    assert {(record.status, record.attempts, record.otp1_posts) for record in records} == {(Status.ACTIVE, 1, 1)}
    assert count(database, AttemptLine) == 40
    assert sums == {40}
    assert Counter(seen_moves(database)) == dict.fromkeys(pairwise(WAY), 40)


def test_a_rescue_and_a_late_settle_cannot_both_end_an_attempt(database: MovingDatabase, leases: Leases) -> None:
    made = make_batch(database, 24)
    enqueue(database, made)
    claims = [leases.claim(record_id, ENVIRONMENT_ID) for record_id in made.ids]
    database.ahead = 61
    settled: dict[int, bool] = {}

    def settle(part: int) -> None:
        for claim in claims[part::4]:
            progress = claim.progress.with_otp_answered(1)
            settled[claim.record_id] = leases.settle(claim, progress, Active(), CallSummary(1))

    def rescue_all() -> int:
        return sum(rescue(database) for _ in range(3))

    *_, rescued = at_once(*[lambda part=part: settle(part) for part in range(4)], rescue_all)

    assert rescued == list(settled.values()).count(False)
    for record_id in made.ids:
        ended = (Outcome.ACTIVE, Status.ACTIVE) if settled[record_id] else (Outcome.LOST, Status.PENDING)
        (line,) = attempts(database, record_id)
        assert (line.outcome, look(database, record_id).status) == ended


def test_no_claim_succeeds_once_a_pause_has_returned(database: MovingDatabase, leases: Leases) -> None:
    made = make_batch(database, 40)
    enqueue(database, made)
    is_paused = threading.Event()

    def pause() -> None:
        Batches(database, TESTER).pause(made.name)
        is_paused.set()

    def claim(part: int) -> bool:
        """Whether any claim succeeded that began after the pause."""
        began = [(is_paused.is_set(), leases.claim(record_id, ENVIRONMENT_ID)) for record_id in made.ids[part::4]]
        return any(claimed is not None for was_paused, claimed in began if was_paused)

    *too_late, _ = at_once(*[lambda part=part: claim(part) for part in range(4)], pause)

    assert too_late == [False] * 4
    assert set(statuses(database, made)) <= {Status.PENDING, Status.ACTIVATING}


@pytest.mark.parametrize("command", ["pause", "hand_back", "cancel"])
def test_whoever_changes_many_records_waits_for_a_tick_that_does(database: MovingDatabase, command: str) -> None:
    """Two that met in different orders would block each other, until the server made one of them fail."""
    made = make_batch(database, 2)
    first, second = made.ids
    enqueue(database, made)
    queue = Queue(database)

    with ThreadPoolExecutor(1) as threads:
        with database.changing_many() as connection:
            queue.unqueue(connection, [second])
            names = [] if command == "hand_back" else [made.name]
            interference = threads.submit(getattr(Batches(database, TESTER), command), *names)
            if not database.is_sqlite:
                wait_until(lambda: is_somebody_waiting(database), 10, "the command waits for the tick")
            queue.unqueue(connection, [first])
        interference.result(timeout=30)

    assert set(statuses(database, made)) == {Status.CANCELLED if command == "cancel" else Status.PENDING}


def is_somebody_waiting(database: MovingDatabase) -> bool:
    statement = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    with database.reading() as connection:
        return bool(connection.scalar(text(statement)))


# On SQLite there is one writer at a time.
@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_rotation_of_keys_waits_for_no_record(database: MovingDatabase) -> None:
    """It holds many, so to wait for one more could block whoever waits for those."""
    old, new = generate_key(), generate_key()
    made = make_batch(database, 2, keyring=Keyring([old]))
    first, second = made.ids
    sealed = look(database, first).otps
    enqueue(database, made)
    queue = Queue(database)

    with ThreadPoolExecutor(1) as threads:
        with database.changing_many() as connection:
            queue.unqueue(connection, [second])
            rotation = threads.submit(reencrypt, database, Keyring([new, old]), lambda *_: None)
            wait_until(lambda: look(database, first).otps != sealed, 10, "the first record has its new seal")
            queue.unqueue(connection, [first])
            assert not rotation.done()
        assert rotation.result(timeout=30) == 2


class Chaos:
    """Workers that die, settle late and get messages doubled or lost; a person who changes their mind all the time."""

    def __init__(self, fleet: ScriptedFleet, leases: Leases, made: Made) -> None:
        self.fleet = fleet
        self.leases = leases
        self.made = made
        # Every message is delivered to whoever asks first, and may be lost or doubled on the way.
        self.mailbox: list[int] = []

    def work(self, chance: random.Random) -> None:
        claim = self.claim(chance.choice(self.mailbox or self.made.ids))
        if claim is None or chance.random() < 0.2:
            return
        again = Retry(chance.uniform(0, 5), is_counted=True, why="outcome_unknown")
        ends: list[Decision] = [again, Active(), DeadLetter(Reason.ATTEMPTS_SPENT)]
        decision = chance.choice(ends)
        progress = claim.progress if decision is again else claim.progress.with_otp_answered(1)
        self.leases.settle(claim, progress, decision, CallSummary(1))

    def claim(self, record_id: int) -> Claim | None:
        claim = self.leases.claim(record_id, ENVIRONMENT_ID)
        if claim is None:
            self.leases.hand_back_stopped(record_id)
        return claim

    def order(self, chance: random.Random) -> None:
        batches = self.fleet.batches
        # Not every command is possible in every state.
        with suppress(NotPossible):
            chance.choice([batches.pause, batches.resume, batches.cancel, batches.replay])(self.made.name)
        self.fleet.pass_time(chance.uniform(0, 40))

    def tick(self, _chance: random.Random) -> None:
        self.mailbox += self.fleet.tick()

    def calm(self) -> None:
        """From here on every worker succeeds, and nobody interferes."""
        self.fleet.batches.replay(self.made.name)
        with suppress(NotPossible):
            self.fleet.batches.resume(self.made.name)
        for _ in range(5):
            self.fleet.pass_time(100)
            for record_id in self.fleet.tick():
                if claim := self.claim(record_id):
                    self.leases.settle(claim, claim.progress.with_otp_answered(1), Active(), CallSummary(1))


def repeat(step: Callable[[random.Random], object], times: int, seed: int) -> Callable[[], None]:
    def run() -> None:
        chance = random.Random(seed)
        for _ in range(times):
            step(chance)

    return run


@pytest.mark.parametrize("seed", range(2))
def test_whatever_happens_at_once_every_count_adds_up_and_the_batch_finishes_by_itself(
    database: MovingDatabase, scripted_fleet: ScriptedFleet, leases: Leases, seed: int
) -> None:
    """The judge watches every change of a status meanwhile."""
    made = make_batch(database, 30)
    chaos = Chaos(scripted_fleet, leases, made)

    with counting(database) as sums:
        workers = [repeat(chaos.work, 40, 10 * seed + number) for number in range(4)]
        at_once(*workers, repeat(chaos.tick, 20, seed), repeat(chaos.order, 12, seed))
    chaos.calm()

    assert sums == {30}
    assert set(statuses(database, made)) <= FINAL


# A worker whose turn to prepare a batch has passed to another: it sends nothing, and ends nothing.


@pytest.fixture
def waiting(database: MovingDatabase) -> Made:
    """A batch of one record, whose token is to be imported."""
    return make_batch(database, device_id="", is_in_inventory=False)


@pytest.fixture
def job(database: MovingDatabase, waiting: Made) -> int:
    """The job that imports its token; its request is out."""
    values = {"batch_id": waiting.batch_id, "kind": JobKind.IMPORT, "state": JobState.SENT, "size": 1}
    with database.writing() as connection:
        sent = insert(InventoryJob).values(values | {"sent_at": database.now()})
        made = connection.execute(sent.returning(InventoryJob.id)).scalar_one()
        connection.execute(update(Record).values(import_job_id=made))
    return made


@pytest.fixture
def tokens(database: MovingDatabase, keyring: Keyring) -> Tokens:
    absent: Any = None
    return Tokens(database, keyring, absent, absent, Tuning())


def mark_again(tokens: Tokens, made: Made, job: int) -> None:
    tokens.jobs.mark_sent_again(job, lambda connection: tokens.require_running(connection, made.batch_id))


@ON_ONE
def test_a_worker_that_stood_still_for_longer_than_its_turn_has_lost_it(
    database: MovingDatabase, waiting: Made
) -> None:
    slow, other = Turns(database), Turns(database)
    assert slow.begin() is not None
    slow.check(waiting.batch_id)
    assert other.begin() is None

    database.ahead += LEASE + 1
    assert other.begin() is not None
    with pytest.raises(Superseded):
        slow.check(waiting.batch_id)
    slow.end(waiting.batch_id, 0.0)
    other.check(waiting.batch_id)


@ON_ONE
def test_a_turn_ends_and_no_job_goes_out_again_once_the_batch_is_paused(
    database: MovingDatabase, waiting: Made, tokens: Tokens, job: int
) -> None:
    turns = Turns(database)
    turns.begin()
    Batches(database, TESTER).pause(waiting.name)
    with pytest.raises(Superseded):
        turns.check(waiting.batch_id)
    with pytest.raises(Superseded):
        mark_again(tokens, waiting, job)


@ON_ONE
def test_a_job_that_was_called_lost_does_not_go_out_and_does_not_begin_again(
    database: MovingDatabase, waiting: Made, tokens: Tokens, job: int
) -> None:
    mark_again(tokens, waiting, job)
    tokens.note_lost(waiting.batch_id, job)

    with pytest.raises(Superseded):
        mark_again(tokens, waiting, job)
    tokens.jobs.note_started(job, "job-of-pingone")
    tokens.take_back(job)
    tokens.note_refused(job, "refused")
    with database.reading() as connection:
        assert connection.scalar(select(InventoryJob.state)) == JobState.LOST
    assert look(database, waiting.id).import_job_id == job


@ON_ONE
def test_a_reading_tells_nothing_of_a_job_that_was_lost_since_it_began(
    database: MovingDatabase, waiting: Made, tokens: Tokens, job: int
) -> None:
    Turns(database).begin()
    before = tokens.begin_reading(waiting.batch_id)
    tokens.note_lost(waiting.batch_id, job)
    tokens.end_reading(waiting.batch_id, before)
    assert look(database, waiting.id).import_job_id == job
    assert look_at_batch(database, waiting.batch_id).inventory_read_at is None

    tokens.end_reading(waiting.batch_id, tokens.begin_reading(waiting.batch_id))
    assert look(database, waiting.id).import_job_id is None
    assert look_at_batch(database, waiting.batch_id).inventory_read_at is not None


@ON_ONE
def test_a_reading_ends_for_nothing_where_records_were_let_go_again_since_it_began(
    database: MovingDatabase, waiting: Made, tokens: Tokens
) -> None:
    turns, commands = Turns(database), Batches(database, TESTER)
    turns.begin()
    before = tokens.begin_reading(waiting.batch_id)
    commands.cancel(waiting.name)
    assert commands.replay(waiting.name).records == 1
    tokens.end_reading(waiting.batch_id, before)
    assert look_at_batch(database, waiting.batch_id).inventory_read_at is None
    with pytest.raises(Superseded):
        turns.check(waiting.batch_id)

    turns.begin()
    tokens.end_reading(waiting.batch_id, tokens.begin_reading(waiting.batch_id))
    assert look_at_batch(database, waiting.batch_id).inventory_read_at is not None
