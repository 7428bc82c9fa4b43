"""Folders with the files of a version: of this checkout, and of the last commit whose schema was one revision older."""

from __future__ import annotations

import fnmatch
import io
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

MIGRATIONS = Path("migrations/versions")
# The installation's own, in the root of its checkout: it stays when another version takes the place.
OWN = ("secrets", "shipments", ".env", "simulated")
# What else a clone has not, there and anywhere.
NOT_CLONED = (*OWN, ".git", ".venv*", "dist", "build")
CACHES = ("__pycache__", ".*_cache", ".hypothesis")


class NoHistory(Exception):
    """The version before cannot be told; the message names the cure."""


def copy_files(project: Path, folder: Path) -> None:
    """Put the project's files into the folder, which may be there."""

    def ignore(directory: str, names: list[str]) -> set[str]:
        patterns = (*NOT_CLONED, *CACHES) if Path(directory) == project else CACHES
        return {name for pattern in patterns for name in fnmatch.filter(names, pattern)}

    shutil.copytree(project, folder, ignore=ignore, dirs_exist_ok=True)


def copy_commit(project: Path, commit: str, folder: Path) -> None:
    """Put the files of a commit into the folder, which may be there."""
    archive = subprocess.run(
        ["git", "archive", commit], cwd=project, check=True, capture_output=True, timeout=60
    ).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        files.extractall(folder, filter="data")


def clear_files(folder: Path) -> None:
    """Take a version's files out of the folder, as git does when another takes their place: what is not git's stays."""
    for found in folder.iterdir():
        if found.name not in OWN:
            shutil.rmtree(found) if found.is_dir() else found.unlink()


def find_version_before(project: Path) -> str:
    """The last commit that had all migrations of this checkout but the newest. Raises NoHistory."""
    *before, _ = sorted(file.name for file in (project / MIGRATIONS).glob("[0-9]*.py"))
    for commit in _list_commits(project):
        if _list_migrations(project, commit) == before:
            return commit
    raise NoHistory(f"the history of {project} does not reach back to schema {before[-1]}: git fetch --unshallow")


def _list_commits(project: Path) -> Iterator[str]:
    """The latest first."""
    if not (project / ".git").exists() or shutil.which("git") is None:
        raise NoHistory(f"{project} has no history, from which the version before is built: clone it with git")
    yield from _run_git(project, "rev-list", "HEAD")


def _list_migrations(project: Path, commit: str) -> list[str]:
    names = [Path(path).name for path in _run_git(project, "ls-tree", "--name-only", commit, f"{MIGRATIONS}/")]
    return sorted(name for name in names if name[0].isdigit())


def _run_git(project: Path, *arguments: str) -> list[str]:
    result = subprocess.run(["git", *arguments], cwd=project, check=True, capture_output=True, text=True, timeout=60)
    return result.stdout.splitlines()
