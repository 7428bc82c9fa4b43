"""Private keys with which a worker application signs its requests for access tokens: which ones can be used.

PingOne takes RS256, RS384 and RS512; by some of its pages, ES256, ES384 and ES512 as well:
https://developer.pingidentity.com/pingone-api/auth/auth-config-options/create-a-private-key-jwt.html
https://developer.pingidentity.com/pingone-api/workflow-library/platform-sso-and-authorization/openid-connect-oidc/client-authentication-methods/environment-configuration/private-key-jwt.html
"""

from __future__ import annotations

import json
import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from joserfc.jwk import ECKey, RSAKey

# Bits of an RSA key that PingOne asks for at least.
SHORTEST_RSA = 2048
# The algorithms that a key of this kind may sign with; the first, unless a JWK names another.
_ALGORITHMS = {
    "RSA": ("RS256", "RS384", "RS512"),
    "P-256": ("ES256",),
    "P-384": ("ES384",),
    "P-521": ("ES512",),
}
# Parts of error messages; each stands behind the name of the setting.
_NO_KEY = "is no private key: it must be an RSA key, or an EC key of P-256, P-384 or P-521, as PEM or JWK"
_ENCRYPTED = "is a private key that needs a passphrase: keep it without one, in a file that only its owner may read"


def read_private_key(text: str) -> RSAKey | ECKey:
    """Read a private key from PEM or JWK. Raises ValueError, whose message quotes nothing of it."""
    # Not at the top: few installations sign, and importing it takes a twelfth of a second.
    from joserfc.errors import JoseError

    try:
        with warnings.catch_warnings():
            # A warning about the length, which is checked here.
            warnings.simplefilter("ignore")
            key = _parse_key(text)
        # A JWK is computed with only now.
        bits, is_private = key.private_key.key_size if key.private_key else 0, key.is_private
        find_algorithm(key)
    except TypeError as error:
        raise ValueError(_ENCRYPTED if "encrypted" in str(error) else _NO_KEY) from None
    except (JoseError, ValueError, KeyError, RecursionError):
        raise ValueError(_NO_KEY) from None
    if not is_private:
        raise ValueError(_NO_KEY)
    if key.key_type == "RSA" and bits < SHORTEST_RSA:
        raise ValueError(f"is an RSA key of {bits} bits: PingOne needs {SHORTEST_RSA} at least")
    return key


def find_algorithm(key: RSAKey | ECKey) -> str:
    """Find the algorithm that this key signs with. Raises KeyError for a key of another kind, and ValueError for a JWK
    that names an algorithm which is not of its kind."""
    known = _ALGORITHMS["RSA" if key.key_type == "RSA" else str(key.as_dict(private=False)["crv"])]
    if key.alg is not None and key.alg not in known:
        raise ValueError(_NO_KEY)
    return key.alg or known[0]


def _parse_key(text: str) -> RSAKey | ECKey:
    """Parse PEM or JWK. Raises JoseError, ValueError, TypeError, KeyError."""
    from joserfc.errors import InvalidKeyTypeError
    from joserfc.jwk import ECKey, RSAKey

    if text.lstrip().startswith("{"):
        fields = json.loads(text)
        return RSAKey.import_key(fields) if fields["kty"] == "RSA" else ECKey.import_key(fields)
    try:
        return RSAKey.import_key(text)
    except InvalidKeyTypeError:
        return ECKey.import_key(text)
