"""Who did what: one line a person's command, in its transaction; and whoever changes a line later is found out."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError
from support.data.audit_lines import hash_of, read, refuse_lines
from support.data.batches import TESTER, enqueue, look_at_batch, make_batch, statuses
from support.data.moving_clock import MovingDatabase

from models.audit import Action
from models.batch import BatchState
from models.encrypted import Keyring
from models.reason import TRANSIENT, PauseReason, Reason
from models.record_states import Status
from worker import audit
from worker.audit import GENESIS, Actor, BrokenLine, this_person
from worker.batches.commands import Batches, NotPossible
from worker.batches.finding import NameTaken, UnknownBatch
from worker.batches.loading import Loaded, Loader
from worker.batches.upkeep import Upkeep
from worker.config.environment import Environment
from worker.config.settings import ConfigError, Settings
from worker.config.sources import load_settings
from worker.intake import UnusableFile, open_shipment
from worker.process.worker_parts import WorkerParts
from worker.rules.breaker import Thresholds

ALICE = Actor("alice", "CHG-4711")
ENVIRONMENT = Environment(name="default", environment_id="tenant-1", client_id="id", client_secret="secret")
OTP = 60_010_203

Command = Callable[[Batches], object]


@pytest.fixture
def batches(database: MovingDatabase) -> Batches:
    return Batches(database, ALICE)


def check(database: MovingDatabase) -> BrokenLine | None:
    with database.reading() as connection:
        return audit.check(connection).broken


def dead(*reasons: Reason) -> Sequence[dict[str, Any]]:
    return [{"status": Status.DEAD_LETTER, "reason": reason} for reason in reasons]


def load(
    database: MovingDatabase,
    keyring: Keyring,
    path: Path,
    name: str = "loaded",
    rows: int = 3,
    canary: int | None = None,
    *,
    actor: Actor = ALICE,
) -> Loaded:
    """A shipment of this many rows, and a last one that is refused."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["serial", "otp1", "otp2", "user_id", "device_id"])
        for number in range(rows):
            ids = (
                uuid.uuid5(uuid.NAMESPACE_URL, f"{name} user {number}"),
                uuid.uuid5(uuid.NAMESPACE_URL, f"{name} {number}"),
            )
            writer.writerow([f"{name.upper()}{number:04}", OTP + number, OTP + 1000 + number, *ids])
        writer.writerow(["REFUSED1", "12", "34", "nobody", "nothing"])
    return Loader(database, keyring, ENVIRONMENT, actor).load(open_shipment(path), name, canary)


# One line a command.


@pytest.mark.parametrize(
    ("state", "command", "action", "facts"),
    [
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
    ],
)
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
    assert check(database) is None


def test_a_load_writes_what_was_loaded_and_no_otp(database: MovingDatabase, keyring: Keyring, tmp_path: Path) -> None:
    path = tmp_path / "pallet 7.csv"

    load(database, keyring, path, canary=2)

    (line,) = read(database)
    assert (line.actor, line.action, line.batch, line.ticket) == ("alice", "load", "loaded", "CHG-4711")
    assert line.facts == {
        "file": "pallet 7.csv",
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "canary": 2,
        "window": None,
        "environment": "default",
        "total": 3,
        "rows_refused": 1,
    }
    assert "600102" not in str(line)


def test_lines_are_numbered_from_one_and_each_covers_the_one_before(database: MovingDatabase, batches: Batches) -> None:
    make_batch(database, name="first")
    make_batch(database, name="second")
    for _ in range(3):
        batches.pause("first")
        batches.resume("first")
    batches.cancel("second")

    lines = read(database)

    assert [line.id for line in lines] == list(range(1, 8))
    assert [line.action for line in read(database, "first")] == ["pause", "resume"] * 3
    assert [line.id for line in read(database, "second")] == [7]
    former = GENESIS
    for line in lines:
        assert line.hash == hash_of(line._mapping, former)
        former = line.hash


def test_names_and_tickets_may_be_in_any_language(database: MovingDatabase) -> None:
    make_batch(database, name="Palette «7» 🔑")
    Batches(database, Actor("Zoë O'Brien", 'Änderung "12"\n\t')).pause("Palette «7» 🔑")

    (line,) = read(database)

    assert (line.actor, line.batch, line.ticket) == ("Zoë O'Brien", "Palette «7» 🔑", 'Änderung "12"\n\t')
    assert check(database) is None


# Nothing where the command fails, or nobody commanded.


@pytest.mark.parametrize("command", ["pause", "resume", "cancel", "replay"])
def test_a_command_on_a_batch_that_is_not_there_writes_nothing(
    database: MovingDatabase, batches: Batches, command: str
) -> None:
    with pytest.raises(UnknownBatch):
        getattr(batches, command)("unheard-of")
    with pytest.raises(UnknownBatch):
        batches.note_export("unheard-of", "export.csv")
    assert read(database) == []


