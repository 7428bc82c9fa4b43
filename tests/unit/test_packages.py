"""The packages: the locks fit pyproject.toml, so that `make lock` was run after its last change; no licence comes in
that nobody has looked at; the public workflow tries the very Pythons that they are for; and what the Makefile says
while it installs them, which takes minutes on a fresh machine. Asks no index."""

import json
import os
import pty
import re
import shutil
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from support.processes.scripts import read_terminal

CHECKOUT = Path(__file__).parents[2]
LOCKS = CHECKOUT / ".ci" / "locks"
PROJECT: dict[str, Any] = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))
BUILD: list[str] = PROJECT["build-system"]["requires"]
EXTRAS: dict[str, list[str]] = PROJECT["project"]["optional-dependencies"]
# The extras that are in a lock of what oathbulk runs on.
NEEDS: dict[str, list[str]] = {"run": ["desk"], "demo": ["embedded", "rehearsal"], "dev": ["dev"]}
# `name==version`, a marker perhaps, then its hashes; behind it, who wants it.
LOCKED = re.compile(r"^([\w.-]+)==([^\s;]+)(?: ; (.+?))? \\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)", re.M)


def read_lock(name: str) -> dict[str, str]:
    """Version by package."""
    found = LOCKED.findall((LOCKS / f"{name}.txt").read_text(encoding="utf-8"))
    return {package: version for package, version, *_ in found}


def expand(requirements: list[str]) -> list[Requirement]:
    """The requirements, and in place of our own extras what these ask for."""
    found = [*map(Requirement, requirements)]
    ours = [each for each in found if each.name == PROJECT["project"]["name"]]
    extras = [asked for each in ours for extra in each.extras for asked in EXTRAS[extra]]
    return [each for each in found if each not in ours] + (expand(extras) if extras else [])


def asked_for(name: str) -> list[Requirement]:
    if name == "build":
        return expand(BUILD)
    return expand([*PROJECT["project"]["dependencies"], *(each for extra in NEEDS[name] for each in EXTRAS[extra])])


@pytest.mark.parametrize("name", [*NEEDS, "build"])
def test_a_lock_has_all_that_pyproject_toml_asks_for_in_a_version_that_is_permitted_and_nothing_else(name: str) -> None:
    """What these ask for in turn, `make lock` finds; who wants a package stands below it."""
    lock, wanted = read_lock(name), {canonicalize_name(each.name): each.specifier for each in asked_for(name)}
    parts = re.split(r"\n(?=\w)", (LOCKS / f"{name}.txt").read_text(encoding="utf-8"))
    assert {part.split("==")[0] for part in parts if "oathbulk (pyproject.toml" in part} == wanted.keys(), "make lock"
    unfit = {each for each, permitted in wanted.items() if not permitted.contains(lock[each], prereleases=True)}
    assert unfit == set(), "make lock"


@pytest.mark.parametrize("name", ["run", "demo", "build"])
def test_what_is_locked_is_what_the_tests_run_with_and_the_builder_is_that_of_its_group(name: str) -> None:
    assert read_lock(name).items() <= read_lock("dev").items()
    assert PROJECT["dependency-groups"]["build"] == BUILD


@pytest.mark.parametrize("path", sorted(LOCKS.iterdir()), ids=lambda path: path.name)
def test_every_line_of_a_lock_is_a_package_with_its_hashes_and_none_says_where_from(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert [line for line in LOCKED.sub("", text).splitlines() if not line.lstrip().startswith("#")] == []
    assert not re.search("://|--index", text)


# As packages write them. The LGPL and the MPL ask who changes such a package to publish the change; we change none.
ALLOWED = {
    "Apache Software License",
    "Apache-2.0",
    "BSD License",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "GNU Lesser General Public License v2 or later (LGPLv2+)",
    "ISC License (ISCL)",
    "LGPL-3.0-only",
    "MIT",
    "MIT License",
    "MIT-0",
    "MPL-2.0",
    "Mozilla Public License 2.0 (MPL 2.0)",
    "PSF-2.0",
    "Python Software Foundation License",
}


def is_allowed(licence: str) -> bool:
    """One of those between which we may choose, or all of those that hold together, must be allowed."""
    return any({*re.split(r"; | AND ", choice)} <= ALLOWED for choice in licence.split(" OR "))


def test_every_package_has_a_licence_that_is_allowed() -> None:
    command = [sys.executable, "-m", "piplicenses", "--python", sys.executable, "--format", "json", "--packages"]
    done = subprocess.run([*command, *read_lock("dev")], check=True, capture_output=True, text=True)
    licences = {package["Name"]: package["License"] for package in json.loads(done.stdout)}
    assert len(licences) > 50
    assert {name: licence for name, licence in licences.items() if not is_allowed(licence)} == {}


def test_an_unknown_licence_is_noticed_alone_and_beside_others() -> None:
    assert [is_allowed(each) for each in ("UNKNOWN", "MIT AND GPL-3.0-only", "GPL-3.0-only OR MIT")] == [0, 0, 1]


# YAML 1.1 reads `on` as true.
WORKFLOW: dict[Any, Any] = yaml.safe_load((CHECKOUT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))
JOB = WORKFLOW["jobs"]["run"]


def test_every_python_of_the_classifiers_is_tried_and_no_other_and_the_lock_is_used_on_each() -> None:
    pythons = JOB["strategy"]["matrix"]["python"]
    assert re.findall(r"Python :: (3\.\d+)", "\n".join(PROJECT["project"]["classifiers"])) == pythons
    assert PROJECT["project"]["requires-python"] == f">={pythons[0]}"
    installer = (CHECKOUT / ".ci" / "install").read_text(encoding="utf-8")
    assert f"sys.version_info >= (3, {int(pythons[-1][2:]) + 1})" in installer
    assert f"3.11 to {pythons[-1]}" in installer


def test_the_workflow_may_read_the_repository_and_nothing_else() -> None:
    assert (WORKFLOW["permissions"], JOB.get("permissions")) == ({"contents": "read"}, None)
    assert "pull_request_target" not in WORKFLOW[True]
    assert JOB["steps"][0]["with"] == {"persist-credentials": False}
    assert all(re.fullmatch(r"actions/[\w-]+@v\d+", step["uses"]) for step in JOB["steps"] if "uses" in step)


def test_the_workflow_installs_the_programs_that_ci_run_would_install_and_runs_it() -> None:
    installing, running = (step["run"] for step in JOB["steps"] if "run" in step)
    (needed,) = re.findall(r"apt-get install (--yes .+)", (CHECKOUT / ".ci" / "run").read_text(encoding="utf-8"))
    assert installing.endswith(needed)
    assert running == ".ci/run"


# The Makefile.

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
BY_PIP = f"python -m pip install --disable-pip-version-check --quiet {FROM}"
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
        (".venv/.demo", {}, {}, [BEGIN, f"{BY_PIP}demo.txt", OURS]),
        (".venv/.dev", {}, {}, [BEGIN, f"{BY_PIP}dev.txt", OURS, "*"]),
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
            [BEGIN, "uv *", "uv could not install these packages; pip tries.", f"{BY_PIP}demo.txt", OURS],
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
