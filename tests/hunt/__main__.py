"""The long form: hunts until its time is over, on every core; or tells one schedule again."""

import argparse
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from itertools import count
from multiprocessing import get_context

from hunt import seeds, walk
from hunt.seeds import Finding, Hunted

# Schedules that a process runs before it reports.
CHUNK = 50
# Seeds of one hunt; hunts that begin with neighboring numbers share none.
SEEDS = 100_000_000
# Findings after which a hunt ends: they are mostly one fault.
ENOUGH = 10


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    if options.walk:
        return walk_all()
    without = options.without.split(",") if options.without else ()
    if options.replay is not None:
        told = seeds.tell(Finding(options.replay, "", without, options.steps))
        say("\n".join(told))
        return int(told[-1].startswith("BROKEN"))
    return hunt(options.minutes * 60, options.seed, options.processes)


def walk_all() -> int:
    """Every single fault of every day; 1 if one of them broke a promise."""
    is_broken = False
    for name in walk.DAYS:
        walked = walk.walk(name)
        say("\n".join(walk.tell(name, walked)))
        is_broken = is_broken or bool(walked.broken)
    return int(is_broken)


def hunt(seconds: float, seed: int, processes: int) -> int:
    """Schedules until the time is over; 1 if one of them broke a promise."""
    began, hunted = time.monotonic(), Hunted()
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        for chunk in _chunks(pool, seed * SEEDS, processes, began + seconds):
            for finding in chunk.findings:
                say(str(finding))
            hunted.add(chunk)
            if len(hunted.findings) >= ENOUGH:
                break
    passed = time.monotonic() - began
    say("\n".join(f"{count:8} {evil}" for evil, count in sorted(hunted.evils.items())))
    say(
        f"{hunted.schedules} schedules of {hunted.records} records in {passed:.0f} s, {hunted.schedules / passed:.0f} "
        f"a second, {hunted.evils.total()} evils; {len(hunted.findings)} broke a promise"
    )
    return int(bool(hunted.findings))


def _chunks(pool: ProcessPoolExecutor, first: int, processes: int, ends_at: float) -> Iterator[Hunted]:
    """Chunk by chunk; each process has one at a time."""
    begins = count(first, CHUNK)
    running: set[Future[Hunted]] = {pool.submit(seeds.find, next(begins), CHUNK) for _ in range(processes)}
    while running:
        done, running = wait(running, return_when=FIRST_COMPLETED)
        for chunk in done:
            yield chunk.result()
            if time.monotonic() < ends_at:
                running.add(pool.submit(seeds.find, next(begins), CHUNK))


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m hunt", description="Hunts for schedules that break a promise.")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=1, help="where the hunt begins")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--replay", type=int, metavar="SEED", help="tell this one schedule, event by event")
    parser.add_argument("--walk", action="store_true", help="every single fault of a few short days")
    parser.add_argument("--without", help="evils to leave out of it, with commas between them")
    parser.add_argument("--steps", type=int, help="how long its storm lasts")
    return parser


if __name__ == "__main__":
    sys.exit(main())