@pytest.mark.parametrize("command", ["pause", "resume"])
def test_a_command_that_is_not_possible_writes_nothing(
    database: MovingDatabase, batches: Batches, command: str
) -> None:
    made = make_batch(database, state=BatchState.CANCELLED, status=Status.CANCELLED)
    with pytest.raises(NotPossible):
        getattr(batches, command)(made.name)
    assert read(database) == []


def test_a_load_that_fails_or_loads_nothing_writes_nothing(
    database: MovingDatabase, keyring: Keyring, tmp_path: Path
) -> None:
    assert load(database, keyring, tmp_path / "shipment.csv").is_new
    assert not load(database, keyring, tmp_path / "shipment.csv").is_new
    with pytest.raises(NameTaken):
        load(database, keyring, tmp_path / "other.csv", rows=4)
    with pytest.raises(UnusableFile):
        load(database, keyring, tmp_path / "nothing.csv", "nothing", rows=0)
    assert [line.action for line in read(database)] == ["load"]


def test_resuming_what_runs_and_handing_back_are_nobodys_commands(database: MovingDatabase, batches: Batches) -> None:
    made = make_batch(database, 2)
    enqueue(database, made)
    batches.resume(made.name)
    batches.hand_back()
    assert read(database) == []


def test_what_a_batch_does_by_itself_is_nobodys_command(database: MovingDatabase) -> None:
    made = make_batch(database)
    upkeep = Upkeep(database, Thresholds())
    upkeep.pause(made.batch_id, PauseReason.CREDENTIALS)
    upkeep.update_batches()
    assert read(database) == []


# In the same transaction.


@pytest.mark.parametrize(
    ("state", "command"),
    [
        (BatchState.RUNNING, lambda batches: batches.pause("shipment")),
        (BatchState.PAUSED, lambda batches: batches.resume("shipment")),
        (BatchState.RUNNING, lambda batches: batches.cancel("shipment")),
        (BatchState.PAUSED, lambda batches: batches.replay("shipment")),
        (BatchState.RUNNING, lambda batches: batches.replay_transient()),
        (BatchState.RUNNING, lambda batches: batches.note_export("shipment", "export.csv")),
    ],
)
def test_a_command_that_cannot_be_written_down_does_nothing(
    database: MovingDatabase, batches: Batches, state: BatchState, command: Command
) -> None:
    made = make_batch(database, [{"status": Status.QUEUED}, {}, *dead(Reason.ATTEMPTS_SPENT)], state=state)
    before = look_at_batch(database, made.batch_id), statuses(database, made)
    refuse_lines(database)

    with pytest.raises(DBAPIError, match="no room"):
        command(batches)

    assert (look_at_batch(database, made.batch_id), statuses(database, made)) == before


def test_a_load_that_cannot_be_written_down_loads_nothing(
    database: MovingDatabase, keyring: Keyring, tmp_path: Path
) -> None:
    refuse_lines(database)

    with pytest.raises(DBAPIError, match="no room"):
        load(database, keyring, tmp_path / "shipment.csv")

    with database.reading() as connection:
        assert connection.scalar(text("SELECT count(*) FROM batch")) == 0
        assert connection.scalar(text("SELECT count(*) FROM record")) == 0


# Who it was.

NAMES = ("LOGNAME", "USER", "LNAME", "USERNAME")


def test_the_actor_is_named_by_a_setting_or_else_the_user_of_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "bob")

    assert this_person(load_settings({"OATHBULK_ACTOR": "alice"}), "CHG-1") == Actor("alice", "CHG-1")
    assert this_person(load_settings({}), "CHG-1") == Actor("bob", "CHG-1")
    assert this_person(load_settings({"OATHBULK_ACTOR": ""})) == Actor("bob", None)


