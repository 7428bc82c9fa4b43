"""The judge of tokens with seeds: a call log that breaks a promise is convicted, and one that keeps them all is not."""

from __future__ import annotations

from typing import Any

import pytest
from support.judges.call_log import LoggedCall, fingerprint
from support.judges.otp_calls import Case
from support.judges.seed_calls import KnownSeed, judge_seed_cases, make_seed_cases

from worker.simulator.oath import hotp

DEVICE, SALT, SECRET = "device", "salt", b"12345678901234567890"
HOTP = KnownSeed(SECRET, counter=7, time_step=None, salt=SALT)
TOTP = KnownSeed(SECRET, counter=0, time_step=30, salt=SALT)
# Unix time of the first call to a TOTP device, in the middle of time step 1000.
NOON = 1000 * 30 + 15.0

ACTIVE = {"status": 200, "outcome": "ACTIVE", "took_effect": True}
EXTRA = {"status": 400, "outcome": "EXTRA_OTP_REQUIRED", "detail_code": "EXTRA_OTP_REQUIRED", "took_effect": True}
INVALID = {"status": 400, "outcome": "INVALID_OTP", "detail_code": "INVALID_OTP", "took_effect": True}
LOST = {"fault": "reset_before"}
LOST_AFTER = ACTIVE | {"fault": "reset_after", "status": None}
EXTRA_LOST = EXTRA | {"fault": "reset_after", "status": None}
LIMITED = {"status": 429}


def post(counter: int, answer: dict[str, Any] = ACTIVE, *, resync: bool = False, **more: Any) -> dict[str, Any]:
    otp = fingerprint(SALT, hotp(SECRET, counter))
    return {"operation": "activate", "otp": otp, "oath_resync": resync or None} | answer | more


def second(counter: int, answer: dict[str, Any] = ACTIVE, **more: Any) -> dict[str, Any]:
    return post(counter, answer, resync=True, **more)


def read(**more: Any) -> dict[str, Any]:
    return {"operation": "read", "status": 200} | more


def judge(
    seed: KnownSeed, *entries: dict[str, Any], unwritten: tuple[str, ...] = (), was_replayed: bool = False
) -> list[str]:
    """One call after the other, a second each, unless an entry says otherwise; each in an attempt of its own."""
    calls = []
    for number, entry in enumerate(entries, start=1):
        times = {"arrived_at": float(number), "ended_at": number + 0.5, "time": NOON + number}
        effect = {"effect_at": number + 0.4} if entry.get("took_effect") else {}
        named = {"number": number, "device_id": DEVICE, "transaction_id": f"attempt {number}"}
        calls.append(LoggedCall(**(named | times | effect | entry)))
    return judge_seed_cases(make_seed_cases(calls, {DEVICE: seed}, unwritten), was_replayed=was_replayed)


