"""Chaos: the real stack works through a batch while everything around it is killed, frozen, cut off, wiped and refused.

Two stacks: a fleet on PostgreSQL (two workers, beat, Valkey, each with links of its own to the servers), and the
single-machine one, `oathbulk run`, with a second worker beside it. PingOne is the simulator, with faults of its own.
The shipment is OTP pairs for devices that are there, or a vendor's box that goes the whole way.
What happens, and when, comes from a seed. Each disturbance has a begin and an end, and after each of them an OTP must
arrive again; the batch must finish by itself. The judge is the simulator's call log; from our tables he takes only
whether they say the same, and which calls we never had an answer to.

    links         the network: a TCP proxy between one program and one server, to cut, to stall and to heal
    stacks        what all stacks can do, and how their end is judged; the two of them
    disturbances  what befalls a stack, each under its name; one stack from its begin to the verdict

    python -m chaos --minutes 30 --seed 1        (with tests/ on the path) goes on for as long as one likes
    python -m chaos --seed 7 --stack postgresql  one batch, the same schedule each time

A seed repeats what was done to the stack, and not the moments at which threads met it: that is what `hunt` is for.
"""

import argparse
import logging
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from chaos.disturbances import STACKS, run


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    kinds = [options.stack] if options.stack else list(STACKS)
    return _go_on(kinds, options.seed, options.records, options.rate, options.minutes * 60)


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
    parser.add_argument("--records", type=int, default=2000, help="of a batch")
    parser.add_argument("--rate", type=float, default=30.0, help="requests a second")
    parser.add_argument("--stack", choices=list(STACKS), help="only this one")
    return parser


if __name__ == "__main__":
    sys.exit(main())
