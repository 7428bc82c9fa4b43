"""A record: the arrows that its status may take, and the conditions that its partial indexes are made of."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import pytest
from sqlalchemy import Connection, create_engine, select, text

from models.reason import CURES, PAUSE_CURES, SEED_CURES, TRANSIENT, PauseReason, Reason, find_cure
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
from worker.database.engine import Database
from worker.leases.moves import move
from worker.rules.progress import OtpProgress, PairingProgress, Progress

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
PAIRS = list(product(Status, Status))


def test_the_table_of_transitions_is_the_design_s():
    assert TRANSITIONS == ARROWS


def test_what_is_final_leaves_only_by_a_replay_or_when_a_person_takes_it_back():
    assert {Status.ACTIVE, Status.DEAD_LETTER, Status.CANCELLED} == FINAL
    assert {target for source, target in TRANSITIONS if source in FINAL} == {Status.PENDING, Status.CANCELLED}
    assert {target for source, target in TRANSITIONS if source == Status.ACTIVE} == {Status.CANCELLED}


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_no_statement_moves_a_record_along_an_arrow_that_is_not_in_the_table(source, target):
    database = Database("sqlite://")
    try:
        if (source, target) in TRANSITIONS:
            assert "SET status" in str(move(database, source, target))
        else:
            with pytest.raises(ValueError, match=f"no arrow leads from {source} to {target}"):
                move(database, source, target)
    finally:
        database.close()


@pytest.fixture(scope="module")
def connection() -> Iterator[Connection]:
    engine = create_engine("sqlite://")
    with engine.connect() as opened:
        yield opened
    engine.dispose()


STATES = [
    {"status": status, "otp1_state": first, "otp2_state": second, "verdict": verdict, "otp_expires_at": expires_at}
    | {"pairing": pairing, "user_id": user_id, "is_in_inventory": is_in_inventory}
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
PENDING = [state for state in STATES if state["status"] == Status.PENDING]
COLUMNS = ", ".join(f":{name} AS {name}" for name in STATES[0])


def holds(connection: Connection, condition: str, state: dict[str, str | bool | None]) -> bool:
    """What the database makes of a partial index's condition."""
    return bool(connection.scalar(text(f"SELECT {condition} FROM (SELECT {COLUMNS})"), state))


def test_the_indexes_of_unfinished_records_know_the_statuses(connection):
    for state in STATES:
        assert holds(connection, NOT_FINAL, state) == (state["status"] not in FINAL)
        assert holds(connection, IN_WINDOW, state) == (state["status"] in (Status.QUEUED, Status.ACTIVATING))


def is_prepared(state: dict[str, str | bool | None]) -> bool:
    return bool(state["user_id"] and state["is_in_inventory"])


def test_every_pending_record_stands_in_exactly_one_of_the_indexes_of_what_is_due_or_to_be_prepared(connection):
    for state in STATES:
        if state["otp1_state"] == OtpState.ANSWERED and not is_prepared(state):
            # Nothing was ever sent for a record that is not prepared.
            continue
        conditions = (HALF_DONE, EXPIRING, LASTING, LACKS_USER, LACKS_TOKEN)
        found = [condition for condition in conditions if holds(connection, condition, state)]
        assert len(found) == (1 if state["status"] == Status.PENDING else 0)


def test_a_record_whose_person_or_token_is_not_known_yet_is_not_due(connection):
    for state in PENDING:
        is_due = any(holds(connection, condition, state) for condition in (EXPIRING, LASTING))
        assert not is_due or is_prepared(state)
        assert holds(connection, LACKS_USER, state) == (not state["user_id"])
        assert holds(connection, LACKS_TOKEN, state) == bool(state["user_id"] and not state["is_in_inventory"])


def test_a_record_between_its_otps_goes_first_and_one_that_expires_next(connection):
    for state in PENDING:
        is_half_done = state["otp1_state"] == OtpState.ANSWERED
        assert holds(connection, HALF_DONE, state) == is_half_done
        expires = not is_half_done and state["otp_expires_at"] is not None
        assert holds(connection, EXPIRING, state) == (expires and is_prepared(state))


def test_the_database_and_the_decisions_agree_on_which_record_needs_a_read(connection):
    condition = str(select(needs_read()).compile(compile_kwargs={"literal_binds": True}))
    condition = condition.removeprefix("SELECT ").split("\nFROM")[0].split(" AS ")[0].replace("record.", "")
    for state in PENDING:
        progress = Progress(
            first=OtpProgress(OtpState(state["otp1_state"])),
            second=OtpProgress(OtpState(state["otp2_state"])),
            verdict=Reason(state["verdict"]) if state["verdict"] else None,
            pairing=PairingProgress(PairingState(state["pairing"])),
        )
        assert holds(connection, condition, state) == progress.needs_read
        assert holds(connection, UNSETTLED, state) == progress.needs_read


def test_every_reason_has_its_cure():
    assert set(CURES) == set(Reason)
    assert set(SEED_CURES) < set(Reason)
    assert set(PAUSE_CURES) == set(PauseReason)
    assert all(
        len(cure) <= 1000 and cure.endswith((".", "?"))
        for cure in [*CURES.values(), *SEED_CURES.values(), *PAUSE_CURES.values()]
    )


def test_a_seed_needs_no_fresh_otps():
    """Its export has no column for them."""
    of_pairs = (Reason.SECOND_OTP_MISSING, Reason.STALE_OTP)
    asked = ("fresh", "Press the token")
    cures = {each: find_cure(each, has_seed=True) for each in Reason if each not in of_pairs}
    assert not [each for each, cure in cures.items() if any(words in cure for words in asked)]
    assert find_cure(Reason.INVALID_OTP, has_seed=False) == CURES[Reason.INVALID_OTP]


def test_only_two_reasons_may_be_mended_by_time_alone():
    assert {Reason.ATTEMPTS_SPENT, Reason.DEVICE_NOT_FOUND} == TRANSIENT


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
