"""Who works, as strands: worker processes and dispatchers, whose parts are put together by the real worker.process; and
persons, who mend a batch. And the places where the real code looks at the clock, sleeps, waits for another thread or
reaches the network by itself: all of them names in our own modules. Everything else it is given."""

from __future__ import annotations

import csv
import io
import random
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from copy import copy
from dataclasses import replace
from datetime import UTC, datetime
from functools import cached_property, partial
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, TypeVar

import redis

import worker.batches.imports
import worker.batches.preparation
import worker.batches.undo
import worker.clocks
import worker.leases.group_commit
import worker.leases.lease
import worker.pace.license_paces
import worker.pace.slots
import worker.pingone.auth
import worker.pingone.client
import worker.records.activation
import worker.records.attempt
from hunt import initial_state
from hunt.database import DatabaseLost, Row
from hunt.model_network import Bug, ModelNetwork
from hunt.model_redis import Message, ModelBroker
from hunt.schedule import Broken, Clock, Strand, Strands
from hunt.tenant import ModelDevice, ModelPair, Person
from worker.audit import Actor
from worker.batches.commands import Batches, NotPossible
from worker.batches.mending import Mender, allow_as_before
from worker.clocks import ClockWatch
from worker.database.errors import is_away
from worker.fleet import Fitness, Sickness
from worker.intake.files import Hints
from worker.intake.lists import Assignment, TokenList, open_assignment
from worker.intake.rows import UnusableFile
from worker.intake.shipment import Shipment, open_shipment
from worker.leases.group_commit import Combiner, GroupCommit, R, T, _Waiter
from worker.leases.lease import Leases, Settlement
from worker.pace.search import SlotTooFar
from worker.pingone.errors import PingOneError
from worker.pingone.retry_policy import RetryPolicy
from worker.process.worker_parts import WorkerParts
from worker.records.activation import DeadLettered
from worker.reports.export import export
from worker.rules.breaker import Thresholds
from worker.vault.keys import reencrypt

if TYPE_CHECKING:
    from hunt.scenario import Scenario


# What was broken on purpose.
EXCUSED = (DatabaseLost, Bug, redis.ConnectionError)


@contextmanager
def excused(scenario: Scenario) -> Iterator[None]:
    """What was broken on purpose may fail here. Raises Broken where the real code fails by itself."""
    try:
        yield
    except EXCUSED as error:
        scenario.note(f"fails: {error!r}")
    except Exception as error:
        raise Broken(f"an error of our own: {error!r}") from error


class ModelEvent(threading.Event):
    """Waiting for it takes the scenario's time."""

    def __init__(self, strands: Strands) -> None:
        super().__init__()
        self._strands = strands

    def wait(self, timeout: float | None = None) -> bool:
        self._strands.sleep(timeout or 0.0)
        return self.is_set()


class ModelParts(WorkerParts):
    """The parts of one process of the fleet: its own, but for what stands in the scenario."""

    def __init__(self, scenario: Scenario) -> None:
        super().__init__(scenario.settings, scenario.broker, lambda _: scenario.environment)
        self.scenario = scenario
        self.database, self.leases, self.queue = scenario.database, scenario.leases, initial_state.queue()
        self.stopping = ModelEvent(scenario.strands)
        self.clock_watch = ClockWatch(scenario.clock.monotonic, lambda: 0.0)
        self.upkeep = initial_state.upkeep(Thresholds(**self.settings.tuning.breaker))
        # One pace, whatever the license and the rate group.
        self.paces = SimpleNamespace(of=lambda *_: scenario.pace)

    @cached_property
    def replays(self) -> Batches:
        return Batches(self.database, Actor("schedule"))

    @cached_property
    def fitness(self) -> Fitness:
        return NeverSick(self.processes)


class NeverSick(Fitness):
    """Nobody can be spared here: the end of a process is the dice's to choose."""

    def fall_sick(self, sickness: Sickness) -> bool:
        return False


class Process:
    """A worker process, of one thread or more: of three, two may wait for the third, and go together."""

    def __init__(self, scenario: Scenario, number: int, threads: int) -> None:
        self.leases = copy_for_process(scenario.leases)
        self.stopping = ModelEvent(scenario.strands)
        self.strands = list[Strand]()
        names = [f"worker {number}{'abcde'[place] if threads > 1 else ''}" for place in range(threads)]
        self.workers = [Worker(scenario, self, name) for name in names]

    @property
    def is_over(self) -> bool:
        return all(strand.is_over for strand in self.strands)


