"""What the Makefile says while it installs: on a fresh machine that takes minutes."""

from __future__ import annotations

import os
import pty
import subprocess
from pathlib import Path

import pytest

MAKEFILE = Path(__file__).parents[2] / "Makefile"
# In place of the Python of .venv: says what it was asked for.
PYTHON = '#!/bin/sh\necho "python $*"\n'


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder in which nothing was installed yet."""
    (tmp_path / "pyproject.toml").touch()
    programs = tmp_path / ".venv" / "bin"
    programs.mkdir(parents=True)
    for name in ("pip", "python"):
        (programs / name).write_text(PYTHON)
        (programs / name).chmod(0o700)
    return tmp_path


def make(checkout: Path, target: str, stdout: int) -> bytes:
    command = ["make", "-f", str(MAKEFILE), target]
    # What the make that runs these tests tells its children would make this one announce its directory.
    env = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    return subprocess.run(command, cwd=checkout, env=env, check=True, stdout=stdout, timeout=60).stdout


@pytest.mark.parametrize("target", [".venv/.demo", ".venv/.dev"])
def test_what_is_installed_and_how_long_it_takes_is_said_before_it_begins(checkout: Path, target: str) -> None:
    said, installed, *_ = make(checkout, target, subprocess.PIPE).decode().splitlines()
    assert said.startswith("Installing into .venv")
    assert "minute" in said
    assert installed.startswith("python -m pip install --disable-pip-version-check --quiet -e .[")


def test_on_a_terminal_pip_shows_how_far_it_is(checkout: Path) -> None:
    ours, terminal = pty.openpty()
    try:
        make(checkout, ".venv/.demo", terminal)
        said = os.read(ours, 10_000).decode()
    finally:
        os.close(ours)
        os.close(terminal)
    assert "python -m pip install --disable-pip-version-check -e .[" in said


def test_what_is_installed_already_is_not_mentioned_again(checkout: Path) -> None:
    make(checkout, ".venv/.demo", subprocess.PIPE)
    assert b"Installing" not in make(checkout, ".venv/.demo", subprocess.PIPE)
