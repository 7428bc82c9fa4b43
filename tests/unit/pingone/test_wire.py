from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support.data.recorded_answers import names_of, opened, recorded

from worker.config.environment import Environment
from worker.pingone.auth import build_access_token_request, parse_access_token
from worker.pingone.devices import Device, build_activation_request, parse_activation, parse_device
from worker.pingone.errors import (
    CredentialsRefused,
    Forbidden,
    InvalidOtp,
    NotDelivered,
    NotFound,
    OtherDevice,
    OutcomeUnknown,
    PingOneError,
    ProtocolFault,
    RateLimited,
    Rejected,
    ResyncRequired,
    Unauthorized,
)
from worker.pingone.wire import LONGEST_RETRY_AFTER, Request, authorize, make_printable, open_envelope
from worker.vault.otps import MASK, Otp

MakeEnvironment = Callable[..., Environment]


REFUSED_ACTIVATIONS: dict[str, type[PingOneError]] = {
    "still_waiting": OutcomeUnknown,
    "another_device": OtherDevice,
    "another_user": OtherDevice,
    "another_device_without_status": OtherDevice,
    "without_status": OutcomeUnknown,
    "status_of_a_wrong_type": OutcomeUnknown,
    "no_content": OutcomeUnknown,
    "accepted": OutcomeUnknown,
    "extra_otp_required": ResyncRequired,
    "extra_otp_required_among_others": ResyncRequired,
    "extra_otp_required_under_another_status": ResyncRequired,
    "invalid_otp": InvalidOtp,
    "invalid_otp_echoed": InvalidOtp,
    "account_not_usable": Rejected,
    "device_limit": Rejected,
    "unknown_code": Rejected,
    "unknown_envelope": Rejected,
    "invalid_access_token": Unauthorized,
    "unauthorized_by_gateway": Unauthorized,
    "invalid_access_token_as_403": Unauthorized,
    "insufficient_permissions": Forbidden,
    "license_exceeded": Forbidden,
    "forbidden_by_proxy": OutcomeUnknown,
    "forbidden_by_gateway": OutcomeUnknown,
    "forbidden_without_correlation_id": Forbidden,
    "access_failed_as_400": Forbidden,
    "not_found": NotFound,
    "not_found_by_proxy": OutcomeUnknown,
    "not_found_by_gateway": OutcomeUnknown,
    "not_found_in_a_list": OutcomeUnknown,
    "not_found_without_correlation_id": NotFound,
    "not_found_without_a_body": NotFound,
    "not_found_with_an_id_alone": NotFound,
    "not_found_as_410": NotFound,
    "wrong_method": ProtocolFault,
    "wrong_media_type": ProtocolFault,
    "rate_limited_for_seconds": RateLimited,
    "rate_limited_until_a_date": RateLimited,
    "rate_limited_until_a_past_date": RateLimited,
    "rate_limited_for_ages": RateLimited,
    "rate_limited_for_nonsense": RateLimited,
    "rate_limited_by_proxy": RateLimited,
    "rate_limited_as_400": RateLimited,
    "quota_exceeded": RateLimited,
    "quota_exceeded_in_milliseconds": RateLimited,
    "quota_exceeded_at_nonsense": RateLimited,
    "quota_exceeded_for_ages": RateLimited,
    "quota_exceeded_until_a_past_time": RateLimited,
    "quota_exceeded_with_a_short_retry": RateLimited,
    "request_timeout": OutcomeUnknown,
    "unexpected_error": OutcomeUnknown,
    "bad_gateway": OutcomeUnknown,
    "unavailable": OutcomeUnknown,
    "rate_limited_as_503": OutcomeUnknown,
    "redirect": OutcomeUnknown,
    "active_in_a_500": OutcomeUnknown,
    "empty_200": OutcomeUnknown,
    "empty_400": OutcomeUnknown,
    "captive_portal": OutcomeUnknown,
    "half_a_body": OutcomeUnknown,
    "not_utf8": OutcomeUnknown,
    "deep_json": OutcomeUnknown,
    "a_list": OutcomeUnknown,
    "endless_number": OutcomeUnknown,
    "wrong_types": Rejected,
    "wrong_types_in_details": InvalidOtp,
    "lone_surrogates_and_nul": Rejected,
    "secrets_in_message": Rejected,
}


