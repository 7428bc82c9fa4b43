"""Reads the revision of the database's schema, and updates it with Alembic, which is configured here without a file or
checkout."""

from __future__ import annotations

from collections.abc import Callable
from importlib.resources import files
from typing import TYPE_CHECKING, TypeVar

from sqlalchemy import Connection, inspect, select

from migrations import HEAD, VERSION_TABLE
from models.installation import InstallationId
from worker.database.engine import AUDIT_LOCK, Database
from worker.database.errors import is_deadlock

if TYPE_CHECKING:
    from alembic.config import Config

Result = TypeVar("Result")


class SchemaOutdated(Exception):
    """The database's schema does not match this version; the message names the cure."""


def current(database: Database) -> str | None:
    """Read the revision of the database; None if it is empty."""
    with database.reading() as connection:
        return read_revision(connection)


def read_revision(connection: Connection) -> str | None:
    """Read the revision within a transaction; None if the database is empty. Raises SchemaOutdated if the schema is
    older than the first release."""
    tables = inspect(connection)
    if tables.has_table(VERSION_TABLE):
        found = connection.exec_driver_sql(f"SELECT version_num FROM {VERSION_TABLE}")  # noqa: S608
        revision: str | None = found.scalar_one_or_none()
        return revision
    if tables.has_table("batch"):
        raise SchemaOutdated(
            "this database was made before the first release, and no released version works with it: name another "
            "OATHBULK_HOME or OATHBULK_DATABASE_URL; a new database begins empty"
        )
    return None


def read_installation_id(database: Database) -> str:
    """Read the id of the installation that the database belongs to."""
    with database.reading() as connection:
        return connection.execute(select(InstallationId.id)).scalar_one()


def ensure_current(database: Database) -> None:
    """Check that the schema is the one that this version works with. Raises SchemaOutdated."""
    found = current(database)
    refuse_older(found)
    refuse_newer(found)


def refuse_older(found: str | None) -> None:
    """Check that the schema has everything that this version reads and writes. Raises SchemaOutdated."""
    if found is None:
        raise SchemaOutdated("the database is empty: run `oathbulk db upgrade`")
    # Revisions are numbered, with four digits each.
    if found < HEAD:
        raise SchemaOutdated(f"the database is at revision {found}, not {HEAD}: run `oathbulk db upgrade`")


def refuse_newer(found: str | None) -> None:
    """Check that no later version has changed the schema, which this one could not undo. Raises SchemaOutdated."""
    if found is not None and found > HEAD:
        raise SchemaOutdated(
            f"the database is at revision {found}, and this version knows {HEAD} at most: run commands with the "
            f"later version's oathbulk, or restore a backup from before the upgrade (docs/operating.md)"
        )


def upgrade(
    database: Database, revision: str = "head", on_change: Callable[[Connection, str, str], None] | None = None
) -> str:
    """Upgrade the schema to this revision, and return its revision afterwards.

    `on_change` is called in the same transaction, with the revisions before and after, unless they are the same or the
    database was empty. Raises SchemaOutdated if the schema is from a later version."""
    # Not at the top: importing Alembic takes an eighth of a command's start, and each version upgrades only once.
    from alembic import command

    def bring_up(connection: Connection) -> str:
        # Otherwise a command that is about to write its audit line and a migration that changes the audit could wait
        # for each other.
        database.lock(connection, AUDIT_LOCK)
        before = read_revision(connection)
        refuse_newer(before)
        command.upgrade(configure(connection), revision)
        after = read_revision(connection) or "empty"
        if on_change is not None and before is not None and before != after:
            on_change(connection, before, after)
        return after

    return migrate(database, bring_up)


def migrate(database: Database, change: Callable[[Connection], Result]) -> Result:
    """Change the schema in one transaction, while workers continue. A migration locks one busy table after another, and
    a worker's transaction may use them in another order. If they wait for each other, PostgreSQL ends one: a worker
    repeats its statements by itself, and the change is repeated here. Raises what `change` raises, and DBAPIError after
    ten failures in a row."""
    import tenacity

    def change_once() -> Result:
        with database.migrating() as connection:
            return change(connection)

    again: tenacity.Retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception(is_deadlock),
        wait=tenacity.wait_random(0.1, 1),
        stop=tenacity.stop_after_attempt(10),
        reraise=True,
    )
    return again(change_once)


def configure(connection: Connection) -> Config:
    """Alembic's configuration, with this connection for `migrations/env.py`."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(files("migrations")).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config
