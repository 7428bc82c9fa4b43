"""The whole way of a large box, and what it costs: active tokens, dead letters, broken promises, requests a token, CPU.

    PYTHONPATH=tests python tests/benchmarks/whole_way.py disturbed --on sqlite      faults and refusals of every kind
    PYTHONPATH=tests python tests/benchmarks/whole_way.py disturbed --on postgresql  the same, by two workers and beat
    PYTHONPATH=tests python tests/benchmarks/whole_way.py requests --on postgresql   undisturbed: requests a token

On SQLite it is worked on by `oathbulk run`. A promise that was broken is printed, and makes the exit code 1.
"""

import argparse
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rig import cpu
from support.data.shipments import ACCEPTED
from support.fleets.real_fleet import BATCH, Fleet
from support.judges.verdict import find_charges
from support.processes.program import Program
from support.servers.postgres import PostgresServer
from support.servers.valkey import ValkeyServer

from worker.database import schema
from worker.database.engine import Database
from worker.reports.facts import BatchStatus
from worker.simulator.shipment import KEY, LIST, SEEDS, Box, a_few_of_each, make_box

# Seconds.
LOOK, TIMEOUT = 0.5, 3000.0
BUDGET = 5
# As a user has it who sets none, but for what waits for a clock: a time-out, a lease, a look-up after a loss.
SETTINGS = {
    "_OATHBULK_TUNING__call_deadline": "5",
    "_OATHBULK_TUNING__send_within": "2",
    "_OATHBULK_TUNING__lease_left_for_post": "8",
    "_OATHBULK_TUNING__lease": "30",
    "_OATHBULK_TUNING__queue_lease": "30",
    "_OATHBULK_TUNING__read_delay": "2",
    "_OATHBULK_TUNING__not_found_delay": "2",
    "_OATHBULK_TUNING__tick": "1",
    "OATHBULK_CONCURRENCY": "8",
    "OATHBULK_OTP_POST_BUDGET": str(BUDGET),
    "PINGONE_RATE": "400",
}
CALLS = ("find_users", "list_tokens", "read_token", "import_tokens", "read_job", "pair", "activate", "read", "list")
LOSSES = ("reset_before", "reset_after", "reset_late", "error_before", "error_after", "garbled")
WEATHER: Mapping[str, Any] = {
    "faults": dict.fromkeys(LOSSES, 0.015) | {"hang_before": 0.003, "hang_after": 0.003, "drip": 0.005},
    "faults_per_device": 2,
    "fault_operations": CALLS,
    "drip_interval": 0.02,
    "late_effect_after": 0.5,
    # Each group of calls has a limit, which refuses what comes too soon.
    "rate": 150,
    "group_rates": {"directory": 5, "inventory": 5, "configuration": 5},
}
# Faults may cost a device all the posts that it may have, or a record its attempts or its pairings.
SPENT = frozenset({"budget_spent", "attempts_spent", "pairing_failed"})
KINDS = {"pairing": ("pair",), "activation": ("activate",), "look-up": ("find_users",), "import": ("import_tokens",)}


@dataclass
class Result:
    """What one run came to. `cpu` is that of workers and beat, in seconds."""

    box: Box
    wall: float
    cpu: float
    status: BatchStatus
    counts: Mapping[str, Any]
    charges: list[str]


def work(box: Box, on: str, excused: frozenset[str] = frozenset(), **simulated: Any) -> Result:
    """Work a box through, and judge it."""
    with (
        tempfile.TemporaryDirectory(prefix="oathbulk-box-") as folder,
        _fleet(Path(folder), box, on, simulated) as fleet,
    ):
        began, started = time.monotonic(), _start(fleet, on)
        used = 0.0
        while (status := fleet.status()).left:
            if time.monotonic() > began + TIMEOUT:
                raise TimeoutError(fleet.testimony())
            if status.state == "paused" and status.reason != "outage":
                raise RuntimeError(f"it paused by itself: {status.reason}: {status.detail}")
            used = sum(cpu(program.pid) for program in started if program.is_running)
            time.sleep(LOOK)
        wall = time.monotonic() - began
        for program in fleet.programs:
            program.kill()
        tenant, counts = fleet.simulator.tenant(), fleet.simulator.counts()
        fleet.simulator.stop()
        charges = find_charges(fleet.database, fleet.simulator, tenant, budget=BUDGET, excused=excused)
        return Result(box, wall, used, fleet.status(), counts, charges)


def _start(fleet: Fleet, on: str) -> list[Program]:
    """Start those who work: `oathbulk run`, or two workers and beat."""
    if on == "postgresql":
        return [*(fleet.worker(name, level="WARNING") for name in ("first", "second")), fleet.beat(level="WARNING")]
    words = [fleet.outside / SEEDS, "--key-file", fleet.outside / KEY, "--assign", fleet.outside / LIST]
    accepted = [f"--accept={name}" for name in ACCEPTED]
    return [fleet.command("run", "run", *map(str, words), "--import", "--pair", "--batch", BATCH, "--json", *accepted)]


@contextmanager
def _fleet(folder: Path, box: Box, on: str, simulated: Mapping[str, Any]) -> Iterator[Fleet]:
    """A fleet whose box is loaded, on either database."""
    with ExitStack() as stack:
        valkey, url = stack.enter_context(ValkeyServer()), None
        home = folder / "home"
        home.mkdir(mode=0o700)
        if on == "postgresql":
            url = stack.enter_context(stack.enter_context(PostgresServer(durable=True)).database())
        migrated = Database(url or f"sqlite:///{home / 'oathbulk.db'}")
        schema.upgrade(migrated)
        migrated.close()
        tenant = {"failure_count": 7, "job_takes": 1} | simulated
        yield stack.enter_context(Fleet(folder, home, url, valkey.url, box, settings=SETTINGS, **tenant))


def tell(name: str, result: Result) -> None:
    """Print all figures of a run."""
    tokens, operations = len(result.box.tokens), result.counts["operations"]
    say(f"\n{name}: {tokens} tokens, {result.status.counts['active']} active")
    expected = Counter(end.reason for end in result.box.expected.values() if end.reason)
    for reason, number in sorted(result.status.dead_letters.items()):
        say(f"  {number:5} {reason}, of which {min(number, expected[reason])} were made to end so")
    for kind, names in KINDS.items():
        say(f"  {sum(operations.get(each, 0) for each in names) / tokens:8.4f} {kind} requests a token")
    say(f"  calls: {dict(sorted(operations.items()))}")
    say(f"  statuses: {result.counts['statuses']}; faults: {result.counts['faults']}")
    say(f"  {result.wall:.0f} s, {result.cpu:.1f} s of CPU, {1000 * result.cpu / tokens:.2f} ms a record")
    say(f"  broken promises: {len(result.charges)}")
    for charge in result.charges[:20]:
        say(f"    {charge}")


def say(text: str) -> None:
    print(text, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("what", choices=("disturbed", "requests"))
    parser.add_argument("--on", choices=("sqlite", "postgresql"), default="postgresql")
    parser.add_argument("--tokens", type=int, default=5000)
    arguments = parser.parse_args()
    if arguments.what == "disturbed":
        box = make_box(arguments.tokens, special=a_few_of_each(arguments.tokens, each=5))
        result = work(box, arguments.on, SPENT, **WEATHER)
    else:
        result = work(make_box(arguments.tokens), arguments.on)
    tell(f"{arguments.what}, on {arguments.on}", result)
    return int(bool(result.charges))


if __name__ == "__main__":
    sys.exit(main())
