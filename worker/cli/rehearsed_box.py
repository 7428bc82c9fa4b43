"""The box of a rehearsal: a vendor's encrypted file, its key and a list of persons, with a few tokens of every kind
that cannot become active."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from worker.cli.console import console, name_program
from worker.intake import Hints, Shipment, Switches, open_assignment, open_shipment

if TYPE_CHECKING:
    from worker.simulator.box import Box
    from worker.simulator.shipment import Expected

# The box's folder in the rehearsal's home.
BOX = "box"
# Tokens of each kind of trouble, at most; and the part of the box that all troubles together are, at most.
MOST_OF_A_KIND = 3
TROUBLED_PART = 0.25


def make_box_to_rehearse(tokens: int) -> Box:
    """Make up a box of so many tokens."""
    from worker.simulator.box import SPECIAL, make_box

    return make_box(tokens, special=dict.fromkeys(SPECIAL, _count_troubles(tokens, len(SPECIAL))))


def _count_troubles(tokens: int, kinds: int) -> int:
    """How many tokens of each kind of trouble a box has; none if it is too small."""
    return min(MOST_OF_A_KIND, int(tokens * TROUBLED_PART / kinds))


def open_box(box: Box, folder: Path) -> Shipment:
    """Write the box's files into a folder, and open them as the shipment that is to be loaded."""
    from worker.simulator.box import LIST, SEEDS

    box.write(folder)
    return open_shipment(
        folder / SEEDS,
        hints=Hints(key=box.keys.pre_shared),
        assignment=open_assignment(folder / LIST),
        switches=Switches(may_import=True, may_pair=True),
    )


def print_box(tokens: int, expected: Mapping[str, Expected], folder: Path) -> None:
    """Say what was made up, and how a person does the same by hand."""
    from worker.simulator.box import KEY, LIST, SEEDS, SPECIAL

    hopeless = sum(end.status != "active" for end in expected.values())
    troubles = _count_troubles(tokens, len(SPECIAL))
    console.print(f"A box of {tokens} tokens was made up, {hopeless} of them hopeless on purpose, in {folder}:")
    console.print(f"{SEEDS}, encrypted; {KEY}, its key; {LIST}, who gets which token.")
    by_hand = f"{name_program()} simulator --tokens {tokens} --box box --troubles {troubles}"
    console.print(f"To do it step by step: {by_hand}", soft_wrap=True)
