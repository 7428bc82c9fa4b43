"""Settings: from where they are read, which values are valid, and that no message quotes a secret."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from joserfc.jwk import RSAKey
from sqlalchemy import make_url

from worker.config import sources
from worker.config.environment import Environment
from worker.config.settings import ConfigError, Settings, Tuning
from worker.config.sources import load_environment, load_settings

SECRET = "made-up-client-secret"
VARIABLES = {
    "PINGONE_ENVIRONMENT_ID": "env-1",
    "PINGONE_CLIENT_ID": "client-1",
    "PINGONE_CLIENT_SECRET": SECRET,
}


@pytest.fixture
def clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, and a process environment without any of our settings."""
    for name in [name for name in os.environ if name.startswith(("PINGONE_", "OATHBULK_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def private_file(path: Path, content: bytes) -> Path:
    """A file that only its owner may read."""
    path.write_bytes(content)
    path.chmod(0o600)
    return path


def environment(**variables: str) -> Environment:
    return load_environment(Settings(), variables=VARIABLES | variables)


def refusal(**variables: str) -> str:
    with pytest.raises(ConfigError) as error:
        environment(**variables)
    return str(error.value)


def settings_refusal(**variables: str) -> str:
    with pytest.raises(ConfigError) as error:
        load_settings(variables)
    return str(error.value)


@pytest.mark.parametrize(
    ("region", "domain"),
    [
        ("NA", "pingone.com"),
        ("CA", "pingone.ca"),
        ("EU", "pingone.eu"),
        ("AU", "pingone.com.au"),
        ("SG", "pingone.sg"),
        ("AP", "pingone.asia"),
    ],
)
def test_a_region_sets_both_urls(region, domain):
    configured = environment(PINGONE_REGION=region)
    assert configured.api_url == f"https://api.{domain}/v1"
    assert configured.token_url == f"https://auth.{domain}/env-1/as/token"


def test_the_region_is_north_america_unless_told_otherwise():
    assert environment() == environment(PINGONE_REGION="NA")


def test_an_unknown_region_is_refused_with_those_that_there_are():
    assert "PINGONE_REGION" in refusal(PINGONE_REGION="XX")
    assert "'EU'" in refusal(PINGONE_REGION="XX")


def test_the_token_url_names_the_environment_of_the_worker_application():
    url = "http://127.0.0.1:8900/{env}/as/token"
    assert environment(PINGONE_TOKEN_URL=url).token_url == "http://127.0.0.1:8900/env-1/as/token"
    elsewhere = environment(PINGONE_TOKEN_URL=url, PINGONE_AUTH_ENVIRONMENT_ID="env-2")
    assert elsewhere.token_url == "http://127.0.0.1:8900/env-2/as/token"
    assert elsewhere.environment_id == "env-1"
    assert environment(PINGONE_AUTH_ENVIRONMENT_ID="env-2").token_url == "https://auth.pingone.com/env-2/as/token"


def test_a_custom_domain_has_no_environment_in_its_token_url():
    configured = environment(PINGONE_TOKEN_URL="https://login.example.test/as/token")
    assert configured.token_url == "https://login.example.test/as/token"
    assert configured.api_url == "https://api.pingone.com/v1"


def test_a_slash_at_the_end_of_a_url_is_dropped():
    assert environment(PINGONE_API_URL="https://api.example.test/v1/").api_url == "https://api.example.test/v1"


@pytest.mark.parametrize("host", ["127.0.0.1:8900", "localhost", "[::1]:8900"])
def test_plain_http_is_accepted_for_this_machine(host):
    assert environment(PINGONE_API_URL=f"http://{host}/v1").api_url == f"http://{host}/v1"


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
    ],
)
def test_plain_http_and_what_is_no_url_is_refused(variable, url):
    assert refusal(**{variable: url}).startswith(variable + " ")


def test_a_license_is_the_environment_s_own_unless_told_otherwise():
    assert environment().license == "env-1"
    assert environment(PINGONE_LICENSE="shared").license == "shared"


@pytest.mark.parametrize("name", VARIABLES)
@pytest.mark.parametrize("value", [None, ""])
def test_a_missing_setting_is_named(name, value):
    variables = {key: each for key, each in VARIABLES.items() if key != name} | ({name: value} if value == "" else {})
    with pytest.raises(ConfigError, match=f"^{name} is not set$"):
        load_environment(Settings(), variables=variables)


def test_everything_that_is_wrong_is_named_at_once():
    message = refusal(PINGONE_RATE="fast", PINGONE_REGION="XX", PINGONE_CLIENT_ID="")
    assert [name for name in ("PINGONE_RATE", "PINGONE_REGION", "PINGONE_CLIENT_ID") if name in message] == [
        *("PINGONE_RATE", "PINGONE_REGION", "PINGONE_CLIENT_ID")
    ]


@pytest.mark.parametrize("rate", ["0", "-1", "inf", "nan", "fast"])
def test_a_rate_is_a_finite_number_above_zero(rate):
    assert "PINGONE_RATE " in refusal(PINGONE_RATE=rate)
    assert "PINGONE_RATE_MAX " in refusal(PINGONE_RATE_MAX=rate)


@pytest.mark.parametrize(
    ("word", "means"),
    [("true", True), ("1", True), ("True", True), ("false", False), ("", None), ("auto", None), ("AUTO", None)],
)
def test_a_switch_is_true_or_false_or_to_be_learnt(word, means):
    assert environment(PINGONE_RESYNC_ON_FIRST_CALL=word).resync_on_first_call is means


def test_no_repr_shows_a_secret():
    settings = load_settings(
        {
            "OATHBULK_DATABASE_URL": f"postgresql+psycopg://oathbulk:{SECRET}@db/oathbulk",
            "OATHBULK_REDIS_URL": f"redis://:{SECRET}@redis/0",
            "OATHBULK_ENCRYPTION_KEYS": SECRET,
        }
    )
    for value in (settings, environment()):
        assert SECRET not in repr(value)
        assert SECRET not in str(value)
        assert SECRET not in str(value.model_dump())
    assert environment().client_secret.get_secret_value() == SECRET


def test_no_value_is_logged_for_whoever_debugs_the_library(monkeypatch, caplog):
    monkeypatch.setenv("PYDANTIC_SETTINGS_DEBUG", "1")
    with caplog.at_level("DEBUG"):
        environment()
    assert SECRET not in caplog.text


@pytest.mark.parametrize(
    "wrong", [{"PINGONE_RATE": "fast"}, {"PINGONE_CLIENT_AUTH": SECRET}, {"PINGONE_API_URL": f"http://u:{SECRET}@x"}]
)
def test_no_error_quotes_a_value(wrong):
    message = refusal(**wrong)
    assert SECRET not in message
    assert "fast" not in message


def test_an_error_does_not_carry_what_was_validated():
    with pytest.raises(ConfigError) as error:
        environment(PINGONE_RATE="fast")
    assert error.value.__cause__ is None
    assert error.value.__suppress_context__


def test_a_file_may_hold_a_setting(tmp_path):
    file = private_file(tmp_path / "secret", f"{SECRET}-from-a-file\n".encode())
    variables = {key: value for key, value in VARIABLES.items() if key != "PINGONE_CLIENT_SECRET"}
    configured = load_environment(Settings(), variables=variables | {"PINGONE_CLIENT_SECRET_FILE": str(file)})
    assert configured.client_secret.get_secret_value() == f"{SECRET}-from-a-file"
    named = environment(PINGONE_CLIENT_SECRET_FILE=str(file))
    assert named.client_secret.get_secret_value() == SECRET


def test_settings_of_the_installation_may_stand_in_files_too(tmp_path):
    file = private_file(tmp_path / "url", b"redis://127.0.0.1/3\n")
    assert load_settings({"OATHBULK_REDIS_URL_FILE": str(file)}).redis == "redis://127.0.0.1/3"


@pytest.mark.parametrize("content", [None, b"\xff\xfe secret \xff"])
def test_a_file_that_cannot_be_read_is_named_and_not_quoted(tmp_path, content):
    file = tmp_path / "secret"
    if content is not None:
        private_file(file, content)
    message = refusal(PINGONE_CLIENT_SECRET="", PINGONE_CLIENT_SECRET_FILE=str(file))
    assert message.startswith(f"PINGONE_CLIENT_SECRET_FILE: {file} cannot be read")
    assert " secret " not in message


SECRET_FILES = (
    "OATHBULK_DATABASE_URL",
    "OATHBULK_REDIS_URL",
    "OATHBULK_ENCRYPTION_KEYS",
    "PINGONE_CLIENT_SECRET",
)


def load(variable: str, file: Path) -> Environment | Settings:
    """Load settings of which this one is read from this file."""
    if variable.startswith("OATHBULK_"):
        return load_settings({f"{variable}_FILE": str(file)})
    return load_environment(Settings(), variables=VARIABLES | {variable: "", f"{variable}_FILE": str(file)})


@pytest.mark.parametrize("variable", SECRET_FILES)
@pytest.mark.parametrize("mode", [0o644, 0o604, 0o666])
def test_a_secret_that_every_user_may_read_is_refused_with_the_cure_and_not_quoted(tmp_path, variable, mode):
    file = private_file(tmp_path / "secret", SECRET.encode())
    file.chmod(mode)
    with pytest.raises(ConfigError, match=f"^{variable}_FILE: {file} can be read by every user: chmod 600") as error:
        load(variable, file)
    assert SECRET not in str(error.value)


@pytest.mark.parametrize("variable", SECRET_FILES)
@pytest.mark.parametrize("mode", [0o600, 0o400, 0o640])
def test_a_secret_may_be_read_by_its_owner_and_a_group(tmp_path, variable, mode):
    file = private_file(tmp_path / "secret", SECRET.encode())
    file.chmod(mode)
    field = variable.partition("_")[2].lower()
    assert getattr(load(variable, file), field).get_secret_value() == SECRET


def test_a_link_to_a_secret_is_as_open_as_the_secret(tmp_path):
    file = private_file(tmp_path / "secret", SECRET.encode())
    file.chmod(0o644)
    link = tmp_path / "link"
    link.symlink_to(file)
    with pytest.raises(ConfigError, match="can be read by every user"):
        load("PINGONE_CLIENT_SECRET", link)


def test_what_is_no_secret_may_lie_open(tmp_path):
    file = private_file(tmp_path / "client_id", b"client-from-a-file\n")
    file.chmod(0o644)
    configured = environment(PINGONE_CLIENT_ID="", PINGONE_CLIENT_ID_FILE=str(file))
    assert configured.client_id == "client-from-a-file"


def test_a_containers_secrets_are_open_within_the_container_only(tmp_path, monkeypatch):
    """Docker mounts secrets there, readable by every user of the container."""
    assert Path("/run/secrets") == sources.CONTAINER_SECRETS
    monkeypatch.setattr(sources, "CONTAINER_SECRETS", tmp_path / "run" / "secrets")
    (tmp_path / "run" / "secrets").mkdir(parents=True)
    inside = private_file(tmp_path / "run" / "secrets" / "pingone_client_secret", SECRET.encode())
    beside = private_file(tmp_path / "run" / "secret", SECRET.encode())
    for file in (inside, beside):
        file.chmod(0o444)
    loaded = load("PINGONE_CLIENT_SECRET", inside)
    assert isinstance(loaded, Environment)
    assert loaded.client_secret.get_secret_value() == SECRET
    with pytest.raises(ConfigError, match="can be read by every user"):
        load("PINGONE_CLIENT_SECRET", beside)
    roundabout = tmp_path / "run" / "secrets" / ".." / "secret"
    with pytest.raises(ConfigError, match="can be read by every user"):
        load("PINGONE_CLIENT_SECRET", roundabout)


def test_nothing_needs_to_be_set_for_the_embedded_stack(clean):
    settings = load_settings()
    assert settings == Settings()
    assert settings.is_embedded_database
    assert settings.database == f"sqlite:///{clean / 'state' / 'oathbulk' / 'oathbulk.db'}"


def test_a_database_url_is_taken_as_it_is():
    settings = load_settings({"OATHBULK_DATABASE_URL": "postgresql+psycopg://db/oathbulk"})
    assert not settings.is_embedded_database
    assert settings.database == "postgresql+psycopg://db/oathbulk"


@pytest.mark.parametrize(
    ("url", "cure"),
    [
        ("mysql://oathbulk:hidden@db/oathbulk", r"begin with postgresql\+psycopg:// or sqlite:///"),
        ("oracle+oracledb://oathbulk:hidden@db/oathbulk", r"begin with postgresql\+psycopg:// or sqlite:///"),
        ("sqlite+aiosqlite:///hidden.db", r"begin with postgresql\+psycopg:// or sqlite:///"),
        ("postgresql://oathbulk:hidden@db/oathbulk", r"name the driver: write postgresql\+psycopg://"),
        ("postgres://oathbulk:hidden@db/oathbulk", r"name the driver: write postgresql\+psycopg://"),
        ("postgresql+asyncpg://oathbulk:hidden@db/oathbulk", r"name the driver: write postgresql\+psycopg://"),
        ("sqlite://", "names no file: write sqlite:////path"),
        ("sqlite:///:memory:", "names no file: write sqlite:////path"),
        ("sqlite://hidden/oathbulk.db", "names no file: write sqlite:////path"),
    ],
)
def test_a_database_that_is_not_supported_is_refused_with_what_to_write(url, cure):
    settings = load_settings({"OATHBULK_DATABASE_URL": url})
    with pytest.raises(ConfigError, match=f"^OATHBULK_DATABASE_URL .*{cure}") as error:
        _ = settings.database
    assert "hidden" not in str(error.value)


@pytest.mark.parametrize("said", ["0", "5", "none"])
def test_a_database_url_may_say_when_statements_are_prepared(said):
    url = f"postgresql+psycopg://db/oathbulk?prepare_threshold={said}"
    assert load_settings({"OATHBULK_DATABASE_URL": url}).database == url


@pytest.mark.parametrize("said", ["never", "-1", "1.5", "1&prepare_threshold=2"])
def test_a_database_url_that_says_it_wrongly_is_told_so_and_not_quoted(said):
    url = f"postgresql+psycopg://me:{SECRET}@db/oathbulk?prepare_threshold={said}"
    with pytest.raises(ConfigError, match=r"OATHBULK_DATABASE_URL .*prepare_threshold") as refused:
        _ = load_settings({"OATHBULK_DATABASE_URL": url}).database
    assert SECRET not in str(refused.value)


def test_workers_without_redis_are_told_the_cure():
    with pytest.raises(ConfigError, match=r"OATHBULK_REDIS_URL is not set.*oathbulk run"):
        _ = load_settings({}).redis


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("OATHBULK_OTP_POST_BUDGET", "1"),
        ("OATHBULK_OTP_POST_BUDGET", "8"),
        ("OATHBULK_MAX_ATTEMPTS", "0"),
        ("OATHBULK_CONCURRENCY", "0"),
        ("OATHBULK_CONCURRENCY", "many"),
        ("OATHBULK_DATABASE_CONNECTIONS", "0"),
        ("OATHBULK_REPLAY_CRON", "every day"),
        ("OATHBULK_REPLAY_CRON", "61 * * * *"),
        ("OATHBULK_REPLAY_CRON", "* * * *"),
    ],
)
def test_a_setting_out_of_bounds_is_named_and_not_quoted(variable, value):
    message = settings_refusal(**{variable: value})
    assert message.startswith(variable + " ")
    assert "every day" not in message


