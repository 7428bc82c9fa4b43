"""A scenario is built from its seed, goes through a storm, in which anything may happen, and a calm, in which the batch
must finish by itself, and is judged; what befalls it between two switch points; and when something is due, so that time
can pass over what nobody would notice."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta

from structlog.testing import capture_logs

from hunt import initial_state
from hunt.database import Row
from hunt.end_judge import judge_end, judge_erased, judge_purged
from hunt.initial_state import STRANGER
from hunt.model_network import ModelNetwork
from hunt.model_pingone import ModelPingOne
from hunt.model_redis import ModelBroker, ModelPace
from hunt.processes import Beat, Preparer, Process, Undoing, Worker, in_place, mend_batch, reencrypt_all
from hunt.schedule import SPARE, Broken, Clock, Dice, Strand, Strands
from hunt.step_judge import MEND, UNDO, Known, StepJudge
from hunt.tenant import ModelDevice
from models.batch import BatchState
from models.reason import Reason
from models.record_states import OtpState, Status
from worker.audit import Actor
from worker.batches.commands import Batches, NotPossible, distrust_all
from worker.batches.mending import give, read_kind, take_back
from worker.purging import Erasure, Purging

# How many threads each worker process has; and where several want the same at once, so that some of them go together.
CREWS = ((1, 1), (1, 1), (1, 1, 1))
CROWDS = ((5,), (4, 3))


class Scenario:
    """`without`: evils that are left out; `steps`: how long the storm lasts; `tell`: keep a record of the events."""

    def __init__(self, seed: int, without: Collection[str] = (), steps: int | None = None, *, tell: bool = False):
        self.seed = seed
        self.dice = self.make_dice(seed, without)
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
        self.undos: list[Undoing] = []
        # What a restore puts back: the database, and what the judge knew of it.
        self.backup: tuple[bytes, Known] | None = None
        self.born = self.mends_begun = 0
        # How far the database's clock is ahead of the workers' by steps that no call was there to see.
        self.settled_ahead = 0.0
        self.logs: list[dict[str, object]] = []

    def make_dice(self, seed: int, without: Collection[str]) -> Dice:
        return Dice(seed, without)

    def run(self) -> None:
        """Raises Broken."""
        models = in_place(self.seed, self.clock, self.strands, self.network, self.broker)
        with models, capture_logs() as self.logs:
            try:
                self._begin()
                self._go_on()
            finally:
                for strand in list(self.strands.alive()):
                    self.strands.kill(strand)

    @contextmanager
    def commanding(self) -> Iterator[None]:
        """A person's command, or the replay schedule's, which may not be possible. After a restore it would have to be
        typed again: docs/operating.md says so."""
        self.step_judge.is_command, self.backup = True, None
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
        self.backup = None
        self.born += 1
        self.mends_begun += 1
        self.strands.start(f"{MEND} {self.born}", lambda: mend_batch(self))

    def start_undo(self, undo: Undoing) -> None:
        self.backup = None
        self.born += 1
        undo.strand = self.strands.start(f"{UNDO} {self.born}", undo.run)

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
        devices, self.batch_names = self._load()
        of_this = [event for event in EVENTS if self.dice.happened["table"] or event[0] not in AT_THE_TABLE]
        self.events = [event for event in of_this if self.dice.knows(event[0])]
        self.pingone.devices.update({device.serial_number: device for device in devices})
        self.step_judge.start_judging(self.pingone.devices)
        self.database.watch(self._committed)
        for threads in self._choose_threads():
            self._start_process(threads)

    def _load(self) -> tuple[list[ModelDevice], list[str]]:
        """The devices, and the names of the batches."""
        devices = initial_state.devices(self.dice, at_least=6 if self.is_crowded else 1)
        return devices, initial_state.load(self.database, self.dice, devices)

    def _choose_threads(self) -> Sequence[int]:
        """Of each worker process."""
        return self.dice.pick("workers", CROWDS if self.is_crowded else CREWS)

    def _go_on(self) -> None:
        storm(self)
        calm(self)
        judge_end(self)
        if self.dice.chance("purged", 0.2):
            erase(self)
            self._purge()

    def _purge(self) -> None:
        """All that has ended, however lately."""
        self.dice.happened["purged"] += 1
        self.database.watch(lambda: None)
        purging = Purging(self.database, Actor("a person"), timedelta(), gives_up=True)
        purging.purge(purging.examine())
        judge_purged(self)

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


# Undos of a scenario at most.
MOST_UNDOS = 3
# Steps that a process is frozen at most.
LONGEST_FREEZE = 300
# Mends of a scenario at most; each takes as long as some dozen steps.
MOST_MENDS = 8


def befall(scenario: Scenario) -> None:
    """At most a few of them, at each step."""
    for evil, share, happen in scenario.events:
        if scenario.dice.happens(evil, share):
            scenario.note(f"-- {evil}")
            happen(scenario)
    if scenario.paused() and scenario.dice.chance("mended", 0.05):
        resume(scenario)
    if scenario.dice.knows("restored") and scenario.dice.chance("backup", 0.05):
        back_up(scenario)


def _a_strand(scenario: Scenario, name: str) -> Strand | None:
    """One in the midst of its work, if there is one; rather a worker than a dispatcher."""
    busy = [strand for strand in scenario.strands.alive() if not scenario.is_idle(strand)]
    workers = [worker.strand for worker in scenario.workers() if worker.strand in busy]
    among = workers if workers and scenario.dice.chance(name, 0.7) else busy
    return scenario.dice.pick(name, among) if among else None


def die(scenario: Scenario) -> None:
    if strand := _a_strand(scenario, "victim"):
        scenario.note(f"{strand.name} dies")
        scenario.strands.kill(strand)


def freeze(scenario: Scenario) -> None:
    if strand := _a_strand(scenario, "frozen"):
        strand.frozen = scenario.dice.whole("frozen", 3, 80)
        scenario.note(f"{strand.name} freezes for {strand.frozen} steps")
        holder = next((worker for worker in scenario.workers() if worker.strand is strand and worker.message), None)
        if holder is not None and scenario.dice.chance("frozen", 0.5):
            _until_it_is_late(scenario, strand, holder.message.record_id)


def _until_it_is_late(scenario: Scenario, strand: Strand, record_id: int) -> None:
    """Its record is taken away, and another worker claims it: just then it goes on."""
    lease_id = scenario.step_judge.rows[record_id].lease_id
    strand.frozen = LONGEST_FREEZE
    strand.thaws = lambda: scenario.step_judge.rows[record_id].lease_id not in (None, lease_id)
    scenario.note(f"{strand.name} freezes until another works on record {record_id}")


def wipe(scenario: Scenario) -> None:
    scenario.broker.messages.clear()
    scenario.broker.is_empty = True
    scenario.pace.forget()


def drift(scenario: Scenario) -> None:
    """A step of the database's clock, small enough that a lease still covers its call."""
    target = scenario.dice.between("drift", -SPARE / 2, SPARE / 2)
    scenario.clock.jump(target - (scenario.clock.ahead - scenario.settled_ahead))


