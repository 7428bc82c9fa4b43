"""A record and a batch: the arrows that their states may take, what each statement leaves behind, the conditions of
partial indexes, and what is left in the file of what was erased."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from itertools import product
from pathlib import Path

import pytest
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Update, create_engine, delete, event, insert, select, text
from sqlalchemy.pool import Pool

import migrations
from models.base import LONGEST_DETAIL, Base
from models.batch import TRANSITIONS as BATCH_TRANSITIONS
from models.batch import Batch, BatchState
from models.reason import CURES, PAUSE_CURES, SEED_CURES, PauseReason, Reason, find_cure
from models.record import Record, needs_read
from models.record_indexes import (
    EXPIRING,
    HALF_DONE,
    IN_WINDOW,
    LACKS_TOKEN,
    LACKS_USER,
    LASTING,
    NOT_FINAL,
    UNSETTLED,
)
from models.record_states import FINAL, TRANSITIONS, OtpState, PairingState, Status
from worker.batches import state
from worker.database.engine import Database
from worker.leases.moves import move
from worker.rules.steps import OtpProgress, PairingProgress, Progress

# The design's table, an arrow a line.
DESIGN = """
pending    → queued        due
queued     → activating    a worker claims it
queued     → pending       slot too far, batch paused, publishing failed, or the message was lost
activating → active        PingOne says ACTIVE
activating → pending       not settled now, or handed back, or the lease ran out
activating → dead_letter   refused for good, or a budget is spent
pending    → dead_letter   its preparation found that nothing can make it active
pending    → cancelled     the batch was cancelled
queued     → cancelled     the batch was cancelled
activating → cancelled     the batch was cancelled
dead_letter → pending      a person replays it
cancelled  → pending       a person replays it
active     → cancelled     a person takes its device away again
dead_letter → cancelled    a person takes its device or its token away again
"""
ARROWS = {tuple(Status(word) for word in line.split()[0:3:2]) for line in DESIGN.strip().splitlines()}


def test_the_table_of_transitions_is_the_design_s():
    assert TRANSITIONS == ARROWS


def test_what_is_final_leaves_only_by_a_replay_or_when_a_person_takes_it_back():
    assert {Status.ACTIVE, Status.DEAD_LETTER, Status.CANCELLED} == FINAL
    assert {target for source, target in TRANSITIONS if source in FINAL} == {Status.PENDING, Status.CANCELLED}
    assert {target for source, target in TRANSITIONS if source == Status.ACTIVE} == {Status.CANCELLED}


@pytest.mark.parametrize(("source", "target"), list(product(Status, Status)))
def test_no_statement_moves_a_record_along_an_arrow_that_is_not_in_the_table(source, target):
    with closing(Database("sqlite://")) as database:
        if (source, target) in TRANSITIONS:
            assert "SET status" in str(move(database, source, target))
        else:
            with pytest.raises(ValueError, match=f"no arrow leads from {source} to {target}"):
                move(database, source, target)


@pytest.fixture
def connection() -> Iterator[Connection]:
    engine = create_engine("sqlite://")
    Base.metadata.create_all(engine)
    with engine.connect() as opened:
        yield opened
    engine.dispose()


STATES = [
    {"status": status, "otp1_state": first, "otp2_state": second, "verdict": verdict, "otp_expires_at": expires_at}
    | {"pairing": pairing, "user_id": user_id, "is_in_inventory": is_in_inventory}
    | {"username": "ann", "email": None, "external_id": None}
    for status, first, second, verdict, expires_at, pairing, user_id, is_in_inventory in product(
        Status,
        OtpState,
        OtpState,
        (None, "invalid_otp"),
        (None, "2026-11-24 12:00:00"),
        PairingState,
        ("", "6f1d3c1e"),
        (False, True),
    )
]
CONDITIONS = (NOT_FINAL, IN_WINDOW, HALF_DONE, EXPIRING, LASTING, LACKS_USER, LACKS_TOKEN, UNSETTLED)


def test_every_record_stands_in_the_partial_indexes_that_it_belongs_to(connection: Connection) -> None:
    """Every pending one in exactly one of those of what is due or to be prepared: between its OTPs first, one that
    expires next. The database and the decisions agree on which one needs a read."""
    needs = str(select(needs_read()).compile(compile_kwargs={"literal_binds": True}))
    needs = needs.removeprefix("SELECT ").split("\nFROM")[0].split(" AS ")[0].replace("record.", "")
    columns = ", ".join(f":{name} AS {name}" for name in STATES[0])
    asked = text(f"SELECT {', '.join((*CONDITIONS, needs))} FROM (SELECT {columns})")
    for each in STATES:
        is_pending, is_prepared = each["status"] == Status.PENDING, bool(each["user_id"] and each["is_in_inventory"])
        is_half_done = each["otp1_state"] == OtpState.ANSWERED
        if is_half_done and not is_prepared:
            # Nothing was ever sent for a record that is not prepared.
            continue
        is_due = is_pending and is_prepared and not is_half_done
        progress = Progress(
            first=OtpProgress(OtpState(each["otp1_state"])),
            second=OtpProgress(OtpState(each["otp2_state"])),
            verdict=Reason(each["verdict"]) if each["verdict"] else None,
            pairing=PairingProgress(PairingState(each["pairing"])),
        )
        *found, needs_it = map(bool, connection.execute(asked, each).one())
        assert dict(zip(CONDITIONS, found, strict=True)) == {
            NOT_FINAL: each["status"] not in FINAL,
            IN_WINDOW: each["status"] in (Status.QUEUED, Status.ACTIVATING),
            HALF_DONE: is_pending and is_half_done,
            EXPIRING: is_due and each["otp_expires_at"] is not None,
            LASTING: is_due and each["otp_expires_at"] is None,
            LACKS_USER: is_pending and not each["user_id"],
            LACKS_TOKEN: is_pending and bool(each["user_id"]) and not each["is_in_inventory"],
            UNSETTLED: is_pending and progress.needs_read,
        }, each
        assert not is_pending or needs_it == progress.needs_read


def test_every_reason_has_its_cure():
    assert (set(CURES), set(PAUSE_CURES)) == (set(Reason), set(PauseReason))
    assert set(SEED_CURES) < set(Reason)
    told = [*CURES.values(), *SEED_CURES.values(), *PAUSE_CURES.values()]
    assert all(len(cure) <= 1000 and cure.endswith((".", "?")) for cure in told)


def test_a_seed_needs_no_fresh_otps():
    """Its export has no column for them."""
    of_pairs = (Reason.SECOND_OTP_MISSING, Reason.STALE_OTP)
    asked = ("fresh", "Press the token")
    cures = {each: find_cure(each, has_seed=True) for each in Reason if each not in of_pairs}
    assert not [each for each, cure in cures.items() if any(words in cure for words in asked)]
    assert find_cure(Reason.INVALID_OTP, has_seed=False) == CURES[Reason.INVALID_OTP]


@pytest.mark.parametrize(
    ("words", "column"),
    [
        (Status, "status"),
        (OtpState, "otp1_state"),
        (OtpState, "otp2_state"),
        (PairingState, "pairing"),
        (Reason, "reason"),
        (Reason, "verdict"),
    ],
)
def test_every_word_fits_into_its_column(words, column):
    assert max(map(len, words)) <= Record.__table__.columns[column].type.length


# The state of a batch.

RUNNING, PAUSED, CANCELLED = BatchState
NOON = datetime(2026, 11, 26, 12, tzinfo=UTC)
# Statements by the state that they lead to.
STATEMENTS = {
    RUNNING: lambda sources: state.let_run(sources, closes_at=NOON, since=NOON),
    PAUSED: lambda sources: state.pause(sources, PauseReason.PERSON),
    CANCELLED: state.cancel,
}
# What depends on the state, as it stands in a batch that was paused for an outage.
OUTAGE = {"reason": "outage", "detail": "Down.", "probe_at": NOON, "resumes_at": NOON, "closes_at": NOON}


def take(connection: Connection, before: BatchState, change: Update) -> dict[str, object]:
    """The batch's columns after a change of one in the state `before`."""
    names = {"name": "n", "environment": "e", "environment_id": "e", "file": "f", "file_sha256": "s"}
    connection.execute(delete(Batch))
    fresh = names | {"columns": [], "created_at": NOON, "running_since": NOON}
    connection.execute(insert(Batch).values(id=1, state=before, **fresh, **OUTAGE))
    connection.execute(change.where(Batch.id == 1))
    row = connection.execute(select(*[Batch.__table__.c[name] for name in ("state", *OUTAGE)])).one()
    return dict(row._mapping)


