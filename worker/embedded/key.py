"""The keys of a single-machine installation: files in the home, each made once."""

from __future__ import annotations

import base64
import binascii
import os
import secrets
from contextlib import suppress
from pathlib import Path

from worker.embedded.errors import EmbeddedError
from worker.embedded.home import make_home
from worker.embedded.private_files import write_draft
from worker.vault.keyring import ENCRYPTION, KeySource

KEY_BYTES = 32


def home_key(home: Path, source: KeySource = ENCRYPTION) -> str:
    """The key of this kind, made if there is none: 32 random bytes as base64url. Raises EmbeddedError."""
    make_home(home)
    path = home / source.file
    try:
        if not path.exists():
            _create(path)
        return _read(path, source)
    except OSError as error:
        raise EmbeddedError(
            f"{path} cannot be read or made ({error.strerror}): mend that, or set {source.variable}"
        ) from error


def _create(path: Path) -> None:
    """Linked into place when whole: whoever comes second finds the first one's key, never half a key."""
    draft = write_draft(path, base64.urlsafe_b64encode(secrets.token_bytes(KEY_BYTES)) + b"\n")
    try:
        with suppress(FileExistsError):
            path.hardlink_to(draft)
    finally:
        draft.unlink()
    _sync_directory(path.parent)


def _sync_directory(directory: Path) -> None:
    """What is written with the key from now on is worth nothing without it, so its name must outlive a power cut."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read(path: Path, source: KeySource) -> str:
    if path.stat().st_mode & 0o077:
        raise EmbeddedError(
            f"{path} can be read by other users: run `chmod 600 {path}`, "
            "and if one of them may have read it, replace the key too"
        )
    text = path.read_text(encoding="utf-8", errors="replace").strip()
    if not _is_key(text):
        raise EmbeddedError(
            f"{path} holds no {source.kind}: put it back from a backup; "
            f"where {source.unused}, delete it and a new one is made"
        )
    return text


def _is_key(text: str) -> bool:
    try:
        key = base64.urlsafe_b64decode(text.encode())
    except binascii.Error:
        return False
    # The decoder passes over what it does not know.
    return len(key) == KEY_BYTES and base64.urlsafe_b64encode(key).decode() == text
