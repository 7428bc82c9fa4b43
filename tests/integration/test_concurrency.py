"""Many threads and processes at the same records, on both databases."""

from __future__ import annotations

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

import pytest
import support.fleets.rival_worker
from sqlalchemy import func, select, text
from support.data.batches import (
    ENVIRONMENT_ID,
    TESTER,
    Made,
    attempts,
    count,
    enqueue,
    look,
    make_batch,
    make_environment,
    rescue,
    statuses,
)
from support.data.moving_clock import MovingDatabase
from support.fleets.dispatchers import make_dispatcher
from support.fleets.rival_worker import contend
from support.judges.status_moves import seen_moves
from support.processes.waiting import wait_until

from models.attempt import AttemptLine, Outcome
from models.encrypted import Keyring, generate_key
from models.reason import Reason
from models.record import Record
from models.record_states import FINAL, Status
from worker.batches.commands import Batches, NotPossible
from worker.clocks import ClockWatch, boot_time
from worker.config.settings import Settings, Tuning
from worker.dispatch import Dispatcher
from worker.leases.queue import Queue
from worker.leases.settlement import CallSummary, Claim
from worker.leases.worker import Leases
from worker.rules.progress import Active, DeadLetter, Decision, Retry
from worker.vault.rotation import reencrypt

THREADS = 32
WAY = (Status.PENDING, Status.QUEUED, Status.ACTIVATING, Status.ACTIVE)


def at_once(*work: Callable[[], object]) -> list[object]:
    """Runs each in a thread of its own, all from the same moment on."""
    ready = threading.Barrier(len(work))

    def begin(mine: Callable[[], object]) -> object:
        ready.wait(timeout=30)
        return mine()

    with ThreadPoolExecutor(len(work)) as threads:
        return list(threads.map(begin, work))


@contextmanager
def counting(database: MovingDatabase) -> Iterator[list[Counter[str]]]:
    """Counts the records by status, over and over, while the block runs."""
    statement = select(Record.status, func.count().label("records")).group_by(Record.status)
    counts: list[Counter[str]] = []
    is_over = threading.Event()

    def watch() -> None:
        while not is_over.wait(0.01):
            with database.reading() as connection:
                counts.append(Counter({row.status: row.records for row in connection.execute(statement)}))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield counts
    finally:
        is_over.set()
        watcher.join()


def test_each_record_is_claimed_once_however_many_threads_ask(database: MovingDatabase, leases: Leases) -> None:
    made = make_batch(database, 8)
    enqueue(database, made)

    claims = at_once(*[lambda n=n: [leases.claim(made.ids[n % 8], ENVIRONMENT_ID)] for n in range(THREADS)])

    claimed = [claim.record_id for (claim,) in claims if claim is not None]
    assert sorted(claimed) == made.ids
    assert [look(database, record_id).attempts for record_id in made.ids] == [1] * 8
    assert [look(database, record_id).otp1_posts for record_id in made.ids] == [1] * 8


def test_threads_that_get_every_message_settle_every_record_once(database: MovingDatabase, leases: Leases) -> None:
    made = make_batch(database, 12)
    enqueue(database, made)

    with counting(database) as counts:
        done = contend(leases, made.ids, THREADS, seed=1)

    assert done == {"claimed": made.ids, "settled": made.ids}
    assert statuses(database, made) == [Status.ACTIVE] * 12
    assert count(database, AttemptLine) == 12
    assert counts
    assert {sum(now.values()) for now in counts} == {12}


def test_two_processes_with_the_same_messages_settle_every_record_once(
    database: MovingDatabase, database_url: str
) -> None:
    made = make_batch(database, 40)
    enqueue(database, made)
    paths = os.pathsep.join(str(Path(support.fleets.rival_worker.__file__).parents[level]) for level in (2, 3))

    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "support.fleets.rival_worker"],
            env=os.environ | {"PYTHONPATH": paths},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for seed, process in enumerate(processes):
        assert process.stdin is not None
        process.stdin.write(json.dumps({"url": database_url, "ids": made.ids, "threads": 4, "seed": 100 * seed}))
        process.stdin.close()
    with counting(database) as counts:
        for process in processes:
            assert process.wait(timeout=60) == 0
    done = []
    for process in processes:
        assert process.stdout is not None
        with process.stdout:
            done.append(json.load(process.stdout))

    assert sorted(done[0]["claimed"] + done[1]["claimed"]) == made.ids
    assert sorted(done[0]["settled"] + done[1]["settled"]) == made.ids
    assert statuses(database, made) == [Status.ACTIVE] * 40
    assert {sum(now.values()) for now in counts} == {40}
    assert Counter(seen_moves(database)) == dict.fromkeys(pairwise(WAY), 40)


