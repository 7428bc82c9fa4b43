"""The locks fit pyproject.toml: `make lock` was run after its last change. Asks no index."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path
from typing import Any

import pytest
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

CHECKOUT = Path(__file__).parents[2]
LOCKS = CHECKOUT / ".ci" / "locks"
PROJECT: dict[str, Any] = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))
BUILD: list[str] = PROJECT["build-system"]["requires"]
EXTRAS: dict[str, list[str]] = PROJECT["project"]["optional-dependencies"]
# The extras that are in a lock of what oathbulk runs on.
NEEDS: dict[str, list[str]] = {"run": ["desk"], "demo": ["embedded", "rehearsal"], "dev": ["dev"]}
# `name==version`, a marker perhaps, then its hashes; behind it, who wants it.
LOCKED = re.compile(r"^([\w.-]+)==([^\s;]+)(?: ; (.+?))? \\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)", re.M)
VERSIONS = ("3.11.2", "3.11.9", "3.12.4", "3.13.5", "3.14.0")


def read_lock(name: str) -> dict[str, tuple[str, Marker | None]]:
    """Version and marker by package."""
    found = LOCKED.findall((LOCKS / f"{name}.txt").read_text(encoding="utf-8"))
    return {package: (version, Marker(marker) if marker else None) for package, version, marker, _ in found}


def expand(requirements: list[str]) -> list[Requirement]:
    """The requirements, and in place of our own extras what these ask for."""
    found = []
    for requirement in map(Requirement, requirements):
        if requirement.name == PROJECT["project"]["name"]:
            found += expand([each for extra in requirement.extras for each in EXTRAS[extra]])
        else:
            found.append(requirement)
    return found


def asked_for(name: str) -> list[Requirement]:
    if name == "build":
        return expand(BUILD)
    return expand([*PROJECT["project"]["dependencies"], *(each for extra in NEEDS[name] for each in EXTRAS[extra])])


def further(requirement: Requirement) -> list[Requirement]:
    """What the installed package asks for in turn, on some Python from 3.11 on."""
    try:
        deeper = [Requirement(each) for each in requires(requirement.name) or []]
    except PackageNotFoundError:
        # For another Python or platform.
        return []
    return [each for each in deeper if each.marker is None or _applies(each.marker, requirement.extras)]


def _applies(marker: Marker, extras: set[str]) -> bool:
    return any(
        marker.evaluate({"extra": extra, "python_full_version": version, "python_version": version.rpartition(".")[0]})
        for extra in extras | {""}
        for version in VERSIONS
    )


@pytest.mark.parametrize("name", [*NEEDS, "build"])
def test_a_lock_has_a_version_that_is_permitted_of_all_that_is_asked_for_in_turn(name: str) -> None:
    lock = read_lock(name)
    waiting, seen = asked_for(name), set()
    while waiting:
        requirement = waiting.pop()
        package = canonicalize_name(requirement.name)
        assert package in lock, f"{requirement} is not in .ci/locks/{name}.txt: make lock"
        version = lock[package][0]
        assert requirement.specifier.contains(version, prereleases=True), f"{requirement}, locked {version}: make lock"
        if str(requirement) not in seen:
            seen.add(str(requirement))
            waiting += further(requirement)


@pytest.mark.parametrize("name", [*NEEDS, "build"])
def test_a_lock_has_nothing_that_pyproject_toml_asks_for_no_more(name: str) -> None:
    wanted = {canonicalize_name(requirement.name) for requirement in asked_for(name)}
    text = (LOCKS / f"{name}.txt").read_text(encoding="utf-8")
    directly = {part.split("==")[0] for part in re.split(r"\n(?=\w)", text) if "oathbulk (pyproject.toml" in part}
    assert directly == wanted


@pytest.mark.parametrize("name", ["run", "demo", "build"])
def test_what_is_locked_is_what_the_tests_run_with(name: str) -> None:
    tested = read_lock("dev")
    assert {package: tested[package][0] for package in read_lock(name)} == {
        package: version for package, (version, _) in read_lock(name).items()
    }


@pytest.mark.parametrize("path", sorted(LOCKS.iterdir()), ids=lambda path: path.name)
def test_every_line_of_a_lock_is_a_package_with_its_hashes_and_none_says_where_from(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert [line for line in LOCKED.sub("", text).splitlines() if not line.lstrip().startswith("#")] == []
    assert "://" not in text
    assert "--index" not in text


def test_the_group_that_locks_take_the_builder_from_is_the_builder() -> None:
    assert PROJECT["dependency-groups"]["build"] == BUILD
