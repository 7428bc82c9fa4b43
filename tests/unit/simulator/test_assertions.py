"""Client assertions: each way in which one can be no good."""

import hmac
import json
from base64 import urlsafe_b64encode

import pytest
from joserfc import jwt
from joserfc.jwk import OctKey, RSAKey
from support.simulator.simulation import LONGEST_LIFE, TYPE, WatchedAccessTokens

NOW = 1_000_000_000.0
SECRET = "a client secret that is long enough"
KEY = RSAKey.generate_key(2048)
ENDPOINT = "http://127.0.0.1:8900/env/as/token"
CLAIMS = {"iss": "c", "sub": "c", "aud": ENDPOINT, "exp": NOW + 600, "jti": "1"}


@pytest.fixture
def access():
    access = WatchedAccessTokens(lambda: None, clock=lambda: NOW)
    access.clients["c"] = SECRET
    access.keys["c"] = {"keys": [KEY.as_dict(private=False) | {"kid": "july"}]}
    return access


def sign(claims, *, key=KEY, algorithm="RS256", key_id="july"):
    header = {"alg": algorithm} | ({"kid": key_id} if key_id else {})
    return {"client_assertion_type": TYPE, "client_assertion": jwt.encode(header, claims, key)}


def with_secret(claims, secret=SECRET):
    return sign(claims, key=OctKey.import_key(secret), algorithm="HS256", key_id=None)


def test_an_assertion_tells_how_it_was_signed_and_is_taken_once(access):
    assert access.check(sign(CLAIMS) | {"client_id": "c"}, ENDPOINT) == "private_key_jwt"
    assert access.check(with_secret(CLAIMS | {"jti": "2"}), ENDPOINT) == "secret_jwt"
    assert access.check(sign(CLAIMS), ENDPOINT) is None
    without_id = {name: value for name, value in CLAIMS.items() if name != "jti"}
    assert [access.check(sign(without_id), ENDPOINT) for _ in range(2)] == ["private_key_jwt"] * 2


@pytest.mark.parametrize(
    "audience",
    [ENDPOINT, ENDPOINT.removesuffix("/token"), ENDPOINT.replace("http", "https"), [ENDPOINT, "https://other"]],
)
def test_it_may_be_for_the_endpoint_or_for_the_issuer(access, audience):
    assert access.check(sign(CLAIMS | {"aud": audience}), ENDPOINT)


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": "https://elsewhere/as/token"},
        {"aud": None},
        {"exp": NOW},
        {"exp": NOW + LONGEST_LIFE + 1},
        {"exp": "soon"},
        {"nbf": NOW + 1},
        {"iss": "another"},
        {"sub": None},
    ],
)
def test_a_wrong_claim_is_refused(access, changes):
    assert access.check(sign(CLAIMS | changes), ENDPOINT) is None


def encode(content):
    return urlsafe_b64encode(content).rstrip(b"=")


# An old trick: a signature by HMAC, whose secret is a public key that everybody has.
SIGNED = b".".join(encode(json.dumps(part).encode()) for part in ({"alg": "HS256", "kid": "july"}, CLAIMS))
BY_PUBLIC_KEY = SIGNED + b"." + encode(hmac.digest(KEY.as_pem(private=False), SIGNED, "sha256"))


@pytest.mark.parametrize(
    "form",
    [
        sign(CLAIMS, key=RSAKey.generate_key(2048)),
        sign(CLAIMS, key_id="august"),
        with_secret(CLAIMS, "another secret that is long enough"),
        sign(CLAIMS) | {"client_assertion": BY_PUBLIC_KEY.decode()},
        sign(CLAIMS) | {"client_assertion": "a.b.c"},
        sign(CLAIMS) | {"client_assertion": "eyJhbGciOiJub25lIn0.eyJzdWIiOiJjIn0."},
        sign(CLAIMS) | {"client_assertion_type": "saml"},
        sign(CLAIMS) | {"client_id": "another"},
    ],
    ids=["another key", "another key id", "another secret", "public key", "nonsense", "unsigned", "type", "client"],
)
def test_what_is_signed_by_nobody_we_know_is_refused(access, form):
    assert access.check(form, ENDPOINT) is None
