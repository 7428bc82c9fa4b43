"""A rehearsal keeps to its own home and simulator, whatever leads elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from worker.cli.rehearsal_stage import point_at_rehearsal
from worker.config.settings import Settings
from worker.config.sources import load_environment, load_settings
from worker.simulator.shipment import make_shipment

# Every setting that names a place, a server or a key.
ELSEWHERE = {
    "OATHBULK_CONFIG": "/real/oathbulk.toml",
    "OATHBULK_DATABASE_URL": "postgresql+psycopg://nobody@127.0.0.1:1/real",
    "OATHBULK_REDIS_URL": "redis://127.0.0.1:1/0",
    "OATHBULK_ENCRYPTION_KEYS": "real",
    "OATHBULK_AUDIT_KEY": "real",
    "OATHBULK_AUDIT_HEAD": "/real/audit.heads",
    "OATHBULK_JOURNAL": "/real/journal",
    "OATHBULK_KEYRING": "real",
    "OATHBULK_WEBHOOK_URL": "https://real.example",
    "OATHBULK_WEBHOOK_SECRET": "real",
    "OATHBULK_BACKUP_STAMP": "/real/stamp",
}
PLACES = {name.removeprefix("OATHBULK_").lower() for name in ELSEWHERE}


def rehearse_with(home: Path, **variables: str) -> Settings:
    return load_settings(point_at_rehearsal(variables, home, 8900, make_shipment(1)))


def test_nothing_that_a_setting_names_is_reached(tmp_path: Path) -> None:
    settings = rehearse_with(tmp_path, **ELSEWHERE)
    assert {name: getattr(settings, name) for name in PLACES} == dict.fromkeys(PLACES)
    assert settings.journal_directory == tmp_path / "journal"


def test_no_setting_that_names_a_place_is_forgotten_here() -> None:
    named = {name for name, facts in Settings.model_fields.items() if {"Path", "SecretStr"} & _words(facts.annotation)}
    assert named - PLACES == {"home"}


def test_no_secret_is_taken_from_a_credential_of_systemd(tmp_path: Path) -> None:
    credential = tmp_path / "database_url"
    credential.write_text(ELSEWHERE["OATHBULK_DATABASE_URL"])
    credential.chmod(0o600)
    assert rehearse_with(tmp_path / "home", CREDENTIALS_DIRECTORY=str(tmp_path)).is_embedded_database


def test_the_rates_of_a_run_are_rehearsed_and_nothing_else_of_its_pingone(tmp_path: Path) -> None:
    real = {"PINGONE_RATE": "7", "PINGONE_API_URL": "https://real.example/v1", "PINGONE_LICENSE": "real"}
    variables = point_at_rehearsal(real, tmp_path, 8900, make_shipment(1))
    environment = load_environment(load_settings(variables), variables=variables)
    assert (environment.rate, environment.api_url) == (7, "http://127.0.0.1:8900/v1")
    assert environment.license == environment.environment_id


def _words(annotation: object) -> set[str]:
    return set(str(annotation).replace("<class '", "").replace("'>", "").replace("|", " ").replace(".", " ").split())


@pytest.fixture(autouse=True)
def no_keyring(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no test ask this machine's keyring."""
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "keyring.backends.null.Keyring")
