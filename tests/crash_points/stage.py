"""Where processes die: a fleet without a worker of its own, and processes that work one after the other, each when it
is told to. Only the database's clock is moved, so that nobody has to wait for a lease."""

import json
import signal
from dataclasses import dataclass
from itertools import count

from sqlalchemy import ColumnElement, select
from support.fleets.real_fleet import Fleet, plain_env
from support.processes.program import TESTS, Program
from support.processes.waiting import wait_until

from models.record import Record
from models.record_states import FINAL, Status

# Seconds by which the clock goes on before whoever was left lying is looked for: past every lease, turn and delay.
LATER = 121.0
# Rounds in which a record is finished, whatever befell it.
ROUNDS = 6

End = tuple[str, str | None]
ACTIVE: End = ("active", None)


@dataclass(frozen=True)
class Point:
    """A step at which a process dies, when it passes it for the `time`-th time. What that costs: OTPs that PingOne gets
    for the record's device in all, and how the record ends."""

    step: str
    posts: int = 1
    end: End = ACTIVE
    time: int = 1


class Stage:
    """The records of a fleet that has settings of production."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self._ahead = 0.0
        self._numbers = count()
        # What the latest process said.
        self._log = ""

    def live(self, task: str, *records: int) -> None:
        """A process runs the task, for each of these records if any are named."""
        assert self._run(task, *records) == 0

    def die(self, point: Point, task: str, *records: int) -> None:
        """The same, and it dies at this point."""
        code = self._run(task, *records, step=point.step, time=point.time)
        assert code == -signal.SIGKILL, f"nobody passed {point.step}; the steps were:\n{self._log}"

    def enqueue(self) -> list[int]:
        """A tick, and the records that are queued then; nobody else gets their messages."""
        self.live("dispatch")
        return self._find(Record.status == Status.QUEUED)

    def finish(self) -> None:
        """Time passes again and again, until the leases of the dead have run out and what was delayed is due; healthy
        processes do what is left."""
        for _ in range(ROUNDS):
            # The call of a process that was killed may still run at PingOne.
            wait_until(lambda: self.fleet.simulator.open_calls() == 0, "every call is over")
            self._ahead += LATER
            self.live("prepare")
            if ids := self.enqueue():
                self.live("activate", *ids)
            if not (left := self._find(Record.status.not_in(FINAL))):
                return
        raise AssertionError(f"left after {ROUNDS} rounds: {left}")

    def costs(self) -> dict[int, tuple[int, End]]:
        """Posts and end of each record, once the fleet was judged."""
        posted = [call.device_id for call in self.fleet.simulator.calls() if call.is_post]
        with self.fleet.database.reading() as connection:
            rows = connection.execute(select(Record.id, Record.device_id, Record.status, Record.reason)).all()
        return {row.id: (posted.count(row.device_id), (row.status, row.reason)) for row in rows}

    def _find(self, which: ColumnElement[bool]) -> list[int]:
        with self.fleet.database.reading() as connection:
            return [*connection.scalars(select(Record.id).where(which).order_by(Record.id))]

    def _run(self, task: str, *records: int, step: str = "", time: int = 1) -> int:
        order = {"task": task, "records": records, "ahead": self._ahead, "step": step, "time": time}
        env = plain_env() | self.fleet.variables | {"PYTHONPATH": TESTS}
        arguments = [json.dumps(order)]
        name = f"mortal {next(self._numbers)}"
        with Program(name, "crash_points.mortal", arguments, env, self.fleet.outside) as program:
            code = program.wait()
            self._log = program.read_log()
        return code
