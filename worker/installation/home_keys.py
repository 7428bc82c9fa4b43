"""When a key of the embedded stack may be made, and when a lost one may not be replaced."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import Connection, select

from models.record import Record
from worker import audit
from worker.config.settings import ConfigError, Settings
from worker.database.engine import Database
from worker.embedded.home import home_key
from worker.vault.keys import AUDIT, ENCRYPTION


def make_audit_key(settings: Settings, connection: Connection) -> None:
    """Make the audit key of the embedded stack, if the home has none yet. One that was lost is not replaced: without it
    the lines that it authenticated cannot be checked."""
    if not settings.is_embedded_database or settings.audit_key or (settings.home / AUDIT.file).exists():
        return
    if not audit.has_authenticated_line(connection):
        home_key(settings.home, AUDIT)


def refuse_to_replace_key(settings: Settings, open_database: Callable[[], Database]) -> None:
    """Raise ConfigError if the encryption key of the embedded stack was lost while the database holds what it
    encrypted: under a new one that would never open again. The database is opened only where there is no key."""
    path = settings.home / ENCRYPTION.file
    if path.exists():
        return
    with open_database().reading() as connection:
        has_otps = connection.scalar(select(Record.id).where(Record.otps.is_not(None)).limit(1)) is not None
    if has_otps:
        raise ConfigError(f"{path} is missing, and the database holds OTPs that it encrypted: put it back")
