"""Settings, whoever wrote them: usable, or refused in a sentence that quotes no secret; never a failure of ours."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from models.encrypted import Keyring
from worker.config.environment import Environment
from worker.config.settings import ConfigError, Settings
from worker.config.sources import (
    ENVIRONMENT_SETTINGS,
    OWN_SETTINGS,
    load_environment,
    load_settings,
    read_variables,
)
from worker.embedded.home import home_key, read_pid
from worker.embedded.valkey import ValkeyConfig

SECRET = "made-up-secret"
UNHURRIED = settings(
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
NAMES = {"OATHBULK_": OWN_SETTINGS, "PINGONE_": ENVIRONMENT_SETTINGS}
NUMBERS = st.sampled_from(["0", "-1", "1e400", "nan", "inf", "9" * 5000, "٣", "1_0", " 7 ", "0x10", "true"])
URLS = st.sampled_from(
    [
        "https://[::1",
        "http://127.0.0.1:99999/",
        "https://h\x00/",
        "https://a@b/",
        "//h",
        "https://\ud800",
        "redis://:p@h:x",
    ]
)
VALUES = st.text(max_size=30) | NUMBERS | URLS | st.from_regex(r"[0-9*/,\- L#]{0,12}", fullmatch=True)
REQUIRED = {f"PINGONE_{name}": "x" for name in ("ENVIRONMENT_ID", "CLIENT_ID", "CLIENT_SECRET")}


def complaint(ask: Callable[[], object]) -> str:
    """What was refused, and why; empty if nothing was. Any other failure is one of ours."""
    try:
        ask()
    except ConfigError as error:
        return str(error)
    return ""


@UNHURRIED
@given(st.dictionaries(st.sampled_from(NAMES["OATHBULK_"]), VALUES, max_size=6))
@example({"OATHBULK_CONFIG": "/"})
@example({"OATHBULK_CONFIG": "https://h\0/"})
@example({"OATHBULK_HOME": "https://\ud800"})
@example({"OATHBULK_HOME": "9" * 5000})
def test_any_variables_are_settings_or_refused(variables: dict[str, str]) -> None:
    def look() -> object:
        found = load_settings(variables)
        return found.database, found.redis

    refused = complaint(look)
    assert not refused or refused.startswith("OATHBULK_")


@UNHURRIED
@given(st.dictionaries(st.sampled_from(NAMES["PINGONE_"]), VALUES, max_size=6))
def test_any_variables_are_an_environment_or_refused(variables: dict[str, str]) -> None:
    found: list[Environment] = []
    refused = complaint(lambda: found.append(load_environment(Settings(), variables=REQUIRED | variables)))
    assert refused.startswith("PINGONE_") == (not found)
    for environment in found:
        assert environment.api_url.startswith(("https://", "http://127.0.0.1", "http://localhost", "http://[::1]"))


TOML = st.lists(
    st.sampled_from(
        [
            *("[environments.other]\n", "[environments]\n", "other = ", "PINGONE_RATE = ", "PINGONE_CLIENT_SECRET = "),
            *(
                '"text"\n',
                "0x" + "f" * 20_000 + "\n",
                "9" * 5000 + "\n",
                "[" * 5000,
                "{a=" * 5000,
                "nan\n",
                "'''",
                "\r",
            ),
            *("PINGONE_ENVIRONMENT_ID = 1979-05-27T07:32:00Z\n", 'PINGONE_CLIENT_ID = "\\uD800"\n', '"\x1b" = 1\n'),
        ]
    ).map(str.encode)
    | st.binary(max_size=20),
    max_size=8,
).map(b"".join)


@UNHURRIED
@given(TOML)
@example(b"[environments.other]\nPINGONE_RATE = 0x" + b"f" * 20_000)
@example(b"environments = " + b"[" * 50_000)
def test_any_configuration_file_is_read_or_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "oathbulk.toml").write_bytes(content)
    assert len(complaint(lambda: load_environment(Settings(home=tmp_path), "other"))) < 2000


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home, with no other setting in the process environment."""
    for name in [name for name in os.environ if name.startswith(("PINGONE_", "OATHBULK_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("OATHBULK_HOME", str(tmp_path))
    return tmp_path


DOTENV = st.lists(
    st.sampled_from(
        [
            b"OATHBULK_RATE=",
            b"PINGONE_RATE=",
            b"export ",
            b"A=${B}\n",
            b'"',
            b"'",
            b"#",
            b"=",
            b"\n",
            b"\\",
            b"${",
            b"A=\xff",
        ]
    )
    | st.binary(max_size=20),
    max_size=8,
).map(b"".join)


@UNHURRIED
@given(DOTENV)
def test_any_dotenv_file_is_read_or_refused(folder: Path, content: bytes) -> None:
    (folder / ".env").write_bytes(content)
    refused = complaint(read_variables)
    beginnings = (" cannot be read", ": OATHBULK_RATE", ": line ")
    assert not refused or refused.startswith(tuple(f"{folder / '.env'}{beginning}" for beginning in beginnings))


@UNHURRIED
@given(st.lists(st.text(max_size=50) | st.binary(max_size=50).map(lambda data: data.decode("latin-1")), max_size=3))
def test_any_keys_are_a_ring_or_refused(keys: list[str]) -> None:
    with pytest.raises(ValueError, match="key"):
        Keyring(keys)


@UNHURRIED
@given(st.binary(max_size=100))
@example(b'port 99999\nrequirepass "abc"\n')
def test_any_bytes_in_files_of_the_home_are_read_or_refused(tmp_path: Path, content: bytes) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o700, exist_ok=True)
    for name in ("encryption.key", "valkey.conf", "lock"):
        (home / name).write_bytes(content)
        (home / name).chmod(0o600)
    with pytest.raises(ConfigError, match="holds no encryption key"):
        home_key(home)
    config = ValkeyConfig.read(home / "valkey.conf")
    assert config is None or config.port < 100_000
    assert read_pid(home / "lock") is None or isinstance(read_pid(home / "lock"), int)


PASSWORDS = ["hid@den", "hid/den", "hid#den", "hid?den", "hid:den", "hid%zzden", "hid den", "hid\\den", "hid[den"]


@pytest.mark.parametrize("password", PASSWORDS)
def test_a_password_with_odd_characters_is_used_whole_or_its_url_refused_unquoted(password: str) -> None:
    """Otherwise a driver takes a piece of it for the host or the port, and names that in its error."""
    redis, database = f"redis://:{password}@127.0.0.1:1/0", f"postgresql+psycopg://u:{password}@127.0.0.1:1/x"
    found = load_settings({"OATHBULK_REDIS_URL": redis, "OATHBULK_DATABASE_URL": database})
    for read, url in ((lambda: found.redis, redis), (lambda: found.database, database)):
        refused = complaint(read)
        assert refused or read() == url
        assert "hid" not in refused
        assert "den" not in refused


@pytest.mark.parametrize(
    "url",
    [
        *(
            "postgresql+psycopg://u:hid@den@db/x",
            "postgresql+psycopg://u:hidden@db:port/x",
            "nonsense:hidden",
            "hidden",
        ),
        *("postgresql+psycopg://u@db/x?password=hidden", "://u:hidden@db/x"),
    ],
)
def test_a_database_url_that_would_show_its_password_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match=r"^OATHBULK_DATABASE_URL ") as refusal:
        _ = load_settings({"OATHBULK_DATABASE_URL": url}).database
    assert "hid" not in str(refusal.value)


@pytest.mark.parametrize(
    "url",
    [
        *("redis://:hid/den@r:6379/0", "redis://:hidden@r:port/0", "redis://:hid#den@r:6379/0", "redis://:hid?den@r/0"),
        *("redis://r:6379/0?password=hidden", "amqp://u:hidden@r", "hidden", "redis://:hidden@[::1/0", "redis:hidden"),
    ],
)
def test_a_broker_url_that_would_show_its_password_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match=r"^OATHBULK_REDIS_URL ") as refusal:
        _ = load_settings({"OATHBULK_REDIS_URL": url}).redis
    assert "hid" not in str(refusal.value)


