"""Client assertions: each way in which one can be no good."""

import hmac
import json
import time
from base64 import urlsafe_b64encode

import pytest
from joserfc import jwt
from joserfc.jwk import OctKey, RSAKey

from worker.simulator.assertions import LONGEST_LIFE, TYPE, Assertions

NOW = 1_000_000_000.0
SECRET = "a client secret that is long enough"
KEY = RSAKey.generate_key(2048)
ENDPOINT = "http://127.0.0.1:8900/env/as/token"
CLAIMS = {"iss": "c", "sub": "c", "aud": ENDPOINT, "exp": NOW + 600, "jti": "1"}


@pytest.fixture
def assertions():
    jwks = {"keys": [KEY.as_dict(private=False) | {"kid": "july"}]}
    return Assertions({"c": SECRET}, {"c": jwks}, clock=lambda: NOW)


def sign(claims, *, key=KEY, algorithm="RS256", key_id="july"):
    header = {"alg": algorithm} | ({"kid": key_id} if key_id else {})
    return {"client_assertion_type": TYPE, "client_assertion": jwt.encode(header, claims, key)}


def with_secret(claims, secret=SECRET):
    return sign(claims, key=OctKey.import_key(secret), algorithm="HS256", key_id=None)


def test_an_assertion_tells_how_it_was_signed(assertions):
    assert assertions.check(sign(CLAIMS), ENDPOINT) == "private_key_jwt"
    assert assertions.check(with_secret(CLAIMS | {"jti": "2"}), ENDPOINT) == "secret_jwt"


def test_an_assertion_is_taken_once(assertions):
    assert assertions.check(sign(CLAIMS), ENDPOINT)
    assert assertions.check(sign(CLAIMS), ENDPOINT) is None
    # Whoever signs it: another client's has the same place among those that were used.
    assert assertions.check(with_secret(CLAIMS), ENDPOINT) is None


def test_an_assertion_without_an_id_is_taken_each_time(assertions):
    claims = {name: value for name, value in CLAIMS.items() if name != "jti"}
    assert [assertions.check(sign(claims), ENDPOINT) for _ in range(2)] == ["private_key_jwt"] * 2


@pytest.mark.parametrize(
    "audience",
    [ENDPOINT, ENDPOINT.removesuffix("/token"), ENDPOINT.replace("http", "https"), [ENDPOINT, "https://other"]],
)
def test_it_may_be_for_the_endpoint_or_for_the_issuer(assertions, audience):
    assert assertions.check(sign(CLAIMS | {"aud": audience}), ENDPOINT)


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": "https://elsewhere/as/token"},
        {"aud": None},
        {"aud": []},
        {"exp": NOW},
        {"exp": NOW + LONGEST_LIFE + 1},
        {"exp": None},
        {"exp": "soon"},
        {"nbf": NOW + 1},
        {"iss": "another"},
        {"sub": "another"},
        {"sub": None},
    ],
)
def test_a_wrong_claim_is_refused(assertions, changes):
    assert assertions.check(sign(CLAIMS | changes), ENDPOINT) is None


def test_another_key_or_secret_is_refused(assertions):
    assert assertions.check(sign(CLAIMS, key=RSAKey.generate_key(2048)), ENDPOINT) is None
    assert assertions.check(sign(CLAIMS, key_id="august"), ENDPOINT) is None
    assert assertions.check(with_secret(CLAIMS, "another secret that is long enough"), ENDPOINT) is None


def encode(content):
    return urlsafe_b64encode(content).rstrip(b"=")


def test_the_public_key_is_no_secret_to_sign_with(assertions):
    """An old trick: a signature by HMAC, whose secret is a public key that everybody has."""
    signed = b".".join(encode(json.dumps(part).encode()) for part in ({"alg": "HS256", "kid": "july"}, CLAIMS))
    signature = encode(hmac.digest(KEY.as_pem(private=False), signed, "sha256"))
    form = {"client_assertion_type": TYPE, "client_assertion": (signed + b"." + signature).decode()}
    assert assertions.check(form, ENDPOINT) is None


@pytest.mark.parametrize(
    "assertion", ["", "a.b.c", "e30.e30.", "not an assertion", "eyJhbGciOiJub25lIn0.eyJzdWIiOiJjIn0."]
)
def test_what_is_no_assertion_is_refused(assertions, assertion):
    assert assertions.check({"client_assertion_type": TYPE, "client_assertion": assertion}, ENDPOINT) is None


def test_another_type_or_another_client_in_the_form_is_refused(assertions):
    assert assertions.check(sign(CLAIMS) | {"client_assertion_type": "saml"}, ENDPOINT) is None
    assert assertions.check(sign(CLAIMS) | {"client_id": "another"}, ENDPOINT) is None
    assert assertions.check(sign(CLAIMS) | {"client_id": "c"}, ENDPOINT)


def test_the_clock_is_this_machines_unless_a_test_brings_one():
    assertions = Assertions({"c": SECRET}, {})
    assert assertions.check(with_secret(CLAIMS | {"exp": time.time() + 60}), ENDPOINT)
