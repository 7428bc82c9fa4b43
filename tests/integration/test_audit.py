"""Who did what: one line a person's command, in its transaction; and whoever changes a line later is found out. Whoever
owns the tables can write hashes that fit: the heads that were noted outside show it."""

import json
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr
from sqlalchemy import text, update
from sqlalchemy.exc import DBAPIError
from support.data.audit_lines import hash_of, read, refuse_lines
from support.data.batches import enqueue, look_at_batch, make_batch, statuses
from support.data.loading import LoadingDesk, token
from support.data.moving_clock import ON_SQLITE, MovingDatabase

from models.audit import Action, AuditLine
from models.batch import BatchState
from models.encrypted import Keyring
from models.reason import TRANSIENT, PauseReason, Reason
from models.record_states import Status
from worker import audit
from worker.audit import FIELDS, GENESIS, Actor, CheckResult, Head, NotedHead, this_person
from worker.batches.commands import Batches, NotPossible, PaceCommands
from worker.batches.finding import UnknownBatch
from worker.batches.loading import NameTaken
from worker.batches.upkeep import Upkeep
from worker.config.settings import ConfigError, Settings
from worker.config.sources import load_settings
from worker.intake.rows import UnusableFile
from worker.process.worker_parts import WorkerParts
from worker.rules.breaker import Thresholds

ALICE = Actor("alice", "CHG-4711")

Command = Callable[[Batches], object]


@pytest.fixture
def batches(database: MovingDatabase) -> Batches:
    return Batches(database, ALICE)


def check(database: MovingDatabase) -> CheckResult:
    with database.reading_snapshot() as connection:
        return audit.check(connection)


def dead(*reasons: Reason) -> list[dict[str, Any]]:
    return [{"status": Status.DEAD_LETTER, "reason": reason} for reason in reasons]


# One line a command, in the same transaction.

COMMANDS = [
    (BatchState.RUNNING, lambda batches: batches.pause("shipment"), Action.PAUSE, {}),
    (BatchState.PAUSED, lambda batches: batches.resume("shipment"), Action.RESUME, {"reason": None}),
    (
        BatchState.RUNNING,
        lambda batches: batches.resume("shipment", lift_in=lambda *_: "license"),
        Action.RESUME,
        {"reason": None},
    ),
    (BatchState.RUNNING, lambda batches: batches.cancel("shipment"), Action.CANCEL, {"records": 1}),
    (BatchState.PAUSED, lambda batches: batches.replay("shipment"), Action.REPLAY, {"reasons": [], "records": 2}),
    (
        BatchState.RUNNING,
        lambda batches: batches.replay("shipment", [Reason.FORBIDDEN, Reason.ATTEMPTS_SPENT]),
        Action.REPLAY,
        {"reasons": ["attempts_spent", "forbidden"], "records": 1},
    ),
    (
        BatchState.PAUSED,
        lambda batches: batches.replay("shipment", [Reason.LOCKED]),
        Action.REPLAY,
        {"reasons": ["locked"], "records": 0},
    ),
    (
        BatchState.RUNNING,
        lambda batches: batches.note_export("shipment", "/tmp/dead letters.csv"),
        Action.EXPORT_WITH_OTPS,
        {"file": "/tmp/dead letters.csv"},
    ),
]


@ON_SQLITE
@pytest.mark.parametrize(("state", "command", "action", "facts"), COMMANDS)
def test_a_command_writes_who_did_what_when_and_why(
    database: MovingDatabase,
    batches: Batches,
    state: BatchState,
    command: Command,
    action: Action,
    facts: dict[str, Any],
) -> None:
    make_batch(database, [{}, *dead(Reason.FORBIDDEN, Reason.DEVICE_NOT_FOUND, Reason.INVALID_OTP)], state=state)
    database.ahead = 3600

    before = database.read_clock()
    command(batches)

    *_, line = read(database)
    assert (line.actor, line.action, line.batch, line.ticket) == ("alice", action, "shipment", "CHG-4711")
    assert line.facts == facts
    assert before - timedelta(milliseconds=1) <= line.at <= database.read_clock()
    assert check(database).broken is None


