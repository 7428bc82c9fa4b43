"""The database's schema: brought up to date by Alembic, configured here, so that no file and no checkout is needed."""

from __future__ import annotations

from importlib.resources import files

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from worker.database import Database


class SchemaOutdated(Exception):
    """The database's schema is not the one that this version works with; the message names the cure."""


def upgrade(database: Database, revision: str = "head") -> str:
    """Bring the schema to this revision; the revision it has then."""
    with database.migrating() as connection:
        command.upgrade(_config(connection), revision)
    return current(database) or "empty"


def downgrade(database: Database, revision: str) -> None:
    with database.migrating() as connection:
        command.downgrade(_config(connection), revision)


def check(database: Database) -> None:
    """Raises alembic's CommandError when models and migrations differ."""
    with database.migrating() as connection:
        command.check(_config(connection))


def current(database: Database) -> str | None:
    """The revision of the database; None before the first."""
    with database.reading() as connection:
        return MigrationContext.configure(connection).get_current_revision()


def head() -> str:
    return ScriptDirectory.from_config(_config()).get_current_head() or ""


def ensure_current(database: Database) -> None:
    """Raises SchemaOutdated."""
    found = current(database)
    if found is None:
        raise SchemaOutdated("the database is empty: run `oathbulk db upgrade`")
    if found != head():
        raise SchemaOutdated(f"the database is at revision {found}, not {head()}: run `oathbulk db upgrade`")


def _config(connection: Connection | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(files("migrations")).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config
