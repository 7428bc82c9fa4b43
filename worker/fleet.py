"""The worker processes of an installation: which are alive, and which ended because they failed where others did not.

A process that fails alone (no route to PingOne, a wrong key, a missing secret) costs the fleet only its own share: it
ends, says why, and its supervisor starts it again."""

import math
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, and_, bindparam, delete, exists, func, insert, or_, select, update

from models.process import WorkerProcess
from worker import __version__
from worker.clocks import Trips
from worker.database.engine import PROCESS_LOCK, Database

# The reason of a process that cannot reach PingOne while others can.
NETWORK = "network"
# The exit code of a process that failed where others did not. It is EX_TEMPFAIL of sysexits.h, which tells a supervisor
# that a later start may succeed.
FAILS_ALONE = 75
# Seconds between two signs of life from a process.
SIGN_OF_LIFE_EVERY = 5.0
# Seconds without a sign of life after which a process counts as gone.
GONE_AFTER = 30.0
# Seconds after which a new process deletes the row of a lost one.
KEPT_FOR = 24 * 60 * 60.0
# Seconds for which a process that failed alone is still listed. This is longer than a supervisor takes to start it
# again, so that the process either works again or has ended once more.
NAMED_FOR = 600.0
# Characters of the detail: as many as the column has room for.
LONGEST_DETAIL = 1000


def name_this_process() -> str:
    """Make the name of this process from host and process id, as attempts name their worker: `host:4711`."""
    return f"{socket.gethostname()}:{os.getpid()}"


@dataclass(frozen=True, slots=True)
class Sickness:
    """What fails in one process."""

    # In one word.
    reason: str
    # In a sentence, with the cure.
    detail: str


@dataclass(frozen=True, slots=True)
class KnownProcess:
    """A process as the database knows it."""

    name: str
    # Whether it was seen lately, and has not ended.
    is_alive: bool
    seen_at: datetime
    # Seconds since it last did the dispatcher's work; None if it never has.
    seconds_since_tick: float | None
    # When it shut down because something failed in it alone, and what failed; None if it is healthy.
    sick_since: datetime | None
    reason: str | None
    detail: str | None
    # Its oathbulk version; None for a version that does not say.
    version: str | None = None
    # Messages that it dropped from its queues, because no oathbulk process sends such messages.
    dropped: int = 0
    # Seconds that a recent trip from it to the database and to Redis took; None if not known.
    database_trip: float | None = None
    redis_trip: float | None = None
    # Seconds since it started.
    running_for: float = math.inf


class Processes:
    """The processes of the fleet, as this process sees them, and its own row. `count_dropped` counts the messages that
    it has dropped; `ask_redis` makes a trip to Redis, or raises redis.RedisError. Thread-safe."""

    def __init__(
        self,
        database: Database,
        name: str,
        count_dropped: Callable[[], int] = lambda: 0,
        ask_redis: Callable[[], object] = lambda: None,
    ) -> None:
        self._database = database
        self.name = name
        self._count_dropped = count_dropped
        self._ask_redis = ask_redis
        self._to_database, self._to_redis = Trips(), Trips()
        now = database.now()
        self._me = WorkerProcess.name == name
        # When any process last did the dispatcher's work; NULL if none ever has.
        self.last_tick_at = select(func.max(WorkerProcess.ticked_at)).scalar_subquery()
        noted = ("dropped", "database_milliseconds", "redis_milliseconds")
        self._seen = (
            update(WorkerProcess)
            .where(self._me)
            .values(seen_at=now, **{name: bindparam(f"new_{name}") for name in noted})
        )
        # After the database's clock was set back, the last tick may lie in the future.
        is_recent = and_(WorkerProcess.ticked_at > database.now(-SIGN_OF_LIFE_EVERY), WorkerProcess.ticked_at <= now)
        is_old = or_(WorkerProcess.ticked_at.is_(None), ~is_recent)
        # Whether it is time for the next `note_tick`.
        self.is_tick_due = exists().where(self._me, is_old)
        self._ticked = update(WorkerProcess).where(self._me, is_old).values(ticked_at=now, seen_at=now)

    def show_life(self) -> None:
        """Record that this process is alive. If it had no row, create one, and delete the rows of processes that have
        been gone for a long time."""
        from redis import RedisError  # not at the top: commands read the fleet without it

        with suppress(RedisError):
            self._to_redis.measure(self._ask_redis)
        with self._database.writing_one() as connection:
            if self._to_database.measure(lambda: self._write_seen(connection)):
                return
        with self._database.writing() as connection:
            if not self._write_seen(connection):
                self._join(connection)
                old = WorkerProcess.seen_at < self._database.now(-KEPT_FOR)
                connection.execute(delete(WorkerProcess).where(old, ~self._me))

    def leave(self) -> None:
        """Delete the row of this process, which ends normally."""
        with self._database.writing() as connection:
            connection.execute(delete(WorkerProcess).where(self._me))

    def note_tick(self, connection: Connection) -> None:
        """Record that this process does the dispatcher's work; writes every few seconds, however often it is called."""
        connection.execute(self._ticked)

    def fall_sick(self, sickness: Sickness) -> bool:
        """Record that this process is sick and ends, if another process is alive and well. False: there is none, so
        this one must continue, since the problem affects everybody."""
        with self._database.writing() as connection:
            # Without the lock, two processes that failed at the same moment would each rely on the other.
            self._database.lock(connection, PROCESS_LOCK)
            others = select(WorkerProcess.name).where(~self._me, _is_well(self._database))
            if connection.scalar(others.limit(1)) is None:
                return False
            if not self._write_seen(connection):
                self._join(connection)
            values = {"sick_since": self._database.now(), "reason": sickness.reason}
            sick = update(WorkerProcess).where(self._me, WorkerProcess.sick_since.is_(None))
            connection.execute(sick.values(values | {"detail": sickness.detail[:LONGEST_DETAIL]}))
            return True

    def _write_seen(self, connection: Connection) -> bool:
        """Record that this process is alive, and what it has counted and measured. False: it has no row."""
        values = {
            "new_dropped": self._count_dropped(),
            "new_database_milliseconds": _to_milliseconds(self._to_database.shortest),
            "new_redis_milliseconds": _to_milliseconds(self._to_redis.shortest),
        }
        return connection.execute(self._seen, values).rowcount == 1

    def _join(self, connection: Connection) -> None:
        now = self._database.now()
        me = {"name": self.name, "version": __version__, "started_at": now, "seen_at": now}
        connection.execute(insert(WorkerProcess).values(me))