@pytest.mark.parametrize(("state", "command"), [row[:2] for row in COMMANDS if row[3] != {"reason": None}])
def test_a_command_that_cannot_be_written_down_does_nothing(
    database: MovingDatabase, batches: Batches, state: BatchState, command: Command
) -> None:
    made = make_batch(database, [{"status": Status.QUEUED}, {}, *dead(Reason.ATTEMPTS_SPENT)], state=state)
    before = look_at_batch(database, made.batch_id), statuses(database, made)
    refuse_lines(database)

    with pytest.raises(DBAPIError, match="no room"):
        command(batches)

    assert (look_at_batch(database, made.batch_id), statuses(database, made)) == before


@ON_SQLITE
def test_a_load_that_cannot_be_written_down_loads_nothing(
    database: MovingDatabase, keyring: Keyring, tmp_path: Path
) -> None:
    desk = LoadingDesk(database, keyring, tmp_path)
    refuse_lines(database)
    with pytest.raises(DBAPIError, match="no room"):
        desk.load([token(1)])
    assert desk.found() == (0, 0, 0)


def test_lines_are_numbered_from_one_and_each_covers_the_one_before_in_any_language(database: MovingDatabase) -> None:
    person = Actor("Zoë O'Brien", 'Änderung "12"\n\t')
    for name in ("first", "Palette «7» 🔑"):
        make_batch(database, name=name)
        for command in ("pause", "resume", "cancel"):
            getattr(Batches(database, person), command)(name)

    lines = read(database)

    assert [(line.id, line.batch) for line in lines[2:4]] == [(3, "first"), (4, "Palette «7» 🔑")]
    assert [line.action for line in read(database, "first")] == ["pause", "resume", "cancel"]
    assert {(line.actor, line.ticket) for line in lines} == {(person.name, person.ticket)}
    former = GENESIS
    for line in lines:
        assert line.hash == hash_of(line._mapping, former)
        former = line.hash
    assert check(database).broken is None


@ON_SQLITE
def test_a_condition_is_kept_without_the_name_of_a_person_which_could_not_be_erased_from_it(
    database: MovingDatabase, batches: Batches
) -> None:
    made = make_batch(database, [{"email": "ada@example.com", "lot": "L7"}, {}])
    where = ["Email=ada@example.com", "lot=L7"]
    batches.pause(made.name, where)
    batches.let_begin(made.name, where)
    batches.replay(made.name, where=where)
    assert [line.facts["where"] for line in read(database)] == 3 * [["Email=…", "lot=L7"]]


@ON_SQLITE
def test_who_works_on_one_batch_replays_that_one_alone_by_the_schedule(
    database: MovingDatabase, database_url: str
) -> None:
    others, mine = (make_batch(database, dead(Reason.ATTEMPTS_SPENT), name=name) for name in ("others", "mine"))
    settings = Settings(database_url=SecretStr(database_url), replay_cron="0 * * * *")
    parts = WorkerParts(settings, broker=None, only_batch=mine.batch_id)

    parts.replay_by_schedule()

    parts.database.close()
    assert [statuses(database, made) for made in (others, mine)] == [["dead_letter"], ["pending"]]


# Nothing where the command fails, or nobody commanded.


