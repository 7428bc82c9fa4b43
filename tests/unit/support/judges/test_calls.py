"""The judges of promises 2 and 3, of pairs and of seeds: a call log that breaks one is convicted, and one that keeps
them all is not."""

from typing import Any

import pytest
from support.judges.call_log import LoggedCall, fingerprint, read_call_log
from support.judges.otp_calls import KnownSeed, Pair, judge_calls, judge_seed_cases, make_seed_cases
from support.simulator.call_log import CallLog

from worker.simulator.calls import Call
from worker.simulator.oath import hotp

FIRST, SECOND = "fingerprint of OTP 1", "fingerprint of OTP 2"
DEVICE, SALT, SECRET = "device", "salt", b"12345678901234567890"
HOTP = KnownSeed(SECRET, counter=7, time_step=None, salt=SALT)
TOTP = KnownSeed(SECRET, counter=0, time_step=30, salt=SALT)
# Unix time of the first call to a TOTP device, in the middle of time step 1000.
NOON = 1000 * 30 + 15.0

ACTIVE = {"status": 200, "outcome": "ACTIVE", "took_effect": True}
RESYNC = {"status": 400, "outcome": "EXTRA_OTP_REQUIRED", "detail_code": "EXTRA_OTP_REQUIRED", "took_effect": True}
INVALID = {"status": 400, "outcome": "INVALID_OTP", "detail_code": "INVALID_OTP", "took_effect": True}
RESET_BEFORE = {"fault": "reset_before"}
RESET_AFTER = ACTIVE | {"fault": "reset_after", "status": None}
RESYNC_LOST = RESYNC | {"fault": "reset_after", "status": None}
ERROR_BEFORE = {"fault": "error_before", "status": 503}
LIMITED = {"status": 429}
CLIENT_KILLED = RESYNC | {"client_gone": True}


def post(otp: str = FIRST, answer: dict[str, Any] = ACTIVE, **more: Any) -> dict[str, Any]:
    """A post of an OTP of a pair."""
    resync = True if otp == SECOND else None
    return {"operation": "activate", "otp": otp, "oath_resync": resync} | answer | more


def first(counter: int, answer: dict[str, Any] = ACTIVE, **more: Any) -> dict[str, Any]:
    """A post of a seed's OTP."""
    otp = fingerprint(SALT, hotp(SECRET, counter))
    return {"operation": "activate", "otp": otp, "oath_resync": None} | answer | more


def second(counter: int, answer: dict[str, Any] = ACTIVE, **more: Any) -> dict[str, Any]:
    return first(counter, answer, oath_resync=True, **more)


def read(**more: Any) -> dict[str, Any]:
    return {"operation": "read", "status": 200} | more


def log(*entries: dict[str, Any]) -> list[LoggedCall]:
    """One call after the other, a second each, unless an entry says otherwise; each in an attempt of its own."""
    calls = []
    for number, entry in enumerate(entries, start=1):
        times = {"arrived_at": float(number), "ended_at": number + 0.5, "time": NOON + number}
        effect = {"effect_at": number + 0.4} if entry.get("took_effect") else {}
        named = {"number": number, "device_id": DEVICE, "transaction_id": f"attempt {number}"}
        calls.append(LoggedCall(**(named | times | effect | entry)))
    return calls


def judge(*entries: dict[str, Any], **more: Any) -> list[str]:
    return judge_calls(log(*entries), {DEVICE: Pair(FIRST, SECOND)}, **more)


def judge_seed(seed: KnownSeed, *entries: dict[str, Any], unwritten: tuple[str, ...] = (), **more: Any) -> list[str]:
    return judge_seed_cases(make_seed_cases(log(*entries), {DEVICE: seed}, unwritten), **more)