def set_clock(scenario: Scenario) -> None:
    """By minutes or hours; only while no worker and no call could tell the difference."""
    if not scenario.is_quiet():
        return
    scenario.clock.jump(scenario.dice.pick("set", (-30.0, -3.0, 100.0, 5000.0)))
    scenario.settled_ahead = scenario.clock.ahead


def step_clock(scenario: Scenario) -> None:
    """By a minute or an hour, whatever is under way: a server's clock is mended when somebody notices."""
    seconds = scenario.dice.pick("stepped", (-3600.0, -90.0, -20.0, 20.0, 90.0, 3600.0))
    scenario.clock.jump(seconds)
    scenario.settled_ahead += seconds
    scenario.step_judge.is_clock_trusted = False


def _a_device(scenario: Scenario) -> ModelDevice:
    return scenario.dice.pick("device", list(scenario.pingone.devices.values()))


def lock(scenario: Scenario) -> None:
    _a_device(scenario).is_locked = True


def unlock(scenario: Scenario) -> None:
    device = _a_device(scenario)
    device.is_locked, device.failures = False, 0


def block(scenario: Scenario) -> None:
    device = _a_device(scenario)
    device.is_blocked = not device.is_blocked


def disable(scenario: Scenario) -> None:
    device = _a_device(scenario)
    device.is_usable = not device.is_usable


