"""Client assertions: signed statements that clients send in place of a secret, and whether one is good.

https://developer.pingidentity.com/pingone-api/auth/auth-config-options/create-a-private-key-jwt.html
"""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Callable, Mapping
from typing import Any, Literal

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet, OctKey
from joserfc.jws import extract_compact

from worker.simulator.calls import Call
from worker.simulator.simulation import AccessTokens

# The `client_assertion_type` of RFC 7523, section 2.2.
TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
SYMMETRIC = ("HS256", "HS384", "HS512")
ASYMMETRIC = ("RS256", "RS384", "RS512", "ES256", "ES384", "ES512")
# Seconds from now at which an assertion may expire at the latest.
LONGEST_LIFE = 3600

Method = Literal["basic", "post", "secret_jwt", "private_key_jwt"]


class WatchedAccessTokens(AccessTokens):
    """Takes assertions in place of secrets, too, and demands the one way of authentication that `demanded` tells.
    `keys`: the public keys (JWKS), by client id. `clock` gives Unix time. PingOne does not look at `jti`; here one that
    comes twice is refused, so that a client that sends one assertion twice is found out."""

    def __init__(self, demanded: Callable[[], Method | None], clock: Callable[[], float] = time.time) -> None:
        super().__init__()
        self.keys: dict[str, dict[str, Any]] = {}
        self._demanded = demanded
        self._unix_clock = clock
        # Of assertions that came, until when they would be good.
        self._used: dict[str, float] = {}

    def authenticates(self, call: Call, form: Mapping[str, str]) -> bool:
        """Whether the client is who it says, in the way that is demanded."""
        if "client_assertion" in form:
            method = self.check(form, f"{call.root}{call.path}")
        else:
            sent = "basic" if call.header(b"authorization") else "post"
            method = sent if super().authenticates(call, form) else None
        return method is not None and self._demanded() in (None, method)

    def revoke_all(self) -> None:
        """Make every access token invalid at once."""
        self.expires_at.clear()

    def check(self, form: Mapping[str, str], endpoint: str) -> Method | None:
        """How the assertion of a form is signed that was sent to this URL; None if it is no good."""
        assertion, client_id = form.get("client_assertion", ""), form.get("client_id")
        try:
            header = extract_compact(assertion.encode()).headers()
            method: Method = "secret_jwt" if header.get("alg") in SYMMETRIC else "private_key_jwt"
            claims = self._decode(assertion, method)
        except (JoseError, ValueError, KeyError, TypeError, AttributeError):
            return None
        is_named = claims.get("iss") == claims.get("sub") and client_id in (None, claims.get("sub"))
        is_good = is_named and form.get("client_assertion_type") == TYPE and self._is_valid(claims, endpoint)
        return method if is_good else None

    def _decode(self, assertion: str, method: Method) -> Mapping[str, Any]:
        """Read the claims of an assertion whose signature is its client's. Raises JoseError, ValueError, KeyError."""
        claimed = json.loads(extract_compact(assertion.encode()).payload)["sub"]
        if method == "private_key_jwt":
            keys = KeySet.import_key_set(self.keys[claimed])
            return jwt.decode(assertion, keys, algorithms=list(ASYMMETRIC)).claims
        with warnings.catch_warnings():
            # A warning about a short secret.
            warnings.simplefilter("ignore")
            secret = OctKey.import_key(self.clients[claimed])
        return jwt.decode(assertion, secret, algorithms=list(SYMMETRIC)).claims

    def _is_valid(self, claims: Mapping[str, Any], endpoint: str) -> bool:
        """Whether an assertion is for this token endpoint, for now, and new."""
        now, expires_at, audience, jti = self._unix_clock(), claims.get("exp"), claims.get("aud"), claims.get("jti")
        # The endpoint, or the issuer; behind a proxy that ends TLS, the client's address has another scheme.
        places = {endpoint, endpoint.removesuffix("/token")}
        places |= {place.replace("http://", "https://", 1) for place in places}
        if not (audience in places if isinstance(audience, str) else places & set(audience or ())):
            return False
        if not isinstance(expires_at, int | float) or not now < expires_at <= now + LONGEST_LIFE:
            return False
        if isinstance(before := claims.get("nbf"), int | float) and before > now:
            return False
        return jti is None or self._use(str(jti), expires_at, now)

    def _use(self, jti: str, expires_at: float, now: float) -> bool:
        """Note an assertion as used until it expires. False if it was used before."""
        self._used = {used: until for used, until in self._used.items() if until > now}
        if jti in self._used:
            return False
        self._used[jti] = expires_at
        return True
