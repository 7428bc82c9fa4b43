"""The verdict over a whole installation, when all work is over."""

from collections.abc import Collection, Mapping, Sequence

from support.judges.call_log import Tenant
from support.judges.creations import judge_creations
from support.judges.final_tables import find_unwritten, judge_endings, judge_records, judge_tables
from support.judges.histories import judge_histories
from support.judges.otp_calls import Case, KnownSeed, judge_calls, judge_seed_cases, make_cases, make_seed_cases
from support.judges.status_moves import judge_moves, seen_moves
from support.servers.simulator import Simulator, know_seed

from models.record_states import FINAL
from worker.database.engine import Database
from worker.simulator.shipment import Box

# Calls that show what a few charges are about.
EVIDENCE = 5
# Kinds of a box's tokens that the list gives to nobody whom the tenant knows for certain.
NOBODYS = ("user_not_found", "user_ambiguous")


def deliver_verdict(
    database: Database,
    simulator: Simulator,
    tenant: Tenant,
    *,
    budget: int,
    was_replayed: bool = False,
    excused: Collection[str] = (),
) -> None:
    """Fails if a promise was broken. The simulator has stopped, `tenant` is what it had then; the database was watched
    with `watch_moves`. `excused`: reasons for which a token of a box may be given up although it was not made so."""
    charges = _find_charges(database, simulator, tenant, budget, was_replayed=was_replayed, excused=excused)
    cases = make_cases(simulator.calls(), simulator.pairs)
    assert not charges, "\n".join(["the judge convicts:", *charges[:20], *_evidence(charges[:EVIDENCE], cases)])
    judge_moves(database)
    reopened = {move for move in seen_moves(database) if move[0] in FINAL}
    assert was_replayed or not reopened, f"final records went on: {reopened}"


def _find_charges(
    database: Database,
    simulator: Simulator,
    tenant: Tenant,
    budget: int,
    *,
    was_replayed: bool,
    excused: Collection[str],
) -> list[str]:
    """Which promises were broken, a sentence each."""
    calls, pairs, unwritten = simulator.calls(), simulator.pairs, find_unwritten(database)
    active = {device.id for device in tenant.devices if device.status == "ACTIVE"}
    seeds = simulator.seeds | find_box_seeds(simulator, tenant)
    # Those of devices that have no seed: their records bring a pair.
    paired = [call for call in calls if call.device_id not in seeds]
    seed_cases = make_seed_cases(calls, seeds, unwritten, budget)
    charges = [
        *judge_tables(database, make_cases(paired, pairs, unwritten, budget) | seed_cases, active),
        *judge_calls(paired, pairs, unwritten=unwritten, budget=budget),
        *judge_seed_cases(seed_cases, was_replayed=was_replayed),
        *judge_histories(database, simulator.whole_log()),
    ]
    if not isinstance(simulator.shipment, Box):
        return charges
    box, whole_log = simulator.shipment, simulator.whole_log()
    assigned = {token.serial: token.user_id if token.kind not in NOBODYS else None for token in box.tokens}
    return [
        *charges,
        *judge_creations(whole_log, tenant, assigned, unwritten),
        *judge_records(database, whole_log, tenant, assigned, unwritten),
        *judge_endings(database, box.expected, excused),
    ]


def find_box_seeds(simulator: Simulator, tenant: Tenant) -> dict[str, KnownSeed]:
    """The seeds of a box's tokens, by the devices that they have become; none if it is no box."""
    box = simulator.shipment
    tokens = {token.serial: token for token in box.tokens} if isinstance(box, Box) else {}
    return {device.id: know_seed(token) for device in tenant.devices if (token := tokens.get(device.serial))}


def _evidence(charges: Sequence[str], cases: Mapping[str, Case]) -> list[str]:
    """The calls of those devices that the charges begin with."""
    devices = [charge.split(":")[0].split(" ")[0] for charge in charges]
    return [f"{call}" for device_id in dict.fromkeys(devices) if device_id in cases for call in cases[device_id].calls]
