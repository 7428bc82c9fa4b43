"""Which private keys can be used, with which algorithm, and that no message quotes one."""

from __future__ import annotations

import json
import warnings
from contextlib import suppress

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from hypothesis import given
from hypothesis import strategies as st
from joserfc.jwk import ECKey, RSAKey

from worker.config.environment import find_algorithm, read_private_key

RSA = RSAKey.generate_key(2048)
CURVES = {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512"}


def pem(key: RSAKey | ECKey, *, private: bool = True) -> str:
    return key.as_pem(private=private).decode()


def jwk(key: RSAKey | ECKey, *, private: bool = True, **more: str) -> str:
    return json.dumps(key.as_dict(private=private) | more)


@pytest.mark.parametrize("text", [pem(RSA), jwk(RSA), f"\n {jwk(RSA)}\n"], ids=["PEM", "JWK", "JWK with blanks"])
def test_an_rsa_key_signs_with_rs256_whichever_form_it_has(text: str) -> None:
    key = read_private_key(text)
    assert (find_algorithm(key), key.thumbprint()) == ("RS256", RSA.thumbprint())


@pytest.mark.parametrize("curve", CURVES)
def test_the_curve_of_an_ec_key_decides_on_the_algorithm(curve: str) -> None:
    made = ECKey.generate_key(curve)
    for text in (pem(made), jwk(made)):
        assert find_algorithm(read_private_key(text)) == CURVES[curve]


def test_a_jwk_may_name_the_algorithm_and_its_id() -> None:
    key = read_private_key(jwk(RSA, alg="RS384", kid="july"))
    assert (find_algorithm(key), key.kid) == ("RS384", "july")


def short() -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pem(RSAKey.generate_key(1024))


def with_passphrase() -> str:
    key = rsa.generate_private_key(65537, 2048)
    form = serialization.PrivateFormat.PKCS8
    lock = serialization.BestAvailableEncryption(b"passphrase")
    return key.private_bytes(serialization.Encoding.PEM, form, lock).decode()


def of_ed25519() -> str:
    form, open_ = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return ed25519.Ed25519PrivateKey.generate().private_bytes(serialization.Encoding.PEM, form, open_).decode()


UNFIT = {
    "nothing": ("", "is no private key"),
    "text": ("made-up-text", "is no private key"),
    "a public key": (pem(RSA, private=False), "is no private key"),
    "a public JWK": (jwk(RSA, private=False), "is no private key"),
    "a JWK without its numbers": ('{"kty": "RSA"}', "is no private key"),
    "a JWK of another kind": ('{"kty": "oct", "k": "bWFkZS11cA"}', "is no private key"),
    "a JWK without a kind": ('{"d": "made-up"}', "is no private key"),
    "JSON that is cut off": ('{"kty": "RSA", "d": "made', "is no private key"),
    "a JWK for another algorithm": (jwk(RSA, alg="PS256"), "is no private key"),
    "a JWK with numbers that do not fit": (jwk(RSA, d="AQAB"), "is no private key"),
    "Ed25519": (of_ed25519(), "is no private key"),
    "P-256K": (pem(ECKey.generate_key("secp256k1")), "is no private key"),
    "a short key": (short(), "is an RSA key of 1024 bits: PingOne needs 2048 at least"),
    "a key with a passphrase": (with_passphrase(), "needs a passphrase"),
}


@pytest.mark.parametrize("what", UNFIT)
def test_what_cannot_sign_is_refused_and_not_quoted(what: str) -> None:
    text, complaint = UNFIT[what]
    with pytest.raises(ValueError, match=complaint) as refused:
        read_private_key(text)
    assert refused.value.__cause__ is None
    assert not any(line in str(refused.value) for line in text.splitlines() if len(line) > 8)


WORDS = ["RSA", "EC", "oct", "P-256", "P-1", "AQAB", "", "-----BEGIN PRIVATE KEY-----", "alg", "RS256"]
VALUES = st.none() | st.integers() | st.text(max_size=20) | st.sampled_from(WORDS) | st.lists(st.text(), max_size=2)
JWKS = st.dictionaries(st.sampled_from(["kty", "n", "e", "d", "crv", "x", "y", "alg", "kid", "use"]), VALUES)


@given(st.text() | st.sampled_from(WORDS) | JWKS.map(json.dumps))
def test_any_text_is_a_key_or_refused(text: str) -> None:
    with suppress(ValueError):
        assert read_private_key(text).is_private