LAWFUL = {
    "active at once": [post()],
    "resynced": [post(answer=RESYNC), post(SECOND)],
    "refused, and read": [post(answer=INVALID), read()],
    "limited, and at once again": [post(answer=LIMITED), post(answer=LIMITED), post()],
    "reset, read, and again": [post(answer=RESET_BEFORE), read(), post()],
    "an error, read, and again": [post(answer=ERROR_BEFORE), read(), post(answer=RESYNC), post(SECOND)],
    "reset after it was done, and read": [post(answer=RESET_AFTER), read()],
    "OTP 2 lost, read, and again": [post(answer=RESYNC), post(SECOND, RESET_BEFORE), read(), post(SECOND)],
    "the client was killed, read, and again": [post(answer=CLIENT_KILLED), read(), post(answer=RESYNC), post(SECOND)],
    "headers without an OTP": [{"operation": "activate", "client_gone": True}, post()],
    "hung on a frozen client": [post(answer={"fault": "hang_before"}, ended_at=9.0), read(), post()],
    "another device's call between": [post(answer=RESET_BEFORE), read(), read(device_id="another"), post()],
}
NEXT_STEP = {"time": NOON + 30}
MISSED = [first(1000, RESYNC), first(1002, RESYNC, time=NOON + 60), second(1003, time=NOON + 90)]
LAWFUL_OF_SEEDS = {
    "active at once": (HOTP, [first(7)]),
    "resynced": (HOTP, [first(7, RESYNC), second(8)]),
    "limited, and the same counter again": (HOTP, [first(7, LIMITED), first(7)]),
    "lost, read, and another counter": (HOTP, [first(7, RESET_BEFORE), read(), first(9)]),
    "its answer lost, read, and a new pair": (HOTP, [first(7, RESYNC_LOST), read(), first(9, RESYNC), second(10)]),
    "refused, and the next counter tries the flag": (HOTP, [first(7, INVALID), read(), second(8, RESYNC), second(9)]),
    "a TOTP": (TOTP, [first(1000)]),
    "OTP 2 in the next time step": (TOTP, [first(1000, RESYNC), second(1001, **NEXT_STEP)]),
    "the next time step was missed": (TOTP, MISSED),
}


@pytest.mark.parametrize("entries", LAWFUL.values(), ids=LAWFUL.keys())
def test_what_keeps_the_promises_is_acquitted(entries):
    assert judge(*entries) == []


@pytest.mark.parametrize(("seed", "entries"), LAWFUL_OF_SEEDS.values(), ids=LAWFUL_OF_SEEDS.keys())
def test_seeds_that_keep_the_promises_are_acquitted(seed, entries):
    assert judge_seed(seed, *entries) == []


UNASKED, NO_RESYNC = "which PingOne had not asked for", "without oathResync"
ANSWERED, BACKWARDS, TWICE = "which had been answered", "OTP 1 again, after OTP 2", "and call 1 that of"
UNREAD, READ_ACTIVE = "whose fate no read had told", "had read ACTIVE"

