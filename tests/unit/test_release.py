"""`make release`: what it refuses, each in a line with the cure, and that whoever makes a release gets the same bytes.
The image needs an engine and a base: tests/containers. Asks no index."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from worker import __version__

CHECKOUT = Path(__file__).parents[2]
TAG = f"v{__version__}"
ENTRY = f"## [Unreleased]\n\n## [{__version__}] - 2026-12-02\n"
# What the make that runs these tests tells its children is not for this one; and dates are those of a commit that is
# made anew in each of the clones.
ENV = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS", "SOURCE_DATE"))} | {
    f"GIT_{who}_{what}": value
    for who in ("AUTHOR", "COMMITTER")
    for what, value in (("NAME", "n"), ("EMAIL", "n@example.com"), ("DATE", "2026-12-02T12:00:00Z"))
}


def git(clone: Path, *words: str, umask: int = -1) -> str:
    return subprocess.run(
        ["git", *words], cwd=clone, env=ENV, check=True, capture_output=True, text=True, umask=umask
    ).stdout


def release(clone: Path, *targets: str, umask: int = -1) -> subprocess.CompletedProcess[str]:
    command = [clone / ".ci" / "release", *targets]
    return subprocess.run(command, cwd=clone, env=ENV, check=False, capture_output=True, text=True, umask=umask)


def make_clone(folder: Path, umask: int = 0o022) -> Path:
    """What is in this checkout, committed elsewhere and tagged."""
    for name in git(CHECKOUT, "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0"):
        if (CHECKOUT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(CHECKOUT / name, folder / name)
    (folder / ".venv").mkdir()
    for part in Path(sys.prefix).iterdir():
        (folder / ".venv" / part.name).symlink_to(part)
    git(folder, "init", "--quiet")
    git(folder, "add", "--all", umask=umask)
    git(folder, "commit", "--quiet", "--message", "As it is released.")
    git(folder, "tag", TAG)
    return folder


def test_whoever_makes_a_release_gets_the_same_bytes_of_what_is_tagged_alone(tmp_path: Path) -> None:
    clones = {make_clone(tmp_path / "ours"): 0o022, make_clone(tmp_path / "at" / "another" / "place"): 0o077}
    for clone, umask in clones.items():
        # Ignored by git, so that it makes no change; a build of the checkout would take it along.
        (clone / "worker" / "__pycache__").mkdir()
        (clone / "worker" / "__pycache__" / "left.pyc").touch()
        (clone / "dist").mkdir()
        (clone / "dist" / "left.whl").touch()
        done = release(clone, "wheel", "sdist", umask=umask)
        assert done.returncode == 0, done.stderr
    ours, theirs = ({file.name: file.read_bytes() for file in (clone / "dist").iterdir()} for clone in clones)
    assert ours == theirs
    files = {f"oathbulk-{__version__}-py3-none-any.whl", f"oathbulk-{__version__}.tar.gz"}
    assert ours.keys() == {*files, "SHA256SUMS"}
    assert {line.split()[1] for line in ours["SHA256SUMS"].decode().splitlines()} == files
    listed = subprocess.check_output(["tar", "-tzf", clone / "dist" / f"oathbulk-{__version__}.tar.gz"], text=True)
    assert "worker/__main__.py" in listed
    assert "left.pyc" not in listed


def change(clone: Path) -> None:
    (clone / "worker" / "new.py").touch()


def untag(clone: Path) -> None:
    git(clone, "tag", "--delete", TAG)


def tag_another(clone: Path) -> None:
    untag(clone)
    git(clone, "tag", "v9.9.9")


def take_the_entry(clone: Path) -> None:
    (clone / "CHANGELOG.md").write_text("# Changelog\n\n## [Unreleased]\n", encoding="utf-8")
    git(clone, "commit", "--quiet", "--all", "--message", "No entry.")
    git(clone, "tag", "--force", TAG)


@pytest.mark.parametrize(
    ("spoil", "told", "cure"),
    [
        (change, "has changes", "commit them"),
        (untag, "no tag is on this commit", f"git tag {TAG}"),
        (tag_another, f"worker/__init__.py says {__version__}, and the tag v9.9.9", "correct it, commit, and tag that"),
        (take_the_entry, f"has no entry ## [{__version__}]", "move what is under [Unreleased] there"),
    ],
)
def test_what_cannot_be_released_is_refused_in_a_line_with_its_cure(
    spoil: Callable[[Path], None], told: str, cure: str, tmp_path: Path
) -> None:
    for name in (".ci/release", "worker/__init__.py"):
        (tmp_path / name).parent.mkdir()
        shutil.copy(CHECKOUT / name, tmp_path / name)
    (tmp_path / "CHANGELOG.md").write_text(ENTRY, encoding="utf-8")
    (tmp_path / "Makefile").write_text("wheel:\n\tmkdir -p dist && touch dist/wheel\n", encoding="utf-8")
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", "--all")
    git(tmp_path, "commit", "--quiet", "--message", "As it is released.")
    git(tmp_path, "tag", TAG)
    assert release(tmp_path, "wheel").returncode == 0
    shutil.rmtree(tmp_path / "dist")
    spoil(tmp_path)
    done = release(tmp_path, "wheel")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert told in done.stderr
    assert cure in done.stderr
    assert not (tmp_path / "dist").exists()