def give_away(scenario: Scenario) -> None:
    """An administrator pairs a free token with somebody whom the assignment does not name."""
    device = _a_device(scenario)
    if device.is_in_inventory and not device.device_id:
        device_id = scenario.pingone.inventory.new_device_id(device)
        device.become(device_id, scenario.clock.monotonic(), owner_id=STRANGER)


def prepare_again(scenario: Scenario) -> None:
    """The message to prepare comes twice."""
    if scenario.agenda.is_preparation_due():
        scenario.start_preparation()


def _command(scenario: Scenario, command: Callable[[str], object]) -> None:
    with scenario.commanding():
        command(scenario.dice.pick("batch", scenario.batch_names))


def resume(scenario: Scenario) -> None:
    """Whatever is paused, but for an outage: that ends by itself; and what is kept back."""
    for name in scenario.paused():
        with scenario.commanding():
            scenario.batches.resume(name)
    for row in scenario.step_judge.rows.values():
        if row.is_kept_back:
            _command_part(scenario, scenario.batches.let_begin, row)


def _command_part(scenario: Scenario, command: Callable[[str, list[str]], object], row: Row) -> None:
    name = scenario.step_judge.batches[row.batch_id].name
    scenario.note(f"record {row.id}, by its serial number")
    with scenario.commanding():
        command(name, [f"serial={row.serial_number}"])


def keep_back(scenario: Scenario) -> None:
    row = scenario.dice.pick("kept_back", list(scenario.step_judge.rows.values()))
    _command_part(scenario, scenario.batches.pause, row)


def let_begin(scenario: Scenario) -> None:
    if dated := [row for row in scenario.step_judge.rows.values() if row.not_before]:
        _command_part(scenario, scenario.batches.let_begin, scenario.dice.pick("let_begin", dated))


def replay(scenario: Scenario) -> None:
    if scenario.has_given_up():
        _command(scenario, scenario.batches.replay)


def replay_some(scenario: Scenario) -> None:
    reasons = [scenario.dice.pick("reasons", list(Reason)) for _ in range(4)]
    if scenario.has_given_up():
        _command(scenario, lambda name: scenario.batches.replay(name, reasons))


def replay_transient(scenario: Scenario) -> None:
    if scenario.has_given_up():
        _command(scenario, lambda _: scenario.beat.replays.replay_transient())


def mend(scenario: Scenario) -> None:
    """At most two at once, and a few in all."""
    if scenario.has_given_up() and len(scenario.mending()) < 2 and scenario.mends_begun < MOST_MENDS:
        scenario.start_mend()


def undo(scenario: Scenario) -> None:
    """One that was killed is typed again."""
    killed = next((each for each in scenario.undos if each.strand and each.strand.has_died), None)
    rows = list(scenario.step_judge.rows.values())
    made = [row for row in rows if row.is_device_made or row.is_token_made or row.pairing in ("sent", "missed")]
    if killed is None and len(scenario.undos) < MOST_UNDOS and (made or scenario.dice.chance("undo", 0.05)):
        scenario.undos.append(killed := Undoing(scenario, scenario.dice.pick("undo", made or rows)))
    if killed is not None:
        scenario.start_undo(killed)


def replay_chosen(scenario: Scenario) -> None:
    """What an undo or a person closed, too."""
    if closed := [row for row in scenario.step_judge.rows.values() if row.status in ("dead_letter", "cancelled")]:
        row = scenario.dice.pick("replayed_chosen", closed)
        _command_part(scenario, lambda name, where: scenario.batches.replay(name, where=where), row)


def cancel_some(scenario: Scenario) -> None:
    row = scenario.dice.pick("closed", list(scenario.step_judge.rows.values()))
    _command_part(scenario, scenario.batches.cancel, row)


def reencrypt(scenario: Scenario) -> None:
    scenario.born += 1
    scenario.strands.start(f"rekey {scenario.born}", lambda: reencrypt_all(scenario))


