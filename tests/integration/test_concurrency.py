"""Many threads and processes at the same records: who gets which, statements of several threads that go as one, writes
that the database failed for a moment, and a worker that stood still while its turn passed to another. On both
databases."""

import random
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
from sqlalchemy import Connection, select, text, update
from sqlalchemy.exc import IntegrityError, OperationalError
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
    note_job,
    opened,
    pair_of,
    rescue,
    statuses,
)
from support.data.calls import called
from support.data.moving_clock import ON_SQLITE, MovingDatabase
from support.fleets.scripted_fleet import ScriptedFleet
from support.judges.status_moves import seen_moves
from support.processes.waiting import wait_until

from models.attempt import AttemptLine, Outcome
from models.batch import Batch
from models.encrypted import Keyring, generate_key
from models.inventory_job import InventoryJob, JobState
from models.reason import Reason
from models.record import Record
from models.record_states import FINAL, OtpState, Status
from worker.batches.commands import Batches, NotPossible
from worker.batches.imports import Tokens
from worker.batches.long_list import LEASE, Turns
from worker.batches.preparation import Superseded
from worker.config.settings import Tuning
from worker.database.engine import LOAD_LOCK
from worker.leases.group_commit import Values
from worker.leases.lease import Claim, Leases, _name_lease, read_progress
from worker.leases.queue import Queue
from worker.purging import Erasure
from worker.rules.steps import Active, DeadLetter, Decision, Retry
from worker.vault.keys import reencrypt

ACTIVE, AGAIN = Active(), Retry(600.0, is_counted=True, why="outcome_unknown")
WAY = (Status.PENDING, Status.QUEUED, Status.ACTIVATING, Status.ACTIVE)


def at_once(*work: Callable[[], Any]) -> list[Any]:
    """Runs each in a thread of its own, all from the same moment on."""
    ready = threading.Barrier(len(work))

    def begin(mine: Callable[[], Any]) -> Any:
        ready.wait(timeout=30)
        return mine()

    with ThreadPoolExecutor(len(work)) as threads:
        return list(threads.map(begin, work))


def test_two_workers_with_the_same_messages_settle_every_record_once(
    database: MovingDatabase, database_url: str, leases: Leases
) -> None:
    made = make_batch(database, 40)
    enqueue(database, made)
    claimed, settled = list[int](), list[int]()

    def work(mine: Leases, seed: int) -> None:
        """Try every record, in an order of this thread's own."""
        for record_id in random.Random(seed).sample(made.ids, len(made.ids)):
            if claim := mine.claim(record_id, ENVIRONMENT_ID):
                claimed.append(record_id)
                settled.extend([record_id] * settle(mine, claim))

    # The second has connections and group commits of its own, as another process has.
    with closing(MovingDatabase(database_url)) as second:
        workers = (leases, Leases(second)) * 8
        at_once(*[partial(work, mine, seed) for seed, mine in enumerate(workers)])

    assert sorted(claimed) == sorted(settled) == made.ids
    records = [look(database, record_id) for record_id in made.ids]
    assert {(record.status, record.attempts, record.otp1_posts) for record in records} == {(Status.ACTIVE, 1, 1)}
    assert count(database, AttemptLine) == 40
    assert Counter(seen_moves(database)) == dict.fromkeys(pairwise(WAY), 40)


def test_a_rescue_and_a_late_settle_cannot_both_end_an_attempt(database: MovingDatabase, leases: Leases) -> None:
    made = make_batch(database, 24)
    enqueue(database, made)
    claims = [leases.claim(record_id, ENVIRONMENT_ID) for record_id in made.ids]
    database.ahead = 61
    settled: dict[int, bool] = {}

    def settle_part(part: int) -> None:
        for claim in claims[part::4]:
            settled[claim.record_id] = settle(leases, claim)

    def rescue_all() -> int:
        return sum(rescue(database) for _ in range(3))

    *_, rescued = at_once(*[partial(settle_part, part) for part in range(4)], rescue_all)

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

    *too_late, _ = at_once(*[partial(claim, part) for part in range(4)], pause)

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
                wait_until(lambda: is_somebody_waiting(database), "the command waits for the tick")
            queue.unqueue(connection, [first])
        interference.result(timeout=30)

    assert set(statuses(database, made)) == {Status.CANCELLED if command == "cancel" else Status.PENDING}


def is_somebody_waiting(database: MovingDatabase) -> bool:
    statement = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    return bool(database.values(text(statement))[0])


