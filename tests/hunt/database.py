"""The real database, on the scenario's clock; on PostgreSQL many threads' writes are one statement that commits by
itself. Around each transaction are switch points, and faults. And our tables as they are committed, read past
SQLAlchemy: after every commit, so it has to be quick."""

from __future__ import annotations

import sqlite3
from abc import abstractmethod
from collections import namedtuple
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from typing import Any

import psycopg
from psycopg.adapt import Loader
from sqlalchemy import ColumnElement, Connection, String, bindparam, event
from sqlalchemy.exc import OperationalError
from support.servers.postgres import EMPTY

from hunt.schedule import Clock, Dice, Died, Strands
from models.base import UtcDateTime
from models.batch import BatchState
from models.reason import PASSING
from models.record_states import FINAL, OtpState, PairingState, Status
from worker.database import schema
from worker.database.engine import Database


class DatabaseLost(OperationalError):
    """The database did not do what it was asked for, or did it and could not say so."""

    def __init__(self, evil: str) -> None:
        super().__init__("", {}, Exception(evil))


class HuntedDatabase(Database):
    """One for all scenarios of a process: building its schema and statements takes longer than a schedule does."""

    # A way past SQLAlchemy, for the judge: times are texts as SQLite keeps them, parameters are written as `?`.
    raw: Any

    def __init__(self, url: str) -> None:
        self.clock, self._dice = Clock(), Dice(0)
        self._strands = Strands(self.clock)
        self._moments: dict[float, ColumnElement[Any]] = {}
        # Before a scenario has begun nobody watches commits.
        self._committed: Callable[[], None] = lambda: None
        super().__init__(url)

    def begin_scenario(self, clock: Clock, strands: Strands, dice: Dice) -> None:
        """As it was when its schema was built, on this scenario's clock: what one scenario leaves behind in any table,
        in the append-only audit as well, must not change the next one's story."""
        self._empty()
        self.clock, self._strands, self._dice, self._committed = clock, strands, dice, lambda: None

    def save(self) -> bytes | None:
        """All that is committed, as a backup has it; None where that takes too long."""
        return None

    def put_back(self, saved: bytes) -> None:
        """Put the database back to the moment at which this was saved."""
        raise NotImplementedError

    @abstractmethod
    def _empty(self) -> None:
        """Leave it as it was when its schema was built."""

    @abstractmethod
    def _read_clock(self) -> ColumnElement[Any]:
        """SQL for what the scenario's clock shows when the statement runs."""

    def watch(self, committed: Callable[[], None]) -> None:
        """`committed` is called after every commit from now on."""
        self._committed = committed

    def now(self, shift: float | ColumnElement[Any] = 0.0) -> ColumnElement[Any]:
        """A statement outlives many scenarios, so the time is looked up when it runs; and what says the same is built
        once, for most of a schedule's time goes into building statements."""
        if not isinstance(shift, float):
            return self._now(shift)
        if shift not in self._moments:
            self._moments[shift] = self._now(shift)
        return self._moments[shift]

    def _now(self, shift: float | ColumnElement[Any]) -> ColumnElement[Any]:
        return self.later(self._read_clock(), shift)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        self._strands.switch()
        self._may_fail("database_lost")
        with self._in_transaction(), super().reading() as connection:
            yield connection
        self._strands.switch()

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        with self._committing(super().writing) as connection:
            yield connection
            if self._is_watched() and self._dice.happens("dies_before_commit", 0.01):
                raise Died
            self._may_fail("commit_fails")

    @contextmanager
    def _committing(self, begin: Callable[[], AbstractContextManager[Connection]]) -> Iterator[Connection]:
        self._linger()
        self._strands.switch()
        self._may_fail("database_lost")
        with self._in_transaction(), begin() as connection:
            yield connection
        self._committed()
        self._may_fail("commit_unheard")
        self._strands.switch()

    @contextmanager
    def _in_transaction(self) -> Iterator[None]:
        self._strands.is_in_transaction = True
        try:
            yield
        finally:
            self._strands.is_in_transaction = False

    def _is_watched(self) -> bool:
        """A strand is at work. A person's command is one transaction, to which nothing happens."""
        return self._strands.current is not None

    def _linger(self) -> None:
        """A commit may take as long as the other threads of the process have anything to do: what they want to write
        comes together meanwhile."""
        strand = self._strands.current
        if strand is not None and len(strand.siblings) > 1 and self._dice.chance("slow_commit", 0.7):
            self._strands.let_siblings_go_on(strand)

    def _may_fail(self, evil: str) -> None:
        if self._is_watched() and self._dice.happens(evil, 0.012):
            raise DatabaseLost(evil)


