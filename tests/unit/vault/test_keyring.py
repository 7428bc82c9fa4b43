"""Keys are loaded from settings or from files in the home."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.authenticated import AuditKeys
from models.encrypted import Keyring, generate_key
from worker.config.settings import ConfigError, Settings
from worker.embedded.home import home_key
from worker.vault.keys import AUDIT, ENCRYPTION, load_audit_keys, load_keyring

IDENTITY = b"record:1:2"
POSTGRESQL = "postgresql+psycopg://db/oathbulk"


def is_first(keyring: Keyring, key: str) -> bool:
    return keyring.is_sealed_by_first_key(Keyring([key]).seal(b"", IDENTITY))


def refusal(settings: Settings) -> str:
    with pytest.raises(ConfigError) as error:
        load_keyring(settings)
    return str(error.value)


def test_the_first_key_of_the_setting_seals_and_every_key_opens():
    new, old = generate_key(), generate_key()
    keyring = load_keyring(Settings(encryption_keys=f" {new} ,{old},\n"))
    assert is_first(keyring, new)
    assert not is_first(keyring, old)
    assert keyring.open(Keyring([old]).seal(b"otps", IDENTITY), IDENTITY) == b"otps"


def test_the_embedded_stack_uses_the_key_file_of_its_home(tmp_path):
    key = home_key(tmp_path)
    assert (tmp_path / ENCRYPTION.file).is_file()
    assert is_first(load_keyring(Settings(home=tmp_path)), key)


def test_the_setting_goes_before_the_key_file(tmp_path):
    home_key(tmp_path)
    key = generate_key()
    assert is_first(load_keyring(Settings(home=tmp_path, encryption_keys=key)), key)


def test_postgresql_needs_the_setting_even_if_a_home_has_a_key(tmp_path):
    home_key(tmp_path)
    message = refusal(Settings(home=tmp_path, database_url=POSTGRESQL))
    assert "OATHBULK_ENCRYPTION_KEYS is not set" in message
    assert "oathbulk keygen" in message


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o611])
def test_a_key_file_that_is_open_to_others_is_refused_with_the_cure(tmp_path, mode):
    key = home_key(tmp_path)
    path = tmp_path / ENCRYPTION.file
    path.chmod(mode)
    message = refusal(Settings(home=tmp_path))
    assert f"chmod 600 {path}" in message
    assert key not in message


def test_a_missing_key_file_is_named(tmp_path):
    assert str(tmp_path / ENCRYPTION.file) in refusal(Settings(home=tmp_path))


@pytest.mark.parametrize("content", [b"", b"c2hvcnQ=", b"\xff" * 40])
def test_a_key_file_without_a_key_is_refused(tmp_path, content):
    path: Path = tmp_path / ENCRYPTION.file
    path.write_bytes(content)
    path.chmod(0o600)
    assert str(path) in refusal(Settings(home=tmp_path))


def test_a_key_of_the_wrong_form_is_refused_without_being_quoted():
    message = refusal(Settings(encryption_keys=f"{generate_key()},made-up-key"))
    assert "OATHBULK_ENCRYPTION_KEYS" in message
    assert "oathbulk keygen" in message
    assert "made-up-key" not in message


@pytest.mark.parametrize("keys", ["", " , ,"])
def test_a_setting_without_a_key_is_refused(keys):
    assert "at least one key is needed" in refusal(Settings(encryption_keys=keys, database_url=POSTGRESQL))


# The audit's.


def test_the_first_audit_key_of_the_setting_signs():
    new, old = generate_key(), generate_key()
    keys = load_audit_keys(Settings(audit_key=f"{new},{old}", database_url=POSTGRESQL))
    assert keys.sign(b"line") == AuditKeys([new]).sign(b"line")
    assert keys.is_genuine(AuditKeys([old]).sign(b"line"), b"line")


def test_the_embedded_stack_has_an_audit_key_in_its_home_which_is_not_that_of_the_otps(tmp_path):
    key = home_key(tmp_path, AUDIT)
    assert key != home_key(tmp_path)
    assert (tmp_path / "audit.key").read_text().strip() == key
    assert load_audit_keys(Settings(home=tmp_path)).sign(b"line") == AuditKeys([key]).sign(b"line")


def test_postgresql_needs_no_audit_key_and_takes_none_from_a_home(tmp_path):
    home_key(tmp_path, AUDIT)
    assert load_audit_keys(Settings(home=tmp_path, database_url=POSTGRESQL)) is None


def test_an_audit_key_that_cannot_be_used_is_named_and_not_quoted(tmp_path):
    with pytest.raises(ConfigError, match=r"audit\.key is missing: put it back"):
        load_audit_keys(Settings(home=tmp_path))
    home_key(tmp_path, AUDIT)
    (tmp_path / AUDIT.file).chmod(0o644)
    with pytest.raises(ConfigError, match=r"chmod 600 .*audit\.key"):
        load_audit_keys(Settings(home=tmp_path))
    with pytest.raises(ConfigError, match=r"^OATHBULK_AUDIT_KEY: .*oathbulk keygen") as error:
        load_audit_keys(Settings(audit_key="made-up-key"))
    assert "made-up-key" not in str(error.value)
