"""An installation: its settings, database, schema, and keys, for the commands; and what commands and the desk read from
it: the status of each batch, and the history of a token."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from sqlalchemy import Connection, make_url, select

from migrations import HEAD
from models.audit import Action
from models.batch import Batch
from models.encrypted import Keyring
from models.record import Record
from worker import audit
from worker.batches.commands import Batches, PaceCommands
from worker.batches.finding import find_batch
from worker.config.environment import Environment
from worker.config.settings import DATABASE, ConfigError, Settings
from worker.config.sources import find_license, load_environment, load_settings, read_env_file, read_variables
from worker.database import schema
from worker.database.engine import Database
from worker.embedded.home import (
    EmbeddedError,
    find_run_alone,
    home_key,
    make_home,
    make_private_file,
    refuse_lost_database,
)
from worker.fleet import read_processes
from worker.observability.progress import OnProgress, tell_nobody
from worker.reports import facts, token_history
from worker.reports.facts import BatchStatus
from worker.reports.search import SearchResult, Sought, count_others, search
from worker.reports.stall import Fleet
from worker.reports.token_history import NextStep, TokenHistory, UnknownToken, describe_next
from worker.vault.keys import KEY_FILE, load_keyring, reencrypt

# Seconds that a command waits for a connection while workers use all connections that PostgreSQL has.
CONNECT_WITHIN = 10.0


class NothingLoaded(Exception):
    """There is no home yet, and this command makes none; the message says how to begin."""

    def __init__(self, home: Path) -> None:
        super().__init__(f"nothing has been loaded into {home} yet: start with oathbulk run FILE, or oathbulk rehearse")


class Installation:
    """The installation that a command works on. `variables`, if given, replace the process environment and the `.env`
    file. `makes_home`: whether to create a missing home; otherwise `database` raises NothingLoaded. Raises
    ConfigError."""

    def __init__(self, variables: Mapping[str, str] | None = None, *, makes_home: bool = False) -> None:
        self.makes_home = makes_home
        self.env_file = read_env_file() if variables is None else None
        self.variables = dict(read_variables(self.env_file) if variables is None else variables)
        self.settings: Settings = load_settings(self.variables, self.env_file)

    def environment(self, name: str) -> Environment:
        """Load the PingOne environment of this name. Raises ConfigError."""
        return load_environment(self.settings, name, self.variables, self.env_file)

    def license_of(self, name: str, environment_id: str) -> str:
        """Find the license of an environment by its name; the environment's id if it names no license or is not
        configured here. Works even without its credentials."""
        try:
            return find_license(self.settings, name, self.variables, self.env_file) or environment_id
        except ConfigError:
            return environment_id

    @cached_property
    def database(self) -> Database:
        """The database with this version's schema; the embedded database is upgraded here. Raises NothingLoaded,
        SchemaOutdated, EmbeddedError."""
        if self.settings.is_embedded_database and schema.current(self._opened_database) != HEAD:
            self.upgrade_database()
        schema.ensure_current(self._opened_database)
        return self._opened_database

    def upgrade_database(self, ticket: str | None = None) -> str:
        """Upgrade the database's schema; return its revision. Raises EmbeddedError."""
        actor = audit.this_person(self.settings, ticket)

        def write_down(connection: Connection, before: str, after: str) -> None:
            facts = {"before": before, "after": after}
            audit.append(self._opened_database, connection, actor, Action.UPGRADE, None, facts)

        return schema.upgrade(self._opened_database, on_change=write_down)

    def reencrypt(self, ticket: str | None = None, on_progress: OnProgress = tell_nobody) -> int:
        """Encrypt every stored pair of OTPs with the first encryption key. Returns how many records were encrypted
        again. Raises DecryptionError, after encrypting all others, if some records cannot be decrypted; ConfigError,
        EmbeddedError."""
        actor = audit.this_person(self.settings, ticket)

        def write_down(connection: Connection, records: int) -> None:
            audit.append(self.database, connection, actor, Action.REENCRYPT, None, {"records": records})

        return reencrypt(self.database, self.keyring, write_down, on_progress)

    @cached_property
    def _opened_database(self) -> Database:
        """The database, whatever its schema. Raises EmbeddedError."""
        if self.settings.is_embedded_database:
            if not self.makes_home and not self.has_home:
                raise NothingLoaded(self.settings.home)
            make_home(self.settings.home)
            refuse_lost_database(self.settings.home / DATABASE, self.settings.home / audit.HEADS_FILE)
        url, connections = self.settings.database, self.settings.database_connections
        if (parts := make_url(url)).get_backend_name() == "sqlite" and parts.database:
            make_private_file(Path(parts.database))
        # Connections are checked before use, since the desk and the metrics keep one open for weeks and use it only now
        # and then. Workers have their own database objects.
        return Database(url, connections=connections, connect_within=CONNECT_WITHIN, checks_connections=True)

    @property
    def has_home(self) -> bool:
        """Whether anything has ever been loaded into the home. Its database may be lost, or restored from a backup.
        Raises EmbeddedError if the home is needed but unreadable."""
        home = self.settings.home
        if home.is_dir() and not os.access(home, os.X_OK):
            if self.settings.is_embedded_database:
                raise EmbeddedError(f"{home} belongs to another user: set OATHBULK_HOME to a directory of your own")
            return False
        return any((home / name).exists() for name in (DATABASE, KEY_FILE))

    @property
    def is_empty(self) -> bool:
        """Whether nothing has ever been loaded here, so that there is no database to read; always False if the database
        is elsewhere. Raises EmbeddedError, like `has_home`."""
        return self.settings.is_embedded_database and not self.has_home

    @cached_property
    def keyring(self) -> Keyring:
        """The encryption keys; the embedded stack gets a new one if it has none. Raises ConfigError, EmbeddedError."""
        if self.settings.is_embedded_database and self.settings.encryption_keys is None:
            self._refuse_to_replace_key()
            home_key(self.settings.home)
        return load_keyring(self.settings)

    def _refuse_to_replace_key(self) -> None:
        """Raise ConfigError if the embedded stack's encryption key was lost while the database holds OTPs that it
        encrypted: a new key could never decrypt them. The database is opened only if there is no key."""
        path = self.settings.home / KEY_FILE
        if path.exists():
            return
        with self.database.reading() as connection:
            has_otps = connection.scalar(select(Record.id).where(Record.otps.is_not(None)).limit(1)) is not None
        if has_otps:
            raise ConfigError(
                f"{path} is missing, but OTPs in the database are encrypted with that key: restore the key file"
            )

    def batches(self, ticket: str | None = None, person: str | None = None) -> Batches:
        """The commands for batches, on behalf of this person; by default, the one at this terminal. Raises what
        `database` raises."""
        return Batches(self.database, audit.this_person(self.settings, ticket, person))

    def pace_commands(self, ticket: str | None = None, person: str | None = None) -> PaceCommands:
        """The commands for paces, on behalf of this person; by default, the one at this terminal. Raises what
        `database` raises."""
        return PaceCommands(self.database, audit.this_person(self.settings, ticket, person))


