"""What an unpairing has found and done."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from worker.batches.undo.kept import Kept
from worker.batches.undo.read_back import DefaultChange
from worker.batches.undo.removal import End


@dataclass(slots=True)
class Unpaired:
    """What was found and done: how many devices the batch made by its records, pairings of unknown fate, how many
    devices earlier runs wrote down as gone, how each of the others ended, whose default device changes, and what
    stays."""

    devices: int = 0
    unknown: int = 0
    earlier: int = 0
    ends: Counter[End] = field(default_factory=Counter)
    defaults: dict[str, DefaultChange] = field(default_factory=dict)
    kept: list[Kept] = field(default_factory=list)

    def to_facts(self) -> dict[str, Any]:
        """The counts, as the audit has them."""
        return {end.value: self.ends[end] for end in End if end is not End.THERE}
