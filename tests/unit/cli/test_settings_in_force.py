"""The settings that a plan shows: their values, where each comes from, and nothing of a secret."""

from __future__ import annotations

from pathlib import Path

import pytest

from worker.cli.settings_in_force import list_settings
from worker.installation.installation import Installation
from worker.pages.plan_contents import SettingLine

SECRETS = {
    "PINGONE_CLIENT_SECRET": "made-up-client-secret",
    "PINGONE_IMPORT_CLIENT_SECRET": "made-up-importer-secret",
    "OATHBULK_DATABASE_URL": "postgresql+psycopg://user:made-up-password@host/oathbulk",
    "OATHBULK_REDIS_URL": "redis://:made-up-password@host:6379/0",
    "OATHBULK_ENCRYPTION_KEYS": "made-up-encryption-key",
    "OATHBULK_AUDIT_KEY": "made-up-audit-key",
}
VARIABLES = {"PINGONE_ENVIRONMENT_ID": "env-1", "PINGONE_CLIENT_ID": "client-1", "PINGONE_IMPORT_CLIENT_ID": "client-2"}


def list_lines(home: Path, name: str = "default", **variables: str) -> dict[str, SettingLine]:
    installation = Installation(VARIABLES | SECRETS | {"OATHBULK_HOME": str(home)} | variables)
    return {line.name: line for line in list_settings(installation, name, ("OATHBULK_MAX_ATTEMPTS",))}


def test_of_a_secret_is_told_only_whether_it_is_set(tmp_path: Path) -> None:
    lines = list_lines(tmp_path)
    assert {lines[name].value for name in SECRETS} == {"set"}
    assert not [line for line in lines.values() if "made-up" in line.value]
    assert list_lines(tmp_path, OATHBULK_AUDIT_KEY="")["OATHBULK_AUDIT_KEY"].value == "not set"


@pytest.mark.parametrize(
    ("variable", "given", "value"),
    [
        ("OATHBULK_MAX_ATTEMPTS", "3", "3"),
        ("OATHBULK_TOTP_MAX_AGE", "60", "60"),
        ("PINGONE_RESYNC_ON_FIRST_CALL", "true", "on"),
        ("PINGONE_RESYNC_ON_FIRST_CALL", "auto", "auto"),
        ("PINGONE_REGION", "EU", "EU"),
    ],
)
def test_a_value_is_written_as_a_person_reads_it(variable: str, given: str, value: str, tmp_path: Path) -> None:
    line = list_lines(tmp_path, **{variable: given})[variable]
    assert (line.value, line.origin) == (value, "process environment")


def test_what_nobody_set_is_a_default(tmp_path: Path) -> None:
    line = list_lines(tmp_path)["OATHBULK_MAX_ATTEMPTS"]
    assert (line.value, line.origin, line.is_hashed) == ("8", "default", True)
    assert not list_lines(tmp_path)["PINGONE_REGION"].is_hashed


def test_another_environments_settings_come_from_its_section(tmp_path: Path) -> None:
    toml = tmp_path / "oathbulk.toml"
    ids = 'PINGONE_ENVIRONMENT_ID = "env-2"\nPINGONE_CLIENT_ID = "c"\nPINGONE_CLIENT_SECRET = "made-up"\n'
    toml.write_text(f"[environments.test]\n{ids}")
    toml.chmod(0o600)
    lines = list_lines(tmp_path, "test", PINGONE_REGION="EU")
    assert (lines["PINGONE_ENVIRONMENT_ID"].value, lines["PINGONE_ENVIRONMENT_ID"].origin) == ("env-2", str(toml))
    # The process environment describes the default environment alone.
    assert (lines["PINGONE_REGION"].value, lines["PINGONE_REGION"].origin) == ("NA", "default")
    assert lines["OATHBULK_HOME"].origin == "process environment"


def test_what_stands_in_the_settings_file_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / ".env"
    file.write_text("OATHBULK_MAX_ATTEMPTS=3\n")
    for name, value in (VARIABLES | SECRETS | {"OATHBULK_HOME": str(tmp_path)}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("OATHBULK_MAX_ATTEMPTS", raising=False)
    monkeypatch.delenv("OATHBULK_ENV_FILE", raising=False)
    lines = {line.name: line for line in list_settings(Installation(), "default")}
    line = lines["OATHBULK_MAX_ATTEMPTS"]
    assert (line.value, line.origin) == ("3", str(file))
    assert lines["PINGONE_CLIENT_ID"].origin == "process environment"


def test_a_credential_of_systemd_is_named(tmp_path: Path) -> None:
    credential = tmp_path / "audit_key"
    credential.write_text("made-up-audit-key")
    credential.chmod(0o400)
    line = list_lines(tmp_path, OATHBULK_AUDIT_KEY="", CREDENTIALS_DIRECTORY=str(tmp_path))["OATHBULK_AUDIT_KEY"]
    assert (line.value, line.origin) == ("set", str(credential))