@pytest.mark.parametrize(("source", "target"), list(product(BatchState, BatchState)))
def test_no_statement_takes_an_arrow_that_is_not_in_the_table(source: BatchState, target: BatchState) -> None:
    if (source, target) in BATCH_TRANSITIONS:
        STATEMENTS[target]((source,))
        return
    with pytest.raises(ValueError, match=f"no arrow leads from {source} to {target}"):
        STATEMENTS[target]((source,))


def test_what_was_cancelled_only_a_replay_brings_back_and_what_runs_was_never_lost() -> None:
    assert {source for source, target in BATCH_TRANSITIONS if target == CANCELLED} == {RUNNING, PAUSED}
    assert {target for source, target in BATCH_TRANSITIONS if source == CANCELLED} == {RUNNING, PAUSED}


# What is left of the pause for an outage, where a change says nothing else.
EMPTY = dict.fromkeys(OUTAGE)


@pytest.mark.parametrize(
    ("before", "change", "after"),
    [
        # A batch that runs keeps nothing of its pause.
        (PAUSED, STATEMENTS[RUNNING]((PAUSED,)), EMPTY | {"state": RUNNING, "closes_at": NOON}),
        # A pause says why and how it ends, and keeps nothing of the one before.
        (
            PAUSED,
            state.pause((PAUSED,), PauseReason.CREDENTIALS),
            EMPTY | {"state": PAUSED, "reason": "credentials", "detail": PAUSE_CURES[PauseReason.CREDENTIALS]},
        ),
        (
            RUNNING,
            state.pause((RUNNING,), PauseReason.WINDOW, "Shut.", resumes_at=NOON),
            EMPTY | {"state": PAUSED, "reason": "window", "detail": "Shut.", "resumes_at": NOON},
        ),
        # A cancelled batch keeps no reason.
        (PAUSED, state.cancel((PAUSED,)), EMPTY | {"state": CANCELLED}),
    ],
    ids=["runs", "pauses anew", "pauses", "cancelled"],
)
def test_what_a_batch_says_of_its_state(
    connection: Connection, before: BatchState, change: Update, after: dict[str, object]
) -> None:
    assert take(connection, before, change) == after