CRIMES = {
    # Promise 2.
    "not asked for": (UNASKED, [post(SECOND)]),
    "OTP 1 was refused": (UNASKED, [post(answer=INVALID), post(SECOND)]),
    "its answer never came": (UNASKED, [post(answer=RESYNC_LOST), read(), post(SECOND)]),
    "before the answer": (UNASKED, [post(answer=RESYNC, effect_at=3.0, ended_at=3.1), post(SECOND)]),
    "without oathResync": (NO_RESYNC, [post(answer=RESYNC), post(SECOND, oath_resync=None)]),
    # Promise 3.
    "answered, and sent again": (ANSWERED, [post(answer=RESYNC), post(answer=RESYNC), post(SECOND)]),
    "refused, read, and sent again": (ANSWERED, [post(answer=INVALID), read(), post(answer=INVALID)]),
    "OTP 1 after OTP 2": (BACKWARDS, [post(answer=RESYNC), post(SECOND, RESET_BEFORE), read(), post()]),
    "again without a read": (UNREAD, [post(answer=RESET_BEFORE), post()]),
    "again after an error without a read": (UNREAD, [post(answer=ERROR_BEFORE), post()]),
    "OTP 2 again without a read": (UNREAD, [post(answer=RESYNC), post(SECOND, RESET_BEFORE), post(SECOND)]),
    "OTP 2 after a second OTP 1 of unknown fate": (
        UNREAD,
        [post(answer=CLIENT_KILLED | {"client_gone": False}), post(answer=RESET_BEFORE), post(SECOND)],
    ),
    "a read before the loss": (UNREAD, [read(), post(answer=RESET_BEFORE), post()]),
    "a read while it could still act": (
        UNREAD,
        [post(answer={"fault": "reset_late", "took_effect": True, "effect_at": 2.9}), read(), post()],
    ),
    "a read without an answer": (UNREAD, [post(answer=RESET_BEFORE), read(status=503, fault="error_before"), post()]),
    "a read that was still open": (UNREAD, [post(answer=RESET_BEFORE), read(ended_at=3.2), post()]),
    "a read that found nothing": (UNREAD, [post(answer=RESET_BEFORE), read(status=404), post()]),
    "a read of another device": (UNREAD, [post(answer=RESET_BEFORE), read(device_id="another"), post()]),
    "a read that said ACTIVE": (READ_ACTIVE, [post(answer=RESET_AFTER), read(), post(answer=INVALID)]),
    "a third time": (
        "OTP 1 was sent 3 times",
        [post(answer=RESET_BEFORE), read(), post(answer=ERROR_BEFORE), read(), post()],
    ),
    "an OTP of another device": ("not this device's", [post("fingerprint of some OTP")]),
}
CRIMES_OF_SEEDS = {
    "another token's OTP": ("not this device's", HOTP, [first(7, otp=fingerprint(SALT, "another"))]),
    "a counter from before the token's": ("not this device's", HOTP, [first(6)]),
    "a counter twice": (TWICE, HOTP, [first(7, RESET_BEFORE), read(), first(7)]),
    "a counter that is behind": (TWICE, HOTP, [first(9, RESET_BEFORE), read(), first(8)]),
    "a time step twice": (TWICE, TOTP, [first(1000, RESET_BEFORE), read(), first(1000)]),
    "in the next time step": ("brings the OTP of time step 1000 in", TOTP, [first(1000, **NEXT_STEP)]),
    "before its time step": ("brings the OTP of time step 1001 in", TOTP, [first(1000, RESYNC), second(1001)]),
    "OTP 2 first": (UNASKED, HOTP, [second(7)]),
    "OTP 2 after OTP 2": (UNASKED, HOTP, [first(7, RESYNC), second(8, RESET_BEFORE), read(), second(9)]),
    "OTP 2 and the answer never came": (UNASKED, HOTP, [first(7, RESYNC_LOST), read(), second(8)]),
    "OTP 2 from a counter further on": ("and OTP 1 was that of 7", HOTP, [first(7, RESYNC), second(9)]),
    "after a refusal": (ANSWERED, HOTP, [first(7, INVALID), read(), first(8)]),
    "the flag tried without a read": (UNREAD, HOTP, [first(7, INVALID), second(8)]),
    "the flag tried twice": (UNASKED, HOTP, [first(7, INVALID), read(), second(8, RESET_BEFORE), read(), second(10)]),
    "a new pair instead of OTP 2": (ANSWERED, HOTP, [first(7, RESYNC), first(9)]),
    "OTP 1 where OTP 2 is waited for": (
        "what PingOne waits for as OTP 2",
        HOTP,
        [first(7, RESYNC_LOST), read(), first(8)],
    ),
    "without a read": (UNREAD, HOTP, [first(7, RESET_BEFORE), first(9)]),
    "although it was read ACTIVE": (READ_ACTIVE, HOTP, [first(7, RESET_AFTER), read(), first(9)]),
    "four posts": (
        "4 posts, of 3 allowed",
        HOTP,
        [first(7, RESET_BEFORE), read(), first(9, RESET_BEFORE), read(), first(11, RESYNC), second(12)],
    ),
}


