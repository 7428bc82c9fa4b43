"""What a load has counted so far of its rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from worker.intake import Row
from worker.observability.counting import agree, count_things


@dataclass(slots=True)
class LoadCounts:
    """Counts the rows of a load, chunk by chunk. `canary_row` is the number of the canary's last row, once that is
    written. `left_out`: rows that are left out on purpose, since their tokens are active elsewhere."""

    canary: int | None = None
    total: int = 0
    rows_refused: int = 0
    left_out: int = 0
    canary_row: int | None = None

    def add(self, written: Sequence[Row], refused: int, left_out: int) -> None:
        """Count one more chunk."""
        if self.canary is not None and self.total < self.canary <= self.total + len(written):
            self.canary_row = written[self.canary - self.total - 1].row_number
        self.total += len(written)
        self.rows_refused += refused
        self.left_out += left_out

    @property
    def rows(self) -> int:
        """All rows of the file so far."""
        return self.total + self.rows_refused + self.left_out

    @property
    def held_back_from(self) -> int | None:
        """The row after which the canary holds the others back; None if it leaves none."""
        return self.canary_row if self.canary is not None and self.canary < self.total else None

    @property
    def sums(self) -> dict[str, int]:
        """What the batch keeps of this, by the names of its columns."""
        return {"total": self.total, "rows_refused": self.rows_refused}

    def explain_nothing_left(self) -> str | None:
        """Explain why the file is refused as a whole; None if it has a good row, or no row that could be mended."""
        if self.total or not self.rows_refused:
            return None
        if not self.left_out:
            return explain_none_good(self.rows_refused)
        none = "one row" if self.rows_refused == 1 else f"{self.rows_refused:,} rows"
        others = count_things(self.left_out, "other")
        return f"{none} of it cannot be loaded, and {others} {agree(self.left_out, 'is', 'are')} active already"


def explain_none_good(rows: int) -> str:
    """Say that all the rows of a file, so many, are refused."""
    return "its only row cannot be loaded" if rows == 1 else f"not one of its {rows:,} rows can be loaded"
