"""What the Makefile says while it installs, which takes minutes on a fresh machine; and what it installs, by what."""

from __future__ import annotations

import os
import pty
import shutil
import subprocess
import tomllib
from contextlib import suppress
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
# In place of the Python of .venv, and of uv: says what it was asked to run, but for a line of Python, which asks how
# old it is.
PROGRAM = '#!/bin/sh\n[ "$1" != -c ] || exit 0\necho "${0##*/} $*"\n'
TOO_NEW = PROGRAM.replace("exit 0", "exit 1")
FAILS = PROGRAM + "exit 1\n"
# What make and its recipes need; nothing else is found, and so no uv of this machine.
TOOLS = ("make", "touch", "dirname")
FROM = "--require-hashes --no-deps --requirement .ci/locks/build.txt --requirement .ci/locks/"
LOCKED = f"python -m pip install --disable-pip-version-check --quiet {FROM}"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder in which nothing was installed yet."""
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / ".ci").symlink_to(CHECKOUT / ".ci")
    for name in ("pip", "python"):
        put(tmp_path / ".venv" / "bin" / name, PROGRAM)
    (tmp_path / "tools").mkdir()
    for name in TOOLS:
        (tmp_path / "tools" / name).symlink_to(str(shutil.which(name)))
    return tmp_path


def put(path: Path, program: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(program)
    path.chmod(0o700)


def run_make(checkout: Path, target: str, stdout: int, **variables: str) -> subprocess.CompletedProcess[bytes]:
    command = ["make", "-f", str(CHECKOUT / "Makefile"), target]
    env = {"PATH": str(checkout / "tools"), **variables}
    return subprocess.run(command, cwd=checkout, env=env, stdout=stdout, stderr=subprocess.PIPE, timeout=60)


def make(checkout: Path, target: str, **variables: str) -> list[str]:
    """The lines that it prints."""
    done = run_make(checkout, target, subprocess.PIPE, **variables)
    assert done.returncode == 0, done.stderr
    return done.stdout.decode().splitlines()


@pytest.mark.parametrize("need", ["demo", "dev"])
def test_what_is_installed_and_how_long_it_takes_is_said_before_it_begins(checkout: Path, need: str) -> None:
    said, packages, ours, *_ = make(checkout, f".venv/.{need}")
    assert said.startswith("Installing into .venv")
    assert "minute" in said
    assert packages == f"{LOCKED}{need}.txt"
    assert ours.endswith("--quiet --no-deps --no-build-isolation --editable .")


def test_on_a_terminal_pip_shows_how_far_it_is(checkout: Path) -> None:
    ours, terminal = pty.openpty()
    try:
        run_make(checkout, ".venv/.demo", terminal)
    finally:
        os.close(terminal)
    # What was written arrives bit by bit; where all was read, Linux says EIO.
    said = b""
    with os.fdopen(ours, "rb", buffering=0) as shown, suppress(OSError):
        while chunk := shown.read(10_000):
            said += chunk
    assert b"python -m pip install --disable-pip-version-check --require-hashes" in said


def test_the_bill_of_materials_names_our_version(checkout: Path) -> None:
    (checkout / "pyproject.toml").write_bytes((CHECKOUT / "pyproject.toml").read_bytes())
    put(checkout / ".venv" / "bin" / "python", '#!/bin/sh\ncase "$2" in *__version__*) echo 1.2.3 ;; esac\n')
    for name in ("pip", "cyclonedx-py"):
        put(checkout / ".venv" / "sbom" / "bin" / name, PROGRAM)
    for name in ("git", "ls", "mkdir", "sed"):
        (checkout / "tools" / name).symlink_to(str(shutil.which(name)))
    put(checkout / "dist" / "sbom.cdx.json", "")
    said = make(checkout, "sbom")
    assert "--pyproject .venv/sbom/pyproject.toml" in said[-2]
    project = tomllib.loads((checkout / ".venv" / "sbom" / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert (project["version"], "dynamic" in project) == ("1.2.3", False)


def test_what_is_installed_already_is_not_mentioned_again(checkout: Path) -> None:
    make(checkout, ".venv/.demo")
    assert not any("Installing" in line for line in make(checkout, ".venv/.demo"))


def test_uv_fetches_what_is_locked_where_it_is_there(checkout: Path) -> None:
    put(checkout / "tools" / "uv", PROGRAM)
    _, packages, ours = make(checkout, ".venv/.demo")
    assert packages == f"uv pip install --quiet --python .venv/bin/python --compile-bytecode {FROM}demo.txt"
    assert ours.startswith("python -m pip install")


def test_pip_takes_over_with_the_same_hashes_where_uv_fails(checkout: Path) -> None:
    put(checkout / "tools" / "uv", FAILS)
    _, _, said, packages, _ = make(checkout, ".venv/.demo")
    assert said == "uv could not install these packages; pip tries."
    assert packages == f"{LOCKED}demo.txt"


def test_a_python_newer_than_the_lock_gets_what_pyproject_toml_permits_and_is_told_so(checkout: Path) -> None:
    put(checkout / ".venv" / "bin" / "python", TOO_NEW)
    _, newer, unlocked, packages = make(checkout, ".venv/.demo")
    assert newer == "This Python is newer than the locked packages, which are for Python 3.11 to 3.14."
    assert unlocked.endswith("without the lock.")
    assert packages.endswith("--editable .[embedded,rehearsal]")


def test_the_lock_can_be_left_out(checkout: Path) -> None:
    assert make(checkout, ".venv/.demo", LOCKED="no")[-1].endswith("--editable .[embedded,rehearsal]")


def test_packages_that_cannot_be_installed_end_it_with_what_to_do(checkout: Path) -> None:
    put(checkout / ".venv" / "bin" / "python", FAILS)
    done = run_make(checkout, ".venv/.demo", subprocess.PIPE)
    assert done.returncode == 2
    assert b"LOCKED=no make" in done.stderr
    assert not (checkout / ".venv" / ".demo").exists()
