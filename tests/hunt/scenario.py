"""A scenario is built from its seed, goes through a storm and a calm, and is judged."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager

from structlog.testing import capture_logs

from hunt import initial_state, mends, seams
from hunt.dice import Dice
from hunt.end_judge import judge_end
from hunt.model_network import ModelNetwork
from hunt.model_pingone import ModelPingOne
from hunt.model_redis import ModelBroker, ModelPace
from hunt.phases import EVENTS, Agenda, calm, storm
from hunt.processes import Beat, Preparer, Process, Worker
from hunt.step_judge import MEND, StepJudge
from hunt.strands import Clock, Strand, Strands
from worker.audit import Actor
from worker.batches.commands import Batches, NotPossible

# How many threads each worker process has; and where several want the same at once, so that some of them go together.
CREWS = ((1, 1), (1, 1), (1, 1, 1))
CROWDS = ((5,), (4, 3))


class Scenario:
    """`without`: evils that are left out; `steps`: how long the storm lasts; `tell`: keep a record of the events."""

    def __init__(self, seed: int, without: Collection[str] = (), steps: int | None = None, *, tell: bool = False):
        self.seed = seed
        self.dice = Dice(seed, without)
        self.events = [event for event in EVENTS if self.dice.knows(event[0])]
        self.clock = Clock()
        self.strands = Strands(self.clock)
        self.told: list[str] | None = [] if tell else None
        self.steps = steps if steps is not None else self.dice.pick("steps", (100, 200, 300, 600))
        self.is_crowded = self.dice.chance("crowd", 0.25)
        self.settings = initial_state.settings(self.dice)
        self.environment = initial_state.environment(
            resync_on_first_call=self.dice.pick("tenant", (False, False, False, True))
        )
        tenant = initial_state.tenant(self.dice, self.environment)
        self.pingone = ModelPingOne(self.clock, tenant, self.dice)
        self.network = ModelNetwork(self.clock, self.strands, self.dice, self.pingone)
        self.pace = ModelPace(self.clock, self.strands, self.dice, self.environment.rate, furthest=2.0)
        self.database = initial_state.database()
        self.leases = initial_state.leases(self.settings.tuning.lease, self.settings.max_attempts)
        self.batches = Batches(self.database, Actor("a person"))
        self.step_judge = StepJudge(self.database.raw, self.clock, self.strands, self.pingone, self.settings, self.note)
        self.pingone.judge = self.step_judge
        self.broker = ModelBroker(self.clock, self.strands, self.dice, self.step_judge.published)
        self.agenda = Agenda(self)
        self.beat = Beat(self)
        self.processes: list[Process] = []
        self.preparers: list[Preparer] = []
        self.born = self.mends_begun = 0
        # How far the database's clock is ahead of the workers' by steps that no call was there to see.
        self.settled_ahead = 0.0
        self.logs: list[dict[str, object]] = []

    def run(self) -> None:
        """Raises Broken."""
        models = seams.in_place(self.seed, self.clock, self.strands, self.network, self.broker)
        with models, capture_logs() as self.logs:
            try:
                self._begin()
                storm(self)
                calm(self)
                judge_end(self)
            finally:
                for strand in list(self.strands.alive()):
                    self.strands.kill(strand)

    @contextmanager
    def commanding(self) -> Iterator[None]:
        """A person's command, or the replay schedule's, which may not be possible."""
        self.step_judge.is_command = True
        try:
            yield
        except NotPossible as error:
            self.note(str(error))
        finally:
            self.step_judge.is_command = False

    def paused(self) -> list[str]:
        """The batches that wait for a person."""
        return [batch.name for batch in self.step_judge.batches.values() if batch.waits_for_a_person]

    def has_given_up(self) -> bool:
        """Some record waits for a person."""
        return any(row.status in ("dead_letter", "cancelled") for row in self.step_judge.rows.values())

    def is_idle(self, strand: Strand) -> bool:
        return any(worker.strand is strand and worker.message is None for worker in self.workers())

    def workers(self) -> list[Worker]:
        """The threads of all worker processes."""
        return [worker for process in self.processes for worker in process.workers]

    def is_quiet(self) -> bool:
        """No worker and no dispatcher is in the midst of something, and nothing is on its way."""
        return not self.network.on_their_way and all(map(self.is_idle, self.strands.alive()))

    def ticking(self) -> list[Strand]:
        return [strand for strand in self.strands.alive() if strand.name.startswith("tick")]

    def start_tick(self) -> None:
        self.agenda.tick_soon()
        self.born += 1
        self.strands.start(f"tick {self.born}", self.beat.tick)

    def may_prepare(self) -> None:
        """The beat asks for a preparation every other second."""
        if self.agenda.is_preparation_due() and self.dice.chance("prepare", 0.2):
            self.start_preparation()

    def start_preparation(self) -> None:
        """In a process that has nothing to prepare now. What a process that died had in hand is gone with it."""
        self.preparers = [each for each in self.preparers if each.strand is None or not each.strand.is_dying]
        idle = [each for each in self.preparers if each.strand is None or each.strand.is_over]
        if not idle:
            idle = [Preparer(self)]
            self.preparers += idle
        self.born += 1
        idle[0].start(f"prep {self.born}")

    def mending(self) -> list[Strand]:
        return [strand for strand in self.strands.alive() if strand.name.startswith(MEND)]

    def start_mend(self) -> None:
        self.born += 1
        self.mends_begun += 1
        self.strands.start(f"{MEND} {self.born}", lambda: mends.mend(self))

    def replace_processes(self) -> None:
        """For a process that ended another begins; the messages of one that died may come again."""
        for process in [each for each in self.processes if each.is_over]:
            self.processes.remove(process)
            for worker in process.workers:
                if worker.message is not None and self.dice.chance("put_back", 0.5):
                    self.broker.put_back(worker.message)
            born_at = self.clock.monotonic() + self.dice.between("birth", 0.0, 20.0)
            for strand in self._start_process(len(process.strands)).strands:
                strand.wakes_at = born_at

    def advance_to(self, moment: float) -> None:
        self.network.act_until(moment)
        self.clock.advance_to(moment)

    def note(self, text: str) -> None:
        if self.told is not None:
            who = self.strands.current.name if self.strands.current else "-"
            self.told.append(f"{self.clock.monotonic():9.3f}  {who:10}  {text}")

    def _begin(self) -> None:
        self.database.begin_scenario(self.clock, self.strands, self.dice)
        devices = initial_state.devices(self.dice, at_least=6 if self.is_crowded else 1)
        self.pingone.devices.update({device.serial_number: device for device in devices})
        self.batch_names = initial_state.load(self.database, self.dice, devices)
        self.step_judge.start_judging(self.pingone.devices)
        self.database.watch(self._committed)
        for threads in self.dice.pick("workers", CROWDS if self.is_crowded else CREWS):
            self._start_process(threads)

    def _start_process(self, threads: int = 1) -> Process:
        self.born += 1
        process = Process(self, self.born, threads)
        self.processes.append(process)
        return process

    def _committed(self) -> None:
        before = self.step_judge.rows
        try:
            self.step_judge.committed()
        finally:
            for record_id, row in self.step_judge.rows.items() if self.told is not None else ():
                if row != before[record_id]:
                    self.note(f"record {record_id}: {before[record_id]} -> {row}")
        if self.step_judge.rows != before:
            self.agenda.tick_soon()