class HuntedSqlite(HuntedDatabase):
    """In memory."""

    raw: sqlite3.Connection

    def __init__(self) -> None:
        super().__init__("sqlite://")
        event.listen(self.engine, "connect", self._keep)
        schema.upgrade(self)
        self._as_built = self.raw.serialize()

    def writing_one(self) -> AbstractContextManager[Connection]:
        """On SQLite a transaction like any other."""
        return self.writing()

    def save(self) -> bytes:
        return self.raw.serialize()

    def put_back(self, saved: bytes) -> None:
        self.raw.deserialize(saved)

    def _empty(self) -> None:
        self.put_back(self._as_built)

    def _read_clock(self) -> ColumnElement[Any]:
        return bindparam("now", callable_=lambda: self.clock.text(), type_=String(), unique=True)

    def _keep(self, connection: sqlite3.Connection, _record: object) -> None:
        # One thread has one connection to a database in memory: the judge looks through it, between transactions.
        self.raw = connection


class HuntedPostgres(HuntedDatabase):
    """A migrated database without rows, which this empties for each scenario."""

    raw: PlainConnection

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.raw = PlainConnection(url)

    def close(self) -> None:
        """Close every connection."""
        self.raw.close()
        super().close()

    @contextmanager
    def writing_one(self) -> Iterator[Connection]:
        """A single statement, which commits by itself: nobody dies between the two."""
        with self._committing(super().writing_one) as connection:
            yield connection

    def _empty(self) -> None:
        self.raw.execute(EMPTY)

    def _read_clock(self) -> ColumnElement[Any]:
        return bindparam("now", callable_=self._find_time, type_=UtcDateTime(), unique=True)

    def _find_time(self) -> datetime:
        return datetime.fromisoformat(self.clock.text()).replace(tzinfo=UTC)


class PlainConnection:
    """A connection past SQLAlchemy, on which each statement commits by itself. It is no subject of the triggers that
    keep people from changing the audit."""

    def __init__(self, url: str) -> None:
        options = "-c session_replication_role=replica -c timezone=UTC"
        self._connection = psycopg.connect(url.replace("+psycopg", ""), autocommit=True, options=options)
        self._connection.adapters.register_loader("timestamptz", _TimeAsText)

    def execute(self, statement: str, values: Any = ()) -> psycopg.Cursor:
        """Execute a statement whose parameters are written as `?`."""
        return self._connection.execute(statement.replace("?", "%s").encode(), values or None)

    def close(self) -> None:
        self._connection.close()


class _TimeAsText(Loader):
    """Loads a time as SQLite keeps it: `2026-01-01 00:00:01.500000`."""

    def load(self, data: Any) -> str:
        time, _, fraction = bytes(data).decode().removesuffix("+00").partition(".")
        return f"{time}.{fraction.ljust(6, '0')}"


_BATCHES = "id, name, state, reason, probe_at, closes_at, resumes_at, prepared_until"
_RECORDS = """id, batch_id, device_id, status, scheduled_at, lease_id, lease_until, otp1_state, otp1_posts, otp2_state,
    otp2_posts, otp_sent_at, otp_expires_at, verdict, attempts, attempts_forgiven, reason,
    finalized_at IS NULL AS is_not_finalized, otps IS NULL AS is_without_otps, next_counter, posts_forgiven,
    serial_number, user_id, owner_id, is_in_inventory, import_job_id, is_token_made, is_device_made, pairing, pairings,
    username, not_before, undone_until"""
# A date of this year or later is a person's who keeps a record back.
_LET_GO_BY_A_PERSON = "9"