@pytest.mark.parametrize("cron", ["off", "OFF", ""])
def test_no_replay_is_scheduled_unless_asked_for(cron):
    assert load_settings({"OATHBULK_REPLAY_CRON": cron}).replay_cron is None
    assert load_settings({"OATHBULK_REPLAY_CRON": "15 3 * * 1"}).replay_cron == "15 3 * * 1"


def test_a_call_ends_inside_its_lease():
    tuning = Tuning()
    assert tuning.call_deadline < tuning.lease_left_for_post < tuning.lease


def test_tests_put_other_values_in_place_of_constants():
    found = load_settings({"_OATHBULK_TUNING__lease": "5", "_OATHBULK_TUNING__window": "64"}).tuning
    assert found == Tuning(lease=5, window=64)
    with pytest.raises(ConfigError, match=r"^_OATHBULK_TUNING "):
        load_settings({"_OATHBULK_TUNING__leese": "5"})


TOML = f"""
[environments.staging]
PINGONE_ENVIRONMENT_ID = "env-9"
PINGONE_CLIENT_ID = "client-9"
PINGONE_CLIENT_SECRET = "{SECRET}"
PINGONE_REGION = "EU"
PINGONE_RATE = 12.5
PINGONE_RESYNC_ON_FIRST_CALL = true

[environments.half]
PINGONE_ENVIRONMENT_ID = "env-9"
"""


