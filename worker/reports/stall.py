"""Finds why due work does not move, and which command helps. Pure."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from shlex import quote
from typing import Any

from worker.fleet import KnownProcess
from worker.observability.wording import agree, count_things

# Seconds without any movement after which due work counts as stalled.
STILL_AFTER = 60.0
# Seconds after which a batch that no worker prepares counts as stalled. This is longer, since batches take turns.
UNPREPARED_AFTER = 180.0
# Seconds. A server whose round trip takes at least this long counts as far away, and slows work down.
FAR = 0.1
# Seconds after which the last tick counts as too old. Ticks come every second, and are recorded every five seconds.
LATE_TICK = 20.0


class Cause(StrEnum):
    """What stops due work from moving."""

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
    """A rehearsal. It has its own `home`, and its simulated PingOne ends with it. `program`: how the reader types
    `oathbulk` in the shell."""

    home: Path
    program: str = "oathbulk"

    def write(self, command: str) -> str:
        """Write an `oathbulk` command so that it applies to this rehearsal's batch, not to another of the same name."""
        return f"OATHBULK_HOME={quote(str(self.home.absolute()))} {self.program}{command.removeprefix('oathbulk')}"

    def describe_end(self) -> str:
        """Say that no row of the batch can be sent again, and how to practice that: with a simulator some of whose
        tokens need fresh OTPs. It prints every step until they are active."""
        practice = f"{self.program} simulator --tokens 12 --pairs pairs.csv --troubles 1"
        return f"The PingOne of this rehearsal ended with it. To practice how tokens come back: {practice}"

    def describe_interruption(self) -> str:
        """Say what to do if no worker works on the batch: it was interrupted, unless it has only just begun."""
        return f"If this rehearsal was interrupted, its PingOne ended with it: `{self.program} rehearse` starts over."


def write_run(batch: str) -> str:
    """Write the command that continues a batch on this machine."""
    return f"oathbulk run {quote(batch)}"


@dataclass(frozen=True, slots=True)
class Fleet:
    """The worker processes, and what they need to work on a batch. `broker`: why the broker cannot be used; None if it
    can, or if that is unknown here. `hold`: a sentence that says until when and why all workers hold. `batch`: the name
    of the batch in question; None if there are several. `rehearsal`: the rehearsal to which the batch belongs.
    `only_batch`: the only batch on which all these processes work; None if they work on every batch."""

    processes: Sequence[KnownProcess] = ()
    broker: str | None = None
    hold: str | None = None
    batch: str | None = None
    rehearsal: Rehearsal | None = None
    only_batch: str | None = None

    @property
    def alive(self) -> list[KnownProcess]:
        """Processes that work on the batch and were seen lately."""
        if self.only_batch not in (None, self.batch):
            return []
        return [process for process in self.processes if process.is_alive]

    @property
    def sick(self) -> list[KnownProcess]:
        """Processes that recently shut down because they failed where others did not: the last one of each machine and
        reason."""
        ended = sorted(
            (each for each in self.processes if each.sick_since is not None), key=lambda each: str(each.sick_since)
        )
        return list({(each.name.partition(":")[0], each.reason): each for each in ended}.values())

    @property
    def dropped(self) -> int:
        """Messages that running processes have dropped, because no process of oathbulk sends messages of that kind."""
        return sum(process.dropped for process in self.processes if process.is_alive)

    @property
    def far_servers(self) -> list[str]:
        """Servers that are far away from every running process, each with the shortest round trip to it:
        `the database is far away (200 ms)`."""
        trips = {
            "the database": [process.database_trip for process in self.alive],
            "Redis": [process.redis_trip for process in self.alive],
        }
        nearest = {name: min((trip for trip in each if trip is not None), default=0.0) for name, each in trips.items()}
        return [f"{name} is far away ({1000 * trip:.0f} ms)" for name, trip in nearest.items() if trip >= FAR]

    @property
    def has_just_started(self) -> bool:
        """Whether its processes are so new that their first tick may still be to come."""
        return bool(self.alive) and max(process.running_for for process in self.alive) < LATE_TICK

    @property
    def seconds_since_tick(self) -> float | None:
        """Seconds since any process last did the dispatcher's work; None if none ever has. Negative if the database's
        clock was set back since then."""
        ticks = [process.seconds_since_tick for process in self.processes if process.seconds_since_tick is not None]
        return min(ticks, default=None)


