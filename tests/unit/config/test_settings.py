"""Settings: which values are valid, what they come to where nothing is set, and that no message quotes a secret;
private keys that can be used, with which algorithm; and credentials that are read again."""

import json
import os
import warnings
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from joserfc.jwk import ECKey, OKPKey, RSAKey
from sqlalchemy import make_url

from worker.config.environment import Environment, Environments, find_algorithm, read_private_key
from worker.config.settings import ConfigError, Settings, Tuning, find_home
from worker.config.sources import load_environment, load_settings

SECRET = "made-up-client-secret"
VARIABLES = {
    "PINGONE_ENVIRONMENT_ID": "env-1",
    "PINGONE_CLIENT_ID": "client-1",
    "PINGONE_CLIENT_SECRET": SECRET,
}
RSA = RSAKey.generate_key(2048)
KEY = RSA.as_pem(private=True).decode()
BY_KEY = {"PINGONE_CLIENT_AUTH": "private_key_jwt", "PINGONE_PRIVATE_KEY": KEY}


def environment(**variables: str) -> Environment:
    return load_environment(Settings(), variables=VARIABLES | variables)


def refusal(**variables: str) -> str:
    """What is said of wrong settings, of an environment or our own; nothing of their values."""
    with pytest.raises(ConfigError) as error:
        _ = load_settings(variables).database, environment(**variables)
    assert (error.value.__cause__, error.value.__suppress_context__) == (None, True)
    assert not [value for value in (SECRET, "hidden", "fast", "every day") if value in str(error.value)]
    return str(error.value)


REGIONS = {
    **{"NA": "pingone.com", "CA": "pingone.ca", "EU": "pingone.eu"},
    **{"AU": "pingone.com.au", "SG": "pingone.sg", "AP": "pingone.asia"},
}
LOCAL = "http://127.0.0.1:8900/{env}/as/token"


@pytest.mark.parametrize(
    ("given", "api_url", "token_url"),
    [
        *(
            ({"PINGONE_REGION": region}, f"https://api.{domain}/v1", f"https://auth.{domain}/env-1/as/token")
            for region, domain in REGIONS.items()
        ),
        ({}, "https://api.pingone.com/v1", "https://auth.pingone.com/env-1/as/token"),
        ({"PINGONE_TOKEN_URL": LOCAL}, "https://api.pingone.com/v1", "http://127.0.0.1:8900/env-1/as/token"),
        (
            {"PINGONE_TOKEN_URL": LOCAL, "PINGONE_AUTH_ENVIRONMENT_ID": "env-2"},
            "https://api.pingone.com/v1",
            "http://127.0.0.1:8900/env-2/as/token",
        ),
        (
            {"PINGONE_AUTH_ENVIRONMENT_ID": "env-2"},
            "https://api.pingone.com/v1",
            "https://auth.pingone.com/env-2/as/token",
        ),
        (
            {"PINGONE_TOKEN_URL": "https://login.example.test/as/token"},
            "https://api.pingone.com/v1",
            "https://login.example.test/as/token",
        ),
        *(
            ({"PINGONE_API_URL": url}, url.rstrip("/"), "https://auth.pingone.com/env-1/as/token")
            for url in (
                "https://api.example.test/v1/",
                "http://127.0.0.1:1/v1",
                "http://localhost/v1",
                "http://[::1]:1/v1",
            )
        ),
    ],
)
def test_a_region_sets_both_urls_unless_they_are_set(given: dict[str, str], api_url: str, token_url: str) -> None:
    configured = environment(**given)
    assert (configured.api_url, configured.token_url, configured.environment_id) == (api_url, token_url, "env-1")


@pytest.mark.parametrize("variable", ["PINGONE_API_URL", "PINGONE_TOKEN_URL"])
@pytest.mark.parametrize(
    "url",
    [
        "http://api.pingone.com/v1",
        "http://127.0.0.1@evil.test/v1",
        "http://localhost.evil.test/v1",
        "http://0.0.0.0/v1",
        "http://",
        "https:///v1",
        "ftp://127.0.0.1/v1",
        "api.pingone.com/v1",
        "http://[::1",
        f"http://u:{SECRET}@x",
    ],
)
def test_plain_http_and_what_is_no_url_is_refused(variable: str, url: str) -> None:
    assert refusal(**{variable: url}).startswith(variable + " ")


def test_a_license_is_the_environment_s_own_unless_told_otherwise() -> None:
    assert (environment().license, environment(PINGONE_LICENSE="shared").license) == ("env-1", "shared")