class Worker(ModelParts):
    """A thread of a worker process: takes a message, works, takes the next."""

    def __init__(self, scenario: Scenario, process: Process, name: str) -> None:
        super().__init__(scenario)
        self.leases, self.stopping = process.leases, process.stopping
        self.message: Message | None = None
        self.strand = scenario.strands.start(name, self.work, process.strands)

    def work(self) -> None:
        scenario = self.scenario
        while not self.stopping.is_set():
            scenario.strands.wait_for(lambda: scenario.broker.has_message() or self.stopping.is_set())
            if not scenario.broker.has_message():
                continue
            self.message = message = scenario.broker.take()
            scenario.note(f"takes record {message.record_id}")
            with excused(scenario), suppress(DeadLettered):
                self.activations.activate_record(message.record_id, message.environment)
            self.message = None


class Beat(ModelParts):
    """The process that ticks; its tick asks the dispatcher, whose connection to the queue is the scenario's."""

    def tick(self) -> None:
        before = self.scenario.step_judge.rows
        with excused(self.scenario):
            self.scenario.note(f"enqueued {self.dispatcher.tick()}")
            if self.scenario.step_judge.rows == before:
                self.scenario.agenda.ticked_in_vain()


class Preparer(ModelParts):
    """A process that prepares batches, when it is told to."""

    def __init__(self, scenario: Scenario) -> None:
        super().__init__(scenario)
        self.strand: Strand | None = None

    def start(self, name: str) -> None:
        self.strand = self.scenario.strands.start(name, self.prepare)

    def prepare(self) -> None:
        with excused(self.scenario):
            self.preparation.prepare_next()


P = TypeVar("P")


def make_waiter(strands: Strands) -> type[_Waiter[Any, Any]]:
    """The class of threads that wait: here a strand does, while others go on."""

    class ModelWaiter(_Waiter[T, R]):
        def __init__(self, request: T) -> None:
            super().__init__(request)
            self._is_awake = False

        def sleep(self) -> None:
            strands.wait_for(lambda: self._is_awake)

        def wake(self) -> None:
            self._is_awake = True

    return ModelWaiter


def copy_for_process(part: P) -> P:
    """A copy with combiners of its own, of which each process has its own; statements are shared, since building them
    takes long."""
    if isinstance(part, tuple):
        return type(part)(map(copy_for_process, part))
    if isinstance(part, dict):
        return type(part)((name, copy_for_process(each)) for name, each in part.items())
    if isinstance(part, GroupCommit):
        statement = copy(part)
        statement._combiner = Combiner(statement._commit, is_away)
        return statement
    if isinstance(part, Leases | Settlement):
        whole = copy(part)
        vars(whole).update({name: copy_for_process(each) for name, each in vars(part).items()})
        return whole
    return part


@contextmanager
def in_place(seed: int, clock: Clock, strands: Strands, network: ModelNetwork, broker: ModelBroker) -> Iterator[None]:
    """The models take their places; and chance, which the real code asks as well, is the seed's."""
    names: list[tuple[Any, str, object]] = [
        (worker.records.activation, "sleep", strands.sleep),
        (worker.records.attempt, "boot_time", clock.monotonic),
        (worker.pingone.client, "boot_time", clock.monotonic),
        (worker.clocks, "boot_time", clock.monotonic),
        (worker.leases.group_commit, "_Waiter", make_waiter(strands)),
        (worker.leases.lease, "boot_time", clock.monotonic),
        (worker.leases.lease, "sleep", strands.sleep),
        (worker.batches.preparation, "boot_time", clock.monotonic),
        (worker.batches.imports, "boot_time", clock.monotonic),
        (worker.batches.undo, "THREADS", 1),
        (worker.pace.slots, "time", SimpleNamespace(sleep=strands.sleep)),
        # All rate groups have one pace here.
        (worker.pace.license_paces, "make_other_groups", lambda _: ()),
        (worker.pingone.client, "Transport", network.transport),
        (worker.pingone.client, "RetryPolicy", partial(RetryPolicy, sleep=strands.sleep)),
        (worker.pingone.auth, "Transport", network.token_transport),
    ]
    before = [(module, name, getattr(module, name)) for module, name, _ in names]
    chance = random.getstate()
    random.seed(seed)
    for module, name, model in names:
        setattr(module, name, model)
    try:
        yield
    finally:
        for module, name, real in before:
            setattr(module, name, real)
        random.setstate(chance)


# How often a person types an undo, and after how many seconds again.
TYPED, TYPED_AGAIN = 3, 61.0


