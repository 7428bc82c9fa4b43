"""The whole way of a large box, and what it costs: active tokens, dead letters, broken promises, requests a token, CPU.

    PYTHONPATH=tests python tests/benchmarks/whole_way.py disturbed --on sqlite      faults and refusals of every kind
    PYTHONPATH=tests python tests/benchmarks/whole_way.py disturbed --on postgresql  the same, by two workers and beat
    PYTHONPATH=tests python tests/benchmarks/whole_way.py requests --on postgresql   undisturbed: requests a token
    PYTHONPATH=tests python tests/benchmarks/whole_way.py ratio --on postgresql      CPU beside tokens that are paired
    PYTHONPATH=tests python tests/benchmarks/whole_way.py size --tokens 100000       memory and progress

On SQLite it is worked on by `oathbulk run`. A promise that was broken is printed, and makes the exit code 1.
"""

from __future__ import annotations

import argparse
import csv
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis
from cpu import cpu
from memory import resident
from sqlalchemy import and_, func, select
from support.data.boxes import ACCEPTED
from support.fleets.real_fleet import BATCH, Fleet
from support.judges.verdict import find_charges
from support.processes.program import Program
from support.servers.postgres import PostgresServer
from support.servers.valkey import ValkeyServer

from models.attempt import AttemptLine
from models.record import Record
from models.record_states import Status
from worker.database import schema
from worker.database.engine import Database
from worker.simulator.shipment import KEY, LIST, SEEDS, Box, a_few_of_each, make_box
from worker.simulator.world import DeviceSeed

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
    statuses: Counter[str]
    reasons: Counter[str]
    counts: Mapping[str, Any]
    charges: list[str]

    @property
    def milliseconds(self) -> float:
        """CPU a record."""
        return 1000 * self.cpu / len(self.box.tokens)


class PairedBox(Box):
    """A box whose tokens were paired beforehand: the list names their devices."""

    def write_list(self, path: Path) -> None:
        devices = {device.serial: device.device_id for device in self.world.devices}
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["serial", "user_id", "device_id"])
            writer.writerows((token.serial, token.user_id, devices[token.serial]) for token in self.tokens)


def pair_beforehand(box: Box) -> PairedBox:
    """Make the same box with its tokens imported and paired."""
    drifted = set(box.world.out_of_step)
    devices = tuple(
        DeviceSeed(
            serial=token.serial,
            secret=token.secret,
            type=token.type,
            digits=token.digits,
            hash=token.hash,
            time_step=token.time_step,
            counter=token.counter,
            out_of_step=token.serial in drifted,
            user_id=token.user_id,
            device_id=f"{index:08x}-0000-4000-8000-00000000d0d0",
        )
        for index, token in enumerate(box.tokens)
    )
    world = box.world.model_copy(update={"devices": devices, "out_of_step": ()})
    return PairedBox((), world, box.expected, box.tokens, box.keys, box.seed)


def work(
    box: Box, on: str, excused: frozenset[str] = frozenset(), tell_every: float | None = None, **simulated: Any
) -> Result:
    """Work a box through, and judge it. `tell_every`: seconds after which it is told how far it is."""
    with (
        tempfile.TemporaryDirectory(prefix="oathbulk-box-") as folder,
        _fleet(Path(folder), box, on, simulated) as fleet,
    ):
        began, started = time.monotonic(), _start(fleet, on)
        used, tell_at = 0.0, began
        while fleet.status().left:
            now = time.monotonic()
            if now > began + TIMEOUT:
                raise TimeoutError(fleet.testimony())
            _complain_of_pause(fleet)
            used = sum(cpu(program.pid) for program in started if program.is_running)
            if tell_every is not None and now >= tell_at:
                _tell_progress(fleet, started, now - began)
                tell_at += tell_every
            time.sleep(LOOK if tell_every is None else LOOK + tell_every / 10)
        wall = time.monotonic() - began
        for program in fleet.programs:
            program.kill()
        tenant, counts = fleet.simulator.tenant(), fleet.simulator.counts()
        fleet.simulator.stop()
        charges = find_charges(fleet.database, fleet.simulator, tenant, budget=BUDGET, excused=excused)
        statuses, reasons = _count(fleet.database)
        return Result(box, wall, used, statuses, reasons, counts, charges)


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