# Of the recorded answers.
IDS = {"user_id": "6f1d3c1e-2b7a-4f55-9d0c-3e8a1b6c5d42", "device_id": "0f0b7a52-1c5e-4d0e-8c55-9a0b4d1f7e21"}


def activated(status: int, headers: dict[str, str], body: bytes, **ids: str) -> Device:
    return parse_activation(open_envelope(status, headers, body), **IDS | ids)


def read(status: int, headers: dict[str, str], body: bytes, **ids: str) -> Device:
    return parse_device(open_envelope(status, headers, body), **IDS | ids)


def choose_error(name: str) -> PingOneError:
    with pytest.raises(PingOneError) as caught:
        activated(*recorded(f"activation/{name}"))
    return caught.value


def test_an_activation_answers_with_the_active_device() -> None:
    device = activated(*recorded("activation/activated"))
    assert device.is_active
    assert device.answer.status == 200
    assert device.answer.correlation_id == "3f0c8a52-6b1e-4f6d-9a34-0d1f5a7c2b91"
    # The body's id is the device's here, not an error's.
    assert device.answer.error_id is None


@pytest.mark.parametrize(("name", "error"), REFUSED_ACTIVATIONS.items())
def test_every_recorded_refusal_becomes_its_error(name: str, error: type[PingOneError]) -> None:
    assert type(choose_error(name)) is error


@pytest.mark.parametrize("parse", [activated, read])
def test_ids_are_the_same_in_either_case_and_may_be_left_out(parse: Callable[..., Device]) -> None:
    answer = recorded("activation/activated")
    assert parse(*answer, **{name: value.upper() for name, value in IDS.items()}).is_active
    for body in (b'{"status": "ACTIVE"}', b'{"status": "ACTIVE", "id": null, "user": []}'):
        assert parse(200, {}, body).is_active


def test_an_answer_about_another_device_is_told_with_what_finds_it() -> None:
    answer = choose_error("another_device").answer
    assert (answer.status, answer.message) == (200, "the answer is about another device")
    assert answer.correlation_id == "3f0c8a52-6b1e-4f6d-9a34-0d1f5a7c2b91"


@pytest.mark.parametrize(
    ("name", "is_over"),
    {
        "without_status": True,
        "still_waiting": True,
        "no_content": True,
        # Not PingOne's; not done; not of this request; not 2xx.
        "captive_portal": False,
        "accepted": False,
        "another_device_without_status": False,
        "unexpected_error": False,
    }.items(),
)
def test_only_a_complete_answer_of_pingones_own_says_that_it_is_done(name: str, is_over: bool) -> None:
    error = choose_error(name)
    assert isinstance(error, OutcomeUnknown)
    assert error.is_over == is_over


def test_no_recorded_activation_is_left_out() -> None:
    assert names_of("activation") == {*REFUSED_ACTIVATIONS, "activated"}


def test_a_refusal_carries_the_codes_and_ids_that_a_person_asks_for() -> None:
    answer = choose_error("extra_otp_required").answer
    assert answer.status == 400
    assert answer.code == "INVALID_DATA"
    assert answer.detail_code == "EXTRA_OTP_REQUIRED"
    assert answer.error_id == "b8ee5b23-6a3c-4f0b-8f2e-3c1d5a9e7f10"
    assert answer.correlation_id == "3f0c8a52-6b1e-4f6d-9a34-0d1f5a7c2b91"
    assert answer.message == "An extra OTP is required"


