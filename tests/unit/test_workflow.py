"""The public workflow runs .ci/run on the very Pythons that oathbulk says it runs on, and may do nothing else."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import yaml

CHECKOUT = Path(__file__).parents[2]
# YAML 1.1 reads `on` as true.
WORKFLOW: dict[Any, Any] = yaml.safe_load((CHECKOUT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))
JOB = WORKFLOW["jobs"]["run"]
RUN = (CHECKOUT / ".ci" / "run").read_text(encoding="utf-8")


def test_every_python_of_the_classifiers_is_tried_and_no_other() -> None:
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    classified = re.findall(r"Python :: (3\.\d+)", "\n".join(project["classifiers"]))
    assert JOB["strategy"]["matrix"]["python"] == classified
    assert project["requires-python"] == f">={classified[0]}"


def test_the_lock_is_used_on_each_of_them() -> None:
    newest = JOB["strategy"]["matrix"]["python"][-1].split(".")
    installer = (CHECKOUT / ".ci" / "install").read_text(encoding="utf-8")
    assert f"sys.version_info >= (3, {int(newest[1]) + 1})" in installer
    assert f"3.11 to {'.'.join(newest)}" in installer


def test_it_may_read_the_repository_and_nothing_else() -> None:
    assert WORKFLOW["permissions"] == {"contents": "read"}
    assert "permissions" not in JOB
    assert "pull_request_target" not in WORKFLOW[True]
    assert JOB["steps"][0]["with"] == {"persist-credentials": False}


def test_it_installs_the_programs_that_ci_run_would_install_and_runs_it() -> None:
    installing, running = (step["run"] for step in JOB["steps"] if "run" in step)
    needed = re.findall(r"apt-get install --yes --no-install-recommends (.+)", RUN)
    assert [installing.partition("--no-install-recommends ")[2]] == needed
    assert running == ".ci/run"


def test_actions_are_pinned_by_their_major_version() -> None:
    actions = [step["uses"] for step in JOB["steps"] if "uses" in step]
    assert all(re.fullmatch(r"actions/[\w-]+@v\d+", action) for action in actions), actions
