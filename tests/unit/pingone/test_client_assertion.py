"""Client assertions, as the simulator's token endpoint checks them, which shares no code with what signs them."""

from __future__ import annotations

import base64
import json
import time
from typing import Any
from urllib.parse import parse_qs

import pytest
from joserfc.jwk import ECKey, RSAKey
from support.simulator.simulation import WatchedAccessTokens

from worker.pingone.auth import GOOD_FOR, build_access_token_request, sign_assertion
from worker.simulator.calls import Call

RSA = RSAKey.generate_key(2048)
KEYS: dict[str, RSAKey | ECKey] = {
    "RS256": RSA,
    "ES256": ECKey.generate_key("P-256"),
    "ES384": ECKey.generate_key("P-384"),
    "ES512": ECKey.generate_key("P-521"),
}


def pem(key: RSAKey | ECKey) -> str:
    return key.as_pem(private=True).decode()


def read_part(assertion: str, number: int) -> dict[str, Any]:
    part = assertion.split(".")[number]
    read: dict[str, Any] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return read


def ask(environment: Any, keys: dict[str, Any] | None = None) -> int:
    """Send the request to a simulated token endpoint; the status."""
    access = WatchedAccessTokens(lambda: environment.client_auth)
    access.clients["made-up-client"] = environment.secret or "another secret"
    access.keys["made-up-client"] = keys or {"keys": []}
    request = build_access_token_request(environment)
    host, _, path = request.url.partition("//")[2].partition("/")
    headers = [(name.lower().encode(), value.encode()) for name, value in {**request.headers, "Host": host}.items()]
    call = Call.from_scope({"method": "POST", "path": f"/{path}", "query_string": b"", "headers": headers})
    call.body = request.content
    return access.answer_request(call).status


@pytest.mark.parametrize("algorithm", KEYS)
def test_a_private_key_is_enough(make_environment: Any, algorithm: str) -> None:
    key = KEYS[algorithm]
    environment = make_environment(client_auth="private_key_jwt", client_secret=None, private_key=pem(key))
    header = read_part(sign_assertion(environment), 0)
    assert header == {"alg": algorithm, "typ": "JWT", "kid": key.thumbprint()}
    public = key.as_dict(private=False) | {"kid": key.thumbprint()}
    assert ask(environment, {"keys": [public]}) == 200
    other = RSAKey.generate_key(2048).as_dict(private=False) | {"kid": key.thumbprint()}
    assert ask(environment, {"keys": [other]}) == 401


@pytest.mark.parametrize(
    ("changes", "key_id"),
    [
        ({"private_key": pem(RSA), "key_id": "set"}, "set"),
        ({"private_key": json.dumps(RSA.as_dict(private=True) | {"kid": "of the JWK"})}, "of the JWK"),
        ({"private_key": json.dumps(RSA.as_dict(private=True) | {"kid": "of the JWK"}), "key_id": "set"}, "set"),
        ({"private_key": pem(RSA)}, RSA.thumbprint()),
    ],
    ids=["set", "of a JWK", "set beside a JWK", "thumbprint"],
)
def test_the_key_id_is_what_is_set_or_that_of_the_jwk_or_the_thumbprint(
    make_environment: Any, changes: dict[str, str], key_id: str
) -> None:
    environment = make_environment(client_auth="private_key_jwt", **changes)
    assert read_part(sign_assertion(environment), 0)["kid"] == key_id


def test_a_client_secret_signs_as_well(make_environment: Any) -> None:
    environment = make_environment(client_auth="secret_jwt")
    assert read_part(sign_assertion(environment), 0) == {"alg": "HS256", "typ": "JWT"}
    assert ask(environment) == 200


def test_the_claims_are_those_of_pingones_pages(make_environment: Any) -> None:
    environment = make_environment(client_auth="secret_jwt")
    before = int(time.time())
    claims = read_part(sign_assertion(environment), 1)
    assert claims.pop("iat") - before in (0, 1, 2)
    assert claims.pop("exp") - before in (GOOD_FOR, GOOD_FOR + 1, GOOD_FOR + 2)
    assert claims.pop("jti") != read_part(sign_assertion(environment), 1)["jti"]
    assert claims == {"iss": "made-up-client", "sub": "made-up-client", "aud": environment.token_url}


def test_no_secret_goes_into_the_request(make_environment: Any) -> None:
    for changes in ({"client_auth": "secret_jwt"}, {"client_auth": "private_key_jwt", "private_key": pem(RSA)}):
        environment = make_environment(**changes)
        request = build_access_token_request(environment)
        form = parse_qs(request.content.decode())
        assert "Authorization" not in request.headers
        assert form.keys() == {"grant_type", "client_id", "client_assertion_type", "client_assertion"}
        assert form["client_assertion_type"] == ["urn:ietf:params:oauth:client-assertion-type:jwt-bearer"]
        assert environment.secret not in request.content.decode()
        assert form["client_assertion"][0] not in repr(request)
