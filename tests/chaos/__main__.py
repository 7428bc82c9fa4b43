"""The long form: batch after batch until the time is over, or what disturbances cost in time."""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from chaos.comparison import compare
from chaos.runs import STACKS, run


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    if options.compare:
        return compare(options.seed, options.records or 1500, options.rate or 25.0, say)
    kinds = [options.stack] if options.stack else list(STACKS)
    return _go_on(kinds, options.seed, options.records or 2000, options.rate or 30.0, options.minutes * 60)


def _go_on(kinds: list[str], seed: int, records: int, rate: float, seconds: float) -> int:
    """Each stack in turn, each with the next seed; 1 if one broke a promise or did not finish."""
    began, happened, batches, broken = time.monotonic(), Counter[str](), 0, 0
    while batches == 0 or time.monotonic() - began < seconds:
        for kind in kinds:
            # Every second seed is a box.
            is_box = seed % 2 == 0
            shipped = "a box" if is_box else "OTP pairs"
            say(f"--- {kind}, {shipped}: python -m chaos --stack {kind} --seed {seed} --records {records}")
            with tempfile.TemporaryDirectory(prefix="oathbulk-chaos-") as directory:
                try:
                    happened += run(kind, Path(directory), seed, say, records=records, rate=rate, is_box=is_box)
                except (AssertionError, TimeoutError) as charge:
                    broken += 1
                    say(f"BROKEN: {charge}")
            batches += 1
        seed += 1
    say("\n".join(f"{count:5} {what}" for what, count in sorted(happened.items())))
    say(
        f"{batches} batches of {records} records in {time.monotonic() - began:.0f} s, {happened.total()} disturbances; "
        f"{broken} broke a promise or did not finish"
    )
    return int(bool(broken))


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m chaos", description="Disturbs a stack while it works.")
    parser.add_argument("--minutes", type=float, default=0.0, help="no batch begins later; one is worked on at least")
    parser.add_argument("--seed", type=int, default=1, help="of the first schedule; the next ones count on")
    parser.add_argument("--records", type=int, help="of a batch")
    parser.add_argument("--rate", type=float, help="requests a second")
    parser.add_argument("--stack", choices=list(STACKS), help="only this one")
    parser.add_argument("--compare", action="store_true", help="the time that a disturbed batch takes")
    return parser


if __name__ == "__main__":
    sys.exit(main())
