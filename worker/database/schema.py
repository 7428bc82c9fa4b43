"""Brings the database's schema up to date, with Alembic. It is configured here, so that it needs no file or
checkout."""

from __future__ import annotations

from collections.abc import Callable
from importlib.resources import files

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection

from worker.database.engine import Database
from worker.database.revision import read_revision, refuse_newer


def upgrade(
    database: Database, revision: str = "head", on_change: Callable[[Connection, str, str], None] | None = None
) -> str:
    """Bring the schema up to this revision, and return the revision that it has then.

    `on_change` is called in the same transaction, with the revisions before and after, unless they are the same or the
    database was empty. Raises SchemaOutdated if the schema is of a later version.
    """
    with database.migrating() as connection:
        before = read_revision(connection)
        refuse_newer(before)
        command.upgrade(_configure(connection), revision)
        after = read_revision(connection) or "empty"
        if on_change is not None and before is not None and before != after:
            on_change(connection, before, after)
    return after


def downgrade(database: Database, revision: str) -> None:
    """Bring the schema back to this revision."""
    with database.migrating() as connection:
        command.downgrade(_configure(connection), revision)


def check(database: Database) -> None:
    """Check that migrations lead to what the models describe. Raises alembic's CommandError if not."""
    with database.migrating() as connection:
        command.check(_configure(connection))


def _configure(connection: Connection) -> Config:
    """Alembic's configuration, with this connection for `migrations/env.py`."""
    config = Config()
    config.set_main_option("script_location", str(files("migrations")).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config
