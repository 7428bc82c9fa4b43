"""The tokens as CSV."""

from __future__ import annotations

import csv
import io

from support.data.reports import make_token

from worker.pages.csv_report import COLUMNS, render_csv


def test_each_token_is_a_line() -> None:
    tokens = [
        make_token(1, is_out_of_step=True),
        make_token(2, status="pending", is_out_of_step=None, finalized_at=None),
    ]
    first, second = csv.DictReader(io.StringIO("".join(render_csv(tokens)), newline=""))
    assert tuple(first) == COLUMNS
    assert (first["serial"], first["row"], first["out_of_step"]) == ("MADE000001", "2", "yes")
    assert (second["status"], second["out_of_step"], second["finalized_at"]) == ("pending", "", "")


def test_no_spreadsheet_takes_a_cell_for_a_formula() -> None:
    (line,) = csv.DictReader(io.StringIO("".join(render_csv([make_token(1, person='=HYPERLINK("x")')])), newline=""))
    assert line["user"] == '\'=HYPERLINK("x")'