def _complain_of_pause(fleet: Fleet) -> None:
    status = fleet.status()
    if status.state == "paused" and status.reason != "outage":
        raise RuntimeError(f"it paused by itself: {status.reason}: {status.detail}\n{_tell_attempts(fleet.database)}")


def _tell_progress(fleet: Fleet, started: list[Program], seconds: float) -> None:
    """Print how many tokens are prepared and active, and how much memory workers, beat and Valkey have."""
    is_active, is_prepared = Record.status == Status.ACTIVE, and_(Record.user_id != "", Record.is_in_inventory)
    counts = [func.count().filter(condition) for condition in (is_prepared, is_active)]
    with fleet.database.reading() as connection:
        prepared, active = connection.execute(select(*counts)).one()
    memory = [resident(program.pid) for program in started if program.is_running]
    held = redis.Redis.from_url(fleet.variables["OATHBULK_REDIS_URL"]).info("memory")["used_memory"] / 2**20
    sizes = ", ".join(f"{size:.0f}" for size in memory)
    say(f"  {seconds:5.0f} s: {prepared:6} prepared, {active:6} active; MiB: {sizes}; Valkey {held:.1f}")


def _tell_attempts(database: Database) -> str:
    """How the latest attempts ended."""
    latest = select(AttemptLine.outcome, AttemptLine.reason, AttemptLine.otp_posts).order_by(AttemptLine.id.desc())
    with database.reading() as connection:
        return str(Counter(map(tuple, connection.execute(latest.limit(200)).all())).most_common())


def _count(database: Database) -> tuple[Counter[str], Counter[str]]:
    with database.reading() as connection:
        found = connection.execute(
            select(Record.status, Record.reason, func.count().label("n")).group_by(Record.status, Record.reason)
        ).all()
    statuses, reasons = Counter[str](), Counter[str]()
    for row in found:
        statuses[row.status] += row.n
        if row.reason:
            reasons[row.reason] += row.n
    return statuses, reasons


def tell(name: str, result: Result) -> None:
    """Print all figures of a run."""
    tokens, operations = len(result.box.tokens), result.counts["operations"]
    say(f"\n{name}: {tokens} tokens, {result.statuses['active']} active")
    expected = Counter(end.reason for end in result.box.expected.values() if end.reason)
    for reason, number in sorted(result.reasons.items()):
        say(f"  {number:5} {reason}, of which {min(number, expected[reason])} were made to end so")
    for kind, names in KINDS.items():
        say(f"  {sum(operations.get(each, 0) for each in names) / tokens:8.4f} {kind} requests a token")
    say(f"  calls: {dict(sorted(operations.items()))}")
    say(f"  statuses: {result.counts['statuses']}; faults: {result.counts['faults']}")
    say(f"  {result.wall:.0f} s, {result.cpu:.1f} s of CPU, {result.milliseconds:.2f} ms a record")
    say(f"  broken promises: {len(result.charges)}")
    for charge in result.charges[:20]:
        say(f"    {charge}")


def say(text: str) -> None:
    print(text, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("what", choices=("disturbed", "requests", "ratio", "size"))
    parser.add_argument("--on", choices=("sqlite", "postgresql"), default="postgresql")
    parser.add_argument("--tokens", type=int, default=5000)
    arguments = parser.parse_args()
    if arguments.what == "disturbed":
        box = make_box(arguments.tokens, special=a_few_of_each(arguments.tokens, each=5))
        results = {f"disturbed, on {arguments.on}": work(box, arguments.on, SPENT, **WEATHER)}
    elif arguments.what == "requests":
        results = {f"undisturbed, on {arguments.on}": work(make_box(arguments.tokens), arguments.on)}
    elif arguments.what == "size":
        # Without TOTP, whose second OTP waits for the next time step.
        box = make_box(arguments.tokens, totp=0)
        results = {f"in size, on {arguments.on}": work(box, arguments.on, tell_every=30.0)}
    else:
        # Without TOTP, whose second OTP waits for the next time step.
        box = make_box(arguments.tokens, totp=0)
        results = {
            "activated only": work(pair_beforehand(box), arguments.on),
            "the whole way": work(box, arguments.on),
        }
    for name, result in results.items():
        tell(name, result)
    if arguments.what == "ratio":
        activated, whole = results.values()
        say(f"\nCPU a record: {whole.milliseconds / activated.milliseconds:.2f} times that of activation alone")
    return int(any(result.charges for result in results.values()))


if __name__ == "__main__":
    sys.exit(main())
