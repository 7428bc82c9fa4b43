"""What is shipped: the wheel alone, in an environment of its own, in a folder that holds no checkout."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest
from support.data.tokens import make_tokens, write_shipment
from support.processes.command_desk import CommandDesk
from support.servers.stand_in import StandIn

CHECKOUT = Path(__file__).parents[2]
WHERE = "import json, models, worker, migrations; print(json.dumps([p.__file__ for p in (models, worker, migrations)]))"


@pytest.fixture
def wheel_python(tmp_path):
    """An interpreter that has oathbulk from its wheel, and its dependencies from here, but not the checkout."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input"]
    building = ["wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", tmp_path / "dist", CHECKOUT]
    subprocess.run([*pip, *building], check=True, cwd=tmp_path)
    (wheel,) = (tmp_path / "dist").iterdir()
    venv.create(tmp_path / "venv", with_pip=False)
    python = tmp_path / "venv" / "bin" / "python"
    installing = ["--python", python, "install", "--quiet", "--no-deps", "--no-index", wheel]
    subprocess.run([*pip, *installing], check=True, cwd=tmp_path)
    # A directory that a .pth file names is searched, but not for .pth files, of which the checkout's is one.
    (packages,) = (tmp_path / "venv" / "lib").glob("python*/site-packages")
    here = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (packages / "dependencies.pth").write_text("\n".join(sorted(here)) + "\n")
    return python


def test_the_wheel_alone_activates_a_shipment(wheel_python, tmp_path):
    tokens = make_tokens(10, out_of_step=2)
    command = [str(wheel_python.with_name("oathbulk"))]
    with StandIn(tokens) as pingone, CommandDesk(tmp_path / "desk", command=command) as desk:
        write_shipment(desk.folder / "shipment.csv", tokens)
        # As a person would have it: the home is where it is by default, and what leads to PingOne is in its .env.
        del desk.settings["OATHBULK_HOME"]
        settings = "".join(f"{name}='{value}'\n" for name, value in pingone.settings.items())
        home = desk.folder / "state" / "oathbulk"
        home.mkdir(mode=0o700, parents=True)
        (home / ".env").write_text(settings)
        where = desk.start_program(wheel_python, "-c", WHERE).wait()
        assert all(Path(file).is_relative_to(tmp_path / "venv") for file in json.loads(where.stdout)), where.stdout
        python = desk.start_program(wheel_python, "-m", "worker", "status", "--json").wait()
        assert python.json == {"batches": []}
        # What lies in the folder of a person who also writes programs.
        for name in ("models.py", "worker.py", "redis.py"):
            (desk.folder / name).write_text("raise SystemExit('imported from the folder')\n")
        result = desk.oathbulk("run", "shipment.csv", "--json")
        assert result.code == 0, result.stderr
        assert (result.json["counts"]["active"], result.json["resynced"]) == (10, 2)
        assert len(pingone.active) == 10
        # The templates of its pages are in the wheel.
        reported = desk.oathbulk("report", "shipment", "-o", "report.html")
        assert reported.code == 0, reported.stderr
        assert "All 10 tokens are active." in (desk.folder / "report.html").read_text()


def make_wheel(clone: Path, umask: int) -> str:
    """The hash of what `make wheel` makes in a clone, with the builder from here."""
    subprocess.run(["git", "clone", "--quiet", CHECKOUT, clone], check=True, umask=umask)
    python = clone / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n')
    python.chmod(0o755)
    for installed in (python.with_name("pip"), clone / ".venv" / ".demo"):
        installed.touch()
    # What the make that runs these tests tells its children is not for this one.
    env = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS", "SOURCE_DATE"))}
    subprocess.run(["make", "--silent", "wheel"], cwd=clone, env=env, check=True, umask=umask)
    (wheel,) = (clone / "dist").iterdir()
    return hashlib.sha256(wheel.read_bytes()).hexdigest()


@pytest.mark.faults
def test_whoever_builds_the_wheel_of_a_commit_gets_the_same_bytes(tmp_path):
    ours = make_wheel(tmp_path / "ours", umask=0o022)
    theirs = make_wheel(tmp_path / "at" / "another" / "place", umask=0o077)
    assert ours == theirs
