"""Secrets from credentials of systemd: what goes before what, and which names they have."""

from __future__ import annotations

from pathlib import Path

import pytest

from worker.config.settings import ConfigError, Settings
from worker.config.sources import load_environment, load_settings

IDS = {"PINGONE_ENVIRONMENT_ID": "env-1", "PINGONE_CLIENT_ID": "client-1"}


@pytest.fixture
def credentials(tmp_path: Path) -> Path:
    """The directory that systemd makes for a service."""
    directory = tmp_path / "credentials"
    directory.mkdir(mode=0o700)
    return directory


def keep(path: Path, value: str) -> str:
    path.write_text(f"{value}\n")
    path.chmod(0o400)
    return str(path)


def secret_of(variables: dict[str, str], name: str = "default", settings: Settings | None = None) -> str:
    return load_environment(settings or Settings(), name, IDS | variables).secret


def test_what_is_set_goes_before_a_file_before_a_credential(credentials: Path, tmp_path: Path) -> None:
    variables = {"CREDENTIALS_DIRECTORY": str(credentials)}
    keep(credentials / "pingone_client_secret", "of systemd")
    assert secret_of(variables) == "of systemd"
    variables["PINGONE_CLIENT_SECRET_FILE"] = keep(tmp_path / "file", "of the file")
    assert secret_of(variables) == "of the file"
    variables["PINGONE_CLIENT_SECRET"] = "of the variable"
    assert secret_of(variables) == "of the variable"


def test_the_installations_own_secrets_have_the_names_that_their_files_have(credentials: Path) -> None:
    keep(credentials / "encryption_keys", "made-up-key")
    keep(credentials / "database_url", "postgresql+psycopg://u:p@db/oathbulk")
    settings = load_settings({"CREDENTIALS_DIRECTORY": str(credentials)})
    assert settings.encryption_keys is not None
    assert settings.encryption_keys.get_secret_value() == "made-up-key"
    assert settings.database == "postgresql+psycopg://u:p@db/oathbulk"


def test_only_secrets_are_looked_for_there(credentials: Path) -> None:
    keep(credentials / "pingone_rate", "7")
    keep(credentials / "pingone_client_secret", "s")
    environment = load_environment(Settings(), variables=IDS | {"CREDENTIALS_DIRECTORY": str(credentials)})
    assert environment.rate == 30


def configure(tmp_path: Path, section: str) -> Settings:
    """Settings with another environment, which has no secret in its section."""
    config = tmp_path / "oathbulk.toml"
    config.write_text(f'[environments.{section}]\nPINGONE_ENVIRONMENT_ID = "e"\nPINGONE_CLIENT_ID = "c"\n')
    config.chmod(0o600)
    return Settings(config=config)


def test_another_environment_has_secrets_of_its_own_name(credentials: Path, tmp_path: Path) -> None:
    settings, variables = configure(tmp_path, "spain"), {"CREDENTIALS_DIRECTORY": str(credentials)}
    keep(credentials / "pingone_client_secret", "of default")
    with pytest.raises(ConfigError, match="PINGONE_CLIENT_SECRET is not set"):
        secret_of(variables, "spain", settings)
    keep(credentials / "pingone_client_secret.spain", "of spain")
    assert secret_of(variables, "spain", settings) == "of spain"


def test_the_name_of_an_environment_leads_out_of_no_directory(credentials: Path, tmp_path: Path) -> None:
    settings = configure(tmp_path, '"/../../x"')
    (credentials / "pingone_client_secret.").mkdir()
    keep(tmp_path / "x", "of somebody")
    with pytest.raises(ConfigError, match="PINGONE_CLIENT_SECRET is not set"):
        secret_of({"CREDENTIALS_DIRECTORY": str(credentials)}, "/../../x", settings)


def test_a_credential_that_every_user_can_read_is_refused_by_the_name_of_its_setting(credentials: Path) -> None:
    path = Path(keep(credentials / "pingone_client_secret", "s"))
    path.chmod(0o644)
    refused = f"^PINGONE_CLIENT_SECRET, CREDENTIALS_DIRECTORY: {path} can be read by every user: chmod 600"
    with pytest.raises(ConfigError, match=refused):
        secret_of({"CREDENTIALS_DIRECTORY": str(credentials)})