class Fitness:
    """Whether this process works, and why it ends. Thread-safe.

    It keeps working if no other process is healthy, since the problem then affects everybody."""

    def __init__(self, processes: Processes) -> None:
        self._processes = processes
        self._lock = threading.Lock()
        self._sickness: Sickness | None = None

    @property
    def name(self) -> str:
        """The name of this process, as in its attempts."""
        return self._processes.name

    @property
    def is_sick(self) -> bool:
        """Whether this process is ending because it failed alone."""
        return self._sickness is not None

    def fall_sick(self, sickness: Sickness) -> bool:
        """End this process as if somebody had asked it to, and return True; its records are handed back. False: no
        other process is healthy, so this one continues."""
        with self._lock:
            if self._sickness is not None:
                return True
            if not self._processes.fall_sick(sickness):
                return False
            self._sickness = sickness
        # Imported here, since commands read the table of processes, but log nothing.
        import structlog

        structlog.get_logger().error("ends_since_it_fails_alone", reason=sickness.reason, detail=sickness.detail)
        os.kill(os.getpid(), signal.SIGTERM)
        return True

    def start_watching(self) -> None:
        """Record every few seconds, in a separate thread, that this process is alive."""
        threading.Thread(target=self._watch, name="fitness", daemon=True).start()

    def _watch(self) -> None:
        import structlog

        from worker.database.errors import is_away

        log = structlog.get_logger()
        while not self.is_sick:
            try:
                self._processes.show_life()
            except Exception as error:
                if not is_away(error):
                    log.exception("no_sign_of_life")
                else:
                    log.warning("no_sign_of_life", why="the database is away")
            time.sleep(SIGN_OF_LIFE_EVERY)


def forget_all(database: Database) -> None:
    """Delete the rows of all processes, once none of them is alive. A killed process could not delete its own row, and
    would count as alive for a while."""
    with database.writing() as connection:
        connection.execute(delete(WorkerProcess))


def count_well(database: Database, connection: Connection) -> int:
    """Count the processes that are alive and well."""
    return connection.scalar(select(func.count()).select_from(WorkerProcess).where(_is_well(database))) or 0


def read_processes(database: Database, connection: Connection) -> list[KnownProcess]:
    """Read all processes that have a row, by name. The row of a process that has been gone for a day is deleted when
    the next process starts. Leaves out, after a while, a process that ended because it failed alone."""
    is_named = or_(WorkerProcess.sick_since.is_(None), WorkerProcess.sick_since > database.now(-NAMED_FOR))
    columns = (WorkerProcess.__table__, _is_well(database).label("is_alive"), database.now().label("now"))
    rows = connection.execute(select(*columns).where(is_named).order_by(WorkerProcess.name)).all()
    return [
        KnownProcess(
            name=row.name,
            is_alive=bool(row.is_alive),
            seen_at=row.seen_at,
            seconds_since_tick=(row.now - row.ticked_at).total_seconds() if row.ticked_at else None,
            sick_since=row.sick_since,
            reason=row.reason,
            detail=row.detail,
            version=row.version,
            dropped=row.dropped,
            database_trip=_to_seconds(row.database_milliseconds),
            redis_trip=_to_seconds(row.redis_milliseconds),
            running_for=(row.now - row.started_at).total_seconds(),
        )
        for row in rows
    ]


def _to_milliseconds(seconds: float | None) -> int | None:
    return None if seconds is None else round(1000 * seconds)


def _to_seconds(milliseconds: int | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000


def _is_well(database: Database) -> ColumnElement[bool]:
    """Whether a process is alive, and has not ended because it failed alone."""
    return and_(WorkerProcess.seen_at > database.now(-GONE_AFTER), WorkerProcess.sick_since.is_(None))