def _names(columns: str) -> list[str]:
    return [column.split()[-1] for column in columns.split(",")]


class Row(namedtuple("Row", _names(_RECORDS))):
    """A record. Times are texts, as SQLite keeps them."""

    __slots__ = ()

    def state(self, ordinal: int) -> str:
        return self.otp1_state if ordinal == 1 else self.otp2_state

    @property
    def marked(self) -> int:
        """Which OTP is committed as going out; 1 if none is."""
        return 2 if self.otp2_state == OtpState.SENT else 1

    def posts(self, ordinal: int) -> int:
        return self.otp1_posts if ordinal == 1 else self.otp2_posts

    @property
    def is_final(self) -> bool:
        return self.status in FINAL

    @property
    def needs_read(self) -> bool:
        is_open = self.pairing in (PairingState.SENT, PairingState.MISSED)
        return OtpState.SENT in (self.otp1_state, self.otp2_state) or self.verdict is not None or is_open

    @property
    def has_begun(self) -> bool:
        """Something went out for it since its budget began, or made its device."""
        return bool(self.otp1_posts + self.otp2_posts or self.is_device_made or self.needs_read)

    @property
    def waits_until(self) -> str | None:
        """The date that it waits for; None if it waits for none."""
        return None if self.has_begun or self.is_final else self.not_before

    @property
    def is_kept_back(self) -> bool:
        """A person has to let it go."""
        return (self.waits_until or "").startswith(_LET_GO_BY_A_PERSON)

    @property
    def sent_things(self) -> tuple[int, int, int]:
        """How many requests of each kind are written down, since the record began again."""
        return self.otp1_posts, self.otp2_posts, self.pairings

    @property
    def is_prepared(self) -> bool:
        return bool(self.user_id and self.is_in_inventory)

    @property
    def is_on_the_table(self) -> bool:
        """Nobody has its token yet."""
        return self.status == Status.PENDING and not self.user_id and self.username is None

    @property
    def is_lacking(self) -> bool:
        """A preparation has something to find out for it."""
        is_complete = self.is_in_inventory and (self.user_id or self.is_on_the_table)
        return self.status == Status.PENDING and not is_complete

    def __str__(self) -> str:
        otps = f"{self.otp1_state}/{self.otp1_posts} {self.otp2_state}/{self.otp2_posts}"
        if self.next_counter is not None:
            otps += f" next {self.next_counter}"
        pairing = f"{self.pairing}/{self.pairings}" if self.pairing != PairingState.UNSENT or self.pairings else None
        device = f"device {self.device_id[-6:]}{'!' if self.is_device_made else ''}"
        lacks = None if self.is_prepared else f"lacks {'token' if self.user_id else 'user'}"
        lacks = "on the table" if self.is_on_the_table else lacks
        told = [
            self.status,
            (self.lease_id or "")[:8],
            otps,
            self.verdict,
            self.reason,
            pairing,
            device,
            lacks,
            f"job {self.import_job_id}" if self.import_job_id else None,
            f"due {self.scheduled_at[11:23]}",
            f"not before {self.not_before[:23]}" if self.not_before else None,
        ]
        return " ".join(filter(None, told))


class BatchRow(namedtuple("BatchRow", _names(_BATCHES))):
    """A batch."""

    __slots__ = ()

    @property
    def waits_for_a_person(self) -> bool:
        return self.state == BatchState.PAUSED and self.reason not in PASSING

    @property
    def changes_at(self) -> str | None:
        """When a tick will pause it, or let it run."""
        if self.state == BatchState.RUNNING:
            return self.closes_at
        return self.probe_at or self.resumes_at if self.state == BatchState.PAUSED else None


def read_records(connection: Any) -> dict[int, Row]:
    return {values[0]: Row(*values) for values in connection.execute(f"SELECT {_RECORDS} FROM record ORDER BY id")}


def read_batches(connection: Any) -> dict[int, BatchRow]:
    return {values[0]: BatchRow(*values) for values in connection.execute(f"SELECT {_BATCHES} FROM batch ORDER BY id")}
