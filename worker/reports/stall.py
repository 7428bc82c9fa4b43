"""Why work that is due does not move, and which command mends that. Values in, values out."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from shlex import quote
from typing import Any

from worker.fleet import KnownProcess
from worker.observability.wording import agree, count_things

# Seconds after which due work of which nothing has moved counts as a stall.
STILL_AFTER = 60.0
# Seconds after which a batch that nobody prepares counts as stalled. Longer, since batches take turns.
UNPREPARED_AFTER = 180.0
# Seconds that a trip to a server takes, from which on it is far away, and slows work down.
FAR = 0.1
# Seconds after which the last tick counts as too old. Ticks come every second, and are written down every five.
LATE_TICK = 20.0


class Cause(StrEnum):
    """What keeps due work from moving."""

    HOLD = "hold"
    BROKER = "broker"
    WORKER = "worker"
    SICK = "sick"
    CLOCK = "clock"
    TICK = "tick"
    PREPARATION = "preparation"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """The home of a rehearsal, which has one of its own, and whose PingOne ends with it. `program`: how `oathbulk` is
    typed in the shell of who reads of it."""

    home: Path
    program: str = "oathbulk"

    def write(self, command: str) -> str:
        """Write a command of `oathbulk` so that it meets this rehearsal's batch, and no other of the same name."""
        return f"OATHBULK_HOME={quote(str(self.home.absolute()))} {self.program}{command.removeprefix('oathbulk')}"

    def describe_end(self) -> str:
        """Say that nothing of the batch can go again, and how that is practiced: with tokens of which some need fresh
        OTPs, served by a simulator that prints the whole way to their being active."""
        practice = f"{self.program} simulator --tokens 12 --pairs pairs.csv --troubles 1"
        return f"The PingOne of this rehearsal ended with it. To practice how tokens come back: {practice}"

    def describe_interruption(self) -> str:
        """Say what to do where no worker comes to the batch, which was interrupted unless it has just begun."""
        return f"If this rehearsal was interrupted, its PingOne ended with it: `{self.program} rehearse` starts over."


def write_run(batch: str) -> str:
    """Write the command that works on a batch here, from where it is."""
    return f"oathbulk run {quote(batch)}"


@dataclass(frozen=True, slots=True)
class Fleet:
    """What is known of the worker processes and of what they need to move a batch. `broker`: why the broker cannot be
    used; None if it can, or if that is not known here. `hold`: until when and why all workers hold, in a sentence.
    `batch`: the name of the batch they are asked about; None where there are several. `rehearsal`: the one that the
    batch is of. `only_batch`: the one on which all these processes work, and on no other; None if they work on all."""

    processes: Sequence[KnownProcess] = ()
    broker: str | None = None
    hold: str | None = None
    batch: str | None = None
    rehearsal: Rehearsal | None = None
    only_batch: str | None = None

    @property
    def alive(self) -> list[KnownProcess]:
        """Processes that work on the batch: they were seen lately."""
        if self.only_batch not in (None, self.batch):
            return []
        return [process for process in self.processes if process.is_alive]

    @property
    def sick(self) -> list[KnownProcess]:
        """Processes that ended lately, since something failed in them alone: the last one of each machine and
        reason."""
        ended = sorted(
            (each for each in self.processes if each.sick_since is not None), key=lambda each: str(each.sick_since)
        )
        return list({(each.name.partition(":")[0], each.reason): each for each in ended}.values())

    @property
    def dropped(self) -> int:
        """Messages that the processes that live have dropped, since no process of oathbulk sends such."""
        return sum(process.dropped for process in self.processes if process.is_alive)

    @property
    def far_servers(self) -> list[str]:
        """The servers that are far away from every process that lives, with what a trip takes the nearest of them:
        `the database is far (200 ms)`."""
        trips = {
            "the database": [process.database_trip for process in self.alive],
            "Redis": [process.redis_trip for process in self.alive],
        }
        nearest = {name: min((trip for trip in each if trip is not None), default=0.0) for name, each in trips.items()}
        return [f"{name} is far ({1000 * trip:.0f} ms)" for name, trip in nearest.items() if trip >= FAR]

    @property
    def seconds_since_tick(self) -> float | None:
        """Seconds since any process did the dispatcher's work; None if none ever did. Below 0 if the database's clock
        was set back since."""
        ticks = [process.seconds_since_tick for process in self.processes if process.seconds_since_tick is not None]
        return min(ticks, default=None)