@ON_SQLITE
def test_what_fails_and_what_a_batch_does_by_itself_writes_nothing(
    database: MovingDatabase, keyring: Keyring, tmp_path: Path, batches: Batches
) -> None:
    make_batch(database, name="cancelled", state=BatchState.CANCELLED, status=Status.CANCELLED)
    unknown = [(command, "unheard-of") for command in (batches.pause, batches.resume, batches.cancel, batches.replay)]
    for command, name in (*unknown, (batches.pause, "cancelled"), (batches.resume, "cancelled")):
        with pytest.raises((UnknownBatch, NotPossible)):
            command(name)
    running = make_batch(database, 2)
    enqueue(database, running)
    batches.resume(running.name)
    batches.hand_back()
    upkeep = Upkeep(database, Thresholds())
    upkeep.pause(running.batch_id, PauseReason.CREDENTIALS)
    upkeep.update_batches()
    assert read(database) == []

    desk = LoadingDesk(database, keyring, tmp_path)
    assert [desk.load([token(1)], "loaded").is_new for _ in range(2)] == [True, False]
    for row, name in ((token(2), "loaded"), (token(3, otp1="12", user_id="nobody"), "nothing")):
        with pytest.raises((NameTaken, UnusableFile)):
            desk.load([row], name)
    assert [line.action for line in read(database)] == ["load"]


# Who it was.


def test_who_has_no_name_is_named_by_number_and_a_name_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container that runs as whoever owns the shipments."""
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 2_000_000_123)
    assert this_person(load_settings({})) == Actor("uid 2000000123")
    with pytest.raises(ConfigError, match=r"^OATHBULK_ACTOR "):
        load_settings({"OATHBULK_ACTOR": "a" * 201})


@ON_SQLITE
def test_the_schedule_is_an_actor_of_its_own_and_replays_what_time_may_mend_in_running_batches(
    database: MovingDatabase, database_url: str
) -> None:
    others = [*dead(Reason.FORBIDDEN, Reason.INVALID_OTP), {"status": Status.CANCELLED}]
    first = make_batch(database, [*dead(*sorted(TRANSIENT)), *others], name="first")
    make_batch(database, others, name="nothing to replay")
    for state in (BatchState.PAUSED, BatchState.CANCELLED):
        make_batch(database, dead(Reason.ATTEMPTS_SPENT), name=state, state=state)
    make_batch(database, dead(Reason.ATTEMPTS_SPENT), name="last")
    parts = WorkerParts(Settings(database_url=SecretStr(database_url)), broker=None)

    assert [parts.replays.replay_transient(), parts.replays.replay_transient()] == [3, 0]

    parts.database.close()
    assert statuses(database, first) == ["pending", "pending", "dead_letter", "dead_letter", "cancelled"]
    assert [(line.actor, line.batch, line.action, line.facts) for line in read(database)] == [
        ("schedule", name, "replay", {"reasons": sorted(TRANSIENT), "records": records})
        for name, records in (("first", 2), ("last", 1))
    ]
    assert check(database) == CheckResult(2)


# The chain.

LINES = 6
VALUES: dict[str, st.SearchStrategy[Any]] = {
    # An integer as SQLite can hold it.
    "actor": st.text() | st.integers(-(2**63), 2**63 - 1) | st.binary(),
    "action": st.sampled_from([str(action) for action in Action]),
    "batch": st.text() | st.binary(),
    "ticket": st.none() | st.text(),
    "facts": st.dictionaries(st.text(), st.none() | st.integers() | st.text()).map(json.dumps) | st.text(),
    "hash": st.text("0123456789abcdef", min_size=64, max_size=64) | st.text(),
    "at": st.text(),
}
CHANGES = st.sampled_from([*VALUES]).flatmap(lambda column: st.tuples(st.just(column), VALUES[column]))
PLACES = st.integers(1, LINES)
# The same file serves all examples: each one is taken back.
EXAMPLES = settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])


def take_triggers_away(database: MovingDatabase) -> None:
    """As who owns the tables may."""
    names = ("audit_no_update", "audit_no_delete", "audit_no_replace") if database.is_sqlite else ("audit_append_only",)
    database.change(*(text(f"DROP TRIGGER {name}{'' if database.is_sqlite else ' ON audit'}") for name in names))


def write_lines(database: MovingDatabase, count: int, actor: Actor) -> None:
    """One a command, a minute apart."""
    for _ in range(count):
        database.ahead += 60
        PaceCommands(database, actor).lift("license")


@pytest.fixture
def copied(database: MovingDatabase) -> MovingDatabase:
    """An SQLite file of which somebody took away the triggers."""
    write_lines(database, LINES, ALICE)
    take_triggers_away(database)
    assert check(database) == CheckResult(LINES)
    return database


def find_broken(database: MovingDatabase, *tampering: tuple[str, dict[str, Any]]) -> int | None:
    """The line that is found broken when somebody has done this; then it is taken back."""
    with database.engine.connect() as connection:
        for statement, values in tampering:
            connection.execute(text(statement), values)
        broken = audit.check(connection).broken
        connection.rollback()
    return broken.line if broken else None


def read_raw(database: MovingDatabase, place: int) -> dict[str, Any]:
    """A line as the file has it."""
    return database.rows(text(f"SELECT * FROM audit WHERE id = {place}"))[0]._asdict()


def is_same(column: str, one: Any, other: Any) -> bool:
    """JSON may be written in several ways; a person's eye would not see a change in it either."""
    try:
        return bool(one == other or (column == "facts" and json.loads(one) == json.loads(other)))
    except ValueError:
        return False


