"""One schedule: a world is built from its seed, goes through a storm, and must then come to rest by itself."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager

from structlog.testing import capture_logs
from support.batches import TESTER

from hunt import seams, stock
from hunt.broker import ModelBroker
from hunt.clock import Clock
from hunt.dice import Dice
from hunt.events import befall, resume
from hunt.fleet import Beat, Process
from hunt.judge import judge
from hunt.ledger import Ledger, describe
from hunt.network import ModelNetwork
from hunt.pace import ModelPace
from hunt.pingone import Call, ModelPingOne
from hunt.strands import Broken, Strand, Strands
from worker.batches import Batches

# Ticks in which a batch finishes once the faults have ended, each at the next moment when something is due. A record
# may need a rescue, a read, two posts and a last read, behind a hold.
TICKS = 60
# Switch points between two ticks; more of them is a loop that never waits.
SWITCHES = 3000
# Steps of the storm after which nobody waits any longer for a person to replay something.
IDLE_STEPS = 10


class World:
    """`without`: evils that are left out; `steps`: how long the storm lasts. Built, run once, and judged."""

    def __init__(self, seed: int, without: Collection[str] = (), steps: int | None = None, *, tell: bool = False):
        self.seed = seed
        self.dice = Dice(seed, without)
        self.clock = Clock()
        self.strands = Strands(self.clock)
        self.told: list[str] | None = [] if tell else None
        self.steps = steps if steps is not None else self.dice.pick("steps", (100, 200, 300, 600))
        self.settings = stock.settings(self.dice)
        self.tenant = stock.tenant(self.dice)
        self.environment = stock.environment(self.tenant.resync_on_first_call)
        self.pingone = ModelPingOne(self.clock, self.tenant, self._arriving)
        self.network = ModelNetwork(self.clock, self.strands, self.dice, self.pingone)
        self.pace = ModelPace(self.clock, self.strands, self.dice, self.environment.rate, furthest=2.0)
        self.database = stock.database()
        self.leases = stock.leases(self.settings.lease, self.settings.max_attempts)
        self.batches = Batches(self.database, TESTER)
        self.ledger = Ledger(self.database.raw, self.clock, self.pingone.journal, self.settings)
        self.broker = ModelBroker(self.clock, self.strands, self.dice, self.ledger.published)
        self.beat = Beat(self)
        self.processes: list[Process] = []
        self.born = 0
        # How far the database's clock is ahead of the workers' by steps that no call was there to see.
        self.settled_ahead = 0.0
        self.idle_steps = 0
        self.next_tick_at = 0.0
        self.logs: list[dict[str, object]] = []

    def run(self) -> None:
        """Raises Broken."""
        models = seams.in_place(self.seed, self.clock, self.strands, self.network, self.broker)
        with models, capture_logs() as self.logs:
            try:
                self._begin()
                self._storm()
                self._calm()
                judge(self)
            finally:
                for strand in list(self.strands.alive()):
                    self.strands.kill(strand)

    @contextmanager
    def commanding(self) -> Iterator[None]:
        self.ledger.is_command = True
        try:
            yield
        finally:
            self.ledger.is_command = False

    def paused(self) -> list[str]:
        """The batches that wait for a person."""
        return [batch.name for batch in self.ledger.batches.values() if batch.waits_for_a_person]

    def has_given_up(self) -> bool:
        """Some record waits for a person."""
        return any(row.status in ("dead_letter", "cancelled") for row in self.ledger.rows.values())

    def is_idle(self, strand: Strand) -> bool:
        return any(process.strand is strand and process.message is None for process in self.processes)

    def is_quiet(self) -> bool:
        """No worker and no dispatcher is in the midst of something, and nothing is on its way."""
        return not self.network.on_their_way and all(map(self.is_idle, self.strands.alive()))

    def note(self, text: str) -> None:
        if self.told is not None:
            who = self.strands.current.name if self.strands.current else "-"
            self.told.append(f"{self.clock.monotonic():9.3f}  {who:12}  {text}")

    def _begin(self) -> None:
        self.database.begin_world(self.clock, self.strands, self.dice)
        devices = stock.devices(self.dice)
        self.pingone.devices = {device.device_id: device for device in devices}
        self.batch_names = stock.load(self.database, self.dice, devices)
        self.ledger.open_books(self.pingone.devices)
        self.database.watch(self._committed)
        for _ in range(self.dice.pick("workers", (2, 2, 3))):
            self._start_process()

    def _storm(self) -> None:
        for _ in range(self.steps):
            self.idle_steps = self.idle_steps + 1 if self._is_finished() and self.is_quiet() else 0
            if self.idle_steps > IDLE_STEPS:
                return
            befall(self)
            self._mend()
            if self._is_tick_due() and self.dice.chance("tick", 0.4):
                self._start_tick()
            if ready := self.strands.ready():
                self.strands.go_on(self.dice.pick("schedule", ready))
                self._advance_to(self.clock.monotonic() + self._moment())
            else:
                self._pass_time()

    def _calm(self) -> None:
        """No more faults. What is frozen thaws, what is mended is resumed, and the rest is up to the code."""
        self.dice.is_calm = True
        self.note("-- calm")
        for strand in self.strands.alive():
            strand.frozen = 0
        for _ in range(TICKS):
            self._work()
            if self._is_finished():
                return
            resume(self)
            while not self._is_any_due():
                self._advance_to(self._next_moment())
            before = self.ledger.rows
            self._start_tick()
            self._work()
            if self.ledger.rows == before:
                self._advance_to(self._next_moment())
        left = [f"{row.id} is {row.status}" for row in self.ledger.rows.values() if not row.is_final]
        raise Broken(f"not finished after {TICKS} ticks without a fault: record {', '.join(left)}")

    def _work(self) -> None:
        """Everybody goes on until all wait for time to pass far, or for a message."""
        self._mend()
        for _ in range(SWITCHES):
            if ready := self.strands.ready():
                self.strands.go_on(self.dice.pick("schedule", ready))
                self._mend()
            elif sleeping := [strand.wakes_at for strand in self.strands.alive() if not self.is_idle(strand)]:
                self._advance_to(min(sleeping))
            else:
                return
        raise Broken("the fleet does not come to rest")

    def _pass_time(self) -> None:
        """Nobody has anything to do before the next moment; something may come between."""
        until = self._next_moment()
        if self.dice.chance("time", 0.4):
            until = self.dice.between("time", self.clock.monotonic(), until)
        self._advance_to(until)

    def _moment(self) -> float:
        """How long a step takes: hardly ever more than nothing, and now and then the machine stands still."""
        if self.dice.happens("standstill", 0.01):
            return self.dice.between("standstill", 5.0, 90.0)
        return self.dice.between("time", 0.0, 2.0) if self.dice.chance("time", 0.05) else 0.0

    def _advance_to(self, moment: float) -> None:
        self.network.act_until(moment)
        self.clock.advance_to(moment)

    def _next_moment(self) -> float:
        """When something is due next, wherever; a second from now where nothing is."""
        now = self.clock.monotonic()
        rows = [row for row in self.ledger.rows.values() if not row.is_final]
        moments = [self.next_tick_at, self.pace.held_until]
        moments += [strand.wakes_at for strand in self.strands.alive()]
        moments += [call.acts_at or 0.0 for call in self.network.on_their_way]
        moments += [message.arrives_at for message in self.broker.messages]
        moments += [self.clock.moment_of(row.scheduled_at) for row in rows]
        moments += [self.clock.moment_of(row.lease_until) + 0.001 for row in rows if row.lease_until]
        moments += [self.clock.moment_of(batch.probe_at) for batch in self.ledger.batches.values() if batch.probe_at]
        return min((moment for moment in moments if moment > now), default=now + 1.0)

    def _is_finished(self) -> bool:
        return all(row.is_final for row in self.ledger.rows.values())

    def _is_tick_due(self) -> bool:
        """The beat ticks every second. Told are the ticks that may find something to do, and a few others; sometimes
        two overlap."""
        if self.clock.monotonic() < self.next_tick_at or len(self._ticking()) > 1:
            return False
        return self._is_any_due() or self.dice.chance("tick", 0.005)

    def _is_any_due(self) -> bool:
        now = self.clock.text()
        if any(batch.probe_at is not None and batch.probe_at <= now for batch in self.ledger.batches.values()):
            return True
        for row in self.ledger.rows.values():
            if row.lease_until is not None and row.lease_until < now:
                return True
            is_stopped = self.ledger.batches[row.batch_id].state == "paused"
            if row.status == "pending" and row.scheduled_at <= now and not is_stopped:
                return True
        return False

    def _mend(self) -> None:
        """For a process that ended another begins; the message of one that died may come again."""
        for process in [each for each in self.processes if each.strand.is_over]:
            self.processes.remove(process)
            if process.message is not None and self.dice.chance("put_back", 0.5):
                self.broker.put_back(process.message)
            self._start_process().strand.wakes_at = self.clock.monotonic() + self.dice.between("birth", 0.0, 20.0)

    def _start_process(self) -> Process:
        self.born += 1
        process = Process(self, self.born)
        self.processes.append(process)
        return process

    def _ticking(self) -> list[Strand]:
        return [strand for strand in self.strands.alive() if strand.name.startswith("tick")]

    def ticked_in_vain(self) -> None:
        """Until something changes, or is due, the next ticks would find as little."""
        self.next_tick_at = 0.0
        self.next_tick_at = self._next_moment()

    def _start_tick(self) -> None:
        self._tick_soon()
        self.born += 1
        self.strands.start(f"tick {self.born}", self.beat.tick)

    def _tick_soon(self) -> None:
        self.next_tick_at = self.clock.monotonic() + self.settings.tick

    def _committed(self) -> None:
        before = self.ledger.rows
        self.ledger.committed()
        if self.ledger.rows != before:
            self._tick_soon()
        if self.told is not None:
            for record_id, row in self.ledger.rows.items():
                if row != before[record_id]:
                    self.note(f"record {record_id}: {describe(before[record_id])} -> {describe(row)}")

    def _arriving(self, call: Call) -> None:
        self.note(f"{call} goes out")
        self.ledger.arriving(call)