@dataclass(frozen=True, slots=True)
class Stall:
    """Why due work does not move: `detail` says what is the matter, `cure` what to do."""

    cause: Cause
    detail: str
    cure: str

    def __str__(self) -> str:
        return f"{self.detail} {self.cure}"

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def find_stall(fleet: Fleet, still_for: float | None, unprepared_for: float | None) -> Stall | None:
    """Name the reason why a batch stands still whose due work has not moved for so many seconds, or that nobody has
    prepared for so many; None while both are short. None in place of seconds: nothing is due, or to be prepared."""
    if still_for is not None and still_for >= STILL_AFTER:
        return explain_stall(fleet)
    return explain_unprepared(fleet) if (unprepared_for or 0.0) >= UNPREPARED_AFTER else None


def explain_stall(fleet: Fleet) -> Stall:
    """Name the most likely reason why nothing moves. What other things depend on is looked at first: without a broker
    no worker can take anything, and without workers nobody does the ticks."""
    if fleet.hold is not None:
        return Stall(Cause.HOLD, fleet.hold, "To continue now: oathbulk resume BATCH --now")
    if fleet.broker is not None:
        detail = f"The broker cannot be used ({fleet.broker})."
        return Stall(Cause.BROKER, detail, "Check OATHBULK_REDIS_URL and the server with: oathbulk doctor")
    if not fleet.alive and fleet.sick:
        return Stall(Cause.SICK, f"No worker is well: {describe_sick(fleet)}", "Fix that, and restart them.")
    if not fleet.alive:
        nobody = "No worker runs." if fleet.only_batch in (None, fleet.batch) else "No worker works on it."
        return Stall(Cause.WORKER, nobody, _name_worker(fleet))
    return _explain_ticks(fleet)


def explain_unprepared(fleet: Fleet) -> Stall:
    """Name the most likely reason why no worker prepares a batch: what else nothing would move for, or that none of
    the workers takes that queue."""
    stall = explain_stall(fleet)
    if stall.cause != Cause.UNKNOWN:
        return stall
    cure = "Start one for this queue: celery -A worker worker -Q oathbulk.prepare"
    return Stall(Cause.PREPARATION, "No worker looks people up or imports tokens.", cure)


def describe_sick(fleet: Fleet) -> str:
    """Name each process that ended since it failed alone, with the reason."""
    return "; ".join(f"{process.name} ({process.reason}: {process.detail})" for process in fleet.sick)


# What to do where messages were dropped.
DROPPED_CURE = "find out who else writes to the server of OATHBULK_REDIS_URL"


def describe_dropped(fleet: Fleet) -> str:
    """Say how many messages the workers have dropped; empty if none."""
    if not fleet.dropped:
        return ""
    dropped = f"{count_things(fleet.dropped, 'message')} {agree(fleet.dropped, 'was', 'were')}"
    return f"{dropped} dropped that neither workers nor beat send"


def _name_worker(fleet: Fleet) -> str:
    """Say what brings a worker; for a rehearsal none may come again."""
    if fleet.rehearsal is not None:
        return fleet.rehearsal.describe_interruption()
    run = write_run(fleet.batch) if fleet.batch else "oathbulk run BATCH"
    if fleet.only_batch is not None and fleet.only_batch == fleet.batch:
        return f"`{run}`, which runs here, starts one."
    if fleet.only_batch is not None:
        busy = f"`{write_run(fleet.only_batch)}`, which runs here, works on {fleet.only_batch} alone"
        return f"{busy}: when it ends, or after Ctrl-C, `{run}`."
    return f"`{run}` starts one; or start `celery -A worker worker` and `celery -A worker beat`."


def _explain_ticks(fleet: Fleet) -> Stall:
    """Name the reason where workers run and are well: the last tick is too old, or lies in the future, or neither."""
    age = fleet.seconds_since_tick
    if age is not None and age < -LATE_TICK:
        detail = f"The database's clock was set back: its last tick is {-age:.0f} s in the future."
        return Stall(
            Cause.CLOCK, detail, "Set the clock of its server, for example with NTP; the fleet continues by itself."
        )
    if age is None or age > LATE_TICK:
        since = "ever came" if age is None else f"came for {age:.0f} s"
        cure = "Start beat, once: celery -A worker beat; if it runs, start a worker for its queue, oathbulk.dispatch"
        return Stall(Cause.TICK, f"No tick {since}.", cure)
    detail = "Workers run and ticks come, but nothing is settled."
    return Stall(Cause.UNKNOWN, detail, "Look at the workers' logs; start with: oathbulk doctor")
