"""The judge of the promises: a call log that breaks one is convicted, and one that keeps them all is not."""

from __future__ import annotations

from typing import Any

import pytest
from support.judges.call_log import LoggedCall, fingerprint, read_call_log
from support.judges.otp_calls import Pair, judge_calls
from support.simulator.call_log import CallLog

from worker.simulator.calls import Call

FIRST, SECOND = "fingerprint of OTP 1", "fingerprint of OTP 2"
DEVICE = "device"

ACTIVE = {"status": 200, "outcome": "ACTIVE", "took_effect": True}
RESYNC = {"status": 400, "outcome": "EXTRA_OTP_REQUIRED", "detail_code": "EXTRA_OTP_REQUIRED", "took_effect": True}
INVALID = {"status": 400, "outcome": "INVALID_OTP", "detail_code": "INVALID_OTP", "took_effect": True}
RESET_BEFORE = {"fault": "reset_before"}
RESET_AFTER = ACTIVE | {"fault": "reset_after", "status": None}
ERROR_BEFORE = {"fault": "error_before", "status": 503}
LIMITED = {"status": 429}
CLIENT_KILLED = RESYNC | {"client_gone": True}


def post(otp: str = FIRST, answer: dict[str, Any] = ACTIVE, **more: Any) -> dict[str, Any]:
    resync = True if otp == SECOND else None
    return {"operation": "activate", "otp": otp, "oath_resync": resync} | answer | more


def read(**more: Any) -> dict[str, Any]:
    return {"operation": "read", "status": 200} | more


def call_log(*entries: dict[str, Any]) -> list[LoggedCall]:
    """One call after the other, a second each, unless an entry says otherwise; each in an attempt of its own."""
    calls = []
    for number, entry in enumerate(entries, start=1):
        times = {"arrived_at": float(number), "ended_at": number + 0.5}
        effect = {"effect_at": number + 0.4} if entry.get("took_effect") else {}
        named = {"number": number, "device_id": DEVICE, "transaction_id": f"attempt {number}"}
        calls.append(LoggedCall(**(named | times | effect | entry)))
    return calls


def judge(*entries: dict[str, Any], **more: Any) -> list[str]:
    return judge_calls(call_log(*entries), {DEVICE: Pair(FIRST, SECOND)}, **more)


LAWFUL = {
    "active at once": [post()],
    "resynced": [post(answer=RESYNC), post(SECOND)],
    "refused, and read": [post(answer=INVALID), read()],
    "limited, and at once again": [post(answer=LIMITED), post(answer=LIMITED), post()],
    "reset, read, and again": [post(answer=RESET_BEFORE), read(), post()],
    "an error, read, and again": [post(answer=ERROR_BEFORE), read(), post(answer=RESYNC), post(SECOND)],
    "reset after it was done, and read": [post(answer=RESET_AFTER), read()],
    "OTP 2 lost, read, and again": [
        post(answer=RESYNC), post(SECOND, RESET_BEFORE), read(), post(SECOND),
    ],
    "the client was killed, read, and again": [post(answer=CLIENT_KILLED), read(), post(answer=RESYNC), post(SECOND)],
    "headers without an OTP": [{"operation": "activate", "client_gone": True}, post()],
    "hung on a frozen client": [post(answer={"fault": "hang_before"}, ended_at=9.0), read(), post()],
}  # fmt: skip


@pytest.mark.parametrize("entries", LAWFUL.values(), ids=LAWFUL.keys())
def test_what_keeps_the_promises_is_acquitted(entries):
    assert judge(*entries) == []


UNASKED, NO_RESYNC = "which PingOne had not asked for", "without oathResync"
ANSWERED, BACKWARDS = "again, which had been answered", "OTP 1 again, after OTP 2"
UNREAD, READ_ACTIVE = "whose fate no read had told", "had read ACTIVE"

CRIMES = {
    # Promise 2.
    "not asked for": (UNASKED, [post(SECOND)]),
    "OTP 1 was refused": (UNASKED, [post(answer=INVALID), post(SECOND)]),
    "its answer never came": (
        UNASKED, [post(answer=RESYNC | {"fault": "reset_after", "status": None}), read(), post(SECOND)],
    ),
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
        UNREAD, [post(answer=CLIENT_KILLED | {"client_gone": False}), post(answer=RESET_BEFORE), post(SECOND)],
    ),
    "a read before the loss": (UNREAD, [read(), post(answer=RESET_BEFORE), post()]),
    "a read while it could still act": (
        UNREAD, [post(answer={"fault": "reset_late", "took_effect": True, "effect_at": 2.9}), read(), post()],
    ),
    "a read without an answer": (UNREAD, [post(answer=RESET_BEFORE), read(status=503, fault="error_before"), post()]),
    "a read that was still open": (UNREAD, [post(answer=RESET_BEFORE), read(ended_at=3.2), post()]),
    "a read that found nothing": (UNREAD, [post(answer=RESET_BEFORE), read(status=404), post()]),
    "a read that said ACTIVE": (READ_ACTIVE, [post(answer=RESET_AFTER), read(), post(answer=INVALID)]),
    "a third time": (
        "OTP 1 was sent 3 times", [post(answer=RESET_BEFORE), read(), post(answer=ERROR_BEFORE), read(), post()],
    ),
    "an OTP of another device": ("not this device's", [post("fingerprint of some OTP")]),
}  # fmt: skip


@pytest.mark.parametrize(("charge", "entries"), CRIMES.values(), ids=CRIMES.keys())
def test_what_breaks_a_promise_is_convicted(charge, entries):
    assert charge in "; ".join(judge(*entries))


def test_more_posts_than_the_budget_are_convicted():
    entries = [post(answer=RESET_BEFORE), read(), post(answer=RESYNC), post(SECOND, RESET_BEFORE), read(), post(SECOND)]
    assert judge(*entries, budget=4) == []
    assert judge(*entries) == [f"{DEVICE}: 4 posts, of 3 allowed"]


def test_an_answer_that_our_database_never_had_excuses_a_second_post_after_a_read():
    lost = [post(answer=RESYNC), read(), post(answer=RESYNC), post(SECOND)]
    assert judge(*lost, unwritten={"attempt 1"}) == []
    assert judge(*lost) != []
    assert judge(post(answer=RESYNC), post(answer=RESYNC), unwritten={"attempt 1"}) != []


def test_only_the_last_answer_of_an_attempt_can_have_been_lost():
    one_attempt = {"transaction_id": "attempt"}
    entries = [post(answer=RESYNC, **one_attempt), post(SECOND, ERROR_BEFORE, **one_attempt)]
    assert judge(*entries, unwritten={"attempt"}) == []
    assert judge(*entries, read(), post(), unwritten={"attempt"}) != []


def test_devices_are_judged_apart():
    calls = call_log(post(answer=RESET_BEFORE), post(device_id="another"))
    assert judge_calls(calls, {DEVICE: Pair(FIRST, SECOND), "another": Pair(FIRST, SECOND)}) == []


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
    first, second = read_call_log(file)
    assert (first.number, first.otp, first.ended_at) == (1, fingerprint("salted", "308714"), 3.0)
    assert (second.operation, second.is_post, second.is_answered) == ("read", False, False)