def test_the_deciding_detail_is_told_wherever_it_stands() -> None:
    assert choose_error("extra_otp_required_among_others").answer.detail_code == "EXTRA_OTP_REQUIRED"
    assert choose_error("wrong_types_in_details").answer.detail_code == "INVALID_OTP"
    assert choose_error("account_not_usable").answer.detail_code == "ACCOUNT_NOT_USABLE"


def test_a_verdict_counts_as_the_top_code_too() -> None:
    with pytest.raises(ResyncRequired):
        activated(400, {}, b'{"code": "EXTRA_OTP_REQUIRED"}')


def test_wrong_types_leave_blanks() -> None:
    answer = choose_error("wrong_types").answer
    assert (answer.code, answer.detail_code, answer.error_id, answer.message) == (None, None, None, None)


@pytest.mark.parametrize(
    ("name", "seconds"),
    {
        "rate_limited_for_seconds": 3,
        "rate_limited_until_a_date": 90,
        "rate_limited_until_a_past_date": 0,
        "rate_limited_for_ages": LONGEST_RETRY_AFTER,
        "rate_limited_for_nonsense": None,
        "rate_limited_by_proxy": None,
        "quota_exceeded": 3600,
        "quota_exceeded_in_milliseconds": 3600,
        "quota_exceeded_at_nonsense": 7,
        "quota_exceeded_for_ages": LONGEST_RETRY_AFTER,
        "quota_exceeded_until_a_past_time": 0,
        # Whoever comes back sooner is refused again.
        "quota_exceeded_with_a_short_retry": 3600,
        "unavailable": 120,
        "rate_limited_as_503": 9,
        "redirect": None,
    }.items(),
)
def test_retry_after_is_understood_in_each_of_its_forms(name: str, seconds: float | None) -> None:
    error = choose_error(name)
    assert isinstance(error, RateLimited | OutcomeUnknown)
    assert error.retry_after == seconds


def test_a_date_to_retry_after_is_measured_by_our_clock_where_the_answer_has_no_date() -> None:
    headers = {"Retry-After": "Fri, 01 Jan 2100 00:00:00 GMT"}
    with pytest.raises(RateLimited) as caught:
        activated(429, headers, b"")
    assert caught.value.retry_after == LONGEST_RETRY_AFTER


def test_the_reset_of_a_quota_is_told() -> None:
    reset_at = datetime(2026, 3, 3, 10, tzinfo=UTC)
    for name in ("quota_exceeded", "quota_exceeded_in_milliseconds"):
        error = choose_error(name)
        assert isinstance(error, RateLimited)
        assert error.quota_reset_at == reset_at


def test_an_otp_or_access_token_that_the_service_echoes_is_masked() -> None:
    echoed = choose_error("invalid_otp_echoed").answer.message
    assert echoed == f"OTP {MASK} is invalid; expected one of {MASK} [31m,{MASK}"
    leaked = choose_error("secrets_in_message").answer.message
    assert leaked == f"Bearer {MASK} was sent with {MASK} for 6f1d3c1e-2b7a-4f55-9d0c-3e8a1b6c5d42"


def test_text_that_a_database_would_refuse_is_cleaned() -> None:
    answer = choose_error("lone_surrogates_and_nul").answer
    assert answer.error_id is None
    assert answer.message == "bad text here"


def test_a_body_that_is_compressed_unasked_is_not_read_and_told() -> None:
    with pytest.raises(OutcomeUnknown, match="HTTP 200, the body is compressed, perhaps by a proxy"):
        activated(200, {"Content-Encoding": "gzip"}, gzip.compress(b'{"status": "ACTIVE"}'))
    with pytest.raises(OutcomeUnknown) as caught:
        activated(200, {"Content-Encoding": "identity"}, b"no JSON")
    assert "compressed" not in str(caught.value)


def test_long_text_is_cut_and_a_cut_otp_does_not_show() -> None:
    assert make_printable("x y " * 1000) == ("x y " * 75).strip()
    padding = "y " * 149
    assert "308" not in str(make_printable(f"{padding}308714 and more"))
    assert "308" not in str(make_printable("y" + " " * 2996 + "308714"))