# On SQLite there is one writer at a time.
@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_who_erases_a_person_waits_for_a_mend_which_would_write_the_names_again(database: MovingDatabase) -> None:
    make_batch(database, [{"username": "lea.santos", "status": Status.ACTIVE}])
    with ThreadPoolExecutor(1) as threads:
        with database.changing_many(LOAD_LOCK):
            erasing = threads.submit(Erasure(database, TESTER).erase, "lea.santos")
            wait_until(lambda: is_somebody_waiting(database), "the erasure waits for the mend")
        assert erasing.result(timeout=30).batches == {"shipment": 1}


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
            wait_until(lambda: look(database, first).otps != sealed, "the first record has its new seal")
            queue.unqueue(connection, [first])
            assert not rotation.done()
        assert rotation.result(timeout=30) == 2


def test_a_rotation_of_keys_beside_workers_loses_no_pair_and_brings_none_back(
    database: MovingDatabase, leases: Leases
) -> None:
    old, new = generate_key(), generate_key()
    both = Keyring([new, old])
    made = make_batch(database, 90, keyring=Keyring([old]))
    enqueue(database, made)

    def work(part: int) -> None:
        """Every second record becomes active, the others go back."""
        for number, record_id in list(enumerate(made.ids))[part::3]:
            claimed = leases.claim(record_id, ENVIRONMENT_ID)
            assert opened(claimed, both) == pair_of(number)
            settle(leases, claimed, ACTIVE if number % 2 else AGAIN)

    rotate = partial(reencrypt, database, both, lambda *_: None)
    *_, rotated = at_once(*[partial(work, part) for part in range(3)], rotate)

    assert rotated >= len(made.ids) // 2
    records = [look(database, record_id) for record_id in made.ids]
    pairs = [record.otps and opened(record, Keyring([new])) for record in records]
    assert pairs == [None if number % 2 else pair_of(number) for number in range(90)]


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
        self.leases.settle(claim, progress, decision, called(1))

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
                    settle(self.leases, claim)


def repeat(step: Callable[[random.Random], object], times: int, seed: int) -> Callable[[], None]:
    def run() -> None:
        chance = random.Random(seed)
        for _ in range(times):
            step(chance)

    return run


@pytest.mark.parametrize("seed", range(2))
def test_whatever_happens_at_once_the_batch_finishes_by_itself(
    database: MovingDatabase, scripted_fleet: ScriptedFleet, leases: Leases, seed: int
) -> None:
    """The judge watches every change of a status meanwhile."""
    made = make_batch(database, 30)
    chaos = Chaos(scripted_fleet, leases, made)

    workers = [repeat(chaos.work, 40, 10 * seed + number) for number in range(4)]
    at_once(*workers, repeat(chaos.tick, 20, seed), repeat(chaos.order, 12, seed))
    chaos.calm()

    assert set(statuses(database, made)) <= FINAL


# Claims, marks and settlements of several records in one statement: each thread gets its own result, every condition
# counts for its record alone, and only a record at fault fails.


def queued(database: MovingDatabase, count: Any, **common: Any) -> Made:
    return make_batch(database, count, status=Status.QUEUED, **common)


def claim_together(leases: Leases, ids: list[int]) -> list[Claim | None]:
    """Claim fresh records in one statement; None for those that it did not find."""
    statement, make_claim = leases._claims[0]
    asked = [
        {"this_id": record_id, "this_lease": uuid.uuid4().hex, "for_environment_id": ENVIRONMENT_ID}
        for record_id in ids
    ]
    return [
        None if row is None else make_claim(row, values["this_lease"], 0.0, 0.0)
        for row, values in zip(statement._commit(asked), asked, strict=True)
    ]


def take_lease(database: MovingDatabase, record_id: int) -> None:
    """As if another worker had the record."""
    database.change(update(Record).where(Record.id == record_id).values(lease_id="another"))


def test_every_thread_gets_the_record_that_it_asked_for_and_one_that_is_asked_for_twice_is_claimed_once(
    database: MovingDatabase, leases: Leases
) -> None:
    made = queued(database, 20)
    ids = [made.ids[number] for number in (7, 3, 19, 3, 0, 11)]
    claims = [claim for claim in claim_together(leases, ids) if claim]
    assert [claim.record_id for claim in claims] in (ids[:3] + ids[4:], ids[:1] + ids[2:])
    for claim in claims:
        record = look(database, claim.record_id)
        assert (record.lease_id, record.serial_number) == (claim.lease_id, claim.serial_number)
        assert (record.status, record.otp1_state, record.otp1_posts) == (Status.ACTIVATING, OtpState.SENT, 1)
    assert look(database, made.ids[1]).status == Status.QUEUED