@pytest.mark.parametrize(("charge", "entries"), CRIMES.values(), ids=CRIMES.keys())
def test_what_breaks_a_promise_is_convicted(charge, entries):
    assert charge in "; ".join(judge(*entries))


@pytest.mark.parametrize(("charge", "seed", "entries"), CRIMES_OF_SEEDS.values(), ids=CRIMES_OF_SEEDS.keys())
def test_seeds_that_break_a_promise_are_convicted_once(charge, seed, entries):
    (told,) = judge_seed(seed, *entries)
    assert charge in told


def test_more_posts_than_the_budget_are_convicted():
    entries = [post(answer=RESET_BEFORE), read(), post(answer=RESYNC), post(SECOND, RESET_BEFORE), read(), post(SECOND)]
    assert judge(*entries, budget=4) == []
    assert judge(*entries) == [f"{DEVICE}: 4 posts, of 3 allowed"]


def test_only_the_last_answer_of_an_attempt_can_have_been_lost_and_excuses_a_second_post_after_a_read():
    lost = [post(answer=RESYNC), read(), post(answer=RESYNC), post(SECOND)]
    assert judge(*lost, unwritten={"attempt 1"}) == []
    assert judge(*lost) != []
    assert judge(post(answer=RESYNC), post(answer=RESYNC), unwritten={"attempt 1"}) != []
    one_attempt = {"transaction_id": "attempt"}
    entries = [post(answer=RESYNC, **one_attempt), post(SECOND, ERROR_BEFORE, **one_attempt)]
    assert judge(*entries, unwritten={"attempt"}) == []
    assert judge(*entries, read(), post(), unwritten={"attempt"}) != []


def test_a_worker_that_died_may_have_written_down_that_otp_2_is_wanted_or_not():
    assert judge_seed(TOTP, *MISSED, unwritten=("attempt 1",)) == []
    assert judge_seed(HOTP, first(7, RESYNC), second(8), unwritten=("attempt 1",)) == []
    (charge,) = judge_seed(HOTP, first(7, RESYNC), first(9), unwritten=("attempt 1",))
    assert UNREAD in charge


def test_a_replay_begins_a_new_pair_behind_the_otp_that_pingone_may_wait_for():
    again = [first(7, RESYNC), first(9, RESYNC), second(10)]
    assert judge_seed(HOTP, *again) != []
    assert judge_seed(HOTP, *again, was_replayed=True) == []
    assert len(judge_seed(HOTP, first(7, RESYNC), first(8, INVALID), was_replayed=True)) == 1


def test_a_post_is_told_for_otp_2_by_its_flag_and_the_highest_counter_is_known():
    case = make_seed_cases(log(first(7, RESYNC), second(8)), {DEVICE: HOTP})[DEVICE]
    assert [[call.number for call in case.posts_of(ordinal)] for ordinal in (1, 2)] == [[1], [2]]
    assert case.last_counter == 8


def test_the_call_log_is_read_as_the_simulator_writes_it(tmp_path):
    path = f"/v1/environments/e/users/u/devices/{DEVICE}"
    activate = (b"content-type", b"application/vnd.pingidentity.device.activate+json")
    scopes = [
        {"method": method, "path": path, "query_string": b"", "headers": [activate]}
        for method, path in (("POST", path), ("GET", path), ("POST", "/e/as/token"))
    ]
    file = tmp_path / "journal.jsonl"
    with file.open("a") as journal:
        writing = CallLog(salt="salted", file=journal)
        late, early, access = (writing.open(Call.from_scope(scope), 1.0 + n, 0.0) for n, scope in enumerate(scopes))
        writing.note_body(late, b'{"otp": "308714"}')
        late.status = 200
        for entry in (early, access, late):
            writing.close(entry, 3.0)
    posted, looked = read_call_log(file)
    assert (posted.number, posted.otp, posted.ended_at) == (1, fingerprint("salted", "308714"), 3.0)
    assert (looked.operation, looked.is_post, looked.is_answered) == ("read", False, False)
