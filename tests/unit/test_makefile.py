"""What the Makefile says while it installs, which takes minutes on a fresh machine; and what it installs, by what."""

import os
import pty
import shutil
import subprocess
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest
from support.processes.scripts import read_terminal

CHECKOUT = Path(__file__).parents[2]
# In place of the Python of .venv, and of uv: says what it was asked to run, but for a line of Python, which asks how
# old it is.
PROGRAM = '#!/bin/sh\n[ "$1" != -c ] || exit 0\necho "${0##*/} $*"\n'
TOO_NEW = PROGRAM.replace("exit 0", "exit 1")
FAILS = PROGRAM + "exit 1\n"
# What make and its recipes need; nothing else is found, and so no uv of this machine.
TOOLS = ("make", "touch", "dirname", "git", "ls", "mkdir", "sed")
PYTHON, UV = ".venv/bin/python", "tools/uv"
BEGIN = "Installing into .venv*"
FROM = "--require-hashes --no-deps --requirement .ci/locks/build.txt --requirement .ci/locks/"
LOCKED = f"python -m pip install --disable-pip-version-check --quiet {FROM}"
OURS = "python -m pip install *--quiet --no-deps --no-build-isolation --editable ."
NEWEST = "*--editable .[[]embedded,rehearsal]"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder in which nothing was installed yet."""
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / ".ci").symlink_to(CHECKOUT / ".ci")
    (tmp_path / "tools").mkdir()
    for name in TOOLS:
        (tmp_path / "tools" / name).symlink_to(str(shutil.which(name)))
    put(tmp_path, {".venv/bin/pip": PROGRAM, PYTHON: PROGRAM})
    return tmp_path


def put(checkout: Path, programs: dict[str, str]) -> None:
    for name, program in programs.items():
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        (checkout / name).write_text(program)
        (checkout / name).chmod(0o700)


def make(
    checkout: Path, target: str, stdout: int = subprocess.PIPE, **variables: str
) -> subprocess.CompletedProcess[bytes]:
    command = ["make", "-f", str(CHECKOUT / "Makefile"), target]
    env = {"PATH": str(checkout / "tools"), **variables}
    return subprocess.run(command, cwd=checkout, env=env, stdout=stdout, stderr=subprocess.PIPE, timeout=60)


@pytest.mark.parametrize(
    ("target", "programs", "variables", "said"),
    [
        (".venv/.demo", {}, {}, [BEGIN, f"{LOCKED}demo.txt", OURS]),
        (".venv/.dev", {}, {}, [BEGIN, f"{LOCKED}dev.txt", OURS, "*"]),
        (
            ".venv/.demo",
            {UV: PROGRAM},
            {},
            [BEGIN, f"uv pip install --quiet --python .venv/bin/python --compile-bytecode {FROM}demo.txt", OURS],
        ),
        (
            ".venv/.demo",
            {UV: FAILS},
            {},
            [BEGIN, "uv *", "uv could not install these packages; pip tries.", f"{LOCKED}demo.txt", OURS],
        ),
        (
            ".venv/.demo",
            {PYTHON: TOO_NEW},
            {},
            [
                BEGIN,
                "This Python is newer than the locked packages, which are for Python 3.11 to 3.14.",
                "*without the lock.",
                NEWEST,
            ],
        ),
        (".venv/.demo", {}, {"LOCKED": "no"}, [BEGIN, "*", NEWEST]),
    ],
    ids=[
        "locked",
        "with what tests need",
        "by uv",
        "by pip, since uv fails",
        "newer than the lock",
        "without the lock",
    ],
)
def test_what_is_installed_and_how_long_it_takes_is_said_before_it_begins_and_only_once(
    checkout: Path, target: str, programs: dict[str, str], variables: dict[str, str], said: list[str]
) -> None:
    put(checkout, programs)
    lines = make(checkout, target, **variables).stdout.decode().splitlines()
    assert "minute" in lines[0]
    assert [fnmatch(line, pattern) for line, pattern in zip(lines, said, strict=True)] == [True] * len(said), lines
    assert b"Installing" not in make(checkout, target, **variables).stdout


def test_on_a_terminal_pip_shows_how_far_it_is(checkout: Path) -> None:
    ours, terminal = pty.openpty()
    make(checkout, ".venv/.demo", terminal)
    os.close(terminal)
    assert "python -m pip install --disable-pip-version-check --require-hashes" in read_terminal(ours)


def test_packages_that_cannot_be_installed_end_it_with_what_to_do(checkout: Path) -> None:
    put(checkout, {PYTHON: FAILS})
    done = make(checkout, ".venv/.demo")
    assert (done.returncode, b"LOCKED=no make" in done.stderr) == (2, True)
    assert not (checkout / ".venv" / ".demo").exists()


def test_the_bill_of_materials_names_our_version(checkout: Path) -> None:
    (checkout / "pyproject.toml").write_bytes((CHECKOUT / "pyproject.toml").read_bytes())
    version = '#!/bin/sh\ncase "$2" in *__version__*) echo 1.2.3 ;; esac\n'
    sbom = {f".venv/sbom/bin/{name}": PROGRAM for name in ("pip", "cyclonedx-py")}
    put(checkout, {PYTHON: version, "dist/sbom.cdx.json": "", **sbom})
    assert b"--pyproject .venv/sbom/pyproject.toml" in make(checkout, "sbom").stdout
    project = tomllib.loads((checkout / ".venv" / "sbom" / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert (project["version"], "dynamic" in project) == ("1.2.3", False)
