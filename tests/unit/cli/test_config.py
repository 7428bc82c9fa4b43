"""`oathbulk config`: every setting, its value and where that comes from; and nothing of a secret."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from worker.cli import config
from worker.config.settings import ConfigError
from worker.config.sources import ENVIRONMENT_SETTINGS, OWN_SETTINGS

SECRET = "made-up-secret"
IDS = {"PINGONE_ENVIRONMENT_ID": "env-1", "PINGONE_CLIENT_ID": "client-1", "PINGONE_CLIENT_SECRET": SECRET}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home, and a process environment with no other setting than its place."""
    for name in [name for name in os.environ if name.startswith(("PINGONE_", "OATHBULK_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("OATHBULK_HOME", str(tmp_path))
    return tmp_path


def write_private(path: Path, content: str) -> Path:
    path.write_text(content)
    path.chmod(0o600)
    return path


def read(capsys: pytest.CaptureFixture[str], environment: str = "default") -> dict[str, dict[str, Any]]:
    config.config(environment, as_json=True)
    printed = capsys.readouterr()
    assert SECRET not in printed.out + printed.err
    return {setting.pop("name"): setting for setting in json.loads(printed.out)["settings"]}


def test_every_setting_is_there_once(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert list(read(capsys)) == [*ENVIRONMENT_SETTINGS, *OWN_SETTINGS]


def test_each_place_of_a_value_is_told(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    key = write_private(home / "key", SECRET)
    env = write_private(
        home / ".env", f"PINGONE_CLIENT_SECRET={SECRET}\nOATHBULK_REDIS_URL_FILE={key}\nPINGONE_RATE=12\n"
    )
    monkeypatch.setenv("OATHBULK_MAX_ATTEMPTS", "5")
    monkeypatch.setenv("OATHBULK_AUDIT_KEY_FILE", str(key))
    settings = read(capsys)
    assert settings["OATHBULK_MAX_ATTEMPTS"] == {"value": "5", "source": "environment", "file": None, "default": "8"}
    assert settings["PINGONE_RATE"] == {"value": "12", "source": ".env", "file": str(env), "default": "30"}
    of_a_secret_file = {"value": "set", "source": "secret file", "file": str(key), "default": None}
    assert settings["OATHBULK_AUDIT_KEY"] == settings["OATHBULK_REDIS_URL"] == of_a_secret_file
    assert (settings["PINGONE_CLIENT_SECRET"]["value"], settings["PINGONE_CLIENT_SECRET"]["source"]) == ("set", ".env")
    assert settings["OATHBULK_LOG_FORMAT"] == {"value": "auto", "source": "default", "file": None, "default": "auto"}
    assert settings["OATHBULK_HOME"]["source"] == "environment"


def test_a_value_of_the_process_goes_before_a_file_that_the_settings_file_names(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_private(home / ".env", f"OATHBULK_AUDIT_KEY_FILE={write_private(home / 'key', SECRET)}\n")
    monkeypatch.setenv("OATHBULK_AUDIT_KEY", SECRET)
    assert read(capsys)["OATHBULK_AUDIT_KEY"]["source"] == "environment"


@pytest.mark.parametrize(
    ("variable", "given", "value"),
    [
        ("PINGONE_RATE", "60", "60"),
        ("PINGONE_RESYNC_ON_FIRST_CALL", "true", "on"),
        ("PINGONE_RESYNC_ON_FIRST_CALL", "auto", "auto"),
        ("PINGONE_REGION", "EU", "EU"),
    ],
)
def test_a_value_is_written_as_a_person_reads_it(
    variable: str,
    given: str,
    value: str,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, setting in (IDS | {variable: given}).items():
        monkeypatch.setenv(name, setting)
    assert read(capsys)[variable]["value"] == value


@pytest.mark.parametrize(
    ("variable", "given"),
    [
        ("OATHBULK_DATABASE_URL", f"postgresql+psycopg://user:{SECRET}@host/oathbulk"),
        ("OATHBULK_REDIS_URL", f"redis://:{SECRET}@host:6379/0"),
        ("OATHBULK_ENCRYPTION_KEYS", SECRET),
    ],
)
def test_of_a_secret_is_told_only_that_it_is_set(
    variable: str, given: str, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(variable, given)
    assert read(capsys)[variable]["value"] == "set"


def test_a_credential_of_systemd_is_named(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    credential = write_private(home / "audit_key", SECRET)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(home))
    told = read(capsys)["OATHBULK_AUDIT_KEY"]
    assert (told["value"], told["source"], told["file"]) == ("set", "systemd credential", str(credential))


def test_the_settings_of_another_environment_come_from_its_section(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = "".join(f'{name} = "{value}"\n' for name, value in IDS.items())
    toml = write_private(home / "oathbulk.toml", f"[environments.test]\n{lines}")
    monkeypatch.setenv("PINGONE_RATE", "12")
    settings = read(capsys, "test")
    assert settings["PINGONE_CLIENT_ID"]["value"] == "client-1"
    assert (settings["PINGONE_CLIENT_ID"]["source"], settings["PINGONE_CLIENT_ID"]["file"]) == (
        "oathbulk.toml",
        str(toml),
    )
    assert (settings["PINGONE_RATE"]["value"], settings["PINGONE_RATE"]["source"]) == ("30", "default")
    assert settings["PINGONE_API_URL"]["value"] == "https://api.pingone.com/v1"


def test_what_is_not_complete_yet_is_shown_and_what_lacks_is_named(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PINGONE_CLIENT_SECRET", SECRET)
    monkeypatch.setenv("PINGONE_REGION", "XX")
    config.config()
    printed = capsys.readouterr()
    assert SECRET not in printed.out + printed.err
    assert "PINGONE_ENVIRONMENT_ID is not set" in printed.err
    lines = {line.split()[0]: line.split()[1:] for line in printed.out.splitlines()}
    assert lines["PINGONE_REGION"][:3] == ["XX", "process", "environment"]
    assert lines["PINGONE_RATE"] == ["30", "default"]
    assert lines["PINGONE_CLIENT_SECRET"][0] == "set"


def test_an_environment_that_is_configured_nowhere_is_named(home: Path) -> None:
    with pytest.raises(ConfigError, match=r"'test' is not configured"):
        config.config("test")
