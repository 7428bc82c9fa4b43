"""Reads the revision of the database's schema, and checks that this version works with it."""

from __future__ import annotations

from sqlalchemy import Connection, inspect

from migrations import HEAD
from worker.database.engine import Database


class SchemaOutdated(Exception):
    """The database's schema is not the one that this version works with; the message names the cure."""


def current(database: Database) -> str | None:
    """Read the revision of the database; None if it is empty."""
    with database.reading() as connection:
        return read_revision(connection)


def read_revision(connection: Connection) -> str | None:
    """Read the revision within a transaction; None if the database is empty."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    found = connection.exec_driver_sql("SELECT version_num FROM alembic_version")
    revision: str | None = found.scalar_one_or_none()
    return revision


def ensure_current(database: Database) -> None:
    """Check that the schema is the one that this version works with. Raises SchemaOutdated."""
    found = current(database)
    refuse_older(found)
    refuse_newer(found)


def refuse_older(found: str | None) -> None:
    """Check that the schema has all that this version reads and writes. Raises SchemaOutdated."""
    if found is None:
        raise SchemaOutdated("the database is empty: run `oathbulk db upgrade`")
    # Revisions are numbered, with four digits each.
    if found < HEAD:
        raise SchemaOutdated(f"the database is at revision {found}, not {HEAD}: run `oathbulk db upgrade`")


def refuse_newer(found: str | None) -> None:
    """Check that no later version has changed the schema already, which this one could not bring back. Raises
    SchemaOutdated."""
    if found is not None and found > HEAD:
        raise SchemaOutdated(
            f"the database is at revision {found}, and this version knows {HEAD} at most: type commands with the later "
            "version's oathbulk, or restore a backup from before its upgrade (docs/upgrading.md)"
        )
