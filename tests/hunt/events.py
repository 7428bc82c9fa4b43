"""What befalls a world between two switch points: accidents, other people's doings, and persons' commands."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from hunt.clock import SPARE
from hunt.tenant import ModelDevice
from models.reason import Reason
from worker.batches.commands import NotPossible

if TYPE_CHECKING:
    from hunt.scenario import World
    from hunt.strands import Strand

# Steps that a process is frozen at most.
LONGEST_FREEZE = 300


def befall(world: World) -> None:
    """At most a few of them, at each step."""
    for evil, share, happen in world.events:
        if world.dice.happens(evil, share):
            world.note(f"-- {evil}")
            happen(world)
    if world.paused() and world.dice.chance("mended", 0.05):
        resume(world)


def _a_strand(world: World, name: str) -> Strand | None:
    """One in the midst of its work, if there is one; rather a worker than a dispatcher."""
    busy = [strand for strand in world.strands.alive() if not world.is_idle(strand)]
    workers = [process.strand for process in world.processes if process.strand in busy]
    among = workers if workers and world.dice.chance(name, 0.7) else busy
    return world.dice.pick(name, among) if among else None


def die(world: World) -> None:
    if strand := _a_strand(world, "victim"):
        world.note(f"{strand.name} dies")
        world.strands.kill(strand)


def freeze(world: World) -> None:
    if strand := _a_strand(world, "frozen"):
        strand.frozen = world.dice.whole("frozen", 3, 80)
        world.note(f"{strand.name} freezes for {strand.frozen} steps")
        holder = next((process for process in world.processes if process.strand is strand and process.message), None)
        if holder is not None and world.dice.chance("frozen", 0.5):
            _until_it_is_late(world, strand, holder.message.record_id)


def _until_it_is_late(world: World, strand: Strand, record_id: int) -> None:
    """Its record is taken away, and another worker claims it: just then it goes on."""
    lease_id = world.ledger.rows[record_id].lease_id
    strand.frozen = LONGEST_FREEZE
    strand.thaws = lambda: world.ledger.rows[record_id].lease_id not in (None, lease_id)
    world.note(f"{strand.name} freezes until another works on record {record_id}")


def stop(world: World) -> None:
    world.dice.pick("stopped", world.processes).stopping.set()


def wipe(world: World) -> None:
    world.broker.messages.clear()
    world.pace.forget()


def drift(world: World) -> None:
    """A step of the database's clock, small enough that a lease still covers its call."""
    target = world.dice.between("drift", -SPARE / 2, SPARE / 2)
    world.clock.jump(target - (world.clock.ahead - world.settled_ahead))


def set_clock(world: World) -> None:
    """By minutes or hours; only while no worker and no call could tell the difference."""
    if not world.is_quiet():
        return
    world.clock.jump(world.dice.pick("set", (-30.0, -3.0, 100.0, 5000.0)))
    world.settled_ahead = world.clock.ahead


def step_clock(world: World) -> None:
    """By a minute or an hour, whatever is under way: a server's clock is mended when somebody notices."""
    seconds = world.dice.pick("stepped", (-3600.0, -90.0, -20.0, 20.0, 90.0, 3600.0))
    world.clock.jump(seconds)
    world.settled_ahead += seconds
    world.ledger.is_clock_trusted = False


def _a_device(world: World) -> ModelDevice:
    return world.dice.pick("device", list(world.pingone.devices.values()))


def lock(world: World) -> None:
    _a_device(world).is_locked = True


def unlock(world: World) -> None:
    device = _a_device(world)
    device.is_locked, device.failures = False, 0


def block(world: World) -> None:
    device = _a_device(world)
    device.is_blocked = not device.is_blocked


def disable(world: World) -> None:
    device = _a_device(world)
    device.is_usable = not device.is_usable


def activate(world: World) -> None:
    _a_device(world).is_active = True


def delete(world: World) -> None:
    _a_device(world).is_deleted = True


def _command(world: World, command: Callable[[str], object]) -> None:
    with world.commanding():
        try:
            command(world.dice.pick("batch", world.batch_names))
        except NotPossible as error:
            world.note(str(error))


def pause(world: World) -> None:
    _command(world, world.batches.pause)


def hand_back(world: World) -> None:
    _command(world, lambda _: world.batches.hand_back())


def resume(world: World) -> None:
    """Whatever is paused, but for an outage: that ends by itself."""
    for name in world.paused():
        with world.commanding():
            try:
                world.batches.resume(name)
            except NotPossible as error:
                world.note(str(error))


def resume_one(world: World) -> None:
    _command(world, world.batches.resume)


def cancel(world: World) -> None:
    _command(world, world.batches.cancel)


def replay(world: World) -> None:
    if world.has_given_up():
        _command(world, world.batches.replay)


def replay_some(world: World) -> None:
    reasons = [world.dice.pick("reasons", list(Reason)) for _ in range(4)]
    if world.has_given_up():
        _command(world, lambda name: world.batches.replay(name, reasons))


def replay_transient(world: World) -> None:
    if world.has_given_up():
        _command(world, lambda _: world.beat.batches.replay_transient())


# Each with its share: how often it comes at one step, in a world of ordinary mood.
EVENTS: list[tuple[str, float, Callable[[World], None]]] = [
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
    ("paused", 0.008, pause),
    ("handed_back", 0.004, hand_back),
    ("resumed", 0.004, resume_one),
    ("cancelled", 0.004, cancel),
    ("replayed", 0.004, replay),
    ("replayed_some", 0.003, replay_some),
    ("replayed_transient", 0.003, replay_transient),
]