@ON_SQLITE
@EXAMPLES
@given(place=PLACES, change=CHANGES)
@example(place=2, change=("at", "once upon a time"))
def test_a_changed_line_is_found(copied: MovingDatabase, place: int, change: tuple[str, Any]) -> None:
    (column, value), line = change, read_raw(copied, place)
    assume(not is_same(column, value, line[column]))
    # A time is covered to its last digit.
    moved = str(datetime.fromisoformat(line["at"]) + timedelta(microseconds=1))

    for name, other in ((column, value), ("at", moved)):
        changed = f"UPDATE audit SET {name} = :value WHERE id = :id"
        assert find_broken(copied, (changed, {"value": other, "id": place})) == place


@ON_SQLITE
@EXAMPLES
@given(places=st.sets(st.integers(1, LINES - 1), min_size=1), closes_ranks=st.booleans())
def test_removed_lines_are_found_even_if_the_rest_is_numbered_anew(
    copied: MovingDatabase, places: set[int], closes_ranks: bool
) -> None:
    gone = [("DELETE FROM audit WHERE id = :id", {"id": place}) for place in sorted(places)]
    left = enumerate((place for place in range(1, LINES + 1) if place not in places), start=1)
    renumbered = [("UPDATE audit SET id = :new WHERE id = :old", {"new": new, "old": old}) for new, old in left]

    assert find_broken(copied, *gone, *(renumbered if closes_ranks else [])) == min(places)


@ON_SQLITE
@EXAMPLES
@given(pair=st.sets(PLACES, min_size=2, max_size=2))
def test_swapped_lines_are_found(copied: MovingDatabase, pair: set[int]) -> None:
    one, other = sorted(pair)
    renumbered = "UPDATE audit SET id = :new WHERE id = :old"
    moves = [{"new": new, "old": old} for new, old in ((99, one), (one, other), (other, 99))]
    assert find_broken(copied, *((renumbered, move) for move in moves)) == one


@ON_SQLITE
def test_lines_that_were_cut_off_show_in_the_last_hash_alone(copied: MovingDatabase) -> None:
    """Whoever noted the last hash elsewhere knows."""
    assert find_broken(copied, ("DELETE FROM audit WHERE id > 4", {})) is None
    assert find_broken(copied, ("DELETE FROM audit", {})) is None