@pytest.fixture
def configured(tmp_path: Path) -> Settings:
    (tmp_path / "oathbulk.toml").write_text(TOML)
    return Settings(home=tmp_path)


def test_another_environment_is_a_section_of_the_configuration_file(configured):
    staging = load_environment(configured, "staging", VARIABLES)
    assert (staging.name, staging.environment_id, staging.rate) == ("staging", "env-9", 12.5)
    assert staging.api_url == "https://api.pingone.eu/v1"
    assert staging.resync_on_first_call is True


def test_a_wrong_value_in_a_section_is_named_with_the_file(tmp_path):
    file = private_file(tmp_path / "oathbulk.toml", TOML.replace("12.5", '"fast"').encode())
    with pytest.raises(ConfigError, match=rf"^PINGONE_RATE should be a valid number \(in {file}\)$"):
        load_environment(Settings(home=tmp_path), "staging", VARIABLES)


def test_a_section_takes_nothing_from_the_default_environment(configured):
    with pytest.raises(ConfigError, match="PINGONE_CLIENT_ID is not set; PINGONE_CLIENT_SECRET is not set"):
        load_environment(configured, "half", VARIABLES)


def test_the_default_environment_takes_nothing_from_the_file(configured):
    assert load_environment(configured, variables=VARIABLES).environment_id == "env-1"


