"""Boxes for tests: a vendor's encrypted file with its key and its list, opened as a person does."""

from __future__ import annotations

from pathlib import Path

from worker.intake import Hints, Shipment, Switches, open_assignment, open_shipment
from worker.simulator.shipment import KEY, LIST, SEEDS, Box, BoxKind

# What `oathbulk run` is told beside the file, in the folder of the box.
OPTIONS = ("--key-file", KEY, "--assign", LIST, "--import", "--pair")
# Findings of the preflight of such a box that a person has to accept.
ACCEPTED = (
    "too_many_devices",
    "token_taken",
    "token_differs",
    "account_not_usable",
    "user_not_found",
    "user_ambiguous",
)


def open_box(box: Box, folder: Path) -> Shipment:
    """Open a box that was written into the folder, to be imported and paired."""
    return open_shipment(
        folder / SEEDS,
        hints=Hints(key=box.keys.pre_shared),
        assignment=open_assignment(folder / LIST),
        switches=Switches(may_import=True, may_pair=True),
    )


def count_kinds(box: Box, *kinds: BoxKind) -> int:
    """How many tokens of these kinds a box has."""
    return sum(token.kind in kinds for token in box.tokens)
