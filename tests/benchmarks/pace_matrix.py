"""How much of a limit the search for it uses, at how many 429s, against limits of every kind, in virtual time.

    PYTHONPATH=tests python tests/benchmarks/pace_matrix.py [--quick] [--only ours,aimd,cubic,oracle] [--group TEXT]
        [--worst N] [--json FILE]

The cells are those of pace_cells.py, the fleet that of tests/support/fleets/paced_fleet.py: it drives the product's
pure functions as processes do with Redis between them. Beside it the oracle, which is told the limit, AIMD and CUBIC.
*Used* is what was let through of what the limit permitted, a burst not counted, and 100 % at the most; *steady* leaves
out the first and the last tenth of the time. --quick takes every fifth cell: a minute.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean

from pace_cells import Cell, choose_few, groups_of, make_cells
from support.fleets.paced_fleet import PacedFleet
from support.fleets.policies import Policy, Searching
from support.fleets.virtual_limits import Limit
from support.fleets.virtual_rivals import Aimd, Cubic, Oracle

# Requests a second that the fleet may make at most, as PINGONE_RATE_MAX says: about what two processes can do.
HIGHEST = 1000.0
POLICIES: dict[str, Callable[[Limit], Policy]] = {
    "ours": lambda limit: Searching(highest=HIGHEST),
    "aimd": lambda limit: Aimd(highest=HIGHEST),
    "cubic": lambda limit: Cubic(highest=HIGHEST),
    "oracle": Oracle,
}
# Below this part of the limit a cell is named.
NAMED_BELOW = 0.8


@dataclass(frozen=True)
class Result:
    group: str
    name: str
    policy: str
    whole: float
    steady: float
    # The part of all requests that was refused.
    refused: float
    # Refusals that were learnt from.
    met: int
    # Seconds after the limit changed until 95 % of it was used; None where it does not change, or never.
    back_after: float | None


def measure(cell: Cell, name: str) -> Result:
    """Run one policy against one limit."""
    limit = cell.make_limit()
    fleet = PacedFleet(
        limit,
        POLICIES[name](limit),
        latency=cell.latency,
        refusal_latency=cell.refusal_latency,
        retry_after=cell.retry_after,
        ahead=cell.ahead,
        capacity=cell.capacity,
        late=cell.late,
        processes=cell.processes,
    ).run(until=cell.seconds)
    tenth = cell.seconds / 10
    shares = [min(fleet.used(*span), 1.0) for span in ((0, cell.seconds), (tenth, cell.seconds - tenth))]
    return Result(
        cell.group, cell.name, name, *shares, fleet.refused_share, len(fleet.refusals), find_return(fleet, cell)
    )


def find_return(fleet: PacedFleet, cell: Cell) -> float | None:
    """Find after how many seconds from the change of the limit 95 % of it are used for five seconds."""
    if cell.changes_at is None:
        return None
    seconds = range(int(cell.changes_at), int(cell.seconds) - 5)
    return next((at - cell.changes_at for at in seconds if fleet.used(at, at + 5) >= 0.95), None)


def print_groups(results: list[Result], policies: list[str]) -> None:
    print(f"\n| group | cells | {' | '.join(policies)} |\n|---|---|{'---|' * len(policies)}")
    for group in groups_of(results):
        of_group = {name: [r for r in results if (r.group, r.policy) == (group, name)] for name in policies}
        cells = [describe(of_group[name]) for name in policies]
        print(f"| {group} | {len(of_group[policies[0]])} | {' | '.join(cells)} |")


def describe(results: list[Result]) -> str:
    """Say how much was used, whole and steady, and how many were refused; the worst cell in brackets."""
    whole, steady, refused = (
        100 * fmean(getattr(result, name) for result in results) for name in ("whole", "steady", "refused")
    )
    lowest, highest = 100 * min(r.whole for r in results), 100 * max(r.refused for r in results)
    text = f"{whole:.1f} / {steady:.1f}, {refused:.2f} ({lowest:.0f}; {highest:.1f})"
    if any(result.back_after is not None for result in results):
        slowest = max(result.back_after if result.back_after is not None else 999 for result in results)
        text += f", back in {slowest:.0f} s"
    return text


def print_worst(results: list[Result], policy: str, count: int) -> None:
    """Name the cells in which this policy uses least, with the oracle's figure."""
    oracle = {(r.group, r.name): r.whole for r in results if r.policy == "oracle"}
    ours = sorted((r for r in results if r.policy == policy), key=lambda result: result.whole)
    print(f"\n| {policy}, worst cells | whole | steady | refused | met | oracle |\n|---|---|---|---|---|---|")
    for r in [r for r in ours[:count] if r.whole < NAMED_BELOW]:
        told = f"{100 * oracle[r.group, r.name]:.0f}" if oracle else ""
        figures = f"{100 * r.whole:.1f} | {100 * r.steady:.1f} | {100 * r.refused:.2f} | {r.met}"
        print(f"| {r.group}: {r.name} | {figures} | {told} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--quick", action="store_true", help="every fifth cell")
    parser.add_argument("--only", default=",".join(POLICIES), help="policies, by name")
    parser.add_argument("--group", default="", help="groups whose names contain this")
    parser.add_argument("--worst", type=int, default=40, help="how many of the worst cells are named")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    policies = arguments.only.split(",")
    if unknown := set(policies) - set(POLICIES):
        parser.error(f"unknown: {', '.join(unknown)}")
    cells = [cell for cell in make_cells() if arguments.group in cell.group]
    if arguments.quick:
        cells = choose_few(cells)
    results = [measure(cell, name) for name in policies for cell in cells]
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(result) for result in results]))
    print("whole / steady used, 429s in % of requests (lowest use; most refused)")
    print_groups(results, policies)
    print_worst(results, policies[0], arguments.worst)


if __name__ == "__main__":
    main()
