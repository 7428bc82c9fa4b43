"""Where processes die: a fleet without a worker of its own, and a zygote that works when it is told to."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from queue import Empty
from typing import Any, Self

import redis
from kombu import Connection
from sqlalchemy import ColumnElement, Row, select, update
from support.fleets.real_fleet import Fleet
from support.processes.waiting import wait_until
from support.servers.valkey import ACTIVATE_QUEUE

from crash_points.orders import Life, Order, Zygote
from models.batch import Batch, BatchState
from models.record import Record
from models.record_states import FINAL, Status
from worker import audit
from worker.batches.commands import NotPossible
from worker.config.sources import load_environment
from worker.pace.slots import Pace

# Seconds by which the clock goes on before whoever was left lying is looked for: past every lease and delay.
LATER = 61.0
# Rounds in which a record is finished, whatever befell it.
ROUNDS = 6
# Seconds of a time step of TOTP: what is due in one step when time goes on by LATER is due in the next. And how far the
# first one has come when the work begins.
TIME_STEP, INTO_STEP = 60, 5.0


class Stage:
    """The records of a fleet, and processes that work on them, one after the other."""

    def __init__(self, fleet: Fleet, zygote: Zygote) -> None:
        self.fleet = fleet
        self.zygote = zygote
        # Seconds by which the database's clock is ahead.
        self.ahead = 0.0
        # Whether workers have an access token from the beginning, which was revoked.
        self.revokes = False
        # PingOne's time when `ahead` was 0, if it stands still; None: it goes on.
        self._stands_at: float | None = None
        self.redis = redis.Redis.from_url(fleet.settings.redis)
        self.broker = Connection(fleet.settings.redis)

    def work(self, *records: int, dies_at: int | None = None) -> Life:
        """A worker that gets the messages of these records."""
        revokes = self.fleet.simulator.url if self.revokes else None
        return self._obey(records=list(records), dies_at=dies_at, revokes=revokes)

    def freeze(self, record: int, at: int) -> Life:
        """A worker of this record, which stops at a step and goes on when it is thawed."""
        return self._obey(records=[record], dies_at=at, is_frozen=True)

    def stop_pingones_clock(self) -> None:
        """From here on PingOne's time goes on only as `ahead` does, and while a process works: so no time step of TOTP
        ends because a machine is busy."""
        # Not earlier than now, or the devices would not have been made yet.
        self._stands_at = (time.time() // TIME_STEP + 1) * TIME_STEP + INTO_STEP

    def thaw(self, life: Life) -> Life:
        return self._obey(thaws=life.pid)

    def tick(self, dies_at: int | None = None) -> Life:
        return self._obey(ticks=True, dies_at=dies_at)

    def command(self, command: str, batch: str, dies_at: int | None = None) -> Life:
        """A person types it."""
        return self._obey(command=command, batch=batch, dies_at=dies_at)

    def enqueue(self) -> list[int]:
        """A tick, and the records whose messages it published; nobody else will get them."""
        self.tick()
        return self.take_messages()

    def take_messages(self) -> list[int]:
        ids = []
        with self.broker.SimpleQueue(ACTIVATE_QUEUE) as queue, suppress(Empty):
            while message := queue.get(block=False):
                (record_id, _), *_ = message.payload
                ids.append(record_id)
                message.ack()
        return ids

    def go_on(self) -> None:
        """Time passes, until the leases of the dead have run out and what was delayed is due."""
        # The call of a process that was killed may still run at PingOne.
        wait_until(lambda: self.fleet.simulator.open_calls() == 0, 30, "every call is over")
        self.ahead += LATER

    def finish(self, records: Collection[int] | None = None) -> None:
        """Healthy processes do what is left of these records, or of all, by ticks and messages alone."""
        for _ in range(ROUNDS):
            self.go_on()
            if ids := self.enqueue():
                self.work(*ids)
            left = [record_id for record_id, (status, _) in self.ends(records).items() if status not in FINAL]
            if not left:
                return
        raise AssertionError(f"left after {ROUNDS} rounds: {left}")

    def judge(self, unclear: Collection[int] = ()) -> None:
        """Fails if a promise was broken. `unclear`: records that call a device ours which somebody else made."""
        assert not unclear
        self.fleet.judge()

    def ends(self, records: Collection[int] | None = None) -> dict[int, tuple[str, str | None]]:
        """Status and reason of these records, or of all."""
        with self.fleet.database.reading() as connection:
            rows = connection.execute(select(Record.id, Record.status, Record.reason)).all()
        return {row.id: (row.status, row.reason) for row in rows if records is None or row.id in records}

    def paused(self) -> dict[int, str]:
        """The names of the batches that are paused, by each of their records."""
        statement = select(Record.id, Batch.name).join(Batch, Batch.id == Record.batch_id)
        with self.fleet.database.reading() as connection:
            rows = connection.execute(statement.where(Batch.state == BatchState.PAUSED)).all()
        return {row.id: row.name for row in rows}

    def resume(self) -> None:
        """A person does, whatever is paused and not finished."""
        for name in set(self.paused().values()):
            with suppress(NotPossible):
                self.fleet.batches.resume(name)

    def keep_back(self) -> None:
        """Nothing is due before it is released."""
        self._schedule(datetime(2100, 1, 1, tzinfo=UTC), Record.status == Status.PENDING)

    def release(self, *records: int) -> None:
        self._schedule(datetime(2000, 1, 1, tzinfo=UTC), Record.id.in_(records))

    def lose_answer(self, *records: int, fault: str = "reset_after", operation: str = "activate") -> None:
        """To the next OTP post of each, or to the next read: the connection will break."""
        devices = self.devices()
        orders = [{"kind": fault, "operation": operation, "device_id": devices[record]} for record in records]
        self.fleet.simulator.order_faults(*orders)

    def audit(self, batch: str) -> list[str]:
        """The commands that were written down for this batch. Raises AssertionError if the chain is broken."""
        with self.fleet.database.reading() as connection:
            assert audit.check(connection).broken is None
            return [line.action for line in audit.read(connection, batch)]

    @property
    def pace(self) -> Pace:
        """The fleet's."""
        environment = load_environment(self.fleet.settings, variables=self.fleet.variables)
        return Pace(self.redis, environment.license, environment.rate)

    def look(self, record: int) -> Row[Any]:
        """The record as it stands."""
        with self.fleet.database.reading() as connection:
            return connection.execute(select(Record.__table__).where(Record.id == record)).one()

    def devices(self) -> dict[int, str]:
        """Device ids by record."""
        with self.fleet.database.reading() as connection:
            return {row.id: row.device_id for row in connection.execute(select(Record.id, Record.device_id))}

    def posts(self, records: Sequence[int]) -> list[int]:
        """OTP posts that PingOne did not leave alone, for each record's device; after the fleet was judged."""
        devices = self.devices()
        posted = [call.device_id for call in self.fleet.simulator.calls() if call.is_post]
        return [posted.count(devices[record_id]) for record_id in records]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.broker.release()
        self.redis.close()

    def _schedule(self, moment: datetime, which: ColumnElement[bool]) -> None:
        with self.fleet.database.writing() as connection:
            connection.execute(update(Record).where(which).values(scheduled_at=moment))

    def _obey(self, **order: Any) -> Life:
        if self._stands_at is not None:
            self.fleet.simulator.set_clock(self._stands_at + self.ahead)
        return self.zygote.obey(Order(self.ahead, **order))
