"""The keys of a single-machine installation: files in the home, each of which is made once."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from models.encrypted import generate_key
from worker.embedded.errors import EmbeddedError
from worker.embedded.home import make_home
from worker.embedded.private_files import write_draft
from worker.vault.key_files import ENCRYPTION, KeySource, read_key_file


def home_key(home: Path, source: KeySource = ENCRYPTION) -> str:
    """Read the key of this kind, and make it first if there is none. Raises ConfigError where the file is of
    no use, EmbeddedError where it cannot be made."""
    make_home(home)
    path = home / source.file
    try:
        if not path.exists():
            _create(path)
        return read_key_file(home, source)
    except OSError as error:
        raise EmbeddedError(f"{path} cannot be made ({error.strerror}): mend that, or set {source.variable}") from error


def _create(path: Path) -> None:
    """Write a new key to a draft and link that to its path, so that of two processes the second one finds the key of
    the first, and never half a key."""
    draft = write_draft(path, generate_key().encode() + b"\n")
    try:
        with suppress(FileExistsError):
            path.hardlink_to(draft)
    finally:
        draft.unlink()
    _sync_directory(path.parent)


def _sync_directory(directory: Path) -> None:
    """Make the key's name in its directory survive a power cut: what is encrypted with it is lost without it."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
