"""What a load has counted so far of its rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from worker.intake import Row
from worker.observability.counting import agree, count_things


@dataclass(slots=True)
class LoadCounts:
    """Counts the rows of a load, chunk by chunk. `canary_row` is the number of the canary's last row, once that is
    written. `already_active`: rows whose token is active on its device, so that there is nothing to do."""

    canary: int | None = None
    total: int = 0
    rows_refused: int = 0
    already_active: int = 0
    canary_row: int | None = None
    _origins: Counter[int] = field(default_factory=Counter)

    def add(self, written: Sequence[Row], refused: int, already_active: int) -> None:
        """Count one more chunk."""
        if self.canary is not None and self.total < self.canary <= self.total + len(written):
            self.canary_row = written[self.canary - self.total - 1].row_number
        self.total += len(written)
        self.rows_refused += refused
        self.already_active += already_active
        self._origins.update(row.origin.batch_id for row in written if row.origin)

    @property
    def rows(self) -> int:
        """All rows of the file so far."""
        return self.total + self.rows_refused + self.already_active

    @property
    def held_back_from(self) -> int | None:
        """The row after which the canary holds the others back; None if it leaves none."""
        return self.canary_row if self.canary is not None and self.canary < self.total else None

    @property
    def sums(self) -> dict[str, int]:
        """What the batch keeps of this, by the names of its columns."""
        return {"total": self.total, "rows_refused": self.rows_refused}

    @property
    def are_all_active(self) -> bool:
        """Whether every row was left out, since its token is active already."""
        return bool(self.already_active) and not (self.total or self.rows_refused)

    def explain_nothing_left(self) -> str | None:
        """Explain why the file is refused as a whole; None if it has a good row, or no row that could be mended."""
        if self.total or not self.rows_refused:
            return None
        if not self.already_active:
            return explain_none_good(self.rows_refused)
        none = "one row" if self.rows_refused == 1 else f"{self.rows_refused:,} rows"
        others = count_things(self.already_active, "other")
        return f"{none} of it cannot be loaded, and {others} {agree(self.already_active, 'is', 'are')} active already"

    @property
    def parent_id(self) -> int | None:
        """The batch that most of the rows come back from; None if none does."""
        return next((batch_id for batch_id, _ in self._origins.most_common(1)), None)


def explain_none_good(rows: int) -> str:
    """Say that all the rows of a file, so many, are refused."""
    return "its only row cannot be loaded" if rows == 1 else f"not one of its {rows:,} rows can be loaded"
