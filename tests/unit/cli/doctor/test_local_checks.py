"""What doctor says of this machine."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from worker.cli.doctor import local_checks
from worker.cli.doctor.finding import State
from worker.cli.doctor.local_checks import check_disk, check_home, check_key_files
from worker.embedded.home import EmbeddedError
from worker.installation.installation import Installation


@pytest.mark.parametrize(("free", "state"), [(499_999_999, State.FAULT), (500_000_000, State.WELL)])
def test_half_a_gigabyte_should_be_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, state: State
) -> None:
    monkeypatch.setattr(local_checks.shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    found = check_disk(tmp_path)
    assert (found.state, found.detail) == (state, f"0.5 GB free in {tmp_path}")


def test_the_disk_of_a_home_that_is_not_there_yet_is_that_of_the_directory_above(tmp_path: Path) -> None:
    assert check_disk(tmp_path / "later" / "home").detail.endswith(f" in {tmp_path}")


def test_a_home_with_something_in_it_is_closed_to_others(tmp_path: Path) -> None:
    installation = Installation({"OATHBULK_HOME": str(tmp_path)})
    tmp_path.chmod(0o755)
    assert check_home(installation).state is State.WELL
    (tmp_path / "oathbulk.db").touch()
    assert check_home(installation).cure == f"chmod 700 {tmp_path}"
    tmp_path.chmod(0o700)
    assert check_home(installation).state is State.WELL


@pytest.fixture
def foreign_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of another user's, which is closed to this one: in a container, who runs the commands is not its owner."""
    home = tmp_path / "home"
    home.mkdir()
    access, stat = os.access, Path.stat

    def refuse(path: Path, **options: Any) -> os.stat_result:
        if home in path.parents:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return stat(path, **options)

    monkeypatch.setattr(os, "access", lambda path, mode: path != home and access(path, mode))
    monkeypatch.setattr(Path, "stat", refuse)
    return home


def test_a_home_of_another_users_does_not_matter_where_servers_keep_everything(foreign_home: Path) -> None:
    servers = {"OATHBULK_DATABASE_URL": "postgresql+psycopg://oathbulk@database/oathbulk"}
    installation = Installation({"OATHBULK_HOME": str(foreign_home)} | servers)
    assert not installation.has_home
    assert check_home(installation).state is State.WELL
    assert check_key_files(installation).detail == "0 with keys and secrets, closed to other users"


def test_a_home_of_another_users_that_is_needed_is_refused_in_one_line(foreign_home: Path) -> None:
    (config := foreign_home.with_name("oathbulk.toml")).touch()
    installation = Installation({"OATHBULK_HOME": str(foreign_home), "OATHBULK_CONFIG": str(config)})
    with pytest.raises(EmbeddedError, match="belongs to another user: set OATHBULK_HOME to a directory of your own"):
        _ = installation.has_home


def test_files_with_secrets_are_counted_wherever_they_are(tmp_path: Path) -> None:
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    paths = [tmp_path / "encryption.key", tmp_path / "secret", credentials / "pingone_private_key"]
    for path in paths:
        path.touch(mode=0o600)
    variables = {"OATHBULK_HOME": str(tmp_path), "CREDENTIALS_DIRECTORY": str(credentials)}
    installation = Installation(variables | {"PINGONE_CLIENT_SECRET_FILE": str(paths[1])})
    assert check_key_files(installation).detail == "3 with keys and secrets, closed to other users"
    for path in paths:
        path.chmod(0o644)
        found = check_key_files(installation)
        assert (found.state, found.detail) == (State.FAULT, f"other users can read {path}")
        path.chmod(0o600)
