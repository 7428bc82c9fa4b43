"""`oathbulk config`: every setting, its value and where that comes from, and nothing of a secret. Which hosts are
named, and the warning where URLs and client secret come from different places."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from worker.cli import config
from worker.cli.homes import describe_hosts, print_unread_env_file
from worker.config.settings import ConfigError
from worker.config.sources import ENVIRONMENT_SETTINGS, OWN_SETTINGS
from worker.installation.installation import Installation

SECRET = "made-up-secret"
IDS = {"PINGONE_ENVIRONMENT_ID": "env-1", "PINGONE_CLIENT_ID": "client-1"}
PINGONE = IDS | {"PINGONE_CLIENT_SECRET": SECRET}
PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a home below the working directory, and clear the process environment of all other settings of ours."""
    for name in [name for name in os.environ if name.startswith(("PINGONE_", "OATHBULK_")) or name.lower() in PROXIES]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    (home := tmp_path / "home").mkdir(mode=0o700)
    monkeypatch.setenv("OATHBULK_HOME", str(home))
    return home


def write(path: Path, content: str) -> Path:
    path.touch(0o600)
    path.write_text(content)
    return path


def lines(values: dict[str, str]) -> str:
    return "".join(f'{name} = "{value}"\n' for name, value in values.items())


def set_all(monkeypatch: pytest.MonkeyPatch, **values: str) -> None:
    for name, value in values.items():
        monkeypatch.setenv(name, value)


def read(capsys: pytest.CaptureFixture[str], environment: str = "default") -> dict[str, dict[str, Any]]:
    config.config(environment, as_json=True)
    printed = capsys.readouterr()
    assert SECRET not in printed.out + printed.err
    return {setting.pop("name"): setting for setting in json.loads(printed.out)["settings"]}