def test_commands_at_the_same_time_keep_the_chain_without_gaps(database: MovingDatabase, database_url: str) -> None:
    """Each thread has a connection pool of its own, as processes do."""
    threads, rounds = 4, 4
    for number in range(threads):
        make_batch(database, [{}, *dead(Reason.FORBIDDEN)], name=f"batch {number}")
    make_batch(database, name="everybody's")
    start = threading.Barrier(threads)

    def command(number: int) -> None:
        with closing(MovingDatabase(database_url)) as own:
            batches = Batches(own, Actor(f"person {number}", f"CHG-{number}"))
            start.wait()
            for _ in range(rounds):
                batches.pause(f"batch {number}")
                batches.note_export("everybody's", f"{number}.csv")
                batches.replay(f"batch {number}")

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(command, range(threads)))

    assert check(database) == CheckResult(threads * rounds * 3)
    for number in range(threads):
        mine = [line.action for line in read(database) if line.actor == f"person {number}"]
        assert mine == ["pause", "export --with-otps", "replay"] * rounds


# Heads outside.


def person(head: Path) -> Actor:
    """Somebody at a machine with this place for heads."""
    return this_person(load_settings({"OATHBULK_ACTOR": "alice", "OATHBULK_AUDIT_HEAD": str(head)}))


def rewrite(database: MovingDatabase, first: int) -> None:
    """Name somebody else in line `first`, with hashes that fit there and in all lines after it."""
    take_triggers_away(database)
    former, lines = GENESIS, read(database)
    with database.writing() as connection:
        for line in lines:
            values = {"actor": "somebody else"} if line.id == first else {}
            former = hash_of({name: getattr(line, name) for name in FIELDS} | values, former)
            connection.execute(update(AuditLine).where(AuditLine.id == line.id).values(values | {"hash": former}))


def find_missing(database: MovingDatabase, heads: list[NotedHead]) -> list[tuple[int | None, str]]:
    with database.reading() as connection:
        return [(missing.head.line, missing.why) for missing in audit.find_missing(connection, heads)]


@ON_SQLITE
def test_each_lines_head_is_noted_outside_and_a_place_that_takes_none_undoes_nothing(
    database: MovingDatabase, tmp_path: Path
) -> None:
    path = tmp_path / "later" / "heads"
    write_lines(database, 1, person(path))
    path.parent.mkdir()
    for name in ("second", "third"):
        make_batch(database, dead(Reason.ATTEMPTS_SPENT), name=name)
    # Two lines in one transaction.
    Batches(database, person(path)).replay_transient()

    _, *lines = read(database)
    assert audit.read_heads(str(path)) == [NotedHead(line.hash, line.id) for line in lines]
    assert find_missing(database, [*audit.read_heads(str(path)), NotedHead(lines[1].hash)]) == []


@ON_SQLITE
def test_a_head_is_noted_after_the_commit_and_not_without_it(database: MovingDatabase, database_url: str) -> None:
    """What is noted must be in the database: another connection sees it."""
    seen = []

    def look(head: Head) -> None:
        with closing(MovingDatabase(database_url)) as other:
            seen.append((head.hash, [line.hash for line in read(other)]))

    actor = replace(ALICE, note_head=look)
    write_lines(database, 1, actor)
    refuse_lines(database)
    with pytest.raises(DBAPIError, match="no room"):
        write_lines(database, 1, actor)

    ((noted_hash, hashes),) = seen
    assert [noted_hash] == hashes


def test_heads_show_what_was_cut_off_or_rewritten_with_hashes_that_fit(
    database: MovingDatabase, tmp_path: Path
) -> None:
    path = tmp_path / "heads"
    write_lines(database, 4, person(path))

    rewrite(database, 2)
    database.change(text("DELETE FROM audit WHERE id > 3"))

    # The chain alone does not show it.
    assert check(database) == CheckResult(3)
    assert find_missing(database, [*audit.read_heads(str(path)), NotedHead("0" * 64)]) == [
        (2, "line 2 was rewritten after its head was saved"),
        (3, "line 3 was rewritten after its head was saved"),
        (4, "line 4 was cut off: the audit ends with line 3"),
        (None, "no line has this hash: the line was cut off or rewritten"),
    ]
