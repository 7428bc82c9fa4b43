"""Private keys that can be used, with which algorithm, and no message quotes one; environments by name, and their
credentials when they are read again."""

from __future__ import annotations

import json
import warnings
from contextlib import suppress
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from hypothesis import given
from hypothesis import strategies as st
from joserfc.jwk import ECKey, RSAKey

from worker.config.environment import Environment, Environments, find_algorithm, read_private_key
from worker.config.settings import Settings
from worker.config.sources import load_environment

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


IDS = {"PINGONE_ENVIRONMENT_ID": "env-1", "PINGONE_CLIENT_ID": "client-1", "PINGONE_RATE": "12"}


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """The secrets of both worker applications, in files."""
    paths = {"client": tmp_path / "client", "import": tmp_path / "import"}
    for name, path in paths.items():
        path.write_text(f"old of {name}")
        path.chmod(0o600)
    return paths


@pytest.fixture
def environments(files: dict[str, Path]) -> Environments:
    variables = IDS | {"PINGONE_CLIENT_SECRET_FILE": str(files["client"]), "PINGONE_IMPORT_CLIENT_ID": "importer"}
    variables["PINGONE_IMPORT_CLIENT_SECRET_FILE"] = str(files["import"])
    return Environments(lambda name: load_environment(Settings(), name, variables))


def test_each_application_gets_its_own_new_secret_and_keeps_all_else(
    environments: Environments, files: dict[str, Path]
) -> None:
    known = environments.get("default")
    files["client"].write_text("new of client")
    files["import"].write_text("new of import")
    for environment, secret in ((known, "new of client"), (known.as_importer(), "new of import")):
        newer = environments.reread(environment)
        assert newer.secret == secret
        assert without_secret(newer) == without_secret(environment)


def without_secret(environment: Environment) -> Environment:
    return environment.model_copy(update={"client_secret": None, "import_client_secret": None})


def test_what_has_not_changed_is_equal(environments: Environments) -> None:
    known = environments.get("default")
    assert environments.reread(known) == known
    assert environments.reread(known.as_importer()) == known.as_importer()


def test_a_secret_that_cannot_be_read_now_leaves_the_one_of_before(
    environments: Environments, files: dict[str, Path]
) -> None:
    known = environments.get("default")
    # As it lies there for a moment while it is written.
    files["client"].write_text("")
    assert environments.reread(known) is known
    files["client"].unlink()
    assert environments.reread(known) is known