def test_what_one_record_lacks_keeps_no_other_back(database: MovingDatabase, leases: Leases) -> None:
    made = queued(database, [{}, {"status": Status.ACTIVE}, {}, {"otp1_posts": 1}, {"environment_id": "other"}])
    claims = claim_together(leases, made.ids)
    assert [claim is not None for claim in claims] == [True, False, True, False, False]


def test_marks_of_several_records_ask_for_each_record_s_lease_and_batch(
    database: MovingDatabase, leases: Leases
) -> None:
    first, second = queued(database, 2), queued(database, 2, name="second")
    claims = claim_together(leases, [*first.ids, *second.ids])
    take_lease(database, first.ids[1])
    database.change(update(Batch).where(Batch.id == second.batch_id).values(state="paused"))
    asked = [_name_lease(claim) | {"counter": None} for claim in claims]
    assert [row is not None for row in leases._mark_sent[2]._commit(asked)] == [True, False, False, False]
    assert look(database, first.ids[0]).otp2_posts == 1


def test_settlements_of_several_records_have_a_line_each(
    database: MovingDatabase, leases: Leases, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = queued(database, 3)
    claims = claim_together(leases, made.ids)
    take_lease(database, made.ids[1])
    statement, asked = leases._settlement._statements["active"], list[Values]()
    with monkeypatch.context() as patch:
        patch.setattr(statement, "execute", asked.append)
        for number, claim in enumerate(claims, start=1):
            leases._settlement.write(claim, claim.progress.with_otp_answered(1), Active(), called(number))
    assert [row is not None for row in statement._commit(asked)] == [True, False, True]
    columns = select(AttemptLine.record_id, AttemptLine.lease_id, AttemptLine.requests)
    lines = database.rows(columns.order_by(AttemptLine.record_id))
    assert lines == [(made.ids[0], claims[0].lease_id, 1), (made.ids[2], claims[2].lease_id, 3)]
    assert look(database, made.ids[2]).status == Status.ACTIVE


def test_only_the_record_at_fault_fails(database: MovingDatabase, leases: Leases) -> None:
    """Two records may not have the same device while both are in work."""
    made = queued(database, [{"device_id": "", "not_found": 1}, {"device_id": "", "not_found": 1}, {"device_id": "2"}])
    asked = []
    for record_id, device_id in zip(made.ids, ("1", "2"), strict=False):
        claim = leases.claim(record_id, ENVIRONMENT_ID)
        progress = replace(claim.progress, pairing=claim.progress.pairing.paired(device_id, is_made=True))
        asked.append(_name_lease(claim) | read_progress(progress) | {"calls_so_far": None})
    with pytest.raises(IntegrityError):
        leases._write_progress._commit(asked)
    assert look(database, made.ids[0]).device_id == "", "half of it was committed"
    assert leases._write_progress._commit(asked[:1]) != [None]
    assert look(database, made.ids[0]).device_id == "1"


# The database fails for a moment: an answer that PingOne gave is written down all the same.


@pytest.fixture
def claimed(database: MovingDatabase, leases: Leases) -> Claim:
    return leases.claim(queued(database, 1).id, ENVIRONMENT_ID)


Write = Callable[[Leases, Claim], bool]


def settle(leases: Leases, claim: Claim, decision: Decision = ACTIVE) -> bool:
    return leases.settle(claim, claim.progress.with_otp_answered(1), decision, called(1))


def put_off(leases: Leases, claim: Claim) -> bool:
    return settle(leases, claim, AGAIN)


def write_answer(leases: Leases, claim: Claim) -> bool:
    return leases.write_progress(claim, claim.progress.with_otp_answered(1))


def break_once(database: MovingDatabase, monkeypatch: pytest.MonkeyPatch, *, is_committed: bool = True) -> None:
    """The connection of the next write breaks before it can say that it is committed, or before all else."""
    name = "writing" if database.is_sqlite else "writing_one"
    write: Callable[[], Any] = getattr(database, name)

    @contextmanager
    def writing() -> Iterator[Connection]:
        monkeypatch.setattr(database, name, write)
        if is_committed:
            with write() as connection:
                yield connection
        raise OperationalError("COMMIT", None, Exception("server closed the connection unexpectedly"))

    monkeypatch.setattr(database, name, writing)


@pytest.mark.parametrize("is_committed", [True, False])
@pytest.mark.parametrize(
    ("write", "status"),
    [(settle, Status.ACTIVE), (put_off, Status.PENDING), (write_answer, Status.ACTIVATING)],
)
def test_a_write_whose_connection_broke_counts_once_committed_or_not(
    database: MovingDatabase,
    leases: Leases,
    claimed: Claim,
    monkeypatch: pytest.MonkeyPatch,
    write: Write,
    status: Status,
    is_committed: bool,
) -> None:
    break_once(database, monkeypatch, is_committed=is_committed)
    assert write(leases, claimed)
    record = look(database, claimed.record_id)
    assert (record.status, record.otp1_state) == (status, OtpState.ANSWERED)
    assert len(attempts(database, claimed.record_id)) == (status != Status.ACTIVATING)


def test_a_rescue_in_between_is_not_taken_for_the_settlement(
    database: MovingDatabase, leases: Leases, claimed: Claim, monkeypatch: pytest.MonkeyPatch
) -> None:
    database.ahead += 61
    rescue(database)
    break_once(database, monkeypatch)
    assert not settle(leases, claimed)
    assert look(database, claimed.record_id).status == Status.PENDING


# A worker whose turn to prepare a batch has passed to another: it sends nothing, and ends nothing.


@pytest.fixture
def waiting(database: MovingDatabase) -> Made:
    """A batch of one record, whose token is to be imported."""
    return make_batch(database, device_id="", is_in_inventory=False)


@pytest.fixture
def job(database: MovingDatabase, waiting: Made) -> int:
    """The job that imports its token; its request is out."""
    return note_job(database, waiting, JobState.SENT, waiting.id)


@pytest.fixture
def tokens(database: MovingDatabase, keyring: Keyring) -> Tokens:
    absent: Any = None
    return Tokens(database, keyring, absent, absent, Tuning())


def mark_again(tokens: Tokens, made: Made, job: int) -> None:
    tokens.jobs.mark_sent_again(job, lambda connection: tokens.require_running(connection, made.batch_id))


@ON_SQLITE
def test_a_worker_whose_turn_has_passed_to_another_or_ended_with_a_pause_sends_nothing(
    database: MovingDatabase, waiting: Made, tokens: Tokens, job: int
) -> None:
    slow, other = Turns(database), Turns(database)
    slow.begin()
    slow.check(waiting.batch_id)
    database.ahead += LEASE + 1
    assert other.begin() is not None
    with pytest.raises(Superseded):
        slow.check(waiting.batch_id)
    slow.end(waiting.batch_id, 0.0)
    assert slow.begin() is None, "it has ended the other's turn"

    Batches(database, TESTER).pause(waiting.name)
    with pytest.raises(Superseded):
        other.check(waiting.batch_id)
    with pytest.raises(Superseded):
        mark_again(tokens, waiting, job)


@ON_SQLITE
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
    assert database.values(select(InventoryJob.state)) == [JobState.LOST]
    assert look(database, waiting.id).import_job_id == job


@ON_SQLITE
def test_a_reading_tells_nothing_of_what_was_lost_or_let_go_again_since_it_began(
    database: MovingDatabase, waiting: Made, tokens: Tokens, job: int
) -> None:
    turns, others, commands = Turns(database), Turns(database), Batches(database, TESTER)

    def let_go_and_turn_elsewhere() -> None:
        commands.cancel(waiting.name)
        commands.replay(waiting.name)
        assert others.begin()
        others.end(waiting.batch_id, 0.0)

    def read_while(change: Callable[[], object]) -> tuple[Any, Any]:
        """What is known of the token's job and of the inventory once that was read while this happened."""
        turns.begin()
        before = tokens.begin_reading(waiting.batch_id)
        change()
        tokens.end_reading(waiting.batch_id, before, turns.is_held(waiting.batch_id))
        return look(database, waiting.id).import_job_id, look_at_batch(database, waiting.batch_id).inventory_read_at

    assert read_while(lambda: tokens.note_lost(waiting.batch_id, job)) == (job, None)
    assert read_while(lambda: (commands.cancel(waiting.name), commands.replay(waiting.name))) == (None, None)
    with pytest.raises(Superseded):
        turns.check(waiting.batch_id)
    assert read_while(let_go_and_turn_elsewhere) == (None, None)
    assert read_while(lambda: None)[1] is not None
