"""What befalls a scenario between two switch points: accidents, other people's doings, and persons' commands."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from hunt.clock import SPARE
from hunt.lacking_parts import STRANGER
from hunt.tenant import ModelDevice
from models.reason import Reason
from worker.batches.commands import NotPossible

if TYPE_CHECKING:
    from hunt.scenario import Scenario
    from hunt.strands import Strand

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


def stop(scenario: Scenario) -> None:
    scenario.dice.pick("stopped", scenario.processes).stopping.set()


def wipe(scenario: Scenario) -> None:
    scenario.broker.messages.clear()
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


def activate(scenario: Scenario) -> None:
    _a_device(scenario).become_active()


def delete(scenario: Scenario) -> None:
    _a_device(scenario).delete()


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
        try:
            command(scenario.dice.pick("batch", scenario.batch_names))
        except NotPossible as error:
            scenario.note(str(error))


def pause(scenario: Scenario) -> None:
    _command(scenario, scenario.batches.pause)


def hand_back(scenario: Scenario) -> None:
    _command(scenario, lambda _: scenario.batches.hand_back())


def resume(scenario: Scenario) -> None:
    """Whatever is paused, but for an outage: that ends by itself."""
    for name in scenario.paused():
        with scenario.commanding():
            try:
                scenario.batches.resume(name)
            except NotPossible as error:
                scenario.note(str(error))


def resume_one(scenario: Scenario) -> None:
    _command(scenario, scenario.batches.resume)


def cancel(scenario: Scenario) -> None:
    _command(scenario, scenario.batches.cancel)


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


# Each with its share: how often it comes at one step, in a scenario of ordinary mood.
EVENTS: list[tuple[str, float, Callable[[Scenario], None]]] = [
    ("process_dies", 0.015, die),
    ("process_freezes", 0.015, freeze),
    ("process_stops", 0.004, stop),
    ("redis_wiped", 0.003, wipe),
    ("clock_drifts", 0.005, drift),
    ("clock_set", 0.005, set_clock),
    ("clock_stepped", 0.006, step_clock),
    ("device_locked", 0.002, lock),
    ("device_unlocked", 0.005, unlock),
    ("device_blocked", 0.002, block),
    ("account_disabled", 0.001, disable),
    ("activated_by_another", 0.002, activate),
    ("device_deleted", 0.001, delete),
    ("token_given_away", 0.001, give_away),
    ("prepared_twice", 0.02, prepare_again),
    ("paused", 0.008, pause),
    ("handed_back", 0.004, hand_back),
    ("resumed", 0.004, resume_one),
    ("cancelled", 0.004, cancel),
    ("replayed", 0.004, replay),
    ("replayed_some", 0.003, replay_some),
    ("replayed_transient", 0.003, replay_transient),
    ("batch_mended", 0.1, mend),
]
