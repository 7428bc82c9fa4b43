"""What is sent, and where; what is read of an answer stands in test_answers.py."""

import gzip
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from support.data.recorded_answers import opened
from unit.pingone.conftest import make_environment

from worker.config.environment import Environment
from worker.config.settings import Tuning
from worker.pingone.devices import (
    UserAttribute,
    build_activation_request,
    build_pairing_request,
    build_unpair_request,
    build_users_url,
    parse_activation,
)
from worker.pingone.errors import OutcomeUnknown, PingOneError
from worker.pingone.inventory import NewToken, build_import_request, build_revocation_request
from worker.pingone.wire import Request, authorize, build_url, is_in_environment, make_printable, open_envelope
from worker.vault.otps import MASK, Otp, Secret, Seed

ENVIRONMENT = make_environment()
ID = ENVIRONMENT.environment_id
OURS = f"https://api.pingone.eu/v1/environments/{ID}"
MEDIA = "application/vnd.pingidentity."
USER_ID, DEVICE_ID = "6f1d3c1e-2b7a-4f55-9d0c-3e8a1b6c5d42", "0f0b7a52-1c5e-4d0e-8c55-9a0b4d1f7e21"
HOTP = NewToken(
    serial_number="2308734700388",
    seed=Seed(secret=Secret(b"12345678901234567890"), counter=7),
    row_number=2,
)
TOTP = NewToken(
    serial_number="2308734700389",
    seed=Seed(secret=Secret(bytes([0, 171, 205])), otp_type="totp", digits=8, hash_algorithm="sha256", time_step=60),
    row_number=3,
)
SHA512 = replace(TOTP, seed=replace(TOTP.seed, hash_algorithm="sha512"))
HOTP_FIELDS = {
    "serialNumber": "2308734700388",
    "secret": "3132333435363738393031323334353637383930",
    "type": "HOTP",
    "otpLength": 6,
    "hashAlgorithm": "HmacSHA1",
    "hotp": {"counter": 7},
    "rowNumber": 2,
}
TOTP_FIELDS = {
    "serialNumber": "2308734700389",
    "secret": "00ABCD",
    "type": "TOTP",
    "otpLength": 8,
    "hashAlgorithm": "HmacSHA256",
    "totp": {"timeStep": 60},
    "rowNumber": 3,
}
REVOCATION = {"type": "REVOKE_OATH_TOKENS", "async": True, "forceUnpair": False, "tokenIds": ["7a1d", "7a1e"]}
PAIRING = {"type": "OATH_TOKEN", "serialNumber": "2308734700388"}

Build = Callable[[Environment], Request]


def activation(*, user_id: str = USER_ID, device_id: str = DEVICE_ID, resync: bool = False) -> Request:
    return build_activation_request(ENVIRONMENT, user_id, device_id, Otp("000634"), resync=resync)


def pairing(status: str | None = None, user_id: str = USER_ID, serial_number: str = "2308734700388") -> Request:
    return build_pairing_request(ENVIRONMENT, user_id, serial_number, status=status)


@pytest.mark.parametrize(
    ("request_", "path", "media_type", "fields"),
    [
        # Leading zeros count.
        (activation(), f"users/{USER_ID}/devices/{DEVICE_ID}", f"{MEDIA}device.activate+json", {"otp": "000634"}),
        (
            activation(resync=True),
            f"users/{USER_ID}/devices/{DEVICE_ID}",
            f"{MEDIA}device.activate+json",
            {"otp": "000634", "oathResync": True},
        ),
        (pairing(), f"users/{USER_ID}/devices", "application/json", PAIRING),
        (pairing("ACTIVE"), f"users/{USER_ID}/devices", "application/json", PAIRING | {"status": "ACTIVE"}),
        (
            build_import_request(ENVIRONMENT, [HOTP, TOTP]),
            "oathJobs",
            f"{MEDIA}job.oathtokens.create+json",
            {"type": "CREATE_OATH_TOKENS", "tokens": [HOTP_FIELDS, TOTP_FIELDS]},
        ),
        (
            build_import_request(ENVIRONMENT, [SHA512]),
            "oathJobs",
            f"{MEDIA}job.oathtokens.create+json",
            {"type": "CREATE_OATH_TOKENS", "tokens": [TOTP_FIELDS | {"hashAlgorithm": "HmacSHA512"}]},
        ),
        # None is unpaired by it.
        (
            build_revocation_request(ENVIRONMENT, ["7a1d", "7a1e"]),
            "oathJobs",
            f"{MEDIA}job.oathtokens.revoke+json",
            REVOCATION,
        ),
    ],
)
def test_an_operation_is_told_by_its_address_and_media_type_and_no_repr_shows_what_it_carries(
    request_: Request, path: str, media_type: str, fields: dict[str, Any]
) -> None:
    assert (request_.method, request_.url) == ("POST", f"{OURS}/{path}")
    assert request_.headers == {"Content-Type": media_type}
    assert json.loads(request_.content) == fields
    sent = authorize(request_, "made-up-access-token", session_id="s", transaction_id="t")
    assert sent.headers["Authorization"] == "Bearer made-up-access-token"
    assert not any(word in f"{sent!r} {HOTP!r}" for word in ("000634", "access-token", "31323334", "12345678"))