class Undoing(ModelParts):
    """A person undoes a batch or a part of it, and types it again where it was refused or left something."""

    def __init__(self, scenario: Scenario, row: Row) -> None:
        super().__init__(scenario)
        self.strand: Strand | None = None
        self._row, dice = row, scenario.dice
        self._name = scenario.step_judge.batches[row.batch_id].name
        serial, self._devices_only = self._row.serial_number, dice.chance("undo", 0.3)
        only, where = TokenList((serial,), "of a list"), [f"serial={serial}"]
        self._choice = dice.pick("undo", ({}, {}, {"only": only}, {"where": where}))

    def run(self) -> None:
        commands = Batches(self.database, Actor("a person"))
        for _ in range(TYPED):
            with excused(self.scenario):
                with suppress(NotPossible):
                    (commands.pause if self._choice else commands.cancel)(self._name)
                if self._undo():
                    return
            self.scenario.strands.sleep(TYPED_AGAIN)

    def _undo(self) -> bool:
        """Whether it has left nothing."""
        scenario, began = self.scenario, self.scenario.clock.monotonic()
        undo = super().undo(scenario.environment, Actor("a person"))
        try:
            undone = undo.undo(self._name, **self._choice, devices_only=self._devices_only)
        except (NotPossible, PingOneError, SlotTooFar) as error:
            scenario.note(f"cannot undo: {error}")
            return False
        scenario.note(f"undid {dict(undone.devices.ends)}, {undone.tokens}, {undone.kept}")
        rows = [row for row in scenario.step_judge.rows.values() if row.batch_id == self._row.batch_id]
        if undone.is_whole:
            chosen = {row.id for row in rows if row.id == self._row.id or not self._choice}
            scenario.step_judge.judge_undone(chosen, began, devices_only=self._devices_only)
        return undone.is_whole


def reencrypt_all(scenario: Scenario) -> None:
    """As the body of a strand: everything is sealed with the new key."""
    with excused(scenario):
        reencrypt(scenario.database, initial_state.KEYRING, lambda *_: None)
        for sealed in scenario.database.raw.execute("SELECT otps, spent FROM record").fetchall():
            if not all(map(initial_state.KEYRING.is_sealed_by_first_key, filter(None, sealed))):
                raise Broken("all was sealed with the new key, and an OTP is under the old one")


# Seconds that a person takes for a file, if it is not done at once.
LONGEST = 60.0
# What is done to the OTPs of a row, as often as it stands here.
_DOINGS = ("fresh",) * 6 + ("empty",) * 3 + ("old",) * 3 + ("first again", "second again")

_Rows = list[dict[str, str]]


