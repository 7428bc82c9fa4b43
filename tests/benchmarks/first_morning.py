"""A shipment of seeds on the embedded stack: half HOTP and half TOTP, paired already, a fifth out of step, a few
hopeless, while answers get lost, PingOne limits the rate, and the worker is killed (-9). Then everybody signs on.

    PYTHONPATH=tests python tests/benchmarks/first_morning.py [--tokens N] [--kills N] [--hopeless N] [--rate N]
        [--faults SHARE] [--seed N] [--keep DIRECTORY]

What is printed is counted from the simulator's own call log and from the database. A second OTP that
was lost spends the budget of its record: a person replays these, since a seed makes fresh OTPs by itself.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from contextlib import closing
from pathlib import Path

from embedded_run import Cost, EmbeddedRun
from sqlalchemy import Row, select
from support.data.seed_shipments import HOPELESS_SEEDS, make_seeds
from support.judges.final_tables import find_unwritten, judge_tables
from support.judges.seed_calls import judge_seed_cases, make_seed_cases

from models.attempt import AttemptLine, Outcome
from models.record import Record
from worker.cli.first_morning import Simulator, play_first_morning
from worker.database.engine import Database
from worker.simulator.seed_shipment import MadeSeeds

BATCH = "box"
BUDGET = 3
# Of all faults, the share of each kind. The hanging ones last for a call's deadline.
KINDS: Mapping[str, float] = {
    "reset_before": 0.2,
    "reset_after": 0.2,
    "error_before": 0.2,
    "error_after": 0.2,
    "garbled": 0.1,
    "hang_after": 0.05,
    "hang_before": 0.05,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--tokens", type=int, default=10_000)
    parser.add_argument("--kills", type=int, default=5, help="of the worker, spread over the run")
    parser.add_argument("--hopeless", type=int, default=2, help="tokens of each kind and type")
    parser.add_argument("--rate", type=float, default=150.0, help="requests a second that the simulator lets through")
    parser.add_argument("--faults", type=float, default=0.05, help="share of all calls that a fault hits")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="an empty directory for all files, instead of one that is removed")
    chosen = parser.parse_args()
    made = make_seeds(
        hotp=chosen.tokens // 2,
        totp=chosen.tokens - chosen.tokens // 2,
        out_of_step=0.2,
        hopeless={kind: chosen.hopeless * count for kind, count in HOPELESS_SEEDS.items()},
        seed=chosen.seed,
    )
    with tempfile.TemporaryDirectory(prefix="oathbulk-bench-") as directory:
        run = EmbeddedRun(
            chosen.keep or Path(directory),
            made,
            rate=chosen.rate,
            faults={kind: share * chosen.faults for kind, share in KINDS.items()},
            fault_operations=["activate", "read"],
            fault_seed=chosen.seed,
            page_size=1000,
        )
        with run.simulator, closing(run.open_database()) as database:
            kills_at = tuple(chosen.tokens * (number + 1) // (chosen.kills + 1) for number in range(chosen.kills))
            measure(run, made, database, kills_at)


def measure(run: EmbeddedRun, made: MadeSeeds, database: Database, kills_at: tuple[int, ...]) -> None:
    """Load, run, replay what a person may, run again, sign on, judge; and print what came of each."""
    box, people, hand_out = (run.folder / name for name in ("box.csv", "people.csv", "hand-out.csv"))
    made.write_seeds(box)
    made.write_list(people)
    # The simulator knows these people by their ids alone, and the hopeless tokens not at all.
    accepted = ("--accept", "token_not_in_inventory", "--accept", "user_not_found")
    command = ("run", str(box), "--assign", str(people), *accepted)
    show_cost("first run", run.oathbulk(*command, kills_at=kills_at))
    show_endings(database, made)
    judged = judge(run, database, BUDGET)
    print(f"judged after the first run: {len(judged)} charges", *judged[:10], sep="\n  ")
    show_cost("replay of spent budgets", run.oathbulk("replay", BATCH, "--reason", "budget_spent"))
    show_cost("second run", run.oathbulk(*command))
    show_endings(database, made)
    show_calls(run, made)
    show_cost("hand-out", run.oathbulk("export", BATCH, "--hand-out", "-o", str(hand_out)))
    judged = judge(run, database, 2 * BUDGET, was_replayed=True)
    print(f"judged after the second run: {len(judged)} charges", *judged[:10], sep="\n  ")
    with closing(Simulator(run.simulator.url)) as control:
        play_first_morning(made, hand_out, control)


def show_cost(what: str, cost: Cost) -> None:
    print(
        f"{what}: exit code {cost.exit_code}, {cost.wall:.0f} s, {cost.cpu:.0f} s of processor time, "
        f"{cost.kills} workers killed (-9)",
        flush=True,
    )


def show_endings(database: Database, made: MadeSeeds) -> None:
    columns = (Record.serial_number, Record.otp_type, Record.status, Record.reason, Record.resynced)
    with database.reading() as connection:
        rows = connection.execute(select(*columns)).all()
        lost = len(connection.execute(select(AttemptLine.id).where(AttemptLine.outcome == Outcome.LOST)).all())
    for otp_type in ("hotp", "totp"):
        ends = Counter(f"{row.status} {row.reason or ''}".strip() for row in rows if row.otp_type == otp_type)
        print(f"  {otp_type}: {dict(sorted(ends.items()))}")
    print(f"  with OTP 2: {sum(row.resynced for row in rows)}; attempts that died with their worker: {lost}")
    wrong = list(find_wrong(rows, made))
    print(f"  not as made: {len(wrong)} {dict(Counter(wrong))}")


def find_wrong(rows: Iterable[Row[*tuple[object, ...]]], made: MadeSeeds) -> Iterable[str]:
    """How the records ended that were made to end otherwise."""
    for row in rows:
        end = made.expected[row.serial_number]
        if (row.status, row.reason) != (end.status, end.reason):
            yield f"{end.reason or end.status} -> {row.reason or row.status}"


def show_calls(run: EmbeddedRun, made: MadeSeeds) -> None:
    """Print what the simulator's own log says of counters and time steps, and of the faults that it played."""
    cases = make_seed_cases(run.simulator.calls(), run.simulator.seeds)
    counts = run.simulator.counts()
    for otp_type, name in (("hotp", "counter"), ("totp", "time step")):
        mine = [case for case in cases.values() if (case.seed.time_step is None) == (otp_type == "hotp")]
        twice = sum(has_twice([case.counters[post.number] for post in case.posts]) for case in mine)
        print(f"  {otp_type}: {sum(len(case.posts) for case in mine)} OTPs, {twice} devices had a {name} twice")
    print(f"  simulator: statuses {counts['statuses']}, faults {counts['faults']}, OTPs {counts['otp_posts']}")


def has_twice(counters: Collection[int | None]) -> bool:
    return len(set(counters)) < len(counters)


def judge(run: EmbeddedRun, database: Database, budget: int, *, was_replayed: bool = False) -> list[str]:
    """What broke a promise, a sentence each."""
    cases = make_seed_cases(run.simulator.calls(), run.simulator.seeds, find_unwritten(database), budget)
    return [*judge_seed_cases(cases, was_replayed=was_replayed), *judge_tables(database, cases, run.simulator.active())]


if __name__ == "__main__":
    main()