@pytest.mark.parametrize("name", VARIABLES)
def test_a_missing_setting_is_named(name: str) -> None:
    assert refusal(**{name: ""}) == f"{name} is not set"
    with pytest.raises(ConfigError, match=f"^{name} is not set$"):
        load_environment(Settings(), variables={key: each for key, each in VARIABLES.items() if key != name})


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        *(({f"PINGONE_RATE{end}": rate}, "") for end in ("", "_MAX") for rate in ("0", "-1", "inf", "nan", "fast")),
        ({"PINGONE_REGION": "XX"}, "'EU'"),
        ({"PINGONE_CLIENT_AUTH": SECRET}, ""),
        ({"OATHBULK_OTP_POST_BUDGET": "1"}, ""),
        ({"OATHBULK_OTP_POST_BUDGET": "8"}, ""),
        ({"OATHBULK_MAX_ATTEMPTS": "0"}, ""),
        ({"OATHBULK_CONCURRENCY": "0"}, ""),
        ({"OATHBULK_CONCURRENCY": "many"}, ""),
        ({"OATHBULK_DATABASE_CONNECTIONS": "0"}, ""),
        ({"OATHBULK_REPLAY_CRON": "every day"}, ""),
        ({"OATHBULK_REPLAY_CRON": "61 * * * *"}, ""),
        ({"OATHBULK_REPLAY_CRON": "* * * *"}, ""),
        ({"OATHBULK_AUDIT_HEAD": "heads.txt"}, "must"),
        ({"OATHBULK_AUDIT_HEAD": "./heads"}, "must"),
        ({"OATHBULK_AUDIT_HEAD": "https://siem.example.com/heads"}, "must"),
        ({"OATHBULK_WEBHOOK_URL": "http://hooks.example.com/hidden"}, "must"),
        ({"OATHBULK_WEBHOOK_URL": "hooks.example.com/hidden"}, "must"),
        ({"OATHBULK_WEBHOOK_URL": "https://"}, "must"),
        ({"OATHBULK_WEBHOOK_URL": "https://me:hidden@host/"}, "must"),
        ({"_OATHBULK_TUNING__leese": "5"}, ""),
        *(
            ({"OATHBULK_DATABASE_URL": url}, "begin with postgresql+psycopg:// or sqlite:///")
            for url in ("mysql://o:hidden@db/o", "oracle+oracledb://o:hidden@db/o", "sqlite+aiosqlite:///hidden.db")
        ),
        *(
            ({"OATHBULK_DATABASE_URL": f"{driver}://o:hidden@db/o"}, "name the driver: write postgresql+psycopg://")
            for driver in ("postgresql", "postgres", "postgresql+asyncpg")
        ),
        *(
            ({"OATHBULK_DATABASE_URL": url}, "names no file: write sqlite:////path")
            for url in ("sqlite://", "sqlite:///:memory:", "sqlite://hidden/oathbulk.db")
        ),
        *(
            ({"OATHBULK_DATABASE_URL": f"postgresql+psycopg://o:{SECRET}@db/o?prepare_threshold={said}"}, "threshold")
            for said in ("never", "-1", "1.5", "1&prepare_threshold=2")
        ),
    ],
)
def test_a_setting_out_of_bounds_is_named_with_the_cure_and_not_quoted(wrong: dict[str, str], said: str) -> None:
    message, (name,) = refusal(**wrong), wrong
    assert (message.startswith(name.partition("__")[0] + " "), said in message) == (True, True), message


def test_everything_that_is_wrong_is_named_at_once() -> None:
    wrong = {"PINGONE_RATE": "fast", "PINGONE_REGION": "XX", "PINGONE_CLIENT_ID": ""}
    assert [name for name in wrong if name not in refusal(**wrong)] == []


@pytest.mark.parametrize(
    ("variable", "text", "value"),
    [
        *(("PINGONE_RESYNC_ON_FIRST_CALL", word, True) for word in ("true", "1", "True")),
        *(("PINGONE_RESYNC_ON_FIRST_CALL", word, None) for word in ("", "auto", "AUTO")),
        ("PINGONE_RESYNC_ON_FIRST_CALL", "false", False),
        *(("OATHBULK_REPLAY_CRON", word, None) for word in ("off", "OFF", "")),
        ("OATHBULK_REPLAY_CRON", "15 3 * * 1", "15 3 * * 1"),
        ("OATHBULK_AUDIT_HEAD", "/var/log/oathbulk.heads", "/var/log/oathbulk.heads"),
        ("OATHBULK_WEBHOOK_URL", "https://hooks.example.com/key", "https://hooks.example.com/key"),
        ("OATHBULK_WEBHOOK_URL", "http://127.0.0.1:8080/hook", "http://127.0.0.1:8080/hook"),
    ],
)
def test_a_value_means_what_a_person_writes(variable: str, text: str, value: object) -> None:
    prefix, _, field = variable.partition("_")
    found = load_settings({variable: text}) if prefix == "OATHBULK" else environment(**{variable: text})
    read = getattr(found, field.lower())
    assert getattr(read, "get_secret_value", lambda: read)() == value