def test_a_device_is_read_as_it_is() -> None:
    assert read(*recorded("device/active")).is_active
    waiting = read(*recorded("device/waiting"))
    assert (waiting.status, waiting.is_active) == ("ACTIVATION_REQUIRED", False)
    assert (waiting.is_locked, waiting.is_blocked) == (False, False)
    locked = read(*recorded("device/locked"))
    assert (locked.is_locked, locked.is_blocked) == (True, False)
    blocked = read(*recorded("device/blocked"))
    assert (blocked.is_locked, blocked.is_blocked) == (False, True)
    assert read(*recorded("device/of_unknown_status")).status == "ASLEEP"
    assert read(*recorded("device/in_small_letters")).is_active
    odd = read(*recorded("device/wrong_types"))
    assert (odd.is_active, odd.is_locked, odd.is_blocked) == (True, False, False)


@pytest.mark.parametrize(
    ("date", "created_at", "age"),
    [
        ("Mon, 02 Mar 2026 09:10:00 GMT", "2026-03-02T09:00:00.000Z", timedelta(minutes=10)),
        ("Mon, 02 Mar 2026 09:10:00 GMT", "2026-03-02T09:10:00.500Z", -timedelta(seconds=0.5)),
        ("Mon, 02 Mar 2026 09:10:00 GMT", None, None),
        ("yesterday", "2026-03-02T09:00:00.000Z", None),
    ],
)
def test_a_device_is_as_old_as_the_answers_own_clock_says(date: str, created_at: object, age: object) -> None:
    body = json.dumps({"status": "ACTIVE", "createdAt": created_at}).encode()
    assert read(200, {"Date": date}, body).age == age


@pytest.mark.parametrize(
    ("name", "error"),
    {
        "without_status": OutcomeUnknown,
        "status_is_prose": OutcomeUnknown,
        "not_found": NotFound,
        "not_found_by_proxy": OutcomeUnknown,
        "forbidden_by_proxy": OutcomeUnknown,
        "another_device": OtherDevice,
        "another_user": OtherDevice,
        "unavailable": OutcomeUnknown,
    }.items(),
)
def test_a_read_without_a_readable_device_is_refused(name: str, error: type[PingOneError]) -> None:
    with pytest.raises(error):
        read(*recorded(f"device/{name}"))


@pytest.mark.parametrize(
    ("name", "expires_in"),
    {
        "granted": 3600,
        "life_as_text": 1800,
        "life_missing": 300,
        "life_negative": 300,
        "life_not_a_number": 300,
        "life_true": 300,
        "life_endless": 86400,
    }.items(),
)
def test_an_access_token_is_granted_for_a_while(name: str, expires_in: float) -> None:
    access_token, seconds = parse_access_token(opened(f"access_token/{name}"))
    assert access_token.startswith("eyJ")
    assert seconds == expires_in


@pytest.mark.parametrize(
    ("name", "error"),
    {
        "smuggled_header": NotDelivered,
        "access_token_of_a_wrong_type": NotDelivered,
        "captive_portal": NotDelivered,
        "invalid_client": CredentialsRefused,
        "unsupported_client_auth": CredentialsRefused,
        "forbidden": CredentialsRefused,
        "no_such_environment": CredentialsRefused,
        "rate_limited": NotDelivered,
        "unavailable": NotDelivered,
        "redirect": NotDelivered,
        "request_timeout": NotDelivered,
    }.items(),
)
def test_the_token_endpoint_refuses_or_passes_nothing_on(name: str, error: type[PingOneError]) -> None:
    with pytest.raises(error) as caught:
        parse_access_token(opened(f"access_token/{name}"))
    assert "eyJ" not in str(caught.value) + repr(caught.value)


def test_the_token_endpoints_own_words_are_told() -> None:
    with pytest.raises(CredentialsRefused) as caught:
        parse_access_token(opened("access_token/invalid_client"))
    assert caught.value.answer.code == "invalid_client"
    assert "Invalid client credentials" in str(caught.value)


