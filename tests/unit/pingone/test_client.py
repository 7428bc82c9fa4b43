"""One call, from the wait for its slot to its answer: what is sent again, what holds the fleet, and which calls are
logged as deprecated."""

import json
import logging
import traceback
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from itertools import count
from typing import Any
from unittest.mock import Mock

import pytest
import redis
import tenacity
from structlog.testing import capture_logs
from unit.pingone.conftest import granted, http, make_environment, reset

from worker.clocks import boot_time
from worker.pace.search import SlotTooFar
from worker.pace.slots import Pace, Slot
from worker.pingone import client as module
from worker.pingone.auth import AccessTokens
from worker.pingone.client import (
    Call,
    Client,
    name_call,
    report_deprecation,
)
from worker.pingone.errors import (
    InvalidOtp,
    NotDelivered,
    NotFound,
    OtherDevice,
    OutcomeUnknown,
    PingOneError,
    RateLimited,
    ResyncRequired,
    TooLateToSend,
    Unauthorized,
)
from worker.pingone.wire import Request, open_envelope
from worker.vault.otps import Otp

ACTIVE = http(200, b'{"id": "0f0b7a52", "type": "OATH_TOKEN", "status": "ACTIVE"}')
EXTRA_OTP_REQUIRED = http(400, b'{"code": "INVALID_DATA", "details": [{"code": "EXTRA_OTP_REQUIRED"}]}')
INVALID_OTP = http(400, b'{"code": "INVALID_DATA", "details": [{"code": "INVALID_OTP", "message": "bad OTP 000634"}]}')
OTHER = http(200, b'{"id": "another", "status": "ACTIVE"}')
# Of PingOne's own, since they carry its header.
FORBIDDEN, NOT_FOUND = (http(status, Correlation_Id="3f0c8a52") for status in (403, 404))
OTP = Otp("000634")
SLOT = Slot(0, 1.0)


def new_call(**options: Any) -> Call:
    return Call("batch-1", "record-1", **options)


@pytest.fixture
def pace(valkey_url: str) -> Iterator[Pace]:
    """A pace that is faster than any test, so that nothing but holds delays a request."""
    with redis.Redis.from_url(valkey_url) as client:
        yield Pace(client, "made-up-license", 100_000)