def test_every_setting_is_there_once_and_each_place_of_a_value_is_told(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    key = write(home / "key", SECRET)
    env = write(
        home / ".env",
        f"PINGONE_CLIENT_SECRET={SECRET}\nOATHBULK_REDIS_URL_FILE={key}\nPINGONE_RATE=12\n"
        f"OATHBULK_DATABASE_URL_FILE={key}\n",
    )
    credential = write(home / "webhook_secret", SECRET)
    of_process = {"OATHBULK_MAX_ATTEMPTS": "5", "OATHBULK_DATABASE_URL": SECRET, "CREDENTIALS_DIRECTORY": str(home)}
    set_all(monkeypatch, **of_process, OATHBULK_ENCRYPTION_KEYS_FILE=str(key))
    settings = read(capsys)
    assert list(settings) == [*ENVIRONMENT_SETTINGS, *OWN_SETTINGS]
    told = {
        "OATHBULK_MAX_ATTEMPTS": ("5", "environment", None, "8"),
        "OATHBULK_HOME": (str(home), "environment", None, "oathbulk in $XDG_STATE_HOME"),
        "PINGONE_RATE": ("12", ".env", str(env), "30"),
        "PINGONE_CLIENT_SECRET": ("set", ".env", str(env), None),
        "OATHBULK_REDIS_URL": ("set", "secret file", str(key), None),
        "OATHBULK_ENCRYPTION_KEYS": ("set", "secret file", str(key), None),
        # A value of the process goes before a file that the settings file names.
        "OATHBULK_DATABASE_URL": ("set", "environment", None, None),
        "OATHBULK_WEBHOOK_SECRET": ("set", "systemd credential", str(credential), None),
        "OATHBULK_LOG_FORMAT": ("auto", "default", None, "auto"),
    }
    assert {name: tuple(settings[name].values()) for name in told} == told


@pytest.mark.parametrize(
    ("variable", "given", "value"),
    [
        ("PINGONE_RATE", "60", "60"),
        ("PINGONE_RESYNC_ON_FIRST_CALL", "true", "on"),
        ("PINGONE_RESYNC_ON_FIRST_CALL", "auto", "auto"),
        ("PINGONE_REGION", "EU", "EU"),
        ("OATHBULK_DATABASE_URL", f"postgresql+psycopg://user:{SECRET}@host/oathbulk", "set"),
        ("OATHBULK_REDIS_URL", f"redis://:{SECRET}@host:6379/0", "set"),
    ],
)
def test_a_value_is_written_as_a_person_reads_it_and_of_a_secret_only_that_it_is_set(
    variable: str, given: str, value: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    set_all(monkeypatch, **PINGONE, **{variable: given})
    assert read(capsys)[variable]["value"] == value


def test_what_is_not_complete_yet_is_shown_and_what_lacks_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    set_all(monkeypatch, PINGONE_CLIENT_SECRET=SECRET, PINGONE_REGION="XX")
    config.config()
    printed = capsys.readouterr()
    assert (SECRET in printed.out + printed.err, "PINGONE_ENVIRONMENT_ID is not set" in printed.err) == (False, True)
    told = {line.split()[0]: line.split()[1:3] for line in printed.out.splitlines()}
    assert (told["PINGONE_REGION"], told["PINGONE_RATE"]) == (["XX", "process"], ["30", "default"])
    with pytest.raises(ConfigError, match=r"'test' is not configured"):
        config.config("test")


# Hosts.


def hosts(**variables: str) -> str:
    (line,) = describe_hosts(Installation(PINGONE | variables), "default")
    return line


def test_hosts_are_named_without_anything_else_of_their_urls() -> None:
    told = "PingOne's API is called at {}, and access tokens come from {}."
    assert hosts(PINGONE_REGION="EU") == told.format("api.pingone.eu", "auth.pingone.eu")
    urls = {"PINGONE_API_URL": "https://api.example:8443/v1?hidden", "PINGONE_TOKEN_URL": "https://log.in/hidden/{env}"}
    assert hosts(**urls) == told.format("api.example", "log.in")


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"])
@pytest.mark.parametrize("proxy", ["http://user:hidden@proxy.example:3128", "user:hidden@proxy.example:3128"])
def test_a_proxy_is_named_without_its_password(monkeypatch: pytest.MonkeyPatch, variable: str, proxy: str) -> None:
    monkeypatch.setenv(variable, proxy)
    assert hosts().endswith("from auth.pingone.com, through the proxy proxy.example.")


def test_no_proxy_is_named_that_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    set_all(monkeypatch, HTTPS_PROXY="http://proxy.example", HTTP_PROXY="http://proxy.example", NO_PROXY="pingone.com")
    assert "proxy" not in hosts()
    monkeypatch.delenv("NO_PROXY")
    assert "proxy" not in hosts(PINGONE_API_URL="http://127.0.0.1:1/v1", PINGONE_TOKEN_URL="http://127.0.0.1:1/token")


STRANGER = {"PINGONE_API_URL": "https://stranger.example"}
BOTH = STRANGER | {"PINGONE_TOKEN_URL": "https://b.example"}
FILE = {"PINGONE_CLIENT_SECRET_FILE": "{home}/secret"}


@pytest.mark.parametrize(
    ("process", "env", "section", "said"),
    [
        (PINGONE, STRANGER, {}, "PINGONE_API_URL comes from {home}/.env, {secret} from the process environment: "),
        (
            PINGONE,
            {"PINGONE_TOKEN_URL": "https://b.example"},
            {},
            "PINGONE_TOKEN_URL comes from {home}/.env, {secret} from the process environment: ",
        ),
        (
            {},
            BOTH | IDS | FILE,
            {},
            "PINGONE_API_URL and PINGONE_TOKEN_URL come from {home}/.env, {secret} from {home}/secret: ",
        ),
        (
            {"CREDENTIALS_DIRECTORY": "{home}"},
            STRANGER | IDS,
            {},
            "PINGONE_API_URL comes from {home}/.env, {secret} from {home}/pingone_client_secret: ",
        ),
        (
            {},
            {},
            IDS | STRANGER | FILE,
            "PINGONE_API_URL comes from {home}/oathbulk.toml, {secret} from {home}/secret: ",
        ),
        # One place gives both.
        ({}, PINGONE | STRANGER, {}, ""),
        # What is set in the process environment goes before the file, which gives nothing then.
        (PINGONE | STRANGER, PINGONE | STRANGER, {}, ""),
        ({"PINGONE_CLIENT_SECRET": SECRET}, IDS | {"PINGONE_REGION": "EU"}, {}, ""),
        ({}, {}, PINGONE | STRANGER, ""),
    ],
    ids=[
        *("an API in .env", "a token URL in .env", "a secret in a third file", "of systemd", "a section"),
        *("one file", "one environment", "a region alone", "one section"),
    ],
)
def test_a_file_that_gives_a_url_for_a_secret_from_elsewhere_is_named_with_both_places(
    process: dict[str, str],
    env: dict[str, str],
    section: dict[str, str],
    said: str,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("secret", "pingone_client_secret"):
        write(home / name, SECRET)
    set_all(monkeypatch, **{name: value.replace("{home}", str(home)) for name, value in process.items()})
    write(home / ".env", lines(env).replace("{home}", str(home)))
    write(home / "oathbulk.toml", "[environments.other]\n" + lines(section).replace("{home}", str(home)))
    _, *mixed = describe_hosts(Installation(), "other" if section else "default")
    told = "".join(mixed)
    assert told.startswith(said.format(home=home, secret="PINGONE_CLIENT_SECRET"))
    assert (len(mixed), SECRET in told) == (bool(said), False)


@pytest.mark.parametrize("how", ["nowhere", "named", "linked", "home", ""])
def test_a_file_in_the_working_directory_that_is_not_read_is_named(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], how: str
) -> None:
    file = write(home.parent / ".env", lines(IDS))
    if how == "named":
        monkeypatch.setenv("OATHBULK_ENV_FILE", ".env")
    elif how == "linked":
        (home / ".env").symlink_to(file)
    elif how == "home":
        monkeypatch.setenv("OATHBULK_HOME", str(home.parent))
    elif how == "nowhere":
        file.unlink()
    print_unread_env_file(Installation())
    said = f"./.env is not read: settings come from {home / '.env'}; use --env-file .env\n"
    assert capsys.readouterr() == ("", "" if how else said)