def test_neither_a_repr_nor_a_log_shows_a_secret(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("PYDANTIC_SETTINGS_DEBUG", "1")
    settings = {
        "OATHBULK_DATABASE_URL": f"postgresql+psycopg://oathbulk:{SECRET}@db/oathbulk",
        "OATHBULK_REDIS_URL": f"redis://:{SECRET}@redis/0",
        "OATHBULK_ENCRYPTION_KEYS": SECRET,
        "OATHBULK_WEBHOOK_URL": f"https://hooks.example.com/{SECRET}",
        "OATHBULK_WEBHOOK_SECRET": SECRET,
    }
    with caplog.at_level("DEBUG"):
        shown = [text for each in (load_settings(settings), environment()) for text in (repr(each), each.model_dump())]
    assert SECRET not in f"{shown}{caplog.text}"
    assert environment().secret == SECRET


def test_workers_without_redis_are_told_the_cure() -> None:
    with pytest.raises(ConfigError, match=r"OATHBULK_REDIS_URL is not set.*oathbulk run"):
        _ = load_settings({}).redis


@pytest.mark.parametrize("said", ["", "?prepare_threshold=0", "?prepare_threshold=5", "?prepare_threshold=none"])
def test_a_database_url_is_taken_as_it_is(said: str) -> None:
    settings = load_settings({"OATHBULK_DATABASE_URL": f"postgresql+psycopg://db/oathbulk{said}"})
    assert (settings.is_embedded_database, settings.database) == (False, f"postgresql+psycopg://db/oathbulk{said}")


def test_a_call_ends_inside_its_lease_and_tests_put_other_values_in_place_of_constants() -> None:
    tuning = Tuning()
    assert tuning.call_deadline < tuning.lease_left_for_post < tuning.lease
    found = load_settings({"_OATHBULK_TUNING__lease": "5", "_OATHBULK_TUNING__window": "64"}).tuning
    assert found == Tuning(lease=5, window=64)


def test_an_application_with_a_private_key_needs_no_secret_and_one_with_a_secret_needs_it() -> None:
    assert environment(**BY_KEY, PINGONE_CLIENT_SECRET="").secret == ""
    assert refusal(PINGONE_CLIENT_SECRET="", PINGONE_PRIVATE_KEY=KEY) == "PINGONE_CLIENT_SECRET is not set"
    assert refusal(PINGONE_CLIENT_AUTH="private_key_jwt") == "PINGONE_PRIVATE_KEY is not set"
    assert refusal(**BY_KEY | {"PINGONE_PRIVATE_KEY": "hidden"}).startswith(
        "PINGONE_PRIVATE_KEY is not a usable private key"
    )


def test_the_application_that_imports_authenticates_in_the_same_way() -> None:
    variables = BY_KEY | {"PINGONE_IMPORT_CLIENT_ID": "i"}
    missing = refusal(**variables, PINGONE_IMPORT_CLIENT_SECRET="another")
    assert "PINGONE_IMPORT_CLIENT_ID and PINGONE_IMPORT_PRIVATE_KEY belong together: set both" in missing
    importer = environment(**variables, PINGONE_IMPORT_PRIVATE_KEY=KEY, PINGONE_IMPORT_KEY_ID="july").as_importer()
    assert (importer.client_id, importer.key_id, importer.configured_name) == ("i", "july", "default")
    assert importer.private_key is not None


# Private keys.


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
        (jwk(RSA, alg="RS384", kid="july"), "RS384"),
        *((write(ECKey.generate_key(curve)), algorithm) for write in (pem, jwk) for curve, algorithm in CURVES.items()),
    ],
)
def test_a_key_signs_with_the_algorithm_of_its_kind_whichever_form_it_has(text: str, algorithm: str) -> None:
    key = read_private_key(text)
    assert find_algorithm(key) == algorithm
    assert not isinstance(key, RSAKey) or key.thumbprint() == RSA.thumbprint()
    assert key.kid == ("july" if "july" in text else None)