def test_who_comes_late_changes_nothing(connection: Connection) -> None:
    for target in BatchState:
        sources = [source for source in BatchState if (source, target) in BATCH_TRANSITIONS]
        for before in sources:
            others = [source for source in sources if source != before]
            assert take(connection, before, STATEMENTS[target](others)) == {"state": before, **OUTAGE}


def test_a_detail_fits_into_its_column() -> None:
    said = state.pause((RUNNING,), PauseReason.INTERNAL, "x" * 2 * LONGEST_DETAIL)
    assert len(str(said.compile().params["detail"])) == LONGEST_DETAIL


# The schema, and what SQLite keeps in its file.


def test_the_revision_that_the_code_works_with_is_the_last_that_alembic_finds() -> None:
    assert ScriptDirectory(str(Path(migrations.__file__).parent)).get_heads() == [migrations.HEAD]


@pytest.fixture
def built_as_by_default() -> Iterator[None]:
    """SQLite as its authors build it; Debian's overwrites what is erased by itself."""

    def keep_erased(connection: sqlite3.Connection, _record: object) -> None:
        connection.execute("PRAGMA secure_delete = OFF")

    event.listen(Pool, "connect", keep_erased)
    yield
    event.remove(Pool, "connect", keep_erased)


@pytest.mark.usefixtures("built_as_by_default")
def test_what_is_erased_is_not_left_in_the_file(tmp_path: Path) -> None:
    file = tmp_path / "oathbulk.db"
    sealed = [f"ciphertext number {number:06}".encode() for number in range(500)]
    engine = Database(f"sqlite:///{file}").engine
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE record (id INTEGER PRIMARY KEY, otps BLOB, status TEXT)"))
        connection.execute(text("INSERT INTO record (otps) VALUES (:otps)"), [{"otps": each} for each in sealed])
        connection.execute(text("UPDATE record SET otps = NULL, status = 'active, and longer than it was before'"))
    engine.dispose()

    assert [each for each in sealed if each in file.read_bytes()] == []