def test_a_user_whom_the_system_does_not_know_is_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container that runs as whoever owns the shipments."""
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 2_000_000_123)

    assert this_person(load_settings({})) == Actor("uid 2000000123")


def test_an_actor_that_does_not_fit_is_a_wrong_setting() -> None:
    assert load_settings({"OATHBULK_ACTOR": "a" * 200}).actor == "a" * 200
    with pytest.raises(ConfigError, match=r"^OATHBULK_ACTOR "):
        load_settings({"OATHBULK_ACTOR": "a" * 201})


def test_the_schedule_is_an_actor_of_its_own(database: MovingDatabase, database_url: str) -> None:
    first = make_batch(database, dead(Reason.ATTEMPTS_SPENT, Reason.DEVICE_NOT_FOUND, Reason.INVALID_OTP), name="first")
    make_batch(database, dead(Reason.INVALID_OTP), name="nothing to replay")
    make_batch(database, dead(Reason.ATTEMPTS_SPENT), name="paused", state=BatchState.PAUSED)
    last = make_batch(database, dead(Reason.ATTEMPTS_SPENT), name="last")
    parts = WorkerParts(Settings(database_url=SecretStr(database_url)), broker=None)

    assert parts.replays.replay_transient() == 3
    assert parts.replays.replay_transient() == 0

    parts.database.close()
    assert statuses(database, first)[:2] == [Status.PENDING] * 2
    assert statuses(database, last) == [Status.PENDING]
    lines = read(database)
    assert {line.actor for line in lines} == {"schedule"}
    assert [(line.batch, line.action, line.facts) for line in lines] == [
        ("first", "replay", {"reasons": sorted(TRANSIENT), "records": 2}),
        ("last", "replay", {"reasons": sorted(TRANSIENT), "records": 1}),
    ]


# The chain.

LINES = 6
COLUMNS = ("at", "actor", "action", "batch", "ticket", "facts", "hash")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(st.text(), values, max_size=3),
    max_leaves=6,
)
MOMENTS = st.integers(1_577_836_800, 2_208_988_800).map(lambda seconds: datetime.fromtimestamp(seconds, UTC))
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "at": MOMENTS.map(lambda moment: moment.strftime("%Y-%m-%d %H:%M:%S.%f")) | st.text(),
    # An integer as SQLite can hold it.
    "actor": st.text() | st.integers(-(2**63), 2**63 - 1) | st.binary(),
    "action": st.sampled_from([str(action) for action in Action]),
    "batch": st.text() | st.binary(),
    "ticket": st.none() | st.text(),
    "facts": JSON.map(json.dumps) | st.text(),
    "hash": st.text("0123456789abcdef", min_size=64, max_size=64) | st.text(),
}
CHANGES = st.sampled_from(COLUMNS).flatmap(lambda column: st.tuples(st.just(column), VALUES[column]))
PLACES = st.integers(1, LINES)
# The same file serves all examples: each one is taken back.
EXAMPLES = settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def copied(sqlite_url: str) -> Iterator[MovingDatabase]:
    """An SQLite file of which somebody took away the triggers."""
    database = MovingDatabase(sqlite_url)
    make_batch(database, [{}, *dead(Reason.FORBIDDEN)])
    batches = Batches(database, ALICE)
    for number, command in enumerate(["pause", "resume", "replay", "cancel", "replay", "pause"]):
        database.ahead = 60.0 * number
        getattr(batches, command)("shipment")
    assert len(read(database)) == LINES
    assert check(database) is None
    with database.writing() as connection:
        for name in connection.scalars(
            text("SELECT name FROM sqlite_master WHERE tbl_name = 'audit' AND type = 'trigger'")
        ).all():
            connection.exec_driver_sql(f"DROP TRIGGER {name}")
    yield database
    database.close()


def check_after(database: MovingDatabase, *tampering: tuple[str, dict[str, Any]]) -> BrokenLine | None:
    """What is found when somebody has done this; then it is taken back."""
    with database.engine.connect() as connection:
        for statement, values in tampering:
            connection.execute(text(statement), values)
        try:
            return audit.check(connection).broken
        finally:
            connection.rollback()


def contents(connection: Connection) -> dict[int, dict[str, Any]]:
    lines = connection.execute(text("SELECT * FROM audit")).mappings()
    return {line["id"]: dict(line) for line in lines}


def raw(database: MovingDatabase) -> dict[int, dict[str, Any]]:
    """The lines by number, as the file has them."""
    with database.reading() as connection:
        return contents(connection)


def is_same(column: str, one: Any, other: Any) -> bool:
    """JSON may be written in several ways; a person's eye would not see a change in it either."""
    if column != "facts":
        return bool(one == other)
    try:
        return json.dumps(json.loads(one), sort_keys=True) == json.dumps(json.loads(other), sort_keys=True)
    except ValueError:
        return False


@EXAMPLES
@given(place=PLACES, change=CHANGES)
def test_a_changed_line_is_found(copied: MovingDatabase, place: int, change: tuple[str, Any]) -> None:
    column, value = change
    assume(not is_same(column, value, raw(copied)[place][column]))

    broken = check_after(copied, (f"UPDATE audit SET {column} = :value WHERE id = :id", {"value": value, "id": place}))

    assert broken is not None
    assert broken.line == place


@EXAMPLES
@given(place=PLACES, shift=st.integers(-(10**9), 10**9).filter(bool))
def test_a_time_is_covered_to_its_last_digit(copied: MovingDatabase, place: int, shift: int) -> None:
    at = datetime.fromisoformat(raw(copied)[place]["at"]) + timedelta(microseconds=shift)
    moved = {"at": at.strftime("%Y-%m-%d %H:%M:%S.%f"), "id": place}

    assert check_after(copied, ("UPDATE audit SET at = :at WHERE id = :id", moved)) == BrokenLine(
        place, "the line, or the one before it, was changed"
    )


