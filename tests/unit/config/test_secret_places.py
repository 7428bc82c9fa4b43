"""Secrets from credentials of systemd and from a keyring: what goes before what, and that a keyring is not asked
unless a person wants it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import keyring
import pytest
from keyring.backend import KeyringBackend
from keyring.backends.fail import Keyring as NoKeyring
from keyring.errors import PasswordDeleteError

from worker.config.environment import Environment
from worker.config.settings import ConfigError, Settings
from worker.config.sources import load_environment, load_settings

IDS = {"PINGONE_ENVIRONMENT_ID": "env-1", "PINGONE_CLIENT_ID": "client-1"}
SERVICE = {"OATHBULK_KEYRING": "oathbulk"}


class Chest(KeyringBackend):
    """A keyring of this process alone."""

    priority = 1

    def __init__(self) -> None:
        super().__init__()
        self.kept: dict[tuple[str, str], str] = {}
        self.asked: list[tuple[str, str]] = []

    def get_password(self, service: str, username: str) -> str | None:
        self.asked.append((service, username))
        return self.kept.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self.kept[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        raise PasswordDeleteError


@pytest.fixture
def chest() -> Iterator[Chest]:
    """The keyring that the library asks."""
    before, chest = keyring.get_keyring(), Chest()
    keyring.set_keyring(chest)
    yield chest
    keyring.set_keyring(before)


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
    environment: Environment = load_environment(settings or Settings(), name, IDS | variables)
    return environment.secret


def test_what_is_set_goes_before_a_file_before_a_credential_before_the_keyring(
    chest: Chest, credentials: Path, tmp_path: Path
) -> None:
    chest.set_password("oathbulk", "pingone_client_secret", "of the keyring")
    variables = SERVICE | {"CREDENTIALS_DIRECTORY": str(credentials)}
    assert secret_of(variables) == "of the keyring"
    keep(credentials / "pingone_client_secret", "of systemd")
    assert secret_of(variables) == "of systemd"
    variables["PINGONE_CLIENT_SECRET_FILE"] = keep(tmp_path / "file", "of the file")
    assert secret_of(variables) == "of the file"
    variables["PINGONE_CLIENT_SECRET"] = "of the variable"
    assert secret_of(variables) == "of the variable"


def test_a_keyring_is_not_asked_unless_a_setting_says_so(chest: Chest) -> None:
    chest.set_password("oathbulk", "pingone_client_secret", "of the keyring")
    with pytest.raises(ConfigError, match="PINGONE_CLIENT_SECRET is not set"):
        secret_of({})
    assert not chest.asked


def test_the_installations_own_secrets_have_the_names_that_their_files_have(chest: Chest, credentials: Path) -> None:
    keep(credentials / "encryption_keys", "made-up-key")
    keep(credentials / "database_url", "postgresql+psycopg://u:p@db/oathbulk")
    chest.set_password("oathbulk", "redis_url", "redis://:made-up@redis:6379/0")
    settings = load_settings(SERVICE | {"CREDENTIALS_DIRECTORY": str(credentials)})
    assert settings.encryption_keys is not None
    assert settings.encryption_keys.get_secret_value() == "made-up-key"
    assert settings.database == "postgresql+psycopg://u:p@db/oathbulk"
    assert settings.redis == "redis://:made-up@redis:6379/0"


def test_only_secrets_are_looked_for_there(chest: Chest, credentials: Path) -> None:
    keep(credentials / "pingone_rate", "7")
    keep(credentials / "pingone_client_secret", "s")
    environment = load_environment(Settings(), variables=IDS | SERVICE | {"CREDENTIALS_DIRECTORY": str(credentials)})
    assert environment.rate == 30
    assert ("oathbulk", "pingone_rate") not in chest.asked


def test_another_environment_has_secrets_of_its_own_name(chest: Chest, credentials: Path, tmp_path: Path) -> None:
    config = tmp_path / "oathbulk.toml"
    config.write_text('[environments.spain]\nPINGONE_ENVIRONMENT_ID = "e"\nPINGONE_CLIENT_ID = "c"\n')
    config.chmod(0o600)
    settings, variables = Settings(config=config), SERVICE | {"CREDENTIALS_DIRECTORY": str(credentials)}
    keep(credentials / "pingone_client_secret", "of default")
    chest.set_password("oathbulk", "pingone_client_secret.spain", "of spain")
    assert secret_of(variables, "spain", settings) == "of spain"
    keep(credentials / "pingone_client_secret.spain", "of spain by systemd")
    assert secret_of(variables, "spain", settings) == "of spain by systemd"


def test_the_name_of_an_environment_leads_out_of_no_directory(credentials: Path, tmp_path: Path) -> None:
    config = tmp_path / "oathbulk.toml"
    config.write_text('[environments."/../../x"]\nPINGONE_ENVIRONMENT_ID = "e"\nPINGONE_CLIENT_ID = "c"\n')
    config.chmod(0o600)
    (credentials / "pingone_client_secret.").mkdir()
    keep(tmp_path / "x", "of somebody")
    with pytest.raises(ConfigError, match="PINGONE_CLIENT_SECRET is not set"):
        secret_of({"CREDENTIALS_DIRECTORY": str(credentials)}, "/../../x", Settings(config=config))


def test_a_credential_that_every_user_can_read_is_refused(credentials: Path) -> None:
    path = Path(keep(credentials / "pingone_client_secret", "s"))
    path.chmod(0o644)
    with pytest.raises(ConfigError, match=f"CREDENTIALS_DIRECTORY: {path} can be read by every user"):
        secret_of({"CREDENTIALS_DIRECTORY": str(credentials)})


def test_a_machine_without_a_keyring_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    before = keyring.get_keyring()
    keyring.set_keyring(NoKeyring())
    try:
        with pytest.raises(ConfigError, match="OATHBULK_KEYRING is set, and the keyring cannot be read"):
            secret_of(dict(SERVICE))
    finally:
        keyring.set_keyring(before)


def test_a_missing_package_is_named_with_the_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "keyring", None)
    with pytest.raises(ConfigError, match="with the extra `keyring`"):
        secret_of(dict(SERVICE))