def test_a_section_may_name_a_file_with_the_secret(tmp_path):
    private_file(tmp_path / "secret", SECRET.encode())
    (tmp_path / "elsewhere.toml").write_text(
        f'[environments.s]\nPINGONE_ENVIRONMENT_ID = "e"\nPINGONE_CLIENT_ID = "c"\n'
        f'PINGONE_CLIENT_SECRET_FILE = "{tmp_path / "secret"}"\n'
    )
    settings = load_settings({"OATHBULK_CONFIG": str(tmp_path / "elsewhere.toml")})
    assert load_environment(settings, "s", {}).client_secret.get_secret_value() == SECRET


def test_a_missing_section_names_the_cure(configured, tmp_path):
    with pytest.raises(ConfigError, match=r"add a section \[environments\.prod\] to .*oathbulk\.toml"):
        load_environment(configured, "prod")


@pytest.mark.parametrize(
    ("content", "section"),
    [
        ("environments = 3\n", "NAME"),
        ("[environments]\nprod = 3\n", "NAME"),
        ("[environments]\n", "prod"),
        ("", "prod"),
    ],
)
def test_a_file_without_such_a_section_names_the_cure(tmp_path, content, section):
    (tmp_path / "oathbulk.toml").write_text(content)
    with pytest.raises(ConfigError, match=rf"add a section \[environments\.{section}\]"):
        load_environment(Settings(home=tmp_path), "prod")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"'prod' is not configured: .*oathbulk\.toml does not exist"):
        load_environment(Settings(home=tmp_path), "prod")


