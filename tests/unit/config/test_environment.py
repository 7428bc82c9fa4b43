"""Private keys that can be used, with which algorithm, and no message quotes one; environments by name, and their
credentials when they are read again."""

import json
import warnings
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from joserfc.jwk import ECKey, OKPKey, RSAKey

from worker.config.environment import Environments, find_algorithm, read_private_key
from worker.config.settings import Settings
from worker.config.sources import load_environment

RSA = RSAKey.generate_key(2048)
CURVES = {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512"}


def pem(key: RSAKey | ECKey | OKPKey, *, private: bool = True, password: str | None = None) -> str:
    return key.as_pem(private=private, password=password).decode()


def jwk(key: RSAKey | ECKey, *, private: bool = True, **more: str) -> str:
    return json.dumps(key.as_dict(private=private) | more)


@pytest.mark.parametrize(
    ("text", "algorithm"),
    [
        (pem(RSA), "RS256"),
        (jwk(RSA), "RS256"),
        (f"\n {jwk(RSA)}\n", "RS256"),
        (jwk(RSA, alg="RS384"), "RS384"),
        *((write(ECKey.generate_key(curve)), algorithm) for write in (pem, jwk) for curve, algorithm in CURVES.items()),
    ],
)
def test_a_key_signs_with_the_algorithm_of_its_kind_whichever_form_it_has(text: str, algorithm: str) -> None:
    key = read_private_key(text)
    assert find_algorithm(key) == algorithm
    assert not isinstance(key, RSAKey) or key.thumbprint() == RSA.thumbprint()


def test_a_jwk_may_name_its_id() -> None:
    assert read_private_key(jwk(RSA, kid="july")).kid == "july"


def short() -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pem(RSAKey.generate_key(1024))


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
    "Ed25519": (pem(OKPKey.generate_key("Ed25519")), "is no private key"),
    "P-256K": (pem(ECKey.generate_key("secp256k1")), "is no private key"),
    "a short key": (short(), "is an RSA key of 1024 bits: PingOne needs 2048 at least"),
    "a key with a passphrase": (pem(RSA, password="passphrase"), "needs a passphrase"),
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
        path.touch(0o600)
        path.write_text(f"old of {name}")
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
    both = {"client": known, "import": known.as_importer()}
    for name, environment in both.items():
        assert environments.reread(environment) == environment
        files[name].write_text(f"new of {name}")
    no_secret = {"client_secret": None, "import_client_secret": None}
    for name, environment in both.items():
        newer = environments.reread(environment)
        assert newer.secret == f"new of {name}"
        assert newer.model_copy(update=no_secret) == environment.model_copy(update=no_secret)


def test_a_secret_that_cannot_be_read_now_leaves_the_one_of_before(
    environments: Environments, files: dict[str, Path]
) -> None:
    known = environments.get("default")
    # As it lies there for a moment while it is written.
    files["client"].write_text("")
    assert environments.reread(known) is known
    files["client"].unlink()
    assert environments.reread(known) is known
