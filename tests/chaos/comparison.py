"""What disturbances cost in time: one batch undisturbed, and the same batch disturbed, at the same pace."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from random import Random

from chaos.disturbances import DISTURBANCES
from chaos.runs import make_stack
from chaos.schedule import PEACE, Event, Say
from chaos.stack import Stack

# What every batch is disturbed by, and for how long: seconds. Between them the work has time to go on.
EVENTS = {
    "kill_worker": 2.0,
    "kill_beat": 2.0,
    "flush_queue": 0.0,
    "cut_queue": 2.0,
    "kill_queue": 2.0,
    "kill_database": 2.0,
    "cut_database": 2.0,
    "cut_pingone": 2.0,
    "freeze_worker": 0.0,
    "roll_workers": 0.0,
    "revoke_access_tokens": 0.0,
    "refuse_everything": 3.0,
}
GOAL = 1.10


def compare(seed: int, records: int, rate: float, say: Say, kind: str = "postgresql") -> int:
    """1 if it took longer than the goal, beyond the outages themselves."""
    undisturbed, _ = _measure(kind, seed, records, rate, say, {})
    disturbed, outage = _measure(kind, seed, records, rate, say, EVENTS)
    ratio = (disturbed - outage) / undisturbed
    say(
        f"{records} records at {rate:g} requests a second: {undisturbed:.1f} s undisturbed, {disturbed:.1f} s with "
        f"{len(EVENTS)} disturbances, of which {outage:.1f} s were outages: {ratio:.3f} beyond these, goal {GOAL:.2f}"
    )
    return int(ratio > GOAL)


def _measure(
    kind: str, seed: int, records: int, rate: float, say: Say, events: dict[str, float]
) -> tuple[float, float]:
    """Seconds from the first OTP that arrives to the end, and seconds in which all stood still on purpose."""
    with (
        tempfile.TemporaryDirectory(prefix="oathbulk-chaos-") as directory,
        make_stack(kind, Path(directory), records=records, rate=rate, seed=seed) as stack,
    ):
        stack.start()
        stack.wait_until(lambda: stack.simulator.posts() > 0, "the first OTP arrives")
        began = time.monotonic()
        names = list(events)
        Random(seed).shuffle(names)
        begins, outage = dict[str, float](), 0.0
        for name in names:
            time.sleep(PEACE)
            begins[name] = time.monotonic()
            outage += _happen(stack, Event(name, PEACE, events[name], seed))
        begins["the rest"] = time.monotonic()
        stack.wait_until_finished()
        ended = time.monotonic()
        stack.judge()
        _tell_losses(stack, [*begins.items(), ("", ended)], rate, say)
    return ended - began, outage


def _happen(stack: Stack, event: Event) -> float:
    """Seconds that it stopped everything for."""
    began = time.monotonic()
    with DISTURBANCES[event.name].begin(stack, Random(event.seed)) as is_total:
        time.sleep(event.lasts)
        lasted = time.monotonic() - began
    return lasted if is_total or DISTURBANCES[event.name].is_outage else 0.0


def _tell_losses(stack: Stack, begins: Sequence[tuple[str, float]], rate: float, say: Say) -> None:
    """For each disturbance, up to the next: the seconds that the pace would have had room for more calls."""
    arrivals = [call.arrived_at for call in stack.simulator.calls()]
    for (name, begin), (_, end) in pairwise(begins):
        calls = sum(begin <= at < end for at in arrivals)
        say(f"  {name:22}{end - begin:6.1f} s, {max(0.0, end - begin - calls / rate):5.1f} of them lost")