@pytest.mark.parametrize("variable", ["PINGONE_API_URL", "PINGONE_TOKEN_URL"])
def test_a_url_of_pingone_holds_no_credentials(variable: str) -> None:
    """`doctor` prints it, and httpx would send them."""
    with pytest.raises(ConfigError, match=f"^{variable} must hold no user and password") as refusal:
        load_environment(Settings(), variables=REQUIRED | {variable: "https://user:hidden@api.pingone.com/v1"})
    assert "hidden" not in str(refusal.value)


SECRET_LINES = {
    ".env": "PINGONE_CLIENT_SECRET=hidden\n",
    "oathbulk.toml": '[environments.other]\nPINGONE_CLIENT_SECRET = "hidden"\n',
}


def read(file: str) -> object:
    if file == ".env":
        return read_variables()
    return load_environment(load_settings({"OATHBULK_CONFIG": file}), "other", {})


@pytest.mark.parametrize("file", SECRET_LINES)
def test_a_file_of_settings_with_a_secret_in_it_is_closed_to_every_user(
    file: str, open_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(open_folder)
    monkeypatch.setenv("OATHBULK_HOME", str(open_folder))
    path = open_folder / file
    path.write_text(SECRET_LINES[file])
    path.chmod(0o644)
    with pytest.raises(ConfigError, match=f"{file} holds a secret and can be read by every user: chmod 600") as refusal:
        read(file)
    assert "hidden" not in str(refusal.value)
    # A directory that nobody else gets into protects it as well.
    open_folder.chmod(0o700)
    assert "can be read" not in complaint(lambda: read(file))
    open_folder.chmod(0o755)
    path.chmod(0o640)
    assert "can be read" not in complaint(lambda: read(file))


def test_a_file_of_settings_without_a_secret_may_be_open(open_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OATHBULK_HOME", str(open_folder))
    (open_folder / ".env").write_text("PINGONE_CLIENT_ID=anybody\nPINGONE_CLIENT_SECRET=\n")
    (open_folder / ".env").chmod(0o644)
    assert read_variables()["PINGONE_CLIENT_ID"] == "anybody"