def erase(scenario: Scenario) -> None:
    """Somebody whose record has ended leaves."""
    if named := [row for row in scenario.step_judge.rows.values() if row.username and row.is_final]:
        name = scenario.dice.pick("erased", named).username
        scenario.step_judge.erased |= {
            record_id
            for record_id, owners in scenario.step_judge.owners.items()
            if any(owner[1] == name for owner in owners)
        }
        with scenario.commanding():
            if not Erasure(scenario.database, Actor("a person")).erase(name).in_progress:
                judge_erased(scenario, name)


def back_up(scenario: Scenario) -> None:
    """Not between the parts of a mend or an undo; nor right after a restore, which docs/operating.md forbids."""
    is_commanded = any(strand.name.startswith((MEND, UNDO)) for strand in scenario.strands.alive())
    rows = scenario.step_judge.rows.values()
    is_marked = any(row.state(1) == row.state(2) == OtpState.SENT for row in rows)
    if not is_commanded and not is_marked and (saved := scenario.database.save()):
        scenario.backup = saved, scenario.step_judge.save()


def restore(scenario: Scenario) -> None:
    """The database is lost, and with it all that was at work; its backup takes its place, and is marked as restored."""
    if scenario.backup is None:
        return
    saved, known = scenario.backup
    for strand in list(scenario.strands.alive()):
        scenario.strands.kill(strand)
    scenario.database.put_back(saved)
    scenario.step_judge.put_back(known)
    with scenario.commanding():
        marked, _ = distrust_all(scenario.database, scenario.settings, Actor("a person"))
        scenario.note(f"{marked} records are marked")
    scenario.agenda.tick_soon()


def give_out(scenario: Scenario) -> None:
    """Somebody comes to the table; now and then for a token that somebody has."""
    rows = list(scenario.step_judge.rows.values())
    if waiting := [row for row in rows if row.is_on_the_table]:
        _give(scenario, scenario.dice.pick("given_out", rows if scenario.dice.chance("given_out", 0.3) else waiting))


def _give(scenario: Scenario, row: Row) -> None:
    batch = scenario.step_judge.batches[row.batch_id].name
    person = scenario.pingone.devices[row.serial_number].choose_person(scenario.dice, "given_out", 0.7)
    # A batch that names people by their ids takes a name for one.
    is_named = scenario.dice.chance("given_out", 0.5) and read_kind(scenario.database, batch) != "user_id"
    written = person.username if is_named else person.user_id
    scenario.note(f"record {row.id} for {written}")
    with scenario.commanding():
        give(scenario.database, Actor("a person"), batch, row.serial_number, written, may_have_two=True)


def take_back_given(scenario: Scenario) -> None:
    """Somebody was given the wrong token; whoever sees it does not know how far it is."""
    given = [row for row in scenario.step_judge.rows.values() if scenario.step_judge.was_on_the_table(row)]
    if given and not (row := scenario.dice.pick("taken_back", given)).is_on_the_table:
        scenario.note(f"record {row.id}")
        with scenario.commanding():
            batch = scenario.step_judge.batches[row.batch_id].name
            take_back(scenario.database, Actor("a person"), batch, row.serial_number, row.username or row.user_id)


def clear_table(scenario: Scenario) -> None:
    """Who still waits gets a token; what nobody can have is closed."""
    for row in list(scenario.step_judge.rows.values()):
        if row.is_on_the_table:
            _give(scenario, row)
            if scenario.step_judge.rows[row.id].is_on_the_table:
                _command_part(scenario, scenario.batches.cancel, row)


