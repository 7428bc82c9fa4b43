"""The keys of a single-machine installation: files in the home, each of which is made once."""

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

# Length of a key in bytes.
KEY_BYTES = 32


def home_key(home: Path, source: KeySource = ENCRYPTION) -> str:
    """Read the key of this kind, and make it first if there is none: 32 random bytes as base64url. Raises
    EmbeddedError."""
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
    """Write a new key to a draft and link that to its path, so that of two processes the second one finds the key of
    the first, and never half a key."""
    draft = write_draft(path, base64.urlsafe_b64encode(secrets.token_bytes(KEY_BYTES)) + b"\n")
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
    # The decoder ignores characters that it does not know, so the result is compared with the text.
    return len(key) == KEY_BYTES and base64.urlsafe_b64encode(key).decode() == text
