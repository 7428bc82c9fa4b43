"""The judge of our tables: a database that says what PingOne does not is convicted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import insert, update
from support.data.batches import Made, make_batch
from support.data.moving_clock import MovingDatabase
from support.judges.call_log import LoggedCall, fingerprint
from support.judges.final_tables import find_unwritten, judge_tables
from support.judges.otp_calls import Case, Pair
from support.judges.seed_calls import KnownSeed, make_seed_cases

from models.attempt import AttemptLine, Outcome
from models.batch import Batch
from models.record_states import OtpState, Status
from worker.simulator.oath import hotp

PAIR = Pair("OTP 1", "OTP 2")
LEASE = "0123456789abcdef0123456789abcdef"
DEVICE = "b5c99b49-751f-4e54-a0e7-74869ed9c124"


@pytest.fixture
def database(sqlite_url: str) -> Iterator[MovingDatabase]:
    database = MovingDatabase(sqlite_url)
    yield database
    database.close()


def keep(
    database: MovingDatabase, outcome: Outcome = Outcome.ACTIVE, reason: str | None = None, **columns: Any
) -> Made:
    """A batch of one record, and its attempt."""
    made = make_batch(database, [{"device_id": DEVICE, "otp1_posts": 1} | columns])
    line = {"number": 1, "outcome": outcome, "reason": reason, "lease_id": LEASE, "ended_at": database.read_clock()}
    with database.writing() as connection:
        connection.execute(insert(AttemptLine).values(record_id=made.id, **line))
    return made


def call(made: Made, number: int = 1, **facts: Any) -> LoggedCall:
    known = {"number": number, "arrived_at": float(number), "ended_at": number + 0.5, "device_id": DEVICE}
    known |= {"operation": "activate", "otp": "OTP 1", "status": 200}
    return LoggedCall(**(known | {"transaction_id": f"oathbulk-record-{made.id}-01234567"} | facts))


def judge(database: MovingDatabase, *calls: LoggedCall, active: bool = True) -> list[str]:
    case = Case(DEVICE, PAIR, calls, find_unwritten(database), budget=3)
    return judge_tables(database, {DEVICE: case} if calls else {}, {DEVICE} if active else set())


def test_books_that_say_what_pingone_has_are_acquitted(database):
    made = keep(database, status=Status.ACTIVE, otp1_state=OtpState.SENT)
    assert judge(database, call(made)) == []


def test_what_is_active_in_one_place_only_is_convicted(database):
    made = keep(database, status=Status.ACTIVE)
    assert judge(database, call(made), active=False) == [f"{DEVICE}: active with us, and not at PingOne"]


@pytest.mark.parametrize("status", [Status.DEAD_LETTER, Status.CANCELLED])
def test_what_pingone_has_active_and_we_gave_up_is_convicted(database, status):
    made = keep(database, status=status, otp1_state=OtpState.ANSWERED)
    assert judge(database, call(made)) == [f"{DEVICE}: ACTIVE at PingOne, and not with us"]


def test_a_token_that_is_active_in_a_second_batch_need_not_be_so_in_the_first(database):
    keep(database, status=Status.CANCELLED)
    make_batch(database, [{"device_id": DEVICE}], name="second", status=Status.ACTIVE)
    assert judge(database) == []


@pytest.mark.parametrize("status", [Status.PENDING, Status.QUEUED, Status.ACTIVATING])
def test_what_is_left_unfinished_is_convicted(database, status):
    keep(database, status=status)
    assert f"left {status}" in "; ".join(judge(database, active=False))


def test_a_total_that_is_not_the_sum_is_convicted(database):
    keep(database, status=Status.ACTIVE)
    with database.writing() as connection:
        connection.execute(update(Batch).values(total=2))
    assert judge(database) == ["batch shipment: 1 records, of 2"]


def test_a_post_that_the_books_do_not_know_is_convicted(database):
    made = keep(database, status=Status.ACTIVE)
    twice = call(made), call(made, 2)
    assert "2 posts arrived, and 1 are noted" in "; ".join(judge(database, *twice))


LOST = {"status": None, "fault": "reset_before"}
READ = {"operation": "read", "otp": None}


@pytest.mark.parametrize("status", [Status.DEAD_LETTER, Status.CANCELLED])
def test_a_record_of_unknown_fate_that_ended_unread_is_convicted(database, status):
    made = keep(database, status=status)
    unread = "though no read told what became of call 1"
    assert unread in "; ".join(judge(database, call(made, **LOST), active=False))
    failed = call(made, 2, **(READ | LOST))
    assert unread in "; ".join(judge(database, call(made, **LOST), failed, active=False))
    assert judge(database, call(made, **LOST), call(made, 2, **READ), active=False) == []


def test_an_answer_that_died_with_its_worker_makes_the_fate_unknown(database):
    made = keep(database, Outcome.LOST, "lease_ran_out", status=Status.DEAD_LETTER)
    refused = call(made, status=400, detail_code="INVALID_OTP")
    assert "though no read told" in "; ".join(judge(database, refused, active=False))
    assert judge(database, refused, call(made, 2, **READ), active=False) == []


def test_a_final_record_with_an_open_otp_and_no_read_is_convicted(database):
    made = keep(database, status=Status.DEAD_LETTER, otp1_state=OtpState.SENT)
    answered = call(made, status=400)
    assert "whose fate it calls open itself" in "; ".join(judge(database, answered, active=False))


def test_a_verdict_that_waits_for_ever_is_convicted(database):
    keep(database, status=Status.CANCELLED, verdict="invalid_otp")
    assert "a verdict that no read confirmed" in "; ".join(judge(database, active=False))


def test_an_attempt_without_its_line_of_history_is_convicted(database):
    made = keep(database, status=Status.ACTIVE)
    other = call(made, 2, **READ | {"transaction_id": "oathbulk-record-1-76543210"})
    assert "0 attempts are noted" in "; ".join(judge(database, call(made), other))


@pytest.mark.parametrize(
    ("outcome", "reason", "is_unwritten"),
    [
        (Outcome.LOST, "lease_ran_out", True),
        (Outcome.RETRY, "outcome_unknown", True),
        (Outcome.HANDED_BACK, "database", True),
        (Outcome.HANDED_BACK, "internal", True),
        (Outcome.HANDED_BACK, "hold", False),
        (Outcome.DEAD_LETTER, "invalid_otp", False),
        (Outcome.ACTIVE, None, False),
    ],
)
def test_only_an_attempt_that_ended_without_an_answer_excuses_anything(database, outcome, reason, is_unwritten):
    made = keep(database, outcome, reason)
    assert find_unwritten(database) == ({f"oathbulk-record-{made.id}-01234567"} if is_unwritten else set())


def test_a_counter_that_is_noted_as_unused_and_was_used_is_convicted(database):
    made = keep(database, status=Status.ACTIVE, otp1_state=OtpState.SENT, next_counter=7)
    seed = KnownSeed(b"12345678901234567890", counter=7, time_step=None, salt="")
    posted = call(made, otp=fingerprint("", hotp(seed.secret, 7)))
    assert "counter 7" in "".join(judge_tables(database, dict(make_seed_cases([posted], {DEVICE: seed})), {DEVICE}))