class Mending:
    """A person mends a batch: exports it, corrects rows or does something foolish to them, and brings the file back; at
    once or later, once or twice, while the batch goes on and somebody else mends it too. Raises what the database
    does."""

    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self._dice = scenario.dice
        self._name = self._dice.pick("mend", scenario.batch_names)

    def run(self) -> None:
        """Mend the batch."""
        with tempfile.TemporaryDirectory() as directory:
            is_whole = self._dice.chance("mend", 0.5)
            text = io.StringIO(newline="")
            export(self._scenario.database, self._name, text, failed=not is_whole)
            file = Path(directory, "left.csv")
            rows = list(csv.DictReader(io.StringIO(text.getvalue(), newline="")))
            seeds = [row for row in rows if self._device_of(row).seed]
            who = None
            if seeds and self._dice.chance("mend", 0.4):
                who = self._write_vendors_file(file, seeds)
            else:
                self._write_export(file, rows)
            for _ in range(self._dice.pick("mend", (1, 1, 2))):
                if self._dice.chance("mend", 0.6):
                    self._scenario.strands.sleep(self._dice.between("mend", 0.0, LONGEST))
                self._mend(file, who)

    def _mend(self, file: Path, who: Path | None) -> None:
        scenario = self._scenario
        mender = Mender(
            scenario.database,
            initial_state.KEYRING,
            Actor("a person"),
            totp_max_age=initial_state.GOOD_FOR,
            on_refused=lambda error: scenario.note(f"row {error.row_number} is refused: {error.reason}"),
        )
        try:
            shipment = self._open(file, open_assignment(who) if who else None)
            with scenario.database.reading() as connection:
                shipment = allow_as_before(connection, self._name, shipment)
            scenario.note(f"mends {self._name}: {mender.mend(shipment, self._name)}")
        except UnusableFile as error:
            scenario.note(f"cannot mend {self._name}: {error}")

    def _open(self, file: Path, assignment: Assignment | None) -> Shipment:
        def clock() -> datetime:
            return datetime.fromisoformat(self._scenario.clock.text()).replace(tzinfo=UTC)

        return open_shipment(file, hints=Hints(mends=True), assignment=assignment, only_assigned=True, clock=clock)

    def _write_export(self, file: Path, rows: _Rows) -> None:
        """The export, of whose rows some are corrected, some not, and some wrongly."""
        corrected = [each for row in rows for each in self._correct(row)]
        if not corrected or self._dice.chance("mend", 0.05):
            # A token that may be of another batch.
            device = self._dice.pick("mend", list(self._scenario.pingone.devices.values()))
            corrected.append({"serial": device.serial_number})
        with file.open("w", newline="") as stream:
            writer = csv.DictWriter(stream, [*initial_state.COLUMNS, "file_row"], extrasaction="ignore")
            writer.writeheader()
            writer.writerows(corrected)

    def _correct(self, row: dict[str, str]) -> Iterator[dict[str, str]]:
        device = self._device_of(row)
        if self._dice.chance("mend", 0.15):
            row |= self._name_person(row, device)
        elif self._dice.chance("mend", 0.15):
            row["device_id"] = ""
        if not device.seed or self._dice.chance("mend", 0.1):
            row |= self._bring_otps(device, row["otp_type"])
        if self._dice.chance("mend", 0.1):
            row["file_row"] = ""
        yield row
        if self._dice.chance("mend", 0.04):
            yield row | (self._bring_otps(device, row["otp_type"]) if self._dice.chance("mend", 0.5) else {})

    def _bring_otps(self, device: ModelDevice, otp_type: str) -> dict[str, str]:
        """Two cells of OTPs, of which an earlier row of this token may have had one or both."""
        doing = self._dice.pick("mend", _DOINGS)
        now = self._scenario.clock.monotonic()
        fresh = initial_state.make_pair(self._dice, "mend", now)
        if otp_type == "totp" and self._dice.chance("mend", 0.9):
            fresh = replace(fresh, good_until=now + initial_state.GOOD_FOR + initial_state.GRACE)
        old = self._dice.pick("mend", device.pairs)
        pair = {
            "fresh": fresh,
            "old": old,
            "first again": ModelPair(old.first, fresh.second, old.first_is, fresh.second_is_right, fresh.good_until),
            "second again": ModelPair(fresh.first, old.second, fresh.first_is, old.second_is_right, fresh.good_until),
        }.get(doing)
        if pair is None:
            return {"otp1": "", "otp2": ""}
        if pair is not old:
            device.pairs.append(pair)
        time = {"otp_type": "hotp", "generated_at": ""}
        if pair.good_until is not None:
            time = {"otp_type": "totp", "generated_at": f"{self._scenario.clock.text()}+00:00"}
        return {"otp1": pair.first, "otp2": pair.second or ""} | time

    def _name_person(self, row: dict[str, str], device: ModelDevice) -> dict[str, str]:
        """The token is meant for somebody else, who may have its device already."""
        person = self._choose_person(device)
        if device.is_in_inventory and self._dice.chance("mend", 0.3):
            device_id = self._scenario.pingone.inventory.new_device_id(device)
            device.become(device_id, self._scenario.clock.monotonic(), owner_id=person.user_id)
            row["device_id"] = device_id
        elif self._dice.chance("mend", 0.7):
            row["device_id"] = ""
        if row["username"] and self._dice.chance("mend", 0.8):
            return {"user_id": "", "username": person.username}
        return {"user_id": person.user_id, "username": ""}

    def _choose_person(self, device: ModelDevice) -> Person:
        return device.choose_person(self._dice, "mend", 0.4 if len(device.people) > 1 else 0.0)

    def _write_vendors_file(self, file: Path, rows: _Rows) -> Path | None:
        """The seeds as the vendor sent them, and perhaps a list of who gets what."""
        lines = []
        for row in rows:
            model = self._device_of(row).seed
            assert model is not None
            seed = model.seed
            last = seed.time_step or seed.counter
            secret = seed.secret.reveal().hex()
            lines.append(f"{row['serial']}, {secret}, {seed.otp_type}, {seed.digits}, {last}\n")
        file.write_text("".join(lines))
        if self._dice.chance("mend", 0.6):
            return None
        who = file.with_name("who.csv")
        people = [(row["serial"], self._choose_person(self._device_of(row)), row) for row in rows]
        with who.open("w", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(["serial", "user_id", "username"])
            for serial, person, row in people:
                is_named = bool(row["username"])
                writer.writerow([serial, "" if is_named else person.user_id, person.username if is_named else ""])
        return who

    def _device_of(self, row: dict[str, str]) -> ModelDevice:
        return self._scenario.pingone.devices[row["serial"]]


def mend_batch(scenario: Scenario) -> None:
    """As the body of a strand. Raises Broken where the real code fails by itself."""
    with excused(scenario):
        Mending(scenario).run()
