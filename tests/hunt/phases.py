"""A world's two phases: a storm, in which anything may happen, and a calm, in which the batch must finish by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hunt.events import befall, resume
from hunt.strands import Broken

if TYPE_CHECKING:
    from hunt.scenario import World

# Moments at which something is due, most of them with a tick, in which a batch finishes once the faults have ended. A
# record may need a rescue, a read, two posts and a last read, one after the other, behind holds and probes.
MOMENTS = 100
# Switch points between two of them; more is a loop that never waits.
SWITCHES = 3000
# Steps of a storm in which nobody has anything to do, but for a person who may replay something.
IDLE_STEPS = 10


def storm(world: World) -> None:
    idle = 0
    for _ in range(world.steps):
        idle = idle + 1 if world.agenda.is_finished() and world.is_quiet() else 0
        if idle > IDLE_STEPS:
            return
        befall(world)
        world.mend()
        if len(world.ticking()) < 2 and world.agenda.is_tick_due() and world.dice.chance("tick", 0.4):
            world.start_tick()
        if ready := world.strands.ready():
            world.strands.go_on(world.dice.pick("schedule", ready))
            world.advance_to(world.clock.monotonic() + _moment(world))
        else:
            _pass_time(world)


def calm(world: World) -> None:
    """No more faults. What is frozen thaws, a person resumes what waits for one, and the rest is up to the code."""
    world.dice.is_calm = True
    world.note("-- calm")
    for strand in world.strands.alive():
        strand.frozen = 0
    for _ in range(MOMENTS):
        _work(world)
        if world.agenda.is_finished():
            return
        resume(world)
        before = world.ledger.rows
        if world.agenda.is_any_due():
            world.start_tick()
            _work(world)
        if world.ledger.rows == before:
            world.advance_to(world.agenda.next_moment())
    left = [f"record {row.id} is {row.status}" for row in world.ledger.rows.values() if not row.is_final]
    raise Broken(f"not finished after {MOMENTS} moments without a fault: {', '.join(left)}")


def _work(world: World) -> None:
    """Everybody goes on until there is nothing to do before a later tick."""
    world.mend()
    for _ in range(SWITCHES):
        if ready := world.strands.ready():
            world.strands.go_on(world.dice.pick("schedule", ready))
            world.mend()
        elif sleeping := [strand.wakes_at for strand in world.strands.alive() if not world.is_idle(strand)]:
            world.advance_to(min(sleeping))
        else:
            return
    raise Broken("the fleet does not come to rest")


def _moment(world: World) -> float:
    """How long a step takes: hardly ever more than nothing, and now and then the machine stands still."""
    if world.dice.happens("standstill", 0.01):
        return world.dice.between("standstill", 5.0, 90.0)
    return world.dice.between("time", 0.0, 2.0) if world.dice.chance("time", 0.05) else 0.0


def _pass_time(world: World) -> None:
    """Nobody has anything to do before the next moment; something may come between."""
    until = world.agenda.next_moment()
    if world.dice.chance("time", 0.4):
        until = world.dice.between("time", world.clock.monotonic(), until)
    world.advance_to(until)