# Each with its share: how often it comes at one step, in a scenario of ordinary mood.
EVENTS: list[tuple[str, float, Callable[[Scenario], None]]] = [
    ("process_dies", 0.015, die),
    ("process_freezes", 0.015, freeze),
    ("process_stops", 0.004, lambda scenario: scenario.dice.pick("stopped", scenario.processes).stopping.set()),
    ("redis_wiped", 0.003, wipe),
    ("clock_drifts", 0.005, drift),
    ("clock_set", 0.005, set_clock),
    ("clock_stepped", 0.006, step_clock),
    ("device_locked", 0.002, lock),
    ("device_unlocked", 0.005, unlock),
    ("device_blocked", 0.002, block),
    ("account_disabled", 0.001, disable),
    ("activated_by_another", 0.002, lambda scenario: _a_device(scenario).become_active()),
    ("device_deleted", 0.001, lambda scenario: _a_device(scenario).delete()),
    ("token_given_away", 0.001, give_away),
    ("prepared_twice", 0.02, prepare_again),
    ("paused", 0.008, lambda scenario: _command(scenario, scenario.batches.pause)),
    ("kept_back", 0.006, keep_back),
    ("let_go", 0.006, let_begin),
    ("handed_back", 0.004, lambda scenario: _command(scenario, lambda _: scenario.batches.hand_back())),
    ("resumed", 0.004, lambda scenario: _command(scenario, scenario.batches.resume)),
    ("cancelled", 0.004, lambda scenario: _command(scenario, scenario.batches.cancel)),
    ("replayed", 0.004, replay),
    ("replayed_some", 0.003, replay_some),
    ("replayed_transient", 0.003, replay_transient),
    ("batch_mended", 0.1, mend),
    ("undone", 0.06, undo),
    ("replayed_chosen", 0.01, replay_chosen),
    ("closed", 0.004, cancel_some),
    ("new_key", 0.006, reencrypt),
    ("erased", 0.01, erase),
    ("restored", 0.006, restore),
    ("given_out", 0.06, give_out),
    ("taken_back", 0.03, take_back_given),
]
# What there is only where tokens lie on a table.
AT_THE_TABLE = ("given_out", "taken_back")


class Agenda:
    """The beat ticks every second. Told are the ticks that may find something to do, and a few others."""

    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self._next_tick_at = 0.0

    def tick_soon(self) -> None:
        self._next_tick_at = self._scenario.clock.monotonic() + self._scenario.settings.tuning.tick

    def ticked_in_vain(self) -> None:
        """Until something changes, or is due, the next ticks would find as little."""
        self._next_tick_at = 0.0
        self._next_tick_at = self.next_moment()

    def is_tick_due(self) -> bool:
        if self._scenario.clock.monotonic() < self._next_tick_at:
            return False
        return self.is_any_due() or self._scenario.dice.chance("tick", 0.005)

    def is_any_due(self) -> bool:
        """For a tick."""
        committed, now = self._scenario.step_judge, self._now()
        if any(batch.changes_at is not None and batch.changes_at <= now for batch in committed.batches.values()):
            return True
        for row in committed.rows.values():
            if row.lease_until is not None and row.lease_until < now:
                return True
            is_stopped = committed.batches[row.batch_id].state == BatchState.PAUSED
            is_held = (row.waits_until or now) > now or (row.undone_until or now) > now
            is_ready = (row.is_prepared or row.needs_read) and not is_held
            if row.status == Status.PENDING and is_ready and row.scheduled_at <= now and not is_stopped:
                return True
        return False

    def is_preparation_due(self) -> bool:
        committed, now = self._scenario.step_judge, self._now()
        for row in committed.rows.values():
            batch = committed.batches[row.batch_id]
            is_free = batch.prepared_until is None or batch.prepared_until <= now
            if row.is_lacking and is_free and batch.state == BatchState.RUNNING:
                return True
        return False

    def _now(self) -> str:
        """The database's time, as its columns write it down: what is due in this very millisecond is due."""
        return f"{self._scenario.clock.text()}000"

    def is_finished(self) -> bool:
        return all(row.is_final for row in self._scenario.step_judge.rows.values())

    def next_moment(self) -> float:
        """On the processes' clock; a second from now where nothing is due."""
        scenario = self._scenario
        now, moment_of = scenario.clock.monotonic(), scenario.clock.moment_of
        batches = scenario.step_judge.batches.values()
        rows = [row for row in scenario.step_judge.rows.values() if not row.is_final]
        moments = [self._next_tick_at, scenario.pace.held_until]
        moments += [strand.wakes_at for strand in scenario.strands.alive()]
        moments += [call.acts_at or 0.0 for call in scenario.network.on_their_way]
        moments += [message.arrives_at for message in scenario.broker.messages]
        moments += [moment_of(row.scheduled_at) for row in rows if not row.is_kept_back]
        moments += [moment_of(row.waits_until) for row in rows if row.waits_until and not row.is_kept_back]
        moments += [moment_of(row.undone_until) for row in rows if row.undone_until]
        # A lease has run out when its end is past.
        moments += [moment_of(row.lease_until) + 0.001 for row in rows if row.lease_until]
        moments += [moment_of(batch.changes_at) for batch in batches if batch.changes_at]
        moments += [moment_of(batch.prepared_until) for batch in batches if batch.prepared_until]
        return min((moment for moment in moments if moment > now), default=now + 1.0)