def test_the_token_endpoints_retry_after_is_kept() -> None:
    with pytest.raises(NotDelivered) as caught:
        parse_access_token(opened("access_token/rate_limited"))
    assert caught.value.retry_after == 30


def activation(environment: Environment, **changes: Any) -> Request:
    arguments: dict[str, Any] = {
        "user_id": "6f1d3c1e",
        "device_id": "0f0b7a52",
        "otp": Otp("000634"),
        "resync": False,
    }
    return build_activation_request(environment, **arguments | changes)


def test_an_activation_is_told_by_its_media_type_and_keeps_leading_zeros(
    make_environment: MakeEnvironment,
) -> None:
    environment = make_environment()
    request = activation(environment)
    assert request.method == "POST"
    assert request.url == (
        f"{environment.api_url}/environments/{environment.environment_id}/users/6f1d3c1e/devices/0f0b7a52"
    )
    assert request.headers["Content-Type"] == "application/vnd.pingidentity.device.activate+json"
    assert json.loads(request.content) == {"otp": "000634"}


def test_a_resync_is_asked_for_in_the_same_request(make_environment: MakeEnvironment) -> None:
    request = activation(make_environment(), resync=True)
    assert json.loads(request.content) == {"otp": "000634", "oathResync": True}


def test_ids_for_the_audit_log_fit_into_a_header(make_environment: MakeEnvironment) -> None:
    ids = {"session_id": "März\r\nX-Evil: 1", "transaction_id": "r" * 300}
    request = authorize(activation(make_environment()), "made-up-access-token", **ids)
    assert request.headers["X-Ping-External-Session-Id"] == "M-rz--X-Evil:-1"
    assert request.headers["X-Ping-External-Transaction-Id"] == "r" * 100


def test_an_id_cannot_lead_to_another_path(make_environment: MakeEnvironment) -> None:
    request = activation(make_environment(), user_id="../../x?y#z", device_id="a/b")
    assert request.url.endswith("/users/..%2F..%2Fx%3Fy%23z/devices/a%2Fb")
    for bad in ("", ".", ".."):
        with pytest.raises(ValueError, match="another path"):
            activation(make_environment(), device_id=bad)


def test_no_repr_of_a_request_shows_what_it_carries(make_environment: MakeEnvironment) -> None:
    request = authorize(activation(make_environment()), "made-up-access-token", session_id="s", transaction_id="t")
    assert request.headers["Authorization"] == "Bearer made-up-access-token"
    assert "000634" not in repr(request)
    assert "access-token" not in repr(request)


def test_client_id_and_secret_are_form_encoded_inside_basic(make_environment: MakeEnvironment) -> None:
    environment = make_environment(client_id="id:with colon", client_secret="%+ü:")
    request = build_access_token_request(environment)
    assert request.url == environment.token_url
    scheme, _, credentials = request.headers["Authorization"].partition(" ")
    assert scheme == "Basic"
    assert base64.b64decode(credentials) == b"id%3Awith+colon:%25%2B%C3%BC%3A"
    assert parse_qs(request.content.decode()) == {"grant_type": ["client_credentials"]}
    assert "%25" not in repr(request)


def test_client_id_and_secret_go_into_the_form_where_the_application_wants_them_there(
    make_environment: MakeEnvironment,
) -> None:
    request = build_access_token_request(make_environment(client_auth="post", client_secret="%+ü:"))
    assert "Authorization" not in request.headers
    assert parse_qs(request.content.decode()) == {
        "grant_type": ["client_credentials"],
        "client_id": ["made-up-client"],
        "client_secret": ["%+ü:"],
    }


