"""The history of a token, as it is read on both databases."""

from __future__ import annotations

import json
import uuid
from datetime import timedelta

import pytest
from sqlalchemy import insert, update
from support.data.batches import ENVIRONMENT_ID, TESTER, Made, enqueue, make_batch
from support.data.moving_clock import MovingDatabase

from models.batch import Batch
from models.pace import LicensePace
from models.reason import Reason
from models.record_states import Status
from worker.batches.commands import Batches
from worker.leases.settlement import CallSummary
from worker.leases.worker import Leases
from worker.pingone.errors import Answer
from worker.reports.facts import read_statuses
from worker.reports.token_history import UnknownToken, read_histories
from worker.rules.progress import Active, DeadLetter, Decision, Retry

ANSWER = Answer(400, "INVALID_DATA", "INVALID_OTP", "error-1", "correlation-1", None)


def settle(database: MovingDatabase, leases: Leases, made: Made, decision: Decision, summary: CallSummary) -> None:
    """One attempt at the next due record of the batch ends so; if that is for good, OTP 1 was answered."""
    (record_id,) = enqueue(database, made, room=1)
    claimed = leases.claim(record_id, ENVIRONMENT_ID)
    assert claimed is not None
    progress = claimed.progress if isinstance(decision, Retry) else claimed.progress.with_otp_answered(1)
    assert leases.settle(claimed, progress, decision, summary)


def test_a_token_has_one_history_over_all_its_batches(database: MovingDatabase, leases: Leases) -> None:
    known = {"username": "alice", "lot": "L-7", "extra": {"Carton": "12"}}
    july = make_batch(database, name="july", serial_number="MADE7", **known)
    settle(database, leases, july, Retry(0.0, is_counted=True, why="outcome_unknown"), CallSummary(1))
    settle(database, leases, july, DeadLetter(Reason.INVALID_OTP), CallSummary(2, 0, ANSWER))
    august = make_batch(database, name="august", serial_number="MADE7")
    make_batch(database, name="others")
    settle(database, leases, august, Active(), CallSummary(1))

    (token,) = read_histories(database, "MADE7")

    assert (token.serial_number, token.environment, token.environment_id) == ("MADE7", "default", ENVIRONMENT_ID)
    first, second = token.records
    assert (first.id, first.batch.name, first.batch.file, first.row_number) == (july.id, "july", "july.csv", 2)
    assert (first.status, first.reason) == ("dead_letter", "invalid_otp")
    assert {name: getattr(first, name) for name in known} == known
    assert first.user_id == str(uuid.UUID(int=0))
    assert first.finalized_at is not None
    assert (first.otp1_state, first.otp1_posts, first.are_otps_kept) == ("answered", 1, True)
    assert [(each.number, each.outcome, each.reason) for each in first.attempts] == [
        (1, "retry", "outcome_unknown"),
        (2, "dead_letter", "invalid_otp"),
    ]
    last = first.attempts[1]
    assert (last.http_status, last.code, last.detail_code) == (400, "INVALID_DATA", "INVALID_OTP")
    assert (last.pingone_error_id, last.correlation_id, last.requests) == ("error-1", "correlation-1", 2)
    assert (second.id, second.status, second.are_otps_kept) == (august.id, "active", False)
    assert [each.outcome for each in second.attempts] == ["active"]
    assert token.latest == second


@pytest.mark.parametrize("spelling", ["MADE7", " MADE7 ", "made7", "{device}", "{DEVICE}", "#{number}"])
def test_a_token_is_found_by_whatever_names_it(database: MovingDatabase, spelling: str) -> None:
    device = "6f1d3c1e-0c52-4b8e-9d1f-2a7b6c5d4e3f"
    make_batch(database, 3, name="others")
    made = make_batch(database, serial_number="MADE7", device_id=device)

    asked = spelling.format(device=device, DEVICE=device.upper(), number=made.id)
    (token,) = read_histories(database, asked)

    assert [record.id for record in token.records] == [made.id]