@pytest.mark.parametrize("content", [f'PINGONE_CLIENT_SECRET = "{SECRET}\n'.encode(), b"\xff\xfe"])
def test_a_file_that_is_no_toml_is_named_and_not_quoted(tmp_path, content):
    (tmp_path / "oathbulk.toml").write_bytes(content)
    with pytest.raises(ConfigError, match=r"oathbulk\.toml cannot be read") as error:
        load_environment(Settings(home=tmp_path), "prod")
    assert SECRET not in str(error.value)


def test_the_audits_head_goes_to_a_file() -> None:
    assert load_settings({"OATHBULK_AUDIT_HEAD": "/var/log/oathbulk.heads"}).audit_head == "/var/log/oathbulk.heads"


@pytest.mark.parametrize("place", ["heads.txt", "./heads", "https://siem.example.com/heads"])
def test_a_path_that_depends_on_the_directory_in_which_a_command_is_typed_is_refused(place: str) -> None:
    with pytest.raises(ConfigError, match=r"^OATHBULK_AUDIT_HEAD must"):
        load_settings({"OATHBULK_AUDIT_HEAD": place})


@pytest.mark.parametrize("name", ["a?b", "a%41b", "ä b"])
def test_a_home_keeps_its_database_inside_it_whatever_its_name(name: str, tmp_path: Path) -> None:
    url = load_settings({"OATHBULK_HOME": str(tmp_path / name)}).database
    assert make_url(url).database == str(tmp_path / name / "oathbulk.db")