NAMES = st.sampled_from(["Retry-After", "date", "Correlation-Id", "content-type", "DATE", ""]) | st.text(max_size=10)
VALUES = (
    st.text(max_size=40)
    | st.sampled_from(["0", "-1", "1e9", "9" * 15, "Tue, 03 Mar 2026 09:00:00 GMT", "Mon, 32 Foo 0 99:99:99 -9999"])
    | st.datetimes().map(lambda moment: moment.strftime("%a, %d %b %Y %H:%M:%S GMT"))
)
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["ACTIVE", "EXTRA_OTP_REQUIRED", "INVALID_OTP", "LOCKED", "0001-01-01T00:00:00+23:59"])
)
KEYS = st.sampled_from(
    [
        "id",
        "code",
        "details",
        "message",
        "status",
        "lock",
        "block",
        "innerError",
        "quotaResetTime",
        "access_token",
        "expires_in",
        "error",
        "error_description",
    ]
)
JSON = st.recursive(
    LEAVES,
    lambda children: st.lists(children, max_size=4) | st.dictionaries(KEYS, children, max_size=6),
    max_leaves=20,
)
OBJECTS = st.dictionaries(KEYS, JSON, max_size=6).map(lambda value: json.dumps(value).encode())
BODIES = OBJECTS | JSON.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=60)
STATUSES = st.sampled_from([200, 201, 302, 400, 401, 403, 404, 429, 500, 503]) | st.integers(-1, 1000)
# A busy machine is no fault of the parser, nor a checkout that cannot be written.
ANSWERS = given(STATUSES, st.dictionaries(NAMES, VALUES, max_size=4), BODIES)


def told(error: PingOneError) -> str:
    """Return what the error tells, which must be fit for a log and a database."""
    text = f"{error} {error!r}"
    assert "\0" not in text
    assert len(text.encode()) < 4000
    return text


@ANSWERS
@example(200, {}, b"\xef\xbb\xbf{}")
@example(400, {}, b"[" * 100_000)
@example(400, {}, b'{"a":' * 100_000)
@example(429, {"Retry-After": "Sun, 31 Dec 9999 23:59:59 -2359", "Date": "Mon, 01 Jan 0001 00:00:00 +2359"}, b"")
@example(429, {}, b'{"details": [{"innerError": {"quotaResetTime": "0001-01-01T00:00:00+23:59"}}]}')
@example(429, {}, b'{"details": [{"innerError": {"quotaResetTime": 1' + b"0" * 400 + b"}}]}")
def test_any_answer_to_an_activation_is_a_device_or_a_pingone_error(
    status: int, headers: dict[str, str], body: bytes
) -> None:
    try:
        device = activated(status, headers, body)
    except PingOneError as error:
        told(error)
    else:
        assert device.is_active
        assert 200 <= status < 300


@ANSWERS
def test_any_answer_to_a_read_is_a_device_or_a_pingone_error(status: int, headers: dict[str, str], body: bytes) -> None:
    try:
        device = read(status, headers, body)
    except PingOneError as error:
        told(error)
    else:
        assert isinstance(device, Device)
        assert device.status


@ANSWERS
@example(200, {}, b'{"access_token": "a", "expires_in": 1' + b"0" * 400 + b"}")
def test_any_answer_to_a_token_request_is_an_access_token_or_a_pingone_error(
    status: int, headers: dict[str, str], body: bytes
) -> None:
    try:
        access_token, expires_in = parse_access_token(open_envelope(status, headers, body))
    except (NotDelivered, CredentialsRefused) as error:
        told(error)
    else:
        assert access_token.isascii()
        assert 0 < expires_in <= 86400


@given(
    st.text(alphabet="0123456789", min_size=6, max_size=8),
    st.text(alphabet="abcXYZ .,:;=-\n", max_size=30),
    st.text(alphabet="abcXYZ .,:;=-\n", max_size=400),
)
def test_no_otp_gets_through_a_message(otp: str, before: str, after: str) -> None:
    body = json.dumps({"code": "REQUEST_FAILED", "message": before + otp + after}).encode()
    with pytest.raises(Rejected) as caught:
        activated(400, {}, body)
    assert otp not in told(caught.value)
