"""What is said of a record's OTPs and its reason; and the history as JSON."""

from __future__ import annotations

import json

import pytest
from support.data.facts import history_of, past_attempt, past_record

from models.reason import CURES, Reason
from models.record_states import Status


@pytest.mark.parametrize(
    ("state", "posts", "said"),
    [
        ("unsent", 0, "not sent"),
        ("unsent", 1, "posted once without effect, and may be sent again"),
        ("unsent", 2, "posted 2 times without effect, and may be sent again"),
        ("sent", 1, "sent, and no answer is written down; the device is read before anything else is sent"),
        ("answered", 1, "answered by PingOne, posted once"),
        ("answered", 2, "answered by PingOne, posted 2 times"),
        ("answered", 0, "answered by PingOne"),
    ],
)
def test_the_state_of_an_otp_is_told_in_words(state, posts, said):
    record = past_record(otp1_state=state, otp1_posts=posts)

    assert record.describe_otps()["otp1"] == said


def test_a_second_otp_that_the_file_did_not_bring_is_not_called_unsent():
    assert past_record(has_second_otp=False).describe_otps()["otp2"] == "the file brought none"
    assert (
        past_record(otp2_state="answered", otp2_posts=1).describe_otps()["otp2"] == "answered by PingOne, posted once"
    )


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, "HOTP pair, kept encrypted"),
        ({"has_seed": True, "otp_type": "totp"}, "TOTP seed, kept encrypted"),
        ({"are_otps_kept": False}, "HOTP pair, erased"),
    ],
)
def test_it_is_told_of_what_the_otps_are_made(fields, said):
    assert past_record(**fields).describe_otps()["source"] == said


def test_the_meaning_of_a_reason_is_what_was_written_down_else_its_cure():
    assert past_record(reason="locked", detail="Code 17.").meaning == "Code 17."
    assert past_record(reason="locked").meaning == CURES[Reason.LOCKED]
    assert past_record(reason="of_a_later_version").meaning is None
    assert past_record().meaning is None


def test_the_history_goes_out_as_json():
    first = past_record(Status.DEAD_LETTER, reason="locked", attempts=[past_attempt(outcome="dead_letter")])
    token = history_of(first, past_record(id=71, batch={"name": "july-2"}))

    facts = json.loads(json.dumps(token.to_json()))

    assert (facts["serial_number"], facts["environment"]) == ("MADE7", "default")
    earlier, later = facts["records"]
    assert (earlier["record"], earlier["batch"], earlier["row"], earlier["file"]) == (8, "july", 9, "july.csv")
    assert (earlier["status"], earlier["reason"], earlier["meaning"]) == ("dead_letter", "locked", first.meaning)
    assert earlier["scheduled_at"] == "2026-11-28T12:30:00+00:00"
    assert earlier["attempts"][0]["ended_at"] == "2026-11-28T12:30:00+00:00"
    assert (later["record"], later["batch"]) == (71, "july-2")