@pytest.fixture
def connect(serve: Any, pace: Pace) -> Iterator[Any]:
    """Makes a client whose API answers as told, and whose token endpoint grants access-token-1, access-token-2, … or
    gives another answer; returns the client and the API."""
    with ExitStack() as stack:

        def make(*answers: Any, tls: Any = None, token_answer: Any = None, **options: Any) -> tuple[Client, Any]:
            numbers = count(1)
            grants = serve(token_answer or (lambda _: granted(access_token=f"access-token-{next(numbers)}")))
            api = serve(*answers, tls=tls)
            environment = make_environment(api.url, token_url=f"{grants.url}/as/token")
            client = Client(environment, AccessTokens(environment), pace, **options)
            stack.callback(client.close)
            return client, api

        yield make


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two tries."""
    monkeypatch.setattr("worker.pingone.retry_policy.BACKOFF", tenacity.wait_none())


def activate(client: Client, call: Call | None = None, *, resync: bool = False, device_id: str = "0f0b7a52") -> Any:
    return client.activate("6f1d3c1e", device_id, OTP, resync=resync, call=call or new_call())


def read(client: Client, call: Call | None = None) -> Any:
    return client.read_device("6f1d3c1e", "0f0b7a52", call=call or new_call())


def test_an_activation_sends_the_otp_and_the_second_one_goes_with_a_resync(connect: Any) -> None:
    client, api = connect(EXTRA_OTP_REQUIRED, ACTIVE)
    call = new_call()
    with pytest.raises(ResyncRequired):
        activate(client, call)
    (kept,) = call.past
    assert (kept["status"], kept["detail_code"]) == (400, "EXTRA_OTP_REQUIRED")
    assert activate(client, resync=True).is_active
    assert [(request.method, request.target.partition("/users/")[2]) for request in api.received] == [
        ("POST", "6f1d3c1e/devices/0f0b7a52")
    ] * 2
    assert [json.loads(request.body) for request in api.received] == [
        {"otp": "000634"},
        {"otp": "000634", "oathResync": True},
    ]
    sent = {"authorization": "Bearer access-token-1"}
    sent |= {"x-ping-external-session-id": "batch-1", "x-ping-external-transaction-id": "record-1"}
    assert sent.items() <= api.received[0].headers.items()


@pytest.mark.parametrize(
    ("answers", "ticks", "seconds"),
    [
        # Without the waits between exchanges.
        ([http(429, Retry_After="0.01"), ACTIVE], [10.0, 10.25, 90.0, 90.5], 0.75),
        # As long as an answer was waited for that did not come.
        ([ACTIVE[:40]], [10.0, 13.0], 3.0),
    ],
)
def test_the_time_of_a_call_is_that_of_its_exchanges(
    connect: Any, monkeypatch: pytest.MonkeyPatch, answers: list[bytes], ticks: list[float], seconds: float
) -> None:
    client, _ = connect(*answers, deadline=1)
    monkeypatch.setattr("worker.pingone.client.boot_time", iter(ticks).__next__)
    call = new_call()
    try:
        assert activate(client, call).is_active
    except OutcomeUnknown:
        assert len(answers) == 1
    assert call.requests == len(answers)
    assert sum(kept["milliseconds"] for kept in call.past) == 1000 * seconds
    assert [kept.get("status") for kept in call.past] == ([429, 200] if len(answers) > 1 else [None])


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (INVALID_OTP, InvalidOtp),
        (NOT_FOUND, NotFound),
        (http(404, b"<html>"), OutcomeUnknown),
        (http(500), OutcomeUnknown),
        (http(302), OutcomeUnknown),
        (reset, OutcomeUnknown),
    ],
)
def test_an_activation_that_may_have_arrived_is_not_made_again(
    connect: Any, answer: Any, error: type[PingOneError]
) -> None:
    client, api = connect(answer)
    call = new_call()
    with pytest.raises(error):
        activate(client, call)
    assert (len(api.received), call.requests) == (1, 1)


@pytest.mark.usefixtures("no_pauses")
def test_a_lost_read_is_made_again_unless_its_lease_ends(connect: Any) -> None:
    client, api = connect(http(502), http(500), ACTIVE, http(502))
    call = new_call()
    assert read(client, call).is_active
    assert {(request.method, request.body) for request in api.received} == {("GET", b"")}
    assert (len(api.received), call.requests) == (3, 3)
    with pytest.raises(OutcomeUnknown):
        read(client, new_call(send_before=boot_time() + 60))
    assert len(api.received) == 4


def test_too_many_requests_hold_the_fleet_and_the_same_call_follows(connect: Any, pace: Pace) -> None:
    client, api = connect(http(429, Retry_After="0.2"), ACTIVE)
    call, began = new_call(), boot_time()
    assert activate(client, call).is_active
    assert boot_time() - began >= 0.199
    assert [kept["status"] for kept in call.past] == [429, 200]
    assert api.received[0].body == api.received[1].body


@pytest.mark.parametrize(
    ("answers", "hold", "why"),
    [
        ({"answers": [http(429)], "retry_for": 0}, 1, "PingOne answered 429 and does not say for how long"),
        ({"answers": [http(429, Retry_After="0")], "retry_for": 0}, 1, "PingOne answered 429 and asks for 0 s"),
        ({"answers": [http(429, Retry_After="60")]}, 60, "PingOne answered 429 and asks for 60 s"),
        # No longer than anybody would wait unawares.
        ({"answers": [http(429, Retry_After="86400")]}, 120, "PingOne answered 429 and asks for 86400 s"),
        ({"answers": [http(503, Retry_After="60")]}, 60, "PingOne answered 503 and asks for 60 s"),
        ({"answers": [http(503, Retry_After="86400")]}, 120, "PingOne answered 503 and asks for 86400 s"),
        (
            {"answers": [], "token_answer": http(429, Retry_After="86400")},
            120,
            "the token endpoint answered 429 and asks for 86400 s",
        ),
    ],
)
def test_the_fleet_holds_as_long_as_it_is_asked_to_within_bounds(
    connect: Any, pace: Pace, answers: dict[str, Any], hold: float, why: str
) -> None:
    client, api = connect(*answers.pop("answers"), **answers)
    call = new_call()
    with pytest.raises((RateLimited, OutcomeUnknown, NotDelivered)):
        activate(client, call)
    reading = pace.read()
    assert reading.held_until - reading.held_since == pytest.approx(hold, abs=0.5 if hold > 1 else 0.01)
    assert reading.held_why == why
    assert call.requests == len(api.received) <= 1


@pytest.mark.parametrize(
    ("hold", "options", "error"), [(60, {}, SlotTooFar), (0, {"send_before": 0.0}, TooLateToSend)], ids=["hold", "late"]
)
def test_what_may_not_go_out_any_more_is_not_sent_and_no_outage(
    connect: Any, pace: Pace, hold: float, options: dict[str, Any], error: type[Exception]
) -> None:
    client, api = connect(ACTIVE)
    pace.hold(hold)
    call = new_call(**options)
    with pytest.raises(error):
        activate(client, call)
    assert (api.received, call.requests, pace.read_hold_left() > 0) == ([], 0, hold > 0)


def test_an_outage_is_not_counted_and_holds_the_fleet(connect: Any, pace: Pace) -> None:
    client, api = connect(outage_hold=30, retry_for=0.1)
    api.stop()
    call = new_call()
    with pytest.raises(NotDelivered):
        activate(client, call)
    assert call.requests == 0
    assert 29 < pace.read_hold_left() <= 30


def test_a_refused_access_token_is_renewed_once(connect: Any) -> None:
    client, api = connect(http(401), ACTIVE, http(401))
    call = new_call()
    assert activate(client, call).is_active
    assert call.requests == 2
    with pytest.raises(Unauthorized):
        activate(client)
    numbers = [request.headers["authorization"].removeprefix("Bearer access-token-") for request in api.received]
    assert numbers == ["1", "2", "2", "3"]


def test_an_answer_about_another_device_is_not_believed_and_its_connection_not_used_again(connect: Any) -> None:
    client, api = connect(OTHER, OTHER, ACTIVE)
    with pytest.raises(OtherDevice):
        activate(client)
    # Made again at once, since it is a read.
    assert read(client).is_active
    assert [request.connection for request in api.received] == [1, 2, 3]


def test_an_answer_that_comes_twice_makes_no_other_device_active(connect: Any, tls: Any) -> None:
    client, api = connect(ACTIVE * 2, INVALID_OTP, tls=tls)
    activate(client)
    with pytest.raises(InvalidOtp):
        activate(client, device_id="7c3e9d14")
    assert [request.connection for request in api.received] == [1, 2]


def test_a_slot_in_hand_is_for_the_first_try_and_is_used_once(connect: Any, pace: Pace) -> None:
    pace.hold(60)
    client, api = connect(NOT_FOUND, FORBIDDEN)
    call = new_call(slot=SLOT)
    with pytest.raises(NotFound):
        activate(client, call)
    assert call.slot is None
    # The next call with it, and a second try, need a slot of their own.
    for ask, next_call in ((read, call), (activate, new_call(slot=SLOT))):
        with pytest.raises(SlotTooFar):
            ask(client, next_call)
    assert len(api.received) == 2


def test_what_became_of_a_slot_moves_the_pace(connect: Any, pace: Pace) -> None:
    # A rate that climbs is reviewed ten times a second, and each review begins a new count.
    pace.change(lambda search, _: replace(search, climb=0.0))
    limited = [http(429, Retry_After=after) for after in ("86400", "60")]
    client, _ = connect(INVALID_OTP, http(500), NOT_FOUND, ACTIVE, *limited)
    for refusal in (InvalidOtp, OutcomeUnknown, NotFound):
        with pytest.raises(refusal):
            activate(client)
    activate(client)
    pace.wait()
    # Neither a proxy's answer nor a broken server's tells of the limit.
    before = pace.read()
    assert before.answers == 3
    # A quota that is used up says nothing of the rate.
    for is_slower in (False, True):
        with pytest.raises(RateLimited):
            activate(client)
        assert (pace.read().search.rate < before.search.rate) is is_slower
        pace.lift()


class Stopped(Exception):
    """What a permit raises."""


def test_a_retry_and_a_wait_for_a_slot_ask_for_a_permit(connect: Any) -> None:
    client, api = connect(FORBIDDEN)
    # A first try that has waited for its slot asks too: its batch may have been paused meanwhile.
    for slot in (SLOT, None):
        with pytest.raises(Stopped):
            activate(client, new_call(slot=slot, permit=Mock(side_effect=Stopped)))
        assert len(api.received) == 1


def test_nothing_that_is_printed_or_logged_shows_an_otp_or_an_access_token(
    connect: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    client, _ = connect(http(401), INVALID_OTP)
    call = new_call()
    with pytest.raises(InvalidOtp) as caught:
        activate(client, call)
    texts = [caplog.text, str(caught.value), repr(caught.value), repr(call), repr(client)]
    texts += traceback.format_exception(caught.value)
    assert not any(word in text for text in texts for word in ("000634", "access-token-"))


# Calls that are deprecated.

BASE = "https://api.pingone.eu/v1/environments/5a5b7c9d"
DEPRECATED = {"Api-Deprecation-Date": "2027-01-01", "api-deprecation-message": "Use\x1b[2J /v2 instead"}


@pytest.mark.parametrize(
    ("method", "path", "name"),
    [
        ("DELETE", "/users/6f1d/devices/0f0b", "DELETE /users/{id}/devices/{id}"),
        ("GET", "/oathTokens?filter=serialNumber%20eq%20%222308%22", "GET /oathTokens"),
        ("GET", "", "GET /"),
    ],
)
def test_a_call_is_named_without_ids(method: str, path: str, name: str) -> None:
    assert name_call(Request(method, BASE + path, {})) == name


def test_each_kind_of_deprecated_call_is_logged_once(connect: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_DEPRECATED", set())
    calls = [("GET", "6f1d/devices", DEPRECATED), ("POST", "6f1d/devices", {"api-deprecation-date": "soon"})]
    with capture_logs() as lines:
        for method, path, told in [*calls, ("GET", "6f1d/password", {}), *calls]:
            report_deprecation(Request(method, f"{BASE}/users/{path}", {}), open_envelope(200, told, b""))
    assert [(line["event"], line["call"], line["date"], line["message"]) for line in lines] == [
        ("pingone_call_deprecated", "GET /users/{id}/devices", "2027-01-01", "Use [2J /v2 instead"),
        ("pingone_call_deprecated", "POST /users/{id}/devices", "soon", None),
    ]
    # By every client of the process.
    answer = http(200, b'{"status": "ACTIVE"}', Api_Deprecation_Date="2027-01-01")
    with capture_logs() as lines:
        for client in (connect(answer)[0], connect(answer)[0]):
            read(client)
    assert [line["call"] for line in lines] == ["GET /users/{id}/devices/{id}"]