# Moments at which something is due, most of them with a tick, in which a batch finishes once the faults have ended. A
# record may need a rescue, a read, two posts and a last read, one after the other, behind holds and probes.
MOMENTS = 100
# Switch points between two of them; more is a loop that never waits.
SWITCHES = 3000
# Steps of a storm in which nobody has anything to do, but for a person who may replay something.
IDLE_STEPS = 10


def storm(scenario: Scenario) -> None:
    idle = 0
    for _ in range(scenario.steps):
        idle = idle + 1 if scenario.agenda.is_finished() and scenario.is_quiet() else 0
        if idle > IDLE_STEPS:
            return
        befall(scenario)
        scenario.replace_processes()
        if len(scenario.ticking()) < 2 and scenario.agenda.is_tick_due() and scenario.dice.chance("tick", 0.4):
            scenario.start_tick()
        scenario.may_prepare()
        if ready := scenario.strands.ready():
            scenario.strands.go_on(scenario.dice.pick("schedule", ready))
            scenario.advance_to(scenario.clock.monotonic() + _moment(scenario))
        else:
            _pass_time(scenario)


def calm(scenario: Scenario) -> None:
    """No more faults. What is frozen thaws, a person resumes what waits for one, and the rest is up to the code."""
    scenario.dice.is_calm = True
    scenario.note("-- calm")
    for strand in list(scenario.strands.alive()):
        strand.frozen = 0
        # It may wait for an import as long as the clock was set back: its person ends it.
        if strand.name.startswith(UNDO) and not scenario.step_judge.is_clock_trusted:
            scenario.strands.kill(strand)
    for _ in range(MOMENTS):
        _work(scenario)
        if scenario.agenda.is_finished():
            return
        resume(scenario)
        clear_table(scenario)
        before = scenario.step_judge.rows
        # What lacks something may wait for a tick too: for the beginning of its hours, or the end of a canary.
        if scenario.agenda.is_any_due() or scenario.agenda.is_preparation_due():
            scenario.start_tick()
            _work(scenario)
        if scenario.agenda.is_preparation_due():
            scenario.start_preparation()
            _work(scenario)
        if scenario.step_judge.rows == before:
            scenario.advance_to(scenario.agenda.next_moment())
    left = [f"record {row.id} is {row.status}" for row in scenario.step_judge.rows.values() if not row.is_final]
    raise Broken(f"not finished after {MOMENTS} moments without a fault: {', '.join(left)}")


def _work(scenario: Scenario) -> None:
    """Everybody goes on until there is nothing to do before a later tick."""
    scenario.replace_processes()
    for _ in range(SWITCHES):
        if ready := scenario.strands.ready():
            scenario.strands.go_on(scenario.dice.pick("schedule", ready))
            scenario.replace_processes()
        elif sleeping := [strand.wakes_at for strand in scenario.strands.alive() if not scenario.is_idle(strand)]:
            scenario.advance_to(min(sleeping))
        else:
            return
    raise Broken("the fleet does not come to rest")


def _moment(scenario: Scenario) -> float:
    """How long a step takes: hardly ever more than nothing, and now and then the machine stands still."""
    if scenario.dice.happens("standstill", 0.01):
        return scenario.dice.between("standstill", 5.0, 90.0)
    return scenario.dice.between("time", 0.0, 2.0) if scenario.dice.chance("time", 0.05) else 0.0


def _pass_time(scenario: Scenario) -> None:
    """Nobody has anything to do before the next moment; something may come between."""
    until = scenario.agenda.next_moment()
    if scenario.dice.chance("time", 0.4):
        until = scenario.dice.between("time", scenario.clock.monotonic(), until)
    scenario.advance_to(until)