def test_a_device_is_removed_by_its_own_address_without_a_body() -> None:
    assert build_unpair_request(ENVIRONMENT, USER_ID, DEVICE_ID) == Request(
        "DELETE", f"{OURS}/users/{USER_ID}/devices/{DEVICE_ID}", {}, b""
    )


@pytest.mark.parametrize(
    "wrong",
    [
        *("", " ", "\n", "\0", "\u200b", ".", "..", "/", "a/", "/a", "a/..", "../devices", "%2e", "%2F", ";a=b", "a;b"),
        *("?x=1", "#a", "a\\..", "\u2024\u2024", "\uff0e", "é", "a b", "a\n", "a" * 101),
    ],
)
def test_nothing_is_removed_by_an_id_that_may_lead_to_all_devices(wrong: str) -> None:
    for ids in ((USER_ID, wrong), (wrong, DEVICE_ID)):
        with pytest.raises(ValueError, match="an id is empty, or would lead to another path"):
            build_unpair_request(ENVIRONMENT, *ids)


@pytest.mark.parametrize(
    ("build", "complaint"),
    [
        (lambda: pairing(user_id=""), "an id is empty"),
        (lambda: pairing(serial_number=""), "empty serial number"),
        (lambda: build_import_request(ENVIRONMENT, []), "no token"),
        (lambda: build_import_request(ENVIRONMENT, [HOTP, replace(TOTP, serial_number="")]), "without a name"),
        (lambda: build_import_request(ENVIRONMENT, [HOTP, HOTP]), "twice"),
        (lambda: build_revocation_request(ENVIRONMENT, []), "no token"),
        (lambda: build_revocation_request(ENVIRONMENT, ["7a1d", ""]), "without a name"),
        (lambda: build_revocation_request(ENVIRONMENT, ["7a1d", "7a1d"]), "twice"),
        # It would list everybody.
        (lambda: build_users_url(ENVIRONMENT, UserAttribute.USERNAME, []), "no names"),
        (lambda: build_users_url(ENVIRONMENT, UserAttribute.USERNAME, ["ada", ""]), "empty name"),
        (lambda: activation(device_id=""), "another path"),
        (lambda: activation(device_id="."), "another path"),
        (lambda: activation(device_id=".."), "another path"),
    ],
)
def test_what_names_nothing_or_one_thing_twice_makes_no_request(build: Callable[[], object], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        build()


def test_an_id_cannot_lead_to_another_path() -> None:
    assert activation(user_id="../../x?y#z", device_id="a/b").url == (f"{OURS}/users/..%2F..%2Fx%3Fy%23z/devices/a%2Fb")
    url = build_url(ENVIRONMENT, "users", "a/b?c", query={"filter": 'username eq "x&y=1#"', "limit": "2"})
    assert url == f"{OURS}/users/a%2Fb%3Fc?filter=username%20eq%20%22x%26y%3D1%23%22&limit=2"


def test_ids_for_the_audit_log_fit_into_a_header() -> None:
    ids = {"session_id": "März\r\nX-Evil: 1", "transaction_id": "r" * 300}
    headers = authorize(activation(), "made-up-access-token", **ids).headers
    assert headers["X-Ping-External-Session-Id"] == "M-rz--X-Evil:-1"
    assert headers["X-Ping-External-Transaction-Id"] == "r" * 100


@pytest.mark.parametrize(
    ("attribute", "names", "query"),
    [
        (
            UserAttribute.EMAIL,
            ["a@x.org", "b@x.org"],
            "(email%20eq%20%22a@x.org%22)%20or%20(email%20eq%20%22b@x.org%22)",
        ),
        (UserAttribute.EXTERNAL_ID, ["E-1"], "(externalId%20eq%20%22E-1%22)"),
        # A name cannot end its term.
        (
            UserAttribute.USERNAME,
            ['a" or username sw "'],
            "(username%20eq%20%22a%5C%22%20or%20username%20sw%20%5C%22%22)",
        ),
        (UserAttribute.USERNAME, ["DOMAIN\\ada"], "(username%20eq%20%22DOMAIN%5C%5Cada%22)"),
        (UserAttribute.USERNAME, ["a+b&c=d#e f%20"], "(username%20eq%20%22a%2Bb%26c%3Dd%23e%20f%2520%22)"),
        (UserAttribute.USERNAME, ["Zoë"], "(username%20eq%20%22Zo%C3%AB%22)"),
    ],
)
def test_names_become_the_terms_of_one_filter(attribute: UserAttribute, names: list[str], query: str) -> None:
    assert build_users_url(ENVIRONMENT, attribute, names) == f"{OURS}/users?limit=200&filter={query}"


def test_as_many_long_addresses_as_we_send_fit_into_a_header() -> None:
    names = [
        f"first-name.family-name.{number:03d}@subsidiary.example.com" for number in range(Tuning().names_per_request)
    ]
    assert len(build_users_url(ENVIRONMENT, UserAttribute.EMAIL, names)) < 4500


@pytest.mark.parametrize(
    "url",
    [
        f"{OURS}/users?cursor=RjE6dXNlcnM6MTAw&limit=200",
        f"{OURS}/users?filter=username eq %22a%22",
        f"https://api.pingone.eu:443/v1/environments/{ID}/oathTokens",
        f"HTTPS://API.pingone.EU/v1/environments/{ID.upper()}/users",
    ],
)
def test_an_address_in_our_environment_is_ours(url: str) -> None:
    assert is_in_environment(ENVIRONMENT, url)


@pytest.mark.parametrize(
    "url",
    [
        "",
        f"/v1/environments/{ID}/users",
        f"http://api.pingone.eu/v1/environments/{ID}/users",
        f"https://api.pingone.com/v1/environments/{ID}/users",
        f"https://api.pingone.eu.example.com/v1/environments/{ID}/users",
        f"https://api.pingone.eu@example.com/v1/environments/{ID}/users",
        f"https://someone@api.pingone.eu/v1/environments/{ID}/users",
        f"https://api.pingone.eu:8443/v1/environments/{ID}/users",
        f"https://api.pingone.eu:x/v1/environments/{ID}/users",
        f"https://[api.pingone.eu/v1/environments/{ID}/users",
        "https://api.pingone.eu/v1/environments/00000000-0e1f-4a2b-8c3d-4e5f6a7b8c9d/users",
        f"https://api.pingone.eu/v1/environments/{ID}",
        f"https://api.pingone.eu/v1/environments/{ID}-other/users",
        f"https://api.pingone.eu/v2/environments/{ID}/users",
        f"{OURS}/../00000000-0e1f-4a2b-8c3d-4e5f6a7b8c9d/users",
        f"{OURS}/%2e%2E/other/users",
        f"{OURS}/..%2fother/users",
        f"{OURS}/users\\..\\..\\other",
        f"{OURS}/users%5c..%5cother",
        f"{OURS}/users#part",
        f"{OURS}/users\r\nHost: example.com",
        f"{OURS}/users?cursor=\u00e9",
        f"{OURS}/users?cursor=" + "x" * 8001,
    ],
)
def test_any_other_address_is_foreign(url: str) -> None:
    assert not is_in_environment(ENVIRONMENT, url)


def refuse(status: int, headers: dict[str, str], body: bytes) -> PingOneError:
    """The error for this answer to an activation."""
    with pytest.raises(PingOneError) as caught:
        parse_activation(open_envelope(status, headers, body), user_id=USER_ID, device_id=DEVICE_ID)
    return caught.value


def test_an_otp_or_access_token_that_the_service_echoes_is_masked() -> None:
    echoed = opened("activation/invalid_otp_echoed").answer.message
    assert echoed == f"OTP {MASK} is invalid; expected one of {MASK} [31m,{MASK}"
    leaked = opened("activation/secrets_in_message").answer.message
    assert leaked == f"Bearer {MASK} was sent with {MASK} for 6f1d3c1e-2b7a-4f55-9d0c-3e8a1b6c5d42"


def test_text_that_a_database_would_refuse_is_cleaned() -> None:
    answer = opened("activation/lone_surrogates_and_nul").answer
    assert (answer.error_id, answer.message) == (None, "bad text here")


def test_long_text_is_cut_and_a_cut_otp_does_not_show() -> None:
    assert make_printable("x y " * 1000) == ("x y " * 75).strip()
    assert "308" not in str(make_printable("y " * 149 + "308714 and more"))
    assert "308" not in str(make_printable("y" + " " * 2996 + "308714"))


def test_a_body_that_is_compressed_unasked_is_not_read_and_told() -> None:
    unread = refuse(200, {"Content-Encoding": "gzip"}, gzip.compress(b'{"status": "ACTIVE"}'))
    assert type(unread) is OutcomeUnknown
    assert "HTTP 200, the body is compressed, perhaps by a proxy" in str(unread)
    assert "compressed" not in str(refuse(200, {"Content-Encoding": "identity"}, b"no JSON"))