@EXAMPLES
@given(place=st.integers(1, LINES - 1), actor=st.text())
def test_a_line_whose_hash_was_made_to_fit_is_found_by_the_next(copied: MovingDatabase, place: int, actor: str) -> None:
    assume(actor != "alice")
    lines = read(copied)
    line, former = lines[place - 1], lines[place - 2].hash if place > 1 else GENESIS
    forged = {**line._mapping, "actor": actor}
    fitting = hash_of(forged, former)

    change = "UPDATE audit SET actor = :actor, hash = :hash WHERE id = :id"
    broken = check_after(copied, (change, {"actor": actor, "hash": fitting, "id": place}))

    assert broken is not None
    assert broken.line == place + 1


@EXAMPLES
@given(places=st.sets(st.integers(1, LINES - 1), min_size=1), closes_ranks=st.booleans())
def test_removed_lines_are_found_even_if_the_rest_is_numbered_anew(
    copied: MovingDatabase, places: set[int], closes_ranks: bool
) -> None:
    gone = [("DELETE FROM audit WHERE id = :id", {"id": place}) for place in sorted(places)]
    left = [place for place in range(1, LINES + 1) if place not in places]
    renumbered = [
        ("UPDATE audit SET id = :new WHERE id = :old", {"new": new, "old": old})
        for new, old in enumerate(left, start=1)
    ]

    broken = check_after(copied, *gone, *(renumbered if closes_ranks else []))

    assert broken is not None
    assert broken.line == min(places)


@EXAMPLES
@given(pair=st.sets(PLACES, min_size=2, max_size=2))
def test_swapped_lines_are_found(copied: MovingDatabase, pair: set[int]) -> None:
    one, other = sorted(pair)
    renumber = "UPDATE audit SET id = :new WHERE id = :old"

    broken = check_after(
        copied,
        (renumber, {"new": 99, "old": one}),
        (renumber, {"new": one, "old": other}),
        (renumber, {"new": other, "old": 99}),
    )

    assert broken is not None
    assert broken.line == one


@EXAMPLES
@given(place=PLACES, copy_of=PLACES)
def test_a_line_that_was_pushed_in_is_found(copied: MovingDatabase, place: int, copy_of: int) -> None:
    """Before the one that stood on its place, as a copy of any other."""
    copy = {**raw(copied)[copy_of], "id": place}
    make_room = [("UPDATE audit SET id = id + 1 WHERE id = :id", {"id": old}) for old in range(LINES, place - 1, -1)]
    insert = "INSERT INTO audit VALUES (:id, :at, :actor, :action, :batch, :ticket, :facts, :hash, :mac)"

    broken = check_after(copied, *make_room, (insert, copy))

    assert broken is not None
    # A line's own copy after it says where it is: it has the number of the next.
    assert broken.line in (place, place + 1)


def test_lines_that_were_cut_off_show_in_the_last_hash_alone(copied: MovingDatabase) -> None:
    """Whoever noted the last hash elsewhere knows."""
    assert check_after(copied, ("DELETE FROM audit WHERE id > 4", {})) is None
    assert check_after(copied, ("DELETE FROM audit", {})) is None


# Many at once.


def test_commands_at_the_same_time_keep_the_chain_without_gaps(
    database: MovingDatabase, database_url: str, keyring: Keyring, tmp_path: Path
) -> None:
    """Each thread has a connection pool of its own, as processes do."""
    threads, rounds = 4, 4
    for number in range(threads):
        make_batch(database, [{}, *dead(Reason.FORBIDDEN)], name=f"batch {number}")
    make_batch(database, name="everybody's")
    start = threading.Barrier(threads)

    def command(number: int) -> None:
        own = MovingDatabase(database_url)
        batches = Batches(own, Actor(f"person {number}", f"CHG-{number}"))
        start.wait()
        for _ in range(rounds):
            batches.pause(f"batch {number}")
            batches.note_export("everybody's", f"{number}.csv")
            batches.replay(f"batch {number}")
            batches.resume("everybody's")
        load(own, keyring, tmp_path / f"{number}.csv", f"load{number}", actor=TESTER)
        own.close()

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(command, range(threads)))

    lines = read(database)
    assert check(database) is None
    assert [line.id for line in lines] == list(range(1, threads * (3 * rounds + 1) + 1))
    for number in range(threads):
        mine = [line.action for line in lines if line.actor == f"person {number}"]
        assert mine == ["pause", "export_with_otps", "replay"] * rounds
