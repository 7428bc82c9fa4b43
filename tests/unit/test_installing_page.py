"""Installing, in docs/deployment.md, and the Dockerfile name what is there: targets of make, locks, extras, units,
files."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from support.pages.reading import read_page
from support.processes.systemd_units import NAMES

CHECKOUT = Path(__file__).parents[2]
PAGE = read_page("docs/deployment.md#install")
MAKEFILE = (CHECKOUT / "Makefile").read_text(encoding="utf-8")
DOCKERFILE = (CHECKOUT / "Dockerfile").read_text(encoding="utf-8")
LOCKS = {path.name for path in (CHECKOUT / ".ci" / "locks").iterdir()}


def test_every_target_of_make_is_there() -> None:
    targets = set(re.findall(r"^([a-z-]+):", MAKEFILE, re.M))
    assert set(re.findall(r"\bmake ([a-z-]+)\b", PAGE)) - targets - {"says"} == set()


def test_every_lock_is_there_and_explained() -> None:
    assert set(re.findall(r"(?<![/\w])(\w+\.txt)\b", PAGE)) == LOCKS


def test_every_extra_is_there() -> None:
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert set(re.findall(r"\[(\w+)\]['\s]", PAGE)) - set(project["optional-dependencies"]) == set()


def test_every_unit_is_explained() -> None:
    for name in NAMES:
        assert f"| `{name.removesuffix('.service').replace('@', '@1')}`" in PAGE


def test_the_builder_of_the_image_gets_what_the_dockerfile_copies() -> None:
    let_in = re.findall(r"^!(.+)$", (CHECKOUT / ".dockerignore").read_text(encoding="utf-8"), re.M)
    copied = [name for line in re.findall(r"^COPY (?!--)(.+)$", DOCKERFILE, re.M) for name in line.split()[:-1]]
    assert sorted(copied) == sorted(let_in)
    assert all((CHECKOUT / name).exists() for name in copied)


def test_the_image_is_made_of_locks_that_are_there() -> None:
    (need,) = re.findall(r"^ARG NEED=(\w+)$", DOCKERFILE, re.M)
    named = {name.replace("${NEED}", need) for name in re.findall(r"-r \.ci/locks/(\S+)", DOCKERFILE)}
    assert named == {"build.txt", "run.txt"}
    assert DOCKERFILE.count("--require-hashes") == len(named)
