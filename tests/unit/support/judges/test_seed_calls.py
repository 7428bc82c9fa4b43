"""The judge of tokens with seeds: an OTP out of turn, or sent before the fate of another is known, is convicted."""

from __future__ import annotations

from typing import Any

import pytest
from support.judges.call_log import LoggedCall, fingerprint
from support.judges.seed_calls import judge_seed_calls
from support.judges.tenant import FinalDevice, Tenant
from support.servers.simulator import SALT

from worker.simulator.box_tokens import BoxToken
from worker.simulator.oath import hotp

SECRET = "3132333435363738393031323334353637383930"
IDS: dict[str, Any] = {"user_id": "alice", "username": "alice", "email": "alice", "external_id": "alice"}
HOTP = BoxToken(serial="BOX1", kind="in_step", secret=SECRET, type="hotp", counter=5, **IDS)
TOTP = BoxToken(serial="BOX1", kind="in_step", secret=SECRET, type="totp", counter=0, **IDS)
TENANT = Tenant(devices=[FinalDevice("device", "BOX1", "alice", "ACTIVE", made_by=1)])
NOW, STEP = 1_800_000_010.0, 60_000_000

REFUSED = {"status": 400, "detail_code": "INVALID_OTP"}
ASKED = {"status": 400, "detail_code": "EXTRA_OTP_REQUIRED"}
LOST = {"status": None, "fault": "reset_before"}
READ = {"operation": "read", "otp": None, "status": 200}


def otp(counter: int, **facts: Any) -> dict[str, Any]:
    """An OTP of this counter, or time step, that is posted."""
    return {"otp": fingerprint(SALT, hotp(bytes.fromhex(SECRET), counter, 6, "sha1")), "status": 200} | facts


def judge(*entries: dict[str, Any], token: BoxToken = HOTP, budget: int = 3) -> str:
    calls = []
    for number, entry in enumerate(entries, start=1):
        named = {"number": number, "device_id": "device", "operation": "activate", "time": NOW}
        named |= {"transaction_id": f"attempt {number}", "arrived_at": float(number), "ended_at": number + 0.5}
        calls.append(LoggedCall(**(named | entry)))
    return "; ".join(judge_seed_calls(calls, [token], TENANT, budget=budget))


def test_otps_that_follow_each_other_are_acquitted():
    assert judge(otp(5)) == ""
    assert judge(otp(5, **ASKED), otp(6, oath_resync=True)) == ""
    assert judge(otp(STEP), token=TOTP) == ""
    assert judge(otp(STEP - 1, **ASKED), otp(STEP, oath_resync=True), token=TOTP) == ""


@pytest.mark.parametrize("counter", [4, 1000])
def test_an_otp_that_is_not_the_tokens_next_is_convicted(counter):
    assert judge(otp(counter)) == "device: call 1 brings an OTP that is not the token's next"
    assert judge(otp(STEP - 60), token=TOTP) == "device: call 1 brings an OTP that is not the token's next"


@pytest.mark.parametrize("counter", [6, 5])
def test_no_counter_is_used_again(counter):
    assert "no later one than that of call 1" in judge(otp(6, **LOST), READ, otp(counter))


def test_a_refused_request_whose_otp_was_left_alone_does_not_count():
    assert judge(otp(5, status=429), otp(5)) == ""


def test_otp_2_comes_only_when_asked_for_and_is_the_next():
    assert "which PingOne had not asked for" in judge(otp(5, **REFUSED), otp(6, oath_resync=True))
    assert "brings OTP 2 before OTP 1" in judge(otp(5, oath_resync=True))
    assert "does not follow that of call 1" in judge(otp(5, **ASKED), otp(7, oath_resync=True))


def test_the_fate_of_an_otp_is_read_before_another_goes_out():
    assert judge(otp(5, **LOST), READ, otp(6)) == ""
    assert judge(otp(5, **LOST), otp(6)) == "device: call 2 follows call 1, whose fate no read had told"
    active = otp(5, fault="reset_after", status=None, outcome="ACTIVE")
    assert "for a device that was read ACTIVE" in judge(active, READ, otp(6))


def test_no_more_otps_go_than_the_budget_has():
    assert judge(otp(5, **REFUSED), otp(6), budget=1) == "device: 2 posts, of 1 allowed"
