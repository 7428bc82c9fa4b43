"""Names that look like settings and are none: refused, with the nearest that is one; and nothing that is one is."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from worker.config.settings import ConfigError, UnusableSettings
from worker.config.sources import VARIABLES, load_settings, read_variables

PROJECT = Path(__file__).parents[3]
# Where settings are read, set or explained.
TOLD_IN = ("worker", "docs", "Makefile", "Dockerfile", "docker-compose.yml", ".env.example", "README.md", ".ci")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home, and a process environment with no other setting than its place."""
    for name in [name for name in os.environ if name.startswith(("PINGONE_", "OATHBULK_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("OATHBULK_HOME", str(tmp_path))
    return tmp_path


def refuse(error: type[ConfigError] = UnusableSettings) -> str:
    with pytest.raises(error) as refused:
        load_settings()
    return str(refused.value)


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        ("OATHBULK_CONCURENCY", "OATHBULK_CONCURRENCY"),
        ("OATHBULK_RATE", "PINGONE_RATE"),
        ("PINGONE_RAET", "PINGONE_RATE"),
        ("PINGONE_REGION_CODE", "PINGONE_REGION"),
        ("PINGONE_CLIENT_SECRT_FILE", "PINGONE_CLIENT_SECRET_FILE"),
    ],
)
def test_a_mistyped_variable_is_refused_with_the_nearest(
    wrong: str, meant: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(wrong, "made-up-value")
    assert refuse() == f"{wrong} is no setting; did you mean {meant}?"


def test_all_that_are_mistyped_are_named_at_once(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OATHBULK_XYZZY", "1")
    monkeypatch.setenv("PINGONE_RAET", "1")
    assert refuse() == (
        "OATHBULK_XYZZY is no setting; remove it (docs/deployment.md lists all); "
        "PINGONE_RAET is no setting; did you mean PINGONE_RATE?"
    )


def test_one_in_the_settings_file_is_refused_with_the_file(home: Path) -> None:
    (home / ".env").write_text("OATHBULK_MAX_ATTEMPTZ=3\nLOG_LEVEL=INFO\n")
    assert refuse() == f"{home / '.env'}: OATHBULK_MAX_ATTEMPTZ is no setting; did you mean OATHBULK_MAX_ATTEMPTS?"


@pytest.mark.parametrize("name", ["FLOWER_SERVICE_HOST", "SERVICE_PORT", "PORT", "PORT_5555_TCP_ADDR"])
def test_what_kubernetes_sets_for_a_service_of_our_name_is_let_be(
    name: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"OATHBULK_{name}", "10.0.0.1")
    assert load_settings().home == home


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("environmets = 3\n", ": environmets is no setting; did you mean environments?"),
        (
            "[environments.prod]\nPINGONE_RAET = 3\n",
            ", section [environments.prod]: PINGONE_RAET is no setting; did you mean PINGONE_RATE?",
        ),
        (
            "[environments.prod]\nOATHBULK_ACTOR = 3\n",
            ", section [environments.prod]: OATHBULK_ACTOR is no setting; remove it (docs/deployment.md lists all)",
        ),
        ("environments = [\n", " cannot be read: Invalid value (at end of document)"),
    ],
)
def test_a_file_of_environments_that_is_wrong_is_refused_though_nobody_asks_for_one(
    content: str, complaint: str, home: Path
) -> None:
    (home / "oathbulk.toml").write_text(content)
    assert refuse() == f"{home / 'oathbulk.toml'}{complaint}"


def test_a_file_of_environments_that_is_named_and_not_there_is_refused(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert load_settings().config is None
    monkeypatch.setenv("OATHBULK_CONFIG", str(home / "nowhere.toml"))
    assert refuse(ConfigError).startswith(f"OATHBULK_CONFIG names {home / 'nowhere.toml'}, which does not exist")


def test_every_setting_is_taken_also_from_a_file(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES - {"OATHBULK_HOME", "OATHBULK_ENV_FILE"}:
        monkeypatch.setenv(name, "1")
        monkeypatch.setenv(f"{name}_FILE", "1")
    assert read_variables().keys() >= VARIABLES - {"OATHBULK_ENV_FILE"}


def test_every_name_of_a_setting_in_this_project_is_known() -> None:
    """What code reads, or a file of ours sets or explains, would otherwise be refused."""
    places = [PROJECT / place for place in TOLD_IN]
    files = [each for place in places for each in (place.rglob("*") if place.is_dir() else [place]) if each.is_file()]
    texts = [file.read_text() for file in files if file.suffix not in (".png", ".pyc")]
    # What ends with _ is a beginning that code compares with.
    names = {name for text in texts for name in re.findall(r"\b(?:OATHBULK|PINGONE)_[A-Z0-9_]*[A-Z0-9]\b", text)}
    assert len(names) >= 40
    assert {name for name in names if not VARIABLES & {name, name.removesuffix("_FILE")}} == set()


def test_there_are_few_of_them() -> None:
    """What nobody outside the tests would turn is a constant, of `Tuning` or where it is used."""
    assert len(VARIABLES - {"OATHBULK_IMAGE"}) <= 40
