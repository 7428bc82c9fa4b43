"""Made-up tokens that `oathbulk simulator` serves, and the files of them that it writes."""

from __future__ import annotations

import shlex
from pathlib import Path

from worker.simulator.box import KEY, LIST, SEEDS, SPECIAL, a_few_of_each, make_box
from worker.simulator.seeding import WorldSeed
from worker.simulator.shipment import MENDED_BY_FRESH_OTPS, make_shipment


def make_pairs_in(path: Path, tokens: int, troubles: int, seed: int) -> WorldSeed:
    """Make up tokens that are paired, and write their OTP pairs, with so many tokens of each kind that two fresh OTPs
    mend. Raises OSError, and ValueError if the troubles do not fit."""
    shipment = make_shipment(tokens, seed=seed, hopeless=dict.fromkeys(MENDED_BY_FRESH_OTPS, troubles))
    shipment.write_pairs(path)
    return shipment.world


def make_box_in(folder: Path, tokens: int, troubles: int | None, seed: int) -> WorldSeed:
    """Make up a box, with so many tokens of each kind of trouble, and write its files. Raises OSError, and ValueError
    if the troubles do not fit."""
    special = a_few_of_each(tokens) if troubles is None else dict.fromkeys(SPECIAL, troubles)
    box = make_box(tokens, seed=seed, special=special)
    box.write(folder)
    return box.world


def name_run(folder: Path) -> str:
    """The command that takes the tokens of a box in this folder to ACTIVE."""
    seeds, key, people = (shlex.quote(str(folder / name)) for name in (SEEDS, KEY, LIST))
    return f"oathbulk run {seeds} --key-file {key} --assign {people} --import --pair"