@pytest.mark.parametrize("url", ["https://hooks.example.com/services/T0/B0/key", "http://127.0.0.1:8080/hook"])
def test_a_webhook_is_reached_by_tls_or_on_this_machine(url: str) -> None:
    chosen = load_settings({"OATHBULK_WEBHOOK_URL": url}).webhook_url
    assert chosen is not None
    assert chosen.get_secret_value() == url


@pytest.mark.parametrize(
    "url", ["http://hooks.example.com/hidden", "hooks.example.com/hidden", "https://", "https://me:hidden@host/"]
)
def test_another_url_of_a_webhook_is_refused_and_not_quoted(url: str) -> None:
    with pytest.raises(ConfigError, match=r"^OATHBULK_WEBHOOK_URL must") as error:
        load_settings({"OATHBULK_WEBHOOK_URL": url})
    assert "hidden" not in str(error.value)


def test_neither_url_nor_secret_of_a_webhook_is_printed() -> None:
    url = f"https://hooks.example.com/{SECRET}"
    settings = load_settings({"OATHBULK_WEBHOOK_URL": url, "OATHBULK_WEBHOOK_SECRET": SECRET})
    assert SECRET not in repr(settings) + str(settings.model_dump())


def test_the_secret_of_a_webhook_may_stand_in_a_file_that_others_cannot_read(tmp_path: Path) -> None:
    file = private_file(tmp_path / "webhook", SECRET.encode())
    secret = load_settings({"OATHBULK_WEBHOOK_SECRET_FILE": str(file)}).webhook_secret
    assert secret is not None
    assert secret.get_secret_value() == SECRET
    file.chmod(0o644)
    with pytest.raises(ConfigError, match="can be read by every user"):
        load_settings({"OATHBULK_WEBHOOK_SECRET_FILE": str(file)})


def test_an_application_with_a_private_key_needs_no_secret_and_one_with_a_secret_needs_it() -> None:
    key = RSAKey.generate_key(2048).as_pem(private=True).decode()
    without = {"PINGONE_CLIENT_SECRET": "", "PINGONE_PRIVATE_KEY": key}
    assert environment(**without, PINGONE_CLIENT_AUTH="private_key_jwt").secret == ""
    assert refusal(**without) == "PINGONE_CLIENT_SECRET is not set"
    assert refusal(PINGONE_CLIENT_AUTH="private_key_jwt") == "PINGONE_PRIVATE_KEY is not set"
    wrong = refusal(PINGONE_CLIENT_AUTH="private_key_jwt", PINGONE_PRIVATE_KEY="made-up-private-key")
    assert wrong.startswith("PINGONE_PRIVATE_KEY is no private key")
    assert "made-up" not in wrong


def test_the_application_that_imports_authenticates_in_the_same_way() -> None:
    key = RSAKey.generate_key(2048).as_pem(private=True).decode()
    variables = {"PINGONE_CLIENT_AUTH": "private_key_jwt", "PINGONE_PRIVATE_KEY": key, "PINGONE_IMPORT_CLIENT_ID": "i"}
    missing = refusal(**variables, PINGONE_IMPORT_CLIENT_SECRET="another")
    assert "PINGONE_IMPORT_CLIENT_ID and PINGONE_IMPORT_PRIVATE_KEY belong together: set both" in missing
    importer = environment(**variables, PINGONE_IMPORT_PRIVATE_KEY=key, PINGONE_IMPORT_KEY_ID="july").as_importer()
    assert importer.private_key is not None
    assert (importer.client_id, importer.key_id, importer.configured_name) == ("i", "july", "default")
