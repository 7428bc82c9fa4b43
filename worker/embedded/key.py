"""The encryption key of a single-machine installation: a file in the home, made once."""

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

KEY_FILE = "encryption.key"
KEY_BYTES = 32


def home_key(home: Path) -> str:
    """The key: 32 random bytes as base64url, the form of OATHBULK_ENCRYPTION_KEYS. Raises EmbeddedError."""
    make_home(home)
    path = home / KEY_FILE
    try:
        if not path.exists():
            _create(path)
        return _read(path)
    except OSError as error:
        raise EmbeddedError(
            f"{path} cannot be read or made ({error.strerror}): mend that, or set OATHBULK_ENCRYPTION_KEYS"
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
    """Records are encrypted with the key from now on, so its name must outlive a power cut as they do."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read(path: Path) -> str:
    if path.stat().st_mode & 0o077:
        raise EmbeddedError(
            f"{path} can be read by other users: run `chmod 600 {path}`, "
            "and if one of them may have read it, replace the key too"
        )
    text = path.read_text(encoding="utf-8", errors="replace").strip()
    if not _is_key(text):
        raise EmbeddedError(
            f"{path} holds no encryption key: put it back from a backup; "
            "where no OTP is stored yet, delete it and a new one is made"
        )
    return text


def _is_key(text: str) -> bool:
    try:
        key = base64.urlsafe_b64decode(text.encode())
    except binascii.Error:
        return False
    # The decoder passes over what it does not know.
    return len(key) == KEY_BYTES and base64.urlsafe_b64encode(key).decode() == text
