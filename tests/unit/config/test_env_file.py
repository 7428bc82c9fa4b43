"""The `.env` file is read from the home or from the path that a person names, never from the working directory."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from worker.config.settings import ConfigError, Settings
from worker.config.sources import load_environment, load_settings, read_env_file, read_variables


@pytest.fixture
def clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, and a process environment without any of our settings."""
    for name in [name for name in os.environ if name.startswith(("PINGONE_", "OATHBULK_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


@pytest.fixture
def home(clean: Path, tmp_path: Path) -> Path:
    """The home in its default place."""
    home = tmp_path / "state" / "oathbulk"
    home.mkdir(mode=0o700, parents=True)
    return home


def write(path: Path, content: str) -> Path:
    path.write_text(content)
    path.chmod(0o600)
    return path


def test_the_file_in_the_working_directory_is_not_read(clean: Path) -> None:
    write(clean / ".env", "OATHBULK_MAX_ATTEMPTS=5\nPINGONE_API_URL=https://stranger.example/v1\n")
    assert load_settings().max_attempts == 8
    assert "PINGONE_API_URL" not in read_variables()


def test_the_file_in_the_home_is_read(home: Path) -> None:
    write(home / ".env", "OATHBULK_MAX_ATTEMPTS=5\n# a comment\nPINGONE_CLIENT_ID='quoted id'\n")
    assert load_settings().max_attempts == 5
    assert read_variables()["PINGONE_CLIENT_ID"] == "quoted id"


def test_the_home_is_the_one_that_the_process_environment_names(
    clean: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(home / ".env", "OATHBULK_MAX_ATTEMPTS=5\n")
    (clean / "elsewhere").mkdir()
    write(clean / "elsewhere" / ".env", "OATHBULK_MAX_ATTEMPTS=6\n")
    monkeypatch.setenv("OATHBULK_HOME", str(clean / "elsewhere"))
    assert load_settings().max_attempts == 6


def test_a_file_that_is_named_is_read_in_place_of_the_homes(
    clean: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(home / ".env", "OATHBULK_MAX_ATTEMPTS=5\nOATHBULK_CONCURRENCY=4\n")
    monkeypatch.setenv("OATHBULK_ENV_FILE", str(write(clean / "test.env", "OATHBULK_MAX_ATTEMPTS=6\n")))
    settings = load_settings()
    assert (settings.max_attempts, settings.concurrency) == (6, 64)


def test_a_file_that_is_named_and_not_there_is_refused_with_the_cure(
    clean: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OATHBULK_ENV_FILE", "nothing.env")
    with pytest.raises(ConfigError, match=r"^nothing\.env does not exist: name another with --env-file or"):
        read_variables()


def test_the_process_environment_goes_before_it(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(home / ".env", "OATHBULK_MAX_ATTEMPTS=5\nOATHBULK_CONCURRENCY=4\n")
    monkeypatch.setenv("OATHBULK_MAX_ATTEMPTS", "6")
    settings = load_settings()
    assert (settings.max_attempts, settings.concurrency) == (6, 4)
    assert read_env_file().values == {"OATHBULK_CONCURRENCY": "4"}


def test_a_file_that_the_process_environment_names_goes_before_it_too(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(home / ".env", "OATHBULK_ENCRYPTION_KEYS=of-a-rehearsal\n")
    monkeypatch.setenv("OATHBULK_ENCRYPTION_KEYS_FILE", str(write(home / "keys", "of-production\n")))
    keys = load_settings().encryption_keys
    assert keys is not None
    assert keys.get_secret_value() == "of-production"


def test_a_proxy_and_authorities_that_it_names_are_where_httpx_looks_for_them(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTPS_PROXY", "SSL_CERT_FILE"):
        # Afterwards the process environment is as it was.
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    write(home / ".env", "HTTPS_PROXY=http://proxy.example:3128\nSSL_CERT_FILE=/own/ca.pem\nPATH_OF_OURS=/x\n")
    read_variables()
    assert os.environ["HTTPS_PROXY"] == "http://proxy.example:3128"
    assert os.environ["SSL_CERT_FILE"] == "/own/ca.pem"
    assert "PATH_OF_OURS" not in os.environ


def test_the_file_of_a_home_may_not_name_another_home(clean: Path, home: Path) -> None:
    """A process that finds the file through the home would then work in another home, and one that starts there would
    read another file."""
    write(home / ".env", "OATHBULK_HOME=/somewhere/else\n")
    with pytest.raises(ConfigError, match=r"sets OATHBULK_HOME to another: remove that line, or .* --env-file"):
        read_variables()
    write(home / ".env", f"OATHBULK_HOME={home}\n")
    assert load_settings().home == home


def test_a_file_that_is_named_may_name_the_home(clean: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OATHBULK_ENV_FILE", str(write(clean / "test.env", "OATHBULK_HOME=/somewhere/else\n")))
    assert load_settings().home == Path("/somewhere/else")


def test_no_file_leads_to_another_file(home: Path) -> None:
    write(home / ".env", "OATHBULK_ENV_FILE=other.env\n")
    with pytest.raises(ConfigError, match="sets OATHBULK_ENV_FILE, which only the process environment can"):
        read_variables()


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("a word too many\n", 1),
        ("A=1\n\n# one\nB='unclosed\n", 4),
        ("A=1\n\nPINGONE_REGION\n", 3),
        ("export PINGONE_REGION\n", 1),
    ],
)
def test_a_line_that_sets_nothing_is_refused(home: Path, content: str, line: int) -> None:
    write(home / ".env", content)

    with pytest.raises(ConfigError) as refused:
        read_env_file()

    assert str(refused.value).startswith(f"{home / '.env'}: line {line} is no NAME=value")
    assert "unclosed" not in str(refused.value)


def test_a_value_that_is_wrong_is_named_with_its_file(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(home / ".env", "OATHBULK_MAX_ATTEMPTS=few\nPINGONE_RATE=fast\n")
    with pytest.raises(ConfigError, match=rf"^OATHBULK_MAX_ATTEMPTS should be a valid integer \(in {file}\)$"):
        load_settings()
    monkeypatch.setenv("OATHBULK_MAX_ATTEMPTS", "many")
    with pytest.raises(ConfigError, match=r"^OATHBULK_MAX_ATTEMPTS should be a valid integer$"):
        load_settings()
    with pytest.raises(ConfigError, match=rf"PINGONE_RATE should be a valid number \(in {file}\)"):
        load_environment(Settings())
    monkeypatch.setenv("PINGONE_RATE", "")
    named = write(home / "rate", "fast")
    monkeypatch.setenv("PINGONE_RATE_FILE", str(named))
    with pytest.raises(ConfigError, match=rf"PINGONE_RATE should be a valid number \(in {named}\)"):
        load_environment(Settings())


def test_its_values_are_not_in_its_repr(home: Path) -> None:
    write(home / ".env", "PINGONE_CLIENT_SECRET=hidden\n")
    assert "hidden" not in repr(read_env_file())
