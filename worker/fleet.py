"""The worker processes of an installation: which are alive, and which ended since they failed where others do not.

A process that fails alone (no way to PingOne, a wrong key, a missing secret) costs the fleet its own share only: it
ends, says why, and its supervisor starts it again."""

import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

import redis
from sqlalchemy import ColumnElement, Connection, and_, bindparam, delete, exists, func, insert, or_, select, update

from models.process import WorkerProcess
from worker import __version__
from worker.clocks import Trips
from worker.database.engine import PROCESS_LOCK, Database

# Why a process is sick that cannot reach PingOne while others do.
NETWORK = "network"
# The exit code of a process that failed where others do not: EX_TEMPFAIL of sysexits.h, by which a supervisor knows
# that a later start may go well.
FAILS_ALONE = 75
# Seconds between two signs of life of a process.
SIGN_OF_LIFE_EVERY = 5.0
# Seconds without a sign of life after which a process counts as gone.
GONE_AFTER = 30.0
# Seconds for which the row of a process that is gone is kept and shown.
KEPT_FOR = 24 * 60 * 60.0
# Seconds for which a process that failed alone is still listed: longer than a supervisor takes to start it again, so
# that it either is well by then or has ended once more.
NAMED_FOR = 600.0
# Characters of the detail: as many as the column has room for.
LONGEST_DETAIL = 1000


def name_this_process() -> str:
    """Make the name of this process, of host and process id, as attempts name their worker: `host:4711`."""
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
    # Since it did the dispatcher's work last; None if it never did.
    seconds_since_tick: float | None
    # When it ended, since something failed in it alone, and what; None if it is well.
    sick_since: datetime | None
    reason: str | None
    detail: str | None
    # Of oathbulk; None if it is of a version that does not say.
    version: str | None = None
    # Messages on its queues that it dropped, since no process of ours sends such.
    dropped: int = 0
    # Seconds that a trip to the database and one to Redis took it lately; None where that is not known.
    database_trip: float | None = None
    redis_trip: float | None = None


class Processes:
    """The processes of the fleet, as the process of this name sees them and writes its own row. `count_dropped` counts
    the messages that it has dropped; `ask_redis` makes a trip to Redis, or raises redis.RedisError. Thread-safe."""

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
        # When any process did the dispatcher's work last; NULL if none ever did.
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
        # Whether it is time to `note_tick` again.
        self.is_tick_due = exists().where(self._me, is_old)
        self._ticked = update(WorkerProcess).where(self._me, is_old).values(ticked_at=now, seen_at=now)

    def show_life(self) -> None:
        """Write down that this process lives. If it had no row it gets one, and the rows of processes that are gone for
        long are deleted."""
        with suppress(redis.RedisError):
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
        """Delete the row of this process, which ends in good order."""
        with self._database.writing() as connection:
            connection.execute(delete(WorkerProcess).where(self._me))

    def note_tick(self, connection: Connection) -> None:
        """Write down that this process does the dispatcher's work; every few seconds, however often it is called."""
        connection.execute(self._ticked)

    def fall_sick(self, sickness: Sickness) -> bool:
        """Write down that this process is sick and ends, if another process lives and is well. False: there is none,
        so this one must go on, and the trouble is everybody's."""
        with self._database.writing() as connection:
            # Two that fell sick at the same moment would each count on the other.
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
        """Write down that this process lives, and what it has counted and measured. False: it has no row."""
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

    It goes on working if no other process is well: then the trouble is everybody's."""

    def __init__(self, processes: Processes) -> None:
        self._processes = processes
        self._lock = threading.Lock()
        self._sickness: Sickness | None = None

    @property
    def name(self) -> str:
        """The name of this process, as its attempts have it."""
        return self._processes.name

    @property
    def is_sick(self) -> bool:
        """Whether this process ends, since it failed alone."""
        return self._sickness is not None

    def fall_sick(self, sickness: Sickness) -> bool:
        """End this process as if it were asked to, and return True: what it has in hand goes back. False: no other
        process is well, so this one works on."""
        with self._lock:
            if self._sickness is not None:
                return True
            if not self._processes.fall_sick(sickness):
                return False
            self._sickness = sickness
        # Not at the top, nor below: commands read the table of processes, and log nothing.
        import structlog

        structlog.get_logger().error("ends_since_it_fails_alone", reason=sickness.reason, detail=sickness.detail)
        os.kill(os.getpid(), signal.SIGTERM)
        return True

    def start_watching(self) -> None:
        """Write down every few seconds that this process lives, in a thread of its own."""
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
    """Delete the rows of all processes, once none lives any more. A process that was killed could not delete its own,
    and would count as alive for a while."""
    with database.writing() as connection:
        connection.execute(delete(WorkerProcess))


def count_well(database: Database, connection: Connection) -> int:
    """Count the processes that live and are well."""
    return connection.scalar(select(func.count()).select_from(WorkerProcess).where(_is_well(database))) or 0


def read_processes(database: Database, connection: Connection) -> list[KnownProcess]:
    """Read all processes that have a row, by their names; who was gone for a day has none. One that ended since it
    failed alone is left out after a while."""
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
        )
        for row in rows
    ]


def _to_milliseconds(seconds: float | None) -> int | None:
    return None if seconds is None else round(1000 * seconds)


def _to_seconds(milliseconds: int | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000


def _is_well(database: Database) -> ColumnElement[bool]:
    """Whether a process lives and has not ended since it failed alone."""
    return and_(WorkerProcess.seen_at > database.now(-GONE_AFTER), WorkerProcess.sick_since.is_(None))
