"""One call, from the wait for its slot to its answer: what is tried again, what holds the fleet, and what is learnt by
the way of PingOne's clock and of calls that are deprecated."""

import gc
import json
import logging
import traceback
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import datetime
from email.utils import formatdate
from itertools import count
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
import redis
import tenacity
from structlog.testing import capture_logs
from unit.pingone.conftest import granted, http, make_environment, reset

from worker.clocks import boot_time
from worker.pace.rate_groups import SlotTooFar
from worker.pace.slots import Pace, Slot
from worker.pingone import client as module
from worker.pingone.auth import AccessTokens
from worker.pingone.client import (
    Call,
    Client,
    PingOneClock,
    RetryPolicy,
    explain_hold,
    name_call,
    report_deprecation,
)
from worker.pingone.errors import (
    Answer,
    CredentialsRefused,
    Forbidden,
    InvalidOtp,
    LicenseExceeded,
    NotDelivered,
    NotFound,
    OtherDevice,
    OutcomeUnknown,
    PingOneError,
    ProtocolFault,
    RateLimited,
    Rejected,
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
    monkeypatch.setattr("worker.pingone.client.BACKOFF", tenacity.wait_none())


def activate(client: Client, call: Call | None = None, *, resync: bool = False, device_id: str = "0f0b7a52") -> Any:
    return client.activate("6f1d3c1e", device_id, OTP, resync=resync, call=call or new_call())


def read(client: Client, call: Call | None = None) -> Any:
    return client.read_device("6f1d3c1e", "0f0b7a52", call=call or new_call())


def test_an_activation_sends_the_otp_and_the_second_one_goes_with_a_resync(connect: Any) -> None:
    client, api = connect(EXTRA_OTP_REQUIRED, ACTIVE)
    call = new_call()
    with pytest.raises(ResyncRequired):
        activate(client, call)
    assert (call.requests, call.rate_limited) == (1, 0)
    assert activate(client, resync=True).is_active
    first, second = api.received
    assert first.method == "POST"
    assert first.target.endswith("/users/6f1d3c1e/devices/0f0b7a52")
    assert json.loads(first.body) == {"otp": "000634"}
    assert json.loads(second.body) == {"otp": "000634", "oathResync": True}
    assert first.headers["authorization"] == "Bearer access-token-1"
    assert first.headers["x-ping-external-session-id"] == "batch-1"
    assert first.headers["x-ping-external-transaction-id"] == "record-1"


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
    assert (call.requests, call.seconds) == (len(answers), seconds)


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
    assert (call.requests, call.rate_limited) == (2, 1)
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


def test_a_fleet_that_holds_for_long_sends_nothing(connect: Any, pace: Pace) -> None:
    client, api = connect(ACTIVE)
    pace.hold(60)
    with pytest.raises(SlotTooFar):
        activate(client)
    assert api.received == []


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
    with pytest.raises(SlotTooFar):
        read(client, call)
    # A second try needs a slot of its own.
    with pytest.raises(SlotTooFar):
        activate(client, new_call(slot=SLOT))
    assert len(api.received) == 2


def test_after_its_time_to_send_a_call_neither_goes_out_nor_counts_as_an_outage(connect: Any, pace: Pace) -> None:
    client, api = connect(ACTIVE)
    call = new_call(send_before=boot_time())
    with pytest.raises(TooLateToSend):
        activate(client, call)
    assert (api.received, call.requests, pace.read_hold_left()) == ([], 0, 0)


def test_what_became_of_a_slot_moves_the_pace(connect: Any, pace: Pace) -> None:
    # A rate that climbs is reviewed ten times a second, and each review begins a new count.
    pace.change(lambda search, _: replace(search, climb=0.0))
    limited = [http(429, Retry_After=after) for after in ("86400", "60")]
    client, _ = connect(ACTIVE, INVALID_OTP, http(500), NOT_FOUND, *limited)
    activate(client)
    for refusal in (InvalidOtp, OutcomeUnknown, NotFound):
        with pytest.raises(refusal):
            activate(client)
    pace.wait()
    # Neither a proxy's answer nor a broken server's tells of the limit.
    before = pace.read()
    assert before.answers == 3
    with pytest.raises(RateLimited):
        activate(client)
    # A quota that is used up says nothing of the rate.
    assert pace.read().search == before.search
    pace.lift()
    with pytest.raises(RateLimited):
        activate(client)
    assert pace.read().search.rate < before.search.rate


class Stopped(Exception):
    """What a permit raises."""


def refuse() -> None:
    raise Stopped


def test_a_retry_and_a_wait_for_a_slot_ask_for_a_permit(connect: Any) -> None:
    client, api = connect(FORBIDDEN)
    with pytest.raises(Stopped):
        activate(client, new_call(slot=SLOT, permit=refuse))
    assert len(api.received) == 1
    # A first try that has waited for its slot asks too: its batch may have been paused meanwhile.
    with pytest.raises(Stopped):
        activate(client, new_call(permit=refuse))
    assert len(api.received) == 1


def test_a_call_leaves_nothing_to_the_garbage_collector(connect: Any) -> None:
    """It would stop all threads again and again, and for longer the more of them there are."""
    client, _ = connect(ACTIVE, ACTIVE, EXTRA_OTP_REQUIRED, ACTIVE)
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


# How often and for how long a call is tried.


@dataclass
class Recorder:
    """Stands for the pace, the caller and the service: each try ends as the next of `endings` says, the last of them
    for ever."""

    endings: list[Exception | str]
    policy: dict[str, Any] = field(default_factory=dict)
    holds: list[tuple[float, str]] = field(default_factory=list)
    undelivered_for: list[tuple[float, str]] = field(default_factory=list)
    sleeps: list[float] = field(default_factory=list)
    story: list[str] = field(default_factory=list)

    def hold(self, seconds: float, why: str) -> None:
        self.holds += [(seconds, why)] if seconds > 0 else []

    def report_undelivered(self, seconds: float, why: str) -> None:
        self.undelivered_for.append((seconds, why))

    def run(self, **named: bool) -> str:
        policy = RetryPolicy(self, sleep=self.sleeps.append, **self.policy)  # type: ignore[arg-type]
        permit, renew = (lambda word=word: self.story.append(word) for word in ("permit", "renew"))
        return policy.run(self._attempt, permit=permit, renew=renew, **named)

    def fail(self, kind: type[Exception], **named: bool) -> list[str]:
        """Fail with this kind of error; what was done until then."""
        with pytest.raises(kind) as caught:
            self.run(**named)
        assert type(caught.value) is kind
        return self.story

    def _attempt(self) -> str:
        self.story.append("try")
        ending = self.endings.pop(0) if len(self.endings) > 1 else self.endings[0]
        if isinstance(ending, Exception):
            raise ending
        return ending


# Errors, and what else the policy is told.
PASSING = [
    (NotDelivered(), {}),
    (RateLimited(), {}),
    (RateLimited(), {"repeats_forbidden": False}),
    (Forbidden(), {}),
    (OutcomeUnknown(), {"repeats_lost": True}),
    (OutcomeUnknown(Answer(503)), {"repeats_lost": True}),
    (OtherDevice(Answer(200, correlation_id="3f0c8a52")), {"repeats_lost": True}),
]
LASTING = [
    (OutcomeUnknown(), {}),
    (ResyncRequired(), {}),
    (InvalidOtp(), {}),
    (Rejected(), {}),
    (NotFound(), {}),
    (LicenseExceeded(), {}),
    (ProtocolFault(), {}),
    (CredentialsRefused(), {}),
    (SlotTooFar(3), {}),
    (TooLateToSend(), {}),
    (Forbidden(), {"repeats_forbidden": False}),
]


@pytest.mark.parametrize(("error", "named"), PASSING)
def test_what_may_pass_is_tried_again_and_bounded_in_tries(error: PingOneError, named: dict[str, bool]) -> None:
    recorder = Recorder([error, error, "done"])
    assert recorder.run(**named) == "done"
    assert recorder.story == ["try", "permit", "try", "permit", "try"]
    assert len(recorder.sleeps) == 2
    assert Recorder([error]).fail(type(error), **named).count("try") == 4


@pytest.mark.parametrize(("error", "named"), LASTING)
def test_everything_else_is_raised_at_once(error: Exception, named: dict[str, bool]) -> None:
    recorder = Recorder([error])
    assert recorder.fail(type(error), **named) == ["try"]
    assert (recorder.holds, recorder.sleeps) == ([], [])


@pytest.mark.parametrize("error", [NotDelivered(), RateLimited(), Forbidden()])
def test_time_is_bounded(error: PingOneError) -> None:
    assert Recorder([error], policy={"seconds": 0}).fail(type(error)) == ["try"]


def test_a_lost_read_is_bounded_in_time_beyond_a_time_out_of_its_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder([OutcomeUnknown()])
    # Each answer is waited for as long as a call may take.
    clock = SimpleNamespace(monotonic=lambda: 20.0 * recorder.story.count("try"))
    monkeypatch.setattr(tenacity, "time", clock)
    assert recorder.fail(OutcomeUnknown, repeats_lost=True).count("try") == 3


@pytest.mark.parametrize("error", [RateLimited(retry_after=7.0), OutcomeUnknown(Answer(503), retry_after=7.0)])
def test_the_same_call_is_not_made_sooner_than_the_service_asks(error: PingOneError) -> None:
    recorder = Recorder([error, "done"])
    assert recorder.run(repeats_lost=True) == "done"
    assert recorder.sleeps == [7.0]


def test_pauses_grow_and_are_jittered() -> None:
    recorders = [Recorder([Forbidden()]) for _ in range(50)]
    for recorder in recorders:
        recorder.fail(Forbidden)
    first, _, third = zip(*(recorder.sleeps for recorder in recorders), strict=True)
    assert len(set(first)) > 10
    assert max(first) <= 0.5
    assert 0.5 < max(third) <= 2


def test_a_long_retry_after_ends_the_call() -> None:
    recorder = Recorder([RateLimited(retry_after=60.0)])
    assert (recorder.fail(RateLimited), recorder.sleeps) == (["try"], [])


def test_an_outage_is_told_after_the_last_try_only_and_lasts_as_long_as_the_token_endpoint_says() -> None:
    recorder = Recorder([NotDelivered(), "done"])
    recorder.run()
    assert recorder.undelivered_for == []
    recorder = Recorder([NotDelivered()], policy={"outage_hold": 7.0})
    recorder.fail(NotDelivered)
    assert (recorder.undelivered_for, recorder.holds) == ([(7.0, "PingOne cannot be reached")], [])
    recorder = Recorder([NotDelivered(Answer(429), retry_after=30.0)])
    assert recorder.fail(NotDelivered) == ["try"]
    assert recorder.undelivered_for == [(30.0, "the token endpoint answered 429 and asks for 30 s")]


def test_a_refused_access_token_is_renewed_at_once_and_once_in_all_tries() -> None:
    recorder = Recorder([Unauthorized(), Forbidden(), Unauthorized(), "never reached"])
    assert recorder.fail(Unauthorized) == ["try", "renew", "permit", "try", "permit", "try"]
    assert len(recorder.sleeps) == 1


@pytest.mark.parametrize(
    ("failure", "why"),
    [
        (OutcomeUnknown(Answer(503), 119.2), "PingOne answered 503 and asks for 120 s"),
        (NotDelivered(Answer(message="connection refused")), "PingOne cannot be reached"),
    ],
)
def test_a_hold_says_who_asked_for_it(failure: NotDelivered | OutcomeUnknown | RateLimited, why: str) -> None:
    assert explain_hold(failure) == why


# PingOne's clock: between which two moments its time lies, by the `Date` of its answers.

# Unix time of PingOne's clock when ours stands at 0.
AHEAD = 1_800_000_000.4


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> PingOneClock:
    monkeypatch.setattr(module, "boot_time", lambda: 100.0)
    return PingOneClock()


def date(at: float, *, ahead: float = AHEAD) -> datetime | None:
    """The date of an answer that PingOne gave when our clock stood at this time."""
    return open_envelope(200, {"Date": formatdate(int(at + ahead), usegmt=True)}, b"").date


def test_an_answer_leaves_a_second_and_the_time_that_it_took_and_several_leave_less(clock: PingOneClock) -> None:
    with pytest.raises(ValueError, match="no answer"):
        clock.now()
    for wrong in ({}, {"date": ""}, {"date": "yesterday"}, {"date": "Thu, 99 Foo 2026"}):
        clock.learn(open_envelope(200, wrong, b"").date, sent=1.0, received=2.0)
    assert not clock.is_known
    clock.learn(date(10.1), sent=10.0, received=10.2)
    earliest, latest = clock.now()
    assert clock.is_known
    assert earliest <= 100.0 + AHEAD <= latest
    assert latest - earliest == pytest.approx(1.2)
    for hundredth in range(100):
        at = 10.0 + hundredth * 1.01
        clock.learn(date(at), sent=at - 0.05, received=at + 0.05)
    earliest, latest = clock.now()
    assert earliest <= 100.0 + AHEAD <= latest
    assert latest - earliest < 0.15


def test_a_clock_that_was_set_is_learnt_anew(clock: PingOneClock) -> None:
    clock.learn(date(10.1), sent=10.0, received=10.2)
    clock.learn(date(20.1, ahead=AHEAD - 3600), sent=20.0, received=20.2)
    earliest, latest = clock.now()
    assert earliest <= 100.0 + AHEAD - 3600 <= latest


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
    deprecated, soon, fine = (
        open_envelope(200, told, b"") for told in (DEPRECATED, {"api-deprecation-date": "soon"}, {})
    )
    with capture_logs() as lines:
        for user in ("6f1d", "7a1d"):
            report_deprecation(Request("GET", f"{BASE}/users/{user}/devices", {}), deprecated)
            report_deprecation(Request("POST", f"{BASE}/users/{user}/devices", {}), soon)
            report_deprecation(Request("GET", f"{BASE}/oathTokens", {}), fine)
    told = [(line["event"], line["call"], line["date"], line["message"]) for line in lines]
    assert told == [
        ("pingone_call_deprecated", "GET /users/{id}/devices", "2027-01-01", "Use [2J /v2 instead"),
        ("pingone_call_deprecated", "POST /users/{id}/devices", "soon", None),
    ]
    # By every client of the process.
    answer = http(200, b'{"status": "ACTIVE"}', Api_Deprecation_Date="2027-01-01")
    with capture_logs() as lines:
        for client in (connect(answer)[0], connect(answer)[0]):
            read(client)
    assert [line["call"] for line in lines] == ["GET /users/{id}/devices/{id}"]
