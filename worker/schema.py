"""The database's schema: brought up to date by Alembic, configured here, so that no file and no checkout is needed."""

from __future__ import annotations

from importlib.resources import files

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection

from worker.database import Database
from worker.revision import current


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


def _config(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(files("migrations")).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config
