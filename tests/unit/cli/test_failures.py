"""What a command says when it fails in a way that a person can mend."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from worker.cli.exit_codes import WRONG_USAGE
from worker.cli.failures import exit_for


def test_a_path_in_a_directory_that_is_closed_to_us_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "out.csv"
    with pytest.raises(SystemExit) as ended:
        exit_for(PermissionError(errno.EACCES, "Permission denied", path))
    assert ended.value.code == WRONG_USAGE
    assert f"{path} is out of reach (Permission denied): see whether" in capsys.readouterr().err


def test_a_failure_without_a_file_is_not_explained_by_one() -> None:
    with pytest.raises(PermissionError):
        exit_for(PermissionError(errno.EACCES, "Permission denied"))
