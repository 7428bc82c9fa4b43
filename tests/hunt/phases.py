"""The two phases of a scenario: a storm, in which anything may happen, and a calm, in which the batch must finish
by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hunt.events import befall, resume
from hunt.strands import Broken

if TYPE_CHECKING:
    from hunt.scenario import Scenario

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
    for strand in scenario.strands.alive():
        strand.frozen = 0
    for _ in range(MOMENTS):
        _work(scenario)
        if scenario.agenda.is_finished():
            return
        resume(scenario)
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
