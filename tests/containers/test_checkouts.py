"""The version before is found in a repository's history, and where there is none, that is said."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from containers.checkouts import MIGRATIONS, NoHistory, clear_files, copy_commit, copy_files, find_version_before

AUTHOR = ["-c", "user.name=a", "-c", "user.email=a@example.test", "-c", "commit.gpgsign=false"]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A checkout with three commits: a first migration, a change of something else, a second migration."""
    folder = tmp_path / "project"
    (folder / MIGRATIONS).mkdir(parents=True)
    git(folder, "init", "--quiet")
    for name in (f"{MIGRATIONS}/0001_first.py", "README.md", f"{MIGRATIONS}/0002_second.py"):
        (folder / name).write_text(name)
        git(folder, "add", name)
        git(folder, *AUTHOR, "commit", "--quiet", "-m", name)
    return folder


def git(folder: Path, *arguments: str) -> str:
    return subprocess.check_output(["git", *arguments], cwd=folder, text=True, timeout=60).strip()


def test_the_version_before_is_the_last_commit_without_the_newest_migration(project: Path, tmp_path: Path) -> None:
    commit = find_version_before(project)
    assert git(project, "log", "-1", "--format=%s", commit) == "README.md"
    copy_commit(project, commit, tmp_path / "before")
    assert (tmp_path / "before/README.md").exists()
    assert not list((tmp_path / "before").rglob("0002*"))


def test_a_migration_that_is_not_committed_yet_counts(project: Path) -> None:
    (project / MIGRATIONS / "0003_third.py").touch()
    assert find_version_before(project) == git(project, "rev-parse", "HEAD")


def test_a_checkout_without_history_says_so(project: Path, tmp_path: Path) -> None:
    git(tmp_path, "clone", "--quiet", "--depth", "1", project.as_uri(), "shallow")
    with pytest.raises(NoHistory, match=r"does not reach back to schema 0001_first\.py: git fetch --unshallow"):
        find_version_before(tmp_path / "shallow")
    (project / ".git").rename(tmp_path / "gone")
    with pytest.raises(NoHistory, match="has no history, from which the version before is built"):
        find_version_before(project)


def test_other_files_take_the_place_and_the_installations_own_stay(project: Path, tmp_path: Path) -> None:
    folder = tmp_path / "installation"
    for name in ("worker/gone.py", "secrets/audit_key"):
        (folder / name).parent.mkdir(parents=True)
        (folder / name).touch()
    (folder / ".env").touch()
    (project / "secrets").mkdir()
    (project / "secrets/of_another").touch()
    (project / MIGRATIONS / "secrets").mkdir()
    clear_files(folder)
    copy_files(project, folder)
    assert {path.name for path in folder.iterdir()} == {"secrets", ".env", "migrations", "README.md"}
    assert [path.name for path in (folder / "secrets").iterdir()] == ["audit_key"]
    assert (folder / MIGRATIONS / "secrets").is_dir(), "only the installation's own folder has that meaning"
