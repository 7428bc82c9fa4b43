"""What doctor says of this machine."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from worker.cli.doctor import local_checks
from worker.cli.doctor.finding import State
from worker.cli.doctor.local_checks import check_disk, check_home, check_key_files
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
