"""The worker processes of the fleet: when each was last seen, and which of them fails alone and takes no more work."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, and_, delete, func, insert, or_, select, update

from models.process import WorkerProcess
from worker.database.engine import PROCESS_LOCK, Database

# Seconds between two signs of life; and after which a process without one counts as gone.
SIGN_OF_LIFE = 5.0
GONE_AFTER = 30.0
# Seconds for which a process that is gone is still told of.
KEPT_FOR = 24 * 60 * 60.0
# As many characters as the column has room for.
LONGEST_DETAIL = 1000


def this_process() -> str:
    """Host and process id, as attempts name their worker."""
    return f"{socket.gethostname()}:{os.getpid()}"


@dataclass(frozen=True, slots=True)
class Sickness:
    """What fails in one process, in one word and in a sentence with the cure."""

    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class KnownProcess:
    """A process as the database knows it. `is_alive`: it was seen lately. `seconds_since_tick`: None if it never did
    the dispatcher's work."""

    name: str
    is_alive: bool
    seen_at: datetime
    seconds_since_tick: float | None
    sick_since: datetime | None
    reason: str | None
    detail: str | None


class Processes:
    """The rows of one process, `name`, among those of the fleet; thread-safe."""

    def __init__(self, database: Database, name: str) -> None:
        self._database = database
        self.name = name
        now = database.now()
        self._me = WorkerProcess.name == name
        self._is_alive = WorkerProcess.seen_at > database.now(-GONE_AFTER)
        self._last_tick = select(func.max(WorkerProcess.ticked_at))
        self._seen = update(WorkerProcess).where(self._me).values(seen_at=now)
        # After a step of the clock the last one may lie in the future.
        is_recent = and_(WorkerProcess.ticked_at > database.now(-SIGN_OF_LIFE), WorkerProcess.ticked_at <= now)
        is_old = or_(WorkerProcess.ticked_at.is_(None), ~is_recent)
        self._ticked = update(WorkerProcess).where(self._me, is_old).values(ticked_at=now, seen_at=now)

    def show_life(self) -> None:
        """This process lives; one that was unknown joins, and those that are gone for long are forgotten."""
        with self._database.writing() as connection:
            if not connection.execute(self._seen).rowcount:
                self._join(connection)
                old = WorkerProcess.seen_at < self._database.now(-KEPT_FOR)
                connection.execute(delete(WorkerProcess).where(old, ~self._me))

    def leave(self) -> None:
        """This process ends in good order."""
        with self._database.writing() as connection:
            connection.execute(delete(WorkerProcess).where(self._me))

    def last_tick_at(self, connection: Connection) -> datetime | None:
        """When any process did the dispatcher's work last."""
        return connection.scalar(self._last_tick)

    def note_tick(self, connection: Connection) -> None:
        """This process does the dispatcher's work; written down every few seconds."""
        connection.execute(self._ticked)

    def fall_sick(self, sickness: Sickness) -> bool:
        """Take no more work, if another process lives and is well. False: there is none, so this one must stay, and the
        trouble is everybody's."""
        with self._database.writing() as connection:
            # Two that fell sick at the same moment would each count on the other.
            self._database.lock(connection, PROCESS_LOCK)
            if not self._has_well_others(connection):
                return False
            if not connection.execute(self._seen).rowcount:
                self._join(connection)
            values = {"sick_since": self._database.now(), "reason": sickness.reason}
            sick = update(WorkerProcess).where(self._me, WorkerProcess.sick_since.is_(None))
            connection.execute(sick.values(values | {"detail": sickness.detail[:LONGEST_DETAIL]}))
            return True

    def recover(self) -> None:
        """This process is well again."""
        with self._database.writing() as connection:
            well = {"sick_since": None, "reason": None, "detail": None}
            connection.execute(update(WorkerProcess).where(self._me).values(well))

    def is_needed(self) -> bool:
        """Whether no other process is well, so that this one must work, sick or not."""
        with self._database.reading() as connection:
            return not self._has_well_others(connection)

    def _has_well_others(self, connection: Connection) -> bool:
        others = select(WorkerProcess.name).where(~self._me, self._is_alive, WorkerProcess.sick_since.is_(None))
        return connection.scalar(others.limit(1)) is not None

    def _join(self, connection: Connection) -> None:
        now = self._database.now()
        connection.execute(insert(WorkerProcess).values(name=self.name, started_at=now, seen_at=now))


def read_processes(database: Database, connection: Connection) -> list[KnownProcess]:
    """All that were seen within a day, by their names."""
    is_alive = WorkerProcess.seen_at > database.now(-GONE_AFTER)
    columns = (WorkerProcess.__table__, is_alive.label("is_alive"), database.now().label("now"))
    rows = connection.execute(select(*columns).order_by(WorkerProcess.name)).all()
    return [
        KnownProcess(
            name=row.name,
            is_alive=bool(row.is_alive),
            seen_at=row.seen_at,
            seconds_since_tick=(row.now - row.ticked_at).total_seconds() if row.ticked_at else None,
            sick_since=row.sick_since,
            reason=row.reason,
            detail=row.detail,
        )
        for row in rows
    ]