def read_statuses(installation: Installation, batch: str | None = None) -> list[BatchStatus]:
    """Read the status of this batch, or of all batches, the latest first; an empty list if nothing has been loaded yet.
    If a batch's due work is stuck, the broker is checked too, since it may be the cause. Raises UnknownBatch,
    NothingLoaded."""
    if batch is None and installation.is_empty:
        return []
    statuses = facts.read_statuses(installation.database, batch, installation.license_of)
    only_batch = _find_only_batch(installation)
    statuses = [replace(status, fleet=replace(status.fleet, only_batch=only_batch)) for status in statuses]
    if not any(status.still_for for status in statuses):
        return statuses
    # Not at the top: the status command rarely asks a broker, and importing Redis' client takes a sixth of its start.
    from worker.installation.broker_check import find_broker_fault

    fault = find_broker_fault(installation.settings)
    return [replace(status, fleet=replace(status.fleet, broker=fault)) for status in statuses]


def read_fleet(installation: Installation, batch: str) -> Fleet:
    """Read which worker processes are alive, to say whether this batch is worked on. Raises UnknownBatch,
    NothingLoaded."""
    with installation.database.reading() as connection:
        name = find_batch(connection, batch, Batch.name, may_be_purged=True).name
        processes = read_processes(installation.database, connection)
    return Fleet(processes, batch=name, only_batch=_find_only_batch(installation))


def _find_only_batch(installation: Installation) -> str | None:
    """Find the only batch that all workers work on: the one of `run BATCH` in this home. None if there is none, or if
    the database is elsewhere, where other workers may work on all batches."""
    settings = installation.settings
    return find_run_alone(settings.home) if settings.is_embedded_database else None


@dataclass(frozen=True, slots=True)
class Told:
    """A token's whole history, once for each environment that has it. `others`: longer serial numbers with the same
    start."""

    tokens: list[tuple[TokenHistory, NextStep]]
    others: int = 0


def look_up(installation: Installation, text: str, limit: int) -> Told | SearchResult:
    """Read the history of the token that `text` names, or that is the only match; otherwise list at most `limit`
    matches. Raises UnknownToken, NothingLoaded."""
    try:
        tokens = read_histories(installation, text)
    except UnknownToken as unknown:
        findings = search(installation.database, Sought(text=text), limit)
        if not findings.found and not findings.refused:
            raise UnknownToken(f"{unknown}, and no value of any token starts with it") from unknown
        name = findings.name_only_token()
        return Told(read_histories(installation, name)) if name else findings
    return Told(tokens, count_others(installation.database, text))


def read_histories(installation: Installation, token: str) -> list[tuple[TokenHistory, NextStep]]:
    """Read the history of each token that `token` names, and say what happens next. Raises UnknownToken,
    NothingLoaded."""
    settings = installation.settings
    histories = token_history.read_histories(installation.database, token, installation.license_of)
    return [
        (each, describe_next(each, lease=settings.tuning.lease, replay_cron=settings.replay_cron)) for each in histories
    ]
