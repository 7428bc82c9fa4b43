"""The database's schema: brought up to date by Alembic, configured here, so that no file and no checkout is needed."""

from __future__ import annotations

from collections.abc import Callable
from importlib.resources import files

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection

from worker.database.engine import Database
from worker.database.revision import read_revision


def upgrade(
    database: Database, revision: str = "head", changed: Callable[[Connection, str, str], None] | None = None
) -> str:
    """Bring the schema to this revision; the revision it has then. `changed` is called in the same transaction, with
    the revisions before and after, unless they are the same, or the database was empty."""
    with database.migrating() as connection:
        before = read_revision(connection)
        command.upgrade(_config(connection), revision)
        after = read_revision(connection) or "empty"
        if changed is not None and before is not None and before != after:
            changed(connection, before, after)
    return after


def downgrade(database: Database, revision: str) -> None:
    with database.migrating() as connection:
        command.downgrade(_config(connection), revision)


def check(database: Database) -> None:
    """Raises alembic's CommandError when models and migrations differ."""
    with database.migrating() as connection:
        command.check(_config(connection))


def _config(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(files("migrations")).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config