def test_a_rescue_and_a_late_settle_cannot_both_end_an_attempt(database: MovingDatabase, leases: Leases) -> None:
    made = make_batch(database, 24)
    enqueue(database, made)
    claims = [leases.claim(record_id, ENVIRONMENT_ID) for record_id in made.ids]
    database.ahead = 61
    settled: dict[int, bool] = {}

    def settle(part: int) -> None:
        for claim in claims[part::4]:
            assert claim is not None
            settled[claim.record_id] = leases.settle(
                claim, claim.progress.with_otp_answered(1), Active(), CallSummary(1)
            )

    def rescue_all() -> int:
        return sum(rescue(database) for _ in range(3))

    *_, rescued = at_once(*[lambda part=part: settle(part) for part in range(4)], rescue_all)

    assert rescued == list(settled.values()).count(False)
    for record_id in made.ids:
        ended = Outcome.ACTIVE if settled[record_id] else Outcome.LOST
        assert [line.outcome for line in attempts(database, record_id)] == [ended]
        assert look(database, record_id).status == (Status.ACTIVE if settled[record_id] else Status.PENDING)


def test_a_cancel_in_the_middle_leaves_nothing_on_its_way(database: MovingDatabase, leases: Leases) -> None:
    made = make_batch(database, 40)
    enqueue(database, made)

    at_once(
        lambda: contend(leases, made.ids, 4, seed=1),
        lambda: Batches(database, TESTER).cancel(made.name),
        lambda: rescue(database),
    )
    with database.writing() as connection:
        Queue(database).sweep_cancelled(connection)

    ended = Counter(statuses(database, made))
    assert ended.keys() <= {Status.ACTIVE, Status.CANCELLED}
    assert count(database, AttemptLine) == ended[Status.ACTIVE]


def test_no_claim_succeeds_once_a_pause_has_returned(database: MovingDatabase, leases: Leases) -> None:
    made = make_batch(database, 40)
    enqueue(database, made)
    is_paused = threading.Event()
    too_late: list[int] = []

    def pause() -> None:
        Batches(database, TESTER).pause(made.name)
        is_paused.set()

    def claim(part: int) -> None:
        for record_id in made.ids[part::4]:
            was_paused = is_paused.is_set()
            if leases.claim(record_id, ENVIRONMENT_ID) is not None and was_paused:
                too_late.append(record_id)

    at_once(*[lambda part=part: claim(part) for part in range(4)], pause)

    assert too_late == []
    assert set(statuses(database, made)) <= {Status.PENDING, Status.ACTIVATING}


class Mailbox:
    """A broker that delivers every message to whoever asks first, and may lose or double it on the way."""

    def __init__(self) -> None:
        self.ids: list[int] = []

    def count_waiting(self) -> int:
        return len(self.ids)

    def publish(self, ids: list[int], environment: str, *, is_ahead: bool = False, labels: object = None) -> None:
        self.ids += ids


class OpenPace:
    rate = 30.0

    def read_hold_left(self) -> float:
        return 0.0


def make_ticking(database: MovingDatabase, broker: Mailbox, window: int) -> Dispatcher:
    return make_dispatcher(
        database,
        broker,
        Settings(tuning=Tuning(window=window)),
        environment=lambda name: make_environment(),
        pace=lambda environment: OpenPace(),
        queue=Queue(database, over_after=10.0),
        # Time that a test lets pass, passes for everybody.
        clock_watch=ClockWatch(lambda: boot_time() + database.ahead, lambda: 0.0),
    )


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


def test_a_rotation_of_keys_waits_for_no_record(database: MovingDatabase) -> None:
    """It holds many, so to wait for one more could block whoever waits for those."""
    if database.is_sqlite:
        pytest.skip("on SQLite there is one writer at a time")
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


def is_somebody_waiting(database: MovingDatabase) -> bool:
    statement = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    with database.reading() as connection:
        return bool(connection.scalar(text(statement)))


class Chaos:
    """Workers that die, settle late and get messages doubled or lost; a person who changes their mind all the time."""

    def __init__(self, database: MovingDatabase, leases: Leases, made: Made) -> None:
        self.database = database
        self.leases = leases
        self.made = made
        self.batches = Batches(database, TESTER)
        self.mailbox = Mailbox()
        self.dispatcher = make_ticking(database, self.mailbox, window=20)

    def work(self, chance: random.Random) -> None:
        record_id = chance.choice(self.mailbox.ids or self.made.ids)
        claim = self.claim(record_id)
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
        orders = [self.batches.pause, self.batches.resume, self.batches.cancel, self.batches.replay]
        # Not every command is possible in every state.
        with suppress(NotPossible):
            chance.choice(orders)(self.made.name)
        self.database.ahead += chance.uniform(0, 40)

    def tick(self, _chance: random.Random) -> None:
        self.dispatcher.tick()

    def calm(self) -> None:
        """From here on every worker succeeds, and nobody interferes."""
        self.batches.replay(self.made.name)
        with suppress(NotPossible):
            self.batches.resume(self.made.name)
        for _ in range(5):
            self.mailbox.ids.clear()
            self.database.ahead += 100
            self.dispatcher.tick()
            for record_id in self.mailbox.ids:
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
    database: MovingDatabase, leases: Leases, seed: int
) -> None:
    """The judge watches every change of a status meanwhile."""
    made = make_batch(database, 30)
    chaos = Chaos(database, leases, made)

    with counting(database) as counts:
        workers = [repeat(chaos.work, 40, 10 * seed + number) for number in range(4)]
        at_once(*workers, repeat(chaos.tick, 20, seed), repeat(chaos.order, 12, seed))
    chaos.calm()

    assert {sum(now.values()) for now in counts} == {30}
    assert set(statuses(database, made)) <= FINAL
