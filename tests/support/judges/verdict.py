"""The verdict over a whole installation, when all work is over."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from models.record import FINAL
from support.judges.final_tables import find_unwritten, judge_tables
from support.judges.otp_calls import Case, judge_calls, make_cases
from support.judges.seed_calls import judge_seed_cases, make_seed_cases
from support.judges.status_moves import judge_moves, seen_moves
from support.servers.simulator import Simulator
from worker.database.engine import Database

# Calls that show what a few charges are about.
EVIDENCE = 5


def deliver_verdict(
    database: Database, simulator: Simulator, active: Collection[str], *, budget: int, was_replayed: bool = False
) -> None:
    """Fails if a promise was broken. The simulator has stopped, `active` are the devices that were ACTIVE then; the
    database was watched with `watch_moves`."""
    seeds, unwritten = simulator.seeds, find_unwritten(database)
    calls = simulator.calls()
    # Those of devices that have no seed: their records bring a pair.
    paired = [call for call in calls if call.device_id not in seeds]
    seed_cases = make_seed_cases(calls, seeds, unwritten, budget)
    cases = make_cases(paired, simulator.pairs, unwritten, budget) | seed_cases
    charges = judge_calls(paired, simulator.pairs, unwritten=unwritten, budget=budget)
    charges += judge_seed_cases(seed_cases, was_replayed=was_replayed)
    charges += judge_tables(database, cases, active)
    assert not charges, "\n".join(["the judge convicts:", *charges[:20], *_evidence(charges[:EVIDENCE], cases)])
    judge_moves(database)
    reopened = {move for move in seen_moves(database) if move[0] in FINAL}
    assert was_replayed or not reopened, f"final records went on: {reopened}"


def _evidence(charges: Sequence[str], cases: Mapping[str, Case]) -> list[str]:
    """The calls of those devices that the charges begin with."""
    devices = [charge.split(":")[0].split(" ")[0] for charge in charges]
    return [f"{call}" for device_id in dict.fromkeys(devices) if device_id in cases for call in cases[device_id].calls]
