from __future__ import annotations

import gc
import json
import logging
import socket
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count
from typing import Any

import httpx
import pytest
import redis
import tenacity

from worker.clocks import boot_time
from worker.pace.errors import SlotTooFar
from worker.pace.slots import Pace, Slot
from worker.pingone.auth import AccessTokens
from worker.pingone.client import Call, Client
from worker.pingone.errors import (
    Forbidden,
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
from worker.vault.otps import Otp

ACTIVE = b'{"id": "0f0b7a52", "type": "OATH_TOKEN", "status": "ACTIVE"}'
EXTRA_OTP_REQUIRED = b'{"code": "INVALID_DATA", "details": [{"code": "EXTRA_OTP_REQUIRED"}]}'
INVALID_OTP = b'{"code": "INVALID_DATA", "details": [{"code": "INVALID_OTP", "message": "bad OTP 000634"}]}'
OTHER = b'{"id": "another", "status": "ACTIVE"}'
# Of PingOne's own, since they carry its header.
REFUSED = b"HTTP/1.1 %d Refused\r\nContent-Length: 0\r\nCorrelation-Id: 3f0c8a52\r\n\r\n"
FORBIDDEN, NOT_FOUND = REFUSED % 403, REFUSED % 404
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
def counting(http: Any) -> Callable[[Any], bytes]:
    """Grants access-token-1, access-token-2, …"""
    numbers = count(1)
    return lambda request: http(200, json.dumps({"access_token": f"access-token-{next(numbers)}"}).encode())


@pytest.fixture
def connect(make_environment: Any, serve: Any, script: Any, counting: Any, pace: Pace) -> Iterator[Any]:
    """Makes a client whose API answers as told, and whose token endpoint grants; returns the client and the API."""
    clients = []

    def make(*answers: bytes | Callable[[Any], bytes], tls: Any = None, **options: Any) -> tuple[Client, Any]:
        api = script(list(answers))
        token_url = f"{serve(script([counting])).url}/as/token"
        environment = make_environment(serve(api, tls).url, token_url=token_url)
        client = Client(environment, AccessTokens(environment), pace, **options)
        clients.append(client)
        return client, api

    yield make
    for client in clients:
        client.close()


def activate(client: Client, call: Call | None = None, *, resync: bool = False) -> Any:
    return client.activate("6f1d3c1e", "0f0b7a52", OTP, resync=resync, call=call or new_call())


def unused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


def test_an_activation_sends_the_otp_and_answers_with_the_device(connect: Any, http: Any) -> None:
    client, api = connect(http(200, ACTIVE))
    call = new_call()
    assert activate(client, call).is_active
    (request,) = api.received
    assert request.method == "POST"
    assert request.target.endswith("/users/6f1d3c1e/devices/0f0b7a52")
    assert json.loads(request.body) == {"otp": "000634"}
    assert request.headers["authorization"] == "Bearer access-token-1"
    assert request.headers["x-ping-external-session-id"] == "batch-1"
    assert request.headers["x-ping-external-transaction-id"] == "record-1"
    assert (call.requests, call.rate_limited) == (1, 0)


def test_the_time_of_a_call_is_that_of_its_exchanges_without_the_waits_between_them(
    connect: Any, http: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, _ = connect(http(429, Retry_After="0.01"), http(200, ACTIVE))
    monkeypatch.setattr("worker.pingone.client.boot_time", iter([10.0, 10.25, 90.0, 90.5]).__next__)
    call = new_call()
    assert activate(client, call).is_active
    assert (call.requests, call.seconds) == (2, 0.75)


def test_a_call_without_an_answer_took_as_long_as_it_was_waited_for(
    connect: Any, http: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, _ = connect(http(200, ACTIVE)[:40])
    monkeypatch.setattr("worker.pingone.client.boot_time", iter([10.0, 13.0]).__next__)
    call = new_call()
    with pytest.raises(OutcomeUnknown):
        activate(client, call)
    assert (call.requests, call.seconds) == (1, 3.0)


def test_the_second_otp_goes_with_a_resync(connect: Any, http: Any) -> None:
    client, api = connect(http(400, EXTRA_OTP_REQUIRED), http(200, ACTIVE))
    with pytest.raises(ResyncRequired):
        activate(client)
    assert activate(client, resync=True).is_active
    assert json.loads(api.received[1].body) == {"otp": "000634", "oathResync": True}


def test_a_device_is_read(connect: Any, http: Any) -> None:
    client, api = connect(http(200, b'{"status": "ACTIVATION_REQUIRED", "lock": {"status": "LOCKED"}}'))
    device = client.read_device("6f1d3c1e", "0f0b7a52", call=new_call())
    assert (device.status, device.is_locked) == ("ACTIVATION_REQUIRED", True)
    assert (api.received[0].method, api.received[0].body) == ("GET", b"")


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (400, INVALID_OTP, InvalidOtp),
        (404, b'{"code": "NOT_FOUND"}', NotFound),
        (404, b"<html>", OutcomeUnknown),
        (403, b"<html>", OutcomeUnknown),
        (500, b"", OutcomeUnknown),
        (200, b'{"status": "ACTIVATION_REQUIRED"}', OutcomeUnknown),
        (302, b"", OutcomeUnknown),
    ],
)
def test_an_answer_that_settles_anything_is_not_asked_for_again(
    connect: Any, http: Any, status: int, body: bytes, error: type[PingOneError]
) -> None:
    client, api = connect(http(status, body))
    call = new_call()
    with pytest.raises(error):
        activate(client, call)
    assert (len(api.received), call.requests) == (1, 1)


def test_a_lost_read_is_made_again_unless_its_lease_ends(
    connect: Any, http: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.pingone.client.BACKOFF", tenacity.wait_none())
    client, api = connect(http(502), http(500), http(200, ACTIVE))
    call = new_call()
    assert client.read_device("6f1d3c1e", "0f0b7a52", call=call).is_active
    assert (len(api.received), call.requests) == (3, 3)

    client, api = connect(http(502))
    with pytest.raises(OutcomeUnknown):
        client.read_device("6f1d3c1e", "0f0b7a52", call=new_call(send_before=boot_time() + 60))
    assert len(api.received) == 1


def test_a_lost_answer_is_never_asked_for_again(make_environment: Any, serve: Any, http: Any, pace: Pace) -> None:
    received = []

    def talk(conversation: Any) -> None:
        while (request := conversation.read_request()) is not None:
            if request.target.endswith("/as/token"):
                conversation.write(http(200, b'{"access_token": "a"}'))
                continue
            received.append(request)
            conversation.reset()
            return

    environment = make_environment(serve(talk).url)
    client = Client(environment, AccessTokens(environment), pace)
    call = new_call()
    with pytest.raises(OutcomeUnknown):
        activate(client, call)
    client.close()
    assert (len(received), call.requests) == (1, 1)


def test_too_many_requests_hold_the_fleet_and_the_same_call_follows(connect: Any, http: Any, pace: Pace) -> None:
    client, api = connect(http(429, Retry_After="0.2"), http(200, ACTIVE))
    call, began = new_call(), time.monotonic()
    assert activate(client, call).is_active
    assert time.monotonic() - began >= 0.199
    assert (call.requests, call.rate_limited) == (2, 1)
    assert api.received[0].body == api.received[1].body


def test_too_many_requests_for_long_end_the_call_and_hold_the_fleet(connect: Any, http: Any, pace: Pace) -> None:
    client, api = connect(http(429, Retry_After="60"))
    with pytest.raises(RateLimited):
        activate(client)
    assert pace.read_hold_left() > 59
    with pytest.raises(SlotTooFar):
        activate(client)
    assert len(api.received) == 1


def test_a_service_that_asks_for_a_day_is_asked_again_after_the_longest_hold(
    connect: Any, http: Any, pace: Pace
) -> None:
    client, _ = connect(http(503, Retry_After="86400"))
    with pytest.raises(OutcomeUnknown):
        activate(client)
    assert 119 < pace.read_hold_left() <= 120
    assert pace.read().held_why == "PingOne answered 503 and asks for 86400 s"


def test_a_token_endpoint_that_asks_for_a_day_is_asked_again_after_the_longest_hold(
    make_environment: Any, serve: Any, script: Any, http: Any, pace: Pace
) -> None:
    environment = make_environment(serve(script([http(429, Retry_After="86400")])).url)
    client = Client(environment, AccessTokens(environment), pace)
    for _ in range(2):
        with pytest.raises(NotDelivered):
            activate(client)
    client.close()
    assert 119 < pace.read_hold_left() <= 120
    assert pace.read().held_why == "the token endpoint answered 429 and asks for 86400 s"


def test_a_service_that_is_down_for_a_while_holds_the_fleet(connect: Any, http: Any, pace: Pace) -> None:
    client, _ = connect(http(503, Retry_After="60"))
    with pytest.raises(OutcomeUnknown):
        activate(client)
    assert pace.read_hold_left() > 59


def test_an_outage_is_not_counted_and_holds_the_fleet(
    make_environment: Any, serve: Any, script: Any, counting: Any, pace: Pace
) -> None:
    token_url = f"{serve(script([counting])).url}/as/token"
    environment = make_environment(f"http://127.0.0.1:{unused_port()}", token_url=token_url)
    client = Client(environment, AccessTokens(environment), pace, outage_hold=30, retry_for=0.1)
    call = new_call()
    with pytest.raises(NotDelivered):
        activate(client, call)
    client.close()
    assert call.requests == 0
    assert 29 < pace.read_hold_left() <= 30


def test_a_forbidden_call_is_tried_again_as_long_as_time_allows(connect: Any, http: Any) -> None:
    client, api = connect(FORBIDDEN, FORBIDDEN, http(200, ACTIVE))
    call = new_call()
    assert activate(client, call).is_active
    assert call.requests == 3
    client, api = connect(FORBIDDEN, retry_for=0)
    with pytest.raises(Forbidden):
        activate(client)
    assert len(api.received) == 1


def test_a_refused_access_token_is_renewed_once(connect: Any, http: Any) -> None:
    client, api = connect(http(401), http(200, ACTIVE))
    call = new_call()
    assert activate(client, call).is_active
    assert [request.headers["authorization"] for request in api.received] == [
        "Bearer access-token-1",
        "Bearer access-token-2",
    ]
    assert call.requests == 2
    client, api = connect(http(401))
    with pytest.raises(Unauthorized):
        activate(client)
    assert len(api.received) == 2


def test_an_answer_about_another_device_is_not_believed_and_its_connection_not_used_again(
    connect: Any, http: Any
) -> None:
    client, api = connect(http(200, OTHER), http(200, OTHER), http(200, ACTIVE))
    call = new_call()
    with pytest.raises(OtherDevice):
        activate(client, call)
    # Made again at once, since it is a read.
    assert client.read_device("6f1d3c1e", "0f0b7a52", call=call).is_active
    assert [request.connection for request in api.received] == [1, 2, 3]
    assert call.requests == 3


def test_an_answer_that_comes_twice_makes_no_other_device_active(
    connect: Any, http: Any, certificate: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate.path))
    client, api = connect(http(200, ACTIVE) * 2, http(400, INVALID_OTP), tls=certificate.server_context())
    activate(client)
    with pytest.raises(InvalidOtp):
        client.activate("6f1d3c1e", "7c3e9d14", OTP, resync=False, call=new_call())
    assert [request.connection for request in api.received] == [1, 2]


def test_a_slot_in_hand_is_for_the_first_try_and_is_used_once(connect: Any, http: Any, pace: Pace) -> None:
    pace.hold(60)
    client, api = connect(NOT_FOUND, FORBIDDEN)
    call = new_call(slot=SLOT)
    with pytest.raises(NotFound):
        activate(client, call)
    assert call.slot is None
    with pytest.raises(SlotTooFar):
        client.read_device("6f1d3c1e", "0f0b7a52", call=call)
    # A second try needs a slot of its own.
    with pytest.raises(SlotTooFar):
        activate(client, new_call(slot=SLOT))
    assert len(api.received) == 2


def test_after_its_time_to_send_a_call_neither_goes_out_nor_counts_as_an_outage(
    connect: Any, http: Any, pace: Pace
) -> None:
    client, api = connect(http(200, ACTIVE))
    call = new_call(send_before=time.monotonic())
    with pytest.raises(TooLateToSend):
        activate(client, call)
    assert (api.received, call.requests, pace.read_hold_left()) == ([], 0, 0)


@pytest.mark.parametrize("headers", [{}, {"Retry_After": "0"}])
def test_a_refusal_that_does_not_say_for_how_long_holds_the_fleet_for_a_second(
    connect: Any, http: Any, pace: Pace, headers: dict[str, str]
) -> None:
    client, _ = connect(http(429, **headers), retry_for=0)
    with pytest.raises(RateLimited):
        activate(client)
    reading = pace.read()
    assert reading.held_until - reading.held_since == pytest.approx(1, abs=0.01)
    assert pace.read().held_why.startswith("PingOne answered 429 and ")


@pytest.mark.parametrize(("retry_after", "hold"), [("120", 120), ("121", 120), ("86400", 120)])
def test_a_limit_holds_the_fleet_no_longer_than_anybody_would_wait_unawares(
    connect: Any, http: Any, pace: Pace, retry_after: str, hold: float
) -> None:
    client, _ = connect(http(429, Retry_After=retry_after))
    with pytest.raises(RateLimited):
        activate(client)
    assert hold - 1 < pace.read_hold_left() <= hold


def test_a_quota_that_is_used_up_says_nothing_of_the_rate(connect: Any, http: Any, pace: Pace) -> None:
    client, _ = connect(http(200, ACTIVE), http(429, Retry_After="86400"))
    activate(client)
    before = pace.read().search
    with pytest.raises(RateLimited):
        activate(client)
    assert pace.read().search == before


def test_what_became_of_a_slot_moves_the_pace(connect: Any, http: Any, pace: Pace) -> None:
    def told() -> tuple[int, float]:
        reading = pace.read()
        assert reading.search is not None
        return reading.answers, reading.search.rate

    # A rate that climbs is reviewed ten times a second, and each review begins a new count.
    pace.change(lambda search, _: replace(search, climb=0.0))
    client, _ = connect(http(200, ACTIVE), http(400, INVALID_OTP), http(500), NOT_FOUND, http(429, Retry_After="60"))
    activate(client)
    for refusal in (InvalidOtp, OutcomeUnknown, NotFound):
        with pytest.raises(refusal):
            activate(client)
    pace.wait()
    # Neither a proxy's answer nor a broken server's tells of the limit.
    answers, rate = told()
    assert answers == 3
    with pytest.raises(RateLimited):
        activate(client)
    assert told()[1] < rate


def test_a_retry_and_a_wait_for_a_slot_ask_for_a_permit(connect: Any, http: Any) -> None:
    class Stopped(Exception):
        pass

    def refuse() -> None:
        raise Stopped

    client, api = connect(FORBIDDEN)
    with pytest.raises(Stopped):
        activate(client, new_call(slot=SLOT, permit=refuse))
    assert len(api.received) == 1
    # A first try that has waited for its slot asks too: its batch may have been paused meanwhile.
    with pytest.raises(Stopped):
        activate(client, new_call(permit=refuse))
    assert len(api.received) == 1


def test_a_call_leaves_nothing_to_the_garbage_collector(connect: Any, http: Any) -> None:
    """It would stop all threads again and again, and for longer the more of them there are."""
    client, _ = connect(http(200, ACTIVE), http(200, ACTIVE), http(400, EXTRA_OTP_REQUIRED), http(200, ACTIVE))
    kinds = (httpx.Response, tenacity.Retrying, tenacity.RetryCallState)

    def alive() -> dict[int, object]:
        return {id(each): each for each in gc.get_objects() if type(each) in kinds}

    activate(client)
    gc.collect()
    gc.disable()
    try:
        before = alive()
        activate(client)
        try:
            activate(client)
        except ResyncRequired as failure:
            failure.with_traceback(None)
        activate(client)
        left = alive()
    finally:
        gc.enable()
    assert [type(left[each]) for each in left.keys() - before.keys()] == []


def test_nothing_that_is_printed_or_logged_shows_an_otp_or_an_access_token(
    connect: Any, http: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    client, _ = connect(http(401), http(400, INVALID_OTP))
    call = new_call()
    with pytest.raises(InvalidOtp) as caught:
        activate(client, call)
    texts = [caplog.text, str(caught.value), repr(caught.value), repr(call), repr(client)]
    texts += traceback.format_exception(caught.value)
    assert not any(word in text for text in texts for word in ("000634", "access-token-"))