NEXT_STEP = {"time": NOON + 30}
LAWFUL = {
    "active at once": (HOTP, [post(7)]),
    "resynced": (HOTP, [post(7, EXTRA), second(8)]),
    "limited, and the same counter again": (HOTP, [post(7, LIMITED), post(7)]),
    "lost, read, and another counter": (HOTP, [post(7, LOST), read(), post(9)]),
    "its answer lost, read, and a new pair": (HOTP, [post(7, EXTRA_LOST), read(), post(9, EXTRA), second(10)]),
    "refused, and the next counter tries the flag": (HOTP, [post(7, INVALID), read(), second(8, EXTRA), second(9)]),
    "a TOTP": (TOTP, [post(1000)]),
    "OTP 2 in the next time step": (TOTP, [post(1000, EXTRA), second(1001, **NEXT_STEP)]),
    "the next time step was missed": (
        TOTP, [post(1000, EXTRA), post(1002, EXTRA, time=NOON + 60), second(1003, time=NOON + 90)],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("seed", "entries"), LAWFUL.values(), ids=LAWFUL.keys())
def test_what_keeps_the_promises_is_acquitted(seed, entries):
    assert judge(seed, *entries) == []


def test_a_worker_that_died_may_have_written_down_that_otp_2_is_wanted_or_not():
    missed = [post(1000, EXTRA), post(1002, EXTRA, time=NOON + 60), second(1003, time=NOON + 90)]
    assert judge(TOTP, *missed, unwritten=("attempt 1",)) == []
    assert judge(HOTP, post(7, EXTRA), second(8), unwritten=("attempt 1",)) == []
    (charge,) = judge(HOTP, post(7, EXTRA), post(9), unwritten=("attempt 1",))
    assert "whose fate no read had told" in charge


def test_a_replay_begins_a_new_pair_behind_the_otp_that_pingone_may_wait_for():
    assert judge(HOTP, post(7, EXTRA), post(9, EXTRA), second(10)) != []
    assert judge(HOTP, post(7, EXTRA), post(9, EXTRA), second(10), was_replayed=True) == []
    assert len(judge(HOTP, post(7, EXTRA), post(8, INVALID), was_replayed=True)) == 1


TWICE, NOT_ASKED = "and call 1 that of", "which PingOne had not asked for"
CRIMES = {
    "another token's OTP": ("not this device's", HOTP, [post(7, otp=fingerprint(SALT, "another"))]),
    "a counter from before the token's": ("not this device's", HOTP, [post(6)]),
    "a counter twice": (TWICE, HOTP, [post(7, LOST), read(), post(7)]),
    "a counter that is behind": (TWICE, HOTP, [post(9, LOST), read(), post(8)]),
    "a time step twice": (TWICE, TOTP, [post(1000, LOST), read(), post(1000)]),
    "in the next time step": ("brings the OTP of time step 1000 in", TOTP, [post(1000, **NEXT_STEP)]),
    "before its time step": ("brings the OTP of time step 1001 in", TOTP, [post(1000, EXTRA), second(1001)]),
    "OTP 2 first": (NOT_ASKED, HOTP, [second(7)]),
    "OTP 2 after OTP 2": (NOT_ASKED, HOTP, [post(7, EXTRA), second(8, LOST), read(), second(9)]),
    "OTP 2 and the answer never came": (NOT_ASKED, HOTP, [post(7, EXTRA_LOST), read(), second(8)]),
    "OTP 2 from a counter further on": ("and OTP 1 was that of 7", HOTP, [post(7, EXTRA), second(9)]),
    "after a refusal": ("which had been answered", HOTP, [post(7, INVALID), read(), post(8)]),
    "the flag tried without a read": ("whose fate no read had told", HOTP, [post(7, INVALID), second(8)]),
    "the flag tried twice": (NOT_ASKED, HOTP, [post(7, INVALID), read(), second(8, LOST), read(), second(10)]),
    "a new pair instead of OTP 2": ("which had been answered", HOTP, [post(7, EXTRA), post(9)]),
    "OTP 1 where OTP 2 is waited for": (
        "what PingOne waits for as OTP 2", HOTP, [post(7, EXTRA_LOST), read(), post(8)],
    ),
    "without a read": ("whose fate no read had told", HOTP, [post(7, LOST), post(9)]),
    "although it was read ACTIVE": ("had read ACTIVE", HOTP, [post(7, LOST_AFTER), read(), post(9)]),
    "four posts": (
        "4 posts, of 3 allowed", HOTP, [post(7, LOST), read(), post(9, LOST), read(), post(11, EXTRA), second(12)],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("charge", "seed", "entries"), CRIMES.values(), ids=CRIMES.keys())
def test_what_breaks_a_promise_is_convicted(charge, seed, entries):
    charges = judge(seed, *entries)
    assert len(charges) == 1
    assert charge in charges[0]


def test_a_post_is_told_for_otp_2_by_its_flag_and_the_highest_counter_is_known():
    entries = [post(7, EXTRA), second(8)]
    calls = [LoggedCall(number, float(number), number + 0.5, DEVICE, transaction_id="", **entry)
             for number, entry in enumerate(entries, start=1)]  # fmt: skip
    case: Case = make_seed_cases(calls, {DEVICE: HOTP})[DEVICE]
    assert [[call.number for call in case.posts_of(ordinal)] for ordinal in (1, 2)] == [[1], [2]]
    assert case.last_counter == 8
