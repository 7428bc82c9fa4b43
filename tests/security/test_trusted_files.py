"""Files that say where the client secret and OTPs are sent: nobody else may have written them, or put them there."""

from __future__ import annotations

import os
import pwd
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from worker.config import sources
from worker.config.settings import ConfigError, Settings
from worker.config.sources import load_environment, read_variables

is_root = os.geteuid() == 0
as_root = pytest.mark.skipif(not is_root, reason="only root may give files to others")

CONTENTS = {
    ".env": "PINGONE_API_URL=https://api.example.com/v1\n",
    "oathbulk.toml": '[environments.other]\nPINGONE_API_URL = "https://api.example.com/v1"\n',
}
Read = Callable[[], object]


@pytest.fixture(params=CONTENTS)
def file(request: pytest.FixtureRequest, open_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Each of them in a home that everybody may look into."""
    for name in [name for name in os.environ if name.startswith(("PINGONE_", "OATHBULK_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("OATHBULK_HOME", str(open_folder))
    path = open_folder / str(request.param)
    path.write_text(CONTENTS[path.name])
    path.chmod(0o644)
    return path


def read(file: Path) -> None:
    """Raises ConfigError where the file is refused. What else is missing does not matter here."""
    if file.name == ".env":
        assert "PINGONE_API_URL" in read_variables()
        return
    with pytest.raises(ConfigError) as error:
        load_environment(Settings(home=file.parent), "other")
    if "PINGONE_CLIENT_ID is not set" not in str(error.value):
        raise error.value


def refusal(file: Path) -> str:
    with pytest.raises(ConfigError) as error:
        read(file)
    return str(error.value)


def test_a_file_of_ones_own_is_read(file: Path) -> None:
    read(file)


@pytest.mark.parametrize("mode", [0o660, 0o606, 0o664, 0o666])
def test_a_file_that_others_may_change_is_refused_with_the_cure(file: Path, mode: int) -> None:
    file.chmod(mode)
    assert refusal(file).removeprefix("OATHBULK_HOME: ").startswith(f"{file} can be changed by other users")
    assert refusal(file).endswith(f": chmod go-w {file}")


@as_root
def test_a_file_of_another_user_is_refused_with_the_cure(file: Path) -> None:
    os.chown(file, pwd.getpwnam("nobody").pw_uid, -1)
    assert refusal(file).removeprefix("OATHBULK_HOME: ").startswith(f"{file} belongs to nobody")
    assert f"chown root {file}" in refusal(file)
    # One that the system has no name for, as in a container.
    os.chown(file, 2_000_000_123, -1)
    assert refusal(file).removeprefix("OATHBULK_HOME: ").startswith(f"{file} belongs to 2000000123")


@pytest.mark.parametrize("variable", ["PINGONE_API_URL", "PINGONE_TOKEN_URL"])
def test_a_file_with_the_url_alone_is_refused_where_others_may_change_it(open_folder: Path, variable: str) -> None:
    file = open_folder / "url"
    file.write_text("https://api.example.com/v1")
    variables = {f"PINGONE_{name}": "x" for name in ("ENVIRONMENT_ID", "CLIENT_ID", "CLIENT_SECRET")}
    variables[f"{variable}_FILE"] = str(file)
    file.chmod(0o644)
    load_environment(Settings(), variables=variables)

    file.chmod(0o666)

    with pytest.raises(
        ConfigError, match=f"^{variable}_FILE: {file} can be changed by other users.*: chmod go-w {file}$"
    ):
        load_environment(Settings(), variables=variables)


@as_root
def test_a_file_of_root_is_read_by_others(file: Path) -> None:
    os.seteuid(pwd.getpwnam("nobody").pw_uid)
    try:
        read(file)
    finally:
        os.seteuid(0)


def test_a_file_that_others_may_replace_is_refused_with_the_cure(file: Path) -> None:
    file.parent.chmod(0o777)
    assert refusal(file).removeprefix("OATHBULK_HOME: ").startswith(f"{file} can be replaced by every user")
    assert refusal(file).endswith(f": chmod o-w {file.parent}")
    # In a sticky directory, such as /tmp, only its owner may.
    file.parent.chmod(0o1777)
    read(file)


def test_a_link_is_as_safe_as_the_place_that_it_leads_to(file: Path) -> None:
    elsewhere = file.parent / "elsewhere"
    elsewhere.mkdir()
    target = file.rename(elsewhere / "target")
    file.symlink_to(target)
    read(file)
    elsewhere.chmod(0o777)
    assert refusal(file).endswith(f": chmod o-w {elsewhere}")
    elsewhere.chmod(0o755)
    target.chmod(0o666)
    assert "can be changed by other users" in refusal(file)


def test_a_pipe_is_refused_without_waiting_for_its_writer(file: Path) -> None:
    file.unlink()
    os.mkfifo(file, 0o600)
    assert f"{file} is a pipe or a device" in refusal(file)


def test_a_directory_in_its_place_is_refused(file: Path) -> None:
    file.unlink()
    file.mkdir()
    assert refusal(file).removeprefix("OATHBULK_HOME: ").startswith(f"{file} cannot be read")


@as_root
def test_what_a_containers_engine_mounts_belongs_to_a_user_of_the_host(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.chown(file, 1000, -1)
    monkeypatch.setattr(sources, "CONTAINER_SECRETS", file.parent / "run")
    assert "belongs to" in refusal(file)
    monkeypatch.setattr(sources, "CONTAINER_SECRETS", file.parent)
    read(file)


@as_root
def test_a_home_of_another_user_holds_no_file_for_us(open_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in the image, whose home is closed to whoever else runs a command in it."""
    home = open_folder / "home"
    home.mkdir(mode=0o700)
    (home / ".env").write_text(CONTENTS[".env"])
    monkeypatch.setenv("OATHBULK_HOME", str(home))
    monkeypatch.delenv("PINGONE_API_URL", raising=False)
    os.seteuid(pwd.getpwnam("nobody").pw_uid)
    try:
        assert "PINGONE_API_URL" not in read_variables()
    finally:
        os.seteuid(0)


def test_no_message_quotes_what_the_file_says(file: Path) -> None:
    file.write_text(CONTENTS[file.name] + f"{'x' if file.name == '.env' else 'PINGONE_CLIENT_SECRET'} = 'hidden'\n")
    file.chmod(0o666)
    assert not re.search("hidden|example", refusal(file))
