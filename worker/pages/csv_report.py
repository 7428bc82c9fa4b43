"""The tokens of a report as CSV, one a line, however many there are."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator

from worker.pages.json_report import make_token
from worker.reports.batch_report.contents import TokenLine
from worker.reports.export import format_cell

COLUMNS = ("serial", "row", "user", "lot", "status", "reason", "attempts", "out_of_step", "finalized_at")
# What stands in the column `out_of_step`.
_STEPS = {True: "yes", False: "no", None: ""}


def render_csv(tokens: Iterable[TokenLine]) -> Iterator[str]:
    """Write the header, then a line for each token. No spreadsheet takes a cell for a formula."""
    yield _write_line(COLUMNS)
    for token in tokens:
        cells = make_token(token) | {"out_of_step": _STEPS[token.is_out_of_step]}
        yield _write_line([format_cell(cells[column]) for column in COLUMNS])


def _write_line(cells: Iterable[str]) -> str:
    line = io.StringIO(newline="")
    csv.writer(line, lineterminator="\n").writerow(cells)
    return line.getvalue()
