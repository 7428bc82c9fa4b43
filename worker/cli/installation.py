"""What the commands work on: the settings of this installation, its database, its keys."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

from sqlalchemy import select

from migrations import HEAD
from models.encrypted import Keyring
from models.record import Record
from worker import revision
from worker.config import ConfigError, Environment, Settings
from worker.config_sources import load_environment, load_settings, read_variables
from worker.database import Database
from worker.embedded.home import make_home
from worker.embedded.key import home_key
from worker.keyring import KEY_FILE, load_keyring

# Seconds that a command waits for a connection where workers have taken all that PostgreSQL has.
CONNECTION_PATIENCE = 10.0


class Installation:
    """Opened by a command; `variables` take the place of the process environment and `.env`."""

    def __init__(self, variables: Mapping[str, str] | None = None) -> None:
        self.variables = dict(read_variables() if variables is None else variables)
        self.settings: Settings = load_settings(self.variables)

    def environment(self, name: str) -> Environment:
        """Raises ConfigError."""
        return load_environment(self.settings, name, self.variables)

    def license_of(self, name: str, environment_id: str) -> str:
        """Of the environment of this name, where it is configured here; by default its id."""
        try:
            return self.environment(name).license
        except ConfigError:
            return environment_id

    @cached_property
    def database(self) -> Database:
        """With the schema that this version works with; the embedded database is brought to it unasked.
        Raises SchemaOutdated, EmbeddedError."""
        if self.settings.is_embedded_database and revision.current(self._opened_database) != HEAD:
            self.upgrade_database()
        revision.ensure_current(self._opened_database)
        return self._opened_database

    def upgrade_database(self) -> str:
        """Bring its schema up to date; the revision that it has then. Raises EmbeddedError."""
        # Not at the top: every command would import Alembic, an eighth of the time that it takes to start, for what is
        # done once a version.
        from worker import schema

        return schema.upgrade(self._opened_database)

    @cached_property
    def _opened_database(self) -> Database:
        """Whatever its schema. Raises EmbeddedError."""
        if self.settings.is_embedded_database:
            make_home(self.settings.home)
        return Database(
            self.settings.database, connections=self.settings.database_connections, patience=CONNECTION_PATIENCE
        )

    def _refuse_to_replace_key(self) -> None:
        """A lost key is not made anew: nothing that it encrypted would ever open again."""
        path = self.settings.home / KEY_FILE
        if path.exists():
            return
        with self.database.reading() as connection:
            if connection.scalar(select(Record.id).where(Record.otps.is_not(None)).limit(1)) is not None:
                raise ConfigError(f"{path} is missing, and the database holds OTPs that it encrypted: put it back")

    @cached_property
    def keyring(self) -> Keyring:
        """Raises ConfigError, EmbeddedError."""
        if self.settings.is_embedded_database and self.settings.encryption_keys is None:
            self._refuse_to_replace_key()
            home_key(self.settings.home)
        return load_keyring(self.settings)