def test_a_plain_number_is_a_serial_number_and_no_records_number(database: MovingDatabase) -> None:
    first = make_batch(database, 2, name="first")
    second = make_batch(database, name="second", serial_number=str(first.ids[1]))

    (by_serial,) = read_histories(database, str(first.ids[1]))
    (by_number,) = read_histories(database, f"#{first.ids[1]}")

    assert (by_serial.latest.id, by_number.latest.id) == (second.id, first.ids[1])
    with pytest.raises(UnknownToken, match=r"written '#123'"):
        read_histories(database, str(first.ids[0]))


def test_a_serial_number_of_several_environments_has_a_history_in_each(database: MovingDatabase) -> None:
    make_batch(database, name="here", serial_number="MADE7")
    make_batch(database, name="there", environment="second", environment_id="other", serial_number="MADE7")

    tokens = read_histories(database, "MADE7")

    assert [(token.environment, [record.batch.name for record in token.records]) for token in tokens] == [
        ("default", ["here"]),
        ("second", ["there"]),
    ]


UNKNOWN = ("MADE8", "#999999", "6f1d3c1e-0c52-4b8e-9d1f-2a7b6c5d4e3f", "9" * 30, "", "two words")


@pytest.mark.parametrize("token", UNKNOWN)
def test_what_no_record_has_is_unknown(database: MovingDatabase, token: str) -> None:
    make_batch(database, serial_number="MADE7")

    with pytest.raises(UnknownToken, match="no record has"):
        read_histories(database, token)


@pytest.mark.parametrize(
    ("columns", "is_replayable"),
    [
        ({"reason": Reason.FORBIDDEN, "otp1_state": "answered"}, True),
        ({"reason": Reason.LOCKED}, True),
        ({"reason": Reason.LOCKED, "otp1_state": "answered"}, False),
        ({"reason": Reason.INVALID_OTP, "otp1_state": "answered"}, False),
        ({"reason": Reason.INVALID_OTP, "otp1_state": "answered", "next_counter": 5}, True),
        ({"reason": Reason.FORBIDDEN, "otps": None}, False),
        ({}, False),
    ],
)
def test_a_replay_is_promised_to_what_it_would_take(
    database: MovingDatabase, columns: dict[str, object], is_replayable: bool
) -> None:
    make_batch(database, serial_number="MADE7", status=Status.DEAD_LETTER, **columns)

    (token,) = read_histories(database, "MADE7")
    (status,) = read_statuses(database)

    assert token.latest.is_replayable is is_replayable
    assert status.replayable == ({columns["reason"]: 1} if is_replayable else {})
    assert Batches(database, TESTER).replay("shipment").records == int(is_replayable)


def test_what_holds_a_record_back_is_read_with_it(database: MovingDatabase) -> None:
    made = make_batch(database, serial_number="MADE7")
    now = database.read_clock()
    hold = {"held_since": now, "held_until": now + timedelta(seconds=90), "held_why": "PingOne answered 503"}
    with database.writing() as connection:
        connection.execute(insert(LicensePace).values(license="gold", **hold))
        connection.execute(update(Batch).where(Batch.id == made.batch_id).values(canary_row=5, trial_row=3))

    (token,) = read_histories(database, "MADE7", lambda *_: "gold")

    assert token.hold is not None
    assert token.hold.why == "PingOne answered 503"
    assert (token.latest.batch.canary_row, token.latest.batch.trial_row) == (5, 3)
    assert token.fleet.alive == []
    assert timedelta() <= token.now - now < timedelta(minutes=5)
    (elsewhere,) = read_histories(database, "MADE7")
    assert elsewhere.hold is None


def test_no_otp_and_no_seed_is_read(database: MovingDatabase) -> None:
    seed = {"otps": b"a sealed seed", "next_counter": 7, "first_counter": 0}
    made = make_batch(database, [{"otps": b"a sealed pair"}, seed])

    for number in made.ids:
        (token,) = read_histories(database, f"#{number}")
        assert token.latest.are_otps_kept
        assert "sealed" not in repr(token) + json.dumps(token.to_json())