def short() -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pem(RSAKey.generate_key(1024))


UNFIT = {
    "nothing": ("", "is not a usable private key"),
    "text": ("made-up-text", "is not a usable private key"),
    "a public key": (pem(RSA, private=False), "is not a usable private key"),
    "a public JWK": (jwk(RSA, private=False), "is not a usable private key"),
    "a JWK without its numbers": ('{"kty": "RSA"}', "is not a usable private key"),
    "a JWK of another kind": ('{"kty": "oct", "k": "bWFkZS11cA"}', "is not a usable private key"),
    "a JWK without a kind": ('{"d": "made-up"}', "is not a usable private key"),
    "JSON that is cut off": ('{"kty": "RSA", "d": "made', "is not a usable private key"),
    "a JWK for another algorithm": (jwk(RSA, alg="PS256"), "is not a usable private key"),
    "a JWK with numbers that do not fit": (jwk(RSA, d="AQAB"), "is not a usable private key"),
    "Ed25519": (pem(OKPKey.generate_key("Ed25519")), "is not a usable private key"),
    "P-256K": (pem(ECKey.generate_key("secp256k1")), "is not a usable private key"),
    "a short key": (short(), "is an RSA key of 1024 bits: PingOne needs at least 2048"),
    "a key with a passphrase": (pem(RSA, password="passphrase"), "with a passphrase"),
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


# Credentials that are read again.


@pytest.fixture
def environments(tmp_path: Path) -> Environments:
    """With the secrets of both worker applications in files."""
    variables = VARIABLES | {"PINGONE_CLIENT_SECRET": "", "PINGONE_IMPORT_CLIENT_ID": "importer", "PINGONE_RATE": "12"}
    for name, prefix in (("client", "PINGONE_CLIENT"), ("import", "PINGONE_IMPORT_CLIENT")):
        (tmp_path / name).touch(0o600)
        (tmp_path / name).write_text(f"old of {name}")
        variables[f"{prefix}_SECRET_FILE"] = str(tmp_path / name)
    return Environments(lambda name: load_environment(Settings(), name, variables))


def test_each_application_gets_its_own_new_secret_and_keeps_all_else(
    environments: Environments, tmp_path: Path
) -> None:
    known = environments.get("default")
    both = {"client": known, "import": known.as_importer()}
    for name, environment in both.items():
        assert environments.reread(environment) == environment
        (tmp_path / name).write_text(f"new of {name}")
    no_secret = {"client_secret": None, "import_client_secret": None}
    for name, environment in both.items():
        newer = environments.reread(environment)
        assert newer.secret == f"new of {name}"
        assert newer.model_copy(update=no_secret) == environment.model_copy(update=no_secret)


def test_a_secret_that_cannot_be_read_now_leaves_the_one_of_before(environments: Environments, tmp_path: Path) -> None:
    known = environments.get("default")
    # As it lies there for a moment while it is written.
    (tmp_path / "client").write_text("")
    assert environments.reread(known) is known
    (tmp_path / "client").unlink()
    assert environments.reread(known) is known


# The home.


def test_a_user_has_one_home_from_wherever_a_command_is_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("PINGONE_", "OATHBULK_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "person"))
    usual = tmp_path / "person" / ".local" / "state" / "oathbulk"
    assert find_home({"OATHBULK_HOME": "/srv/oathbulk"}) == Path("/srv/oathbulk")
    assert find_home({}) == usual
    assert find_home({"XDG_STATE_HOME": "/srv/state"}) == Path("/srv/state/oathbulk")
    # The specification says that a relative one counts for nothing.
    assert find_home({"XDG_STATE_HOME": "state"}) == usual
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    assert load_settings().database == f"sqlite:///{tmp_path / 'state' / 'oathbulk' / 'oathbulk.db'}"
    assert load_settings() == Settings()


def test_a_user_id_without_a_home_directory_has_its_home_in_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", refuse)
    monkeypatch.chdir(tmp_path)
    assert find_home({}) == tmp_path / ".oathbulk"


@pytest.mark.parametrize("name", ["a?b", "a%41b", "ä b"])
def test_a_home_keeps_its_database_inside_it_whatever_its_name(name: str, tmp_path: Path) -> None:
    settings = load_settings({"OATHBULK_HOME": str(tmp_path / name)})
    assert settings.is_embedded_database
    assert make_url(settings.database).database == str(tmp_path / name / "oathbulk.db")