@dataclass(frozen=True, slots=True)
class Stall:
    """Why due work does not move: `detail` says what is wrong, and `cure` what to do."""

    cause: Cause
    detail: str
    cure: str

    def __str__(self) -> str:
        return f"{self.detail} {self.cure}"

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def find_stall(fleet: Fleet, still_for: float | None, unprepared_for: float | None) -> Stall | None:
    """Find why a batch has stalled: its due work has not moved for `still_for` seconds, or no worker has prepared it
    for `unprepared_for` seconds. None if neither time is long enough, or the fleet has just started. An argument is
    None if nothing is due, or needs preparation."""
    if fleet.has_just_started:
        return None
    if still_for is not None and still_for >= STILL_AFTER:
        return explain_stall(fleet)
    return explain_unprepared(fleet) if (unprepared_for or 0.0) >= UNPREPARED_AFTER else None


def explain_stall(fleet: Fleet) -> Stall:
    """Find the most likely reason why nothing moves. Dependencies are checked first: without a broker no worker can
    take anything, and without workers there are no ticks."""
    if fleet.hold is not None:
        return Stall(Cause.HOLD, fleet.hold, "To continue now: oathbulk resume BATCH --now")
    if fleet.broker is not None:
        detail = f"The broker cannot be used ({fleet.broker})."
        return Stall(Cause.BROKER, detail, "Check OATHBULK_REDIS_URL and the server with: oathbulk doctor")
    if not fleet.alive and fleet.sick:
        return Stall(Cause.SICK, f"No worker is healthy: {describe_sick(fleet)}", "Fix that, and restart them.")
    if not fleet.alive:
        nobody = "No worker is running." if fleet.only_batch in (None, fleet.batch) else "No worker is working on it."
        return Stall(Cause.WORKER, nobody, _name_worker(fleet))
    return _explain_ticks(fleet)


def explain_unprepared(fleet: Fleet) -> Stall:
    """Find the most likely reason why no worker prepares a batch: the reason why nothing at all moves, or else that no
    worker consumes the queue for preparation."""
    stall = explain_stall(fleet)
    if stall.cause != Cause.UNKNOWN:
        return stall
    cure = "Start one for this queue: celery -A worker worker -Q oathbulk.prepare"
    return Stall(Cause.PREPARATION, "No worker is looking people up or importing tokens.", cure)


def describe_sick(fleet: Fleet) -> str:
    """List each process that shut down because only it was failing, with the reason."""
    return "; ".join(f"{process.name} ({process.reason}: {process.detail})" for process in fleet.sick)


# What to do if messages were dropped.
DROPPED_CURE = "find out who else writes to the server of OATHBULK_REDIS_URL"


def describe_dropped(fleet: Fleet) -> str:
    """Say how many messages the workers dropped; empty if none."""
    if not fleet.dropped:
        return ""
    dropped = f"{count_things(fleet.dropped, 'message')} {agree(fleet.dropped, 'was', 'were')}"
    return f"{dropped} dropped that neither workers nor beat send"


def _name_worker(fleet: Fleet) -> str:
    """Say how to start a worker. A rehearsal that was interrupted cannot get another one."""
    if fleet.rehearsal is not None:
        return fleet.rehearsal.describe_interruption()
    run = write_run(fleet.batch) if fleet.batch else "oathbulk run BATCH"
    if fleet.only_batch is not None and fleet.only_batch == fleet.batch:
        return f"`{run}`, which is running here, starts one."
    if fleet.only_batch is not None:
        busy = f"`{write_run(fleet.only_batch)}`, which is running here, works only on {fleet.only_batch}"
        return f"{busy}: when it ends, or after Ctrl-C, `{run}`."
    return f"`{run}` starts one; or start `celery -A worker worker` and `celery -A worker beat`."


def _explain_ticks(fleet: Fleet) -> Stall:
    """Find the reason if workers run and are healthy: the last tick is too old, or in the future, or neither."""
    age = fleet.seconds_since_tick
    if age is not None and age < -LATE_TICK:
        detail = f"The database's clock was set back: its last tick is {-age:.0f} s in the future."
        return Stall(
            Cause.CLOCK, detail, "Set the clock of its server, for example with NTP; the fleet continues by itself."
        )
    if age is None or age > LATE_TICK:
        since = "has ever arrived" if age is None else f"has arrived for {age:.0f} s"
        cure = (
            "Start beat, once: celery -A worker beat; if it is running, start a worker for its queue, oathbulk.dispatch"
        )
        return Stall(Cause.TICK, f"No tick {since}.", cure)
    detail = "Workers are running and ticks are arriving, but nothing is being settled."
    return Stall(Cause.UNKNOWN, detail, "Look at the workers' logs; start with: oathbulk doctor")
