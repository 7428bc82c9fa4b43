"""Client assertions: signed statements by which a worker application authenticates to the token endpoint, in place of
its client secret. Pure, but for the time and a random id.

https://developer.pingidentity.com/pingone-api/auth/auth-config-options/create-a-private-key-jwt.html
https://developer.pingidentity.com/pingone-api/auth/auth-config-options/create-a-client-secret-jwt.html
"""

from __future__ import annotations

import time
import warnings
from typing import TYPE_CHECKING
from uuid import uuid4

from worker.config.environment import Environment, find_algorithm, read_private_key

if TYPE_CHECKING:
    from joserfc.jwk import ECKey, OctKey, RSAKey

# The kind of assertion, as RFC 7523 names it in section 2.2.
ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
# Seconds for which an assertion is good. It is used at once, but our clock may be behind; PingOne refuses more than an
# hour.
GOOD_FOR = 600


def sign_assertion(environment: Environment) -> str:
    """Sign an assertion with the private key or the client secret of this environment's worker application."""
    # Not at the top: most applications come with their secret.
    from joserfc import jwt

    now = int(time.time())
    claims = {
        "iss": environment.client_id,
        "sub": environment.client_id,
        "aud": environment.token_url,
        "exp": now + GOOD_FOR,
        "iat": now,
        "jti": str(uuid4()),
    }
    header, key = _choose_key(environment)
    return jwt.encode(header, claims, key, algorithms=[header["alg"]])


def _choose_key(environment: Environment) -> tuple[dict[str, str], OctKey | RSAKey | ECKey]:
    """Choose what signs, and the header that says how."""
    from joserfc.jwk import OctKey

    if environment.private_key is not None and environment.client_auth == "private_key_jwt":
        key = read_private_key(environment.private_key.get_secret_value())
        key_id = environment.key_id or key.kid or key.thumbprint()
        return {"alg": find_algorithm(key), "typ": "JWT", "kid": key_id}, key
    with warnings.catch_warnings():
        # A warning about a short secret, which is PingOne's choice.
        warnings.simplefilter("ignore")
        return {"alg": "HS256", "typ": "JWT"}, OctKey.import_key(environment.secret)
