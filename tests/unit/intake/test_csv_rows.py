"""Quotation marks: a row may have several lines, but a mark that is never closed costs one row only."""

from __future__ import annotations

from pathlib import Path

from worker.intake.csv_rows import MAX_ROW_LINES, split_rows
from worker.intake.formats.otp_pairs.header import read_header


def split(*lines: str) -> list[tuple[int, list[str] | None]]:
    """Split these lines below the header `serial,otp1,note`, whose column `note` is the file's own."""
    with_ends = iter("\n".join(["serial,otp1,note", *lines, ""]).splitlines(keepends=True))
    return list(split_rows(with_ends, read_header(Path("shipment.csv"), with_ends)))


def test_a_row_of_many_lines_has_the_number_of_its_first() -> None:
    assert split('A,1,"x\ny\nz"', "B,2,") == [(2, ["A", "1", "x\ny\nz"]), (5, ["B", "2", ""])]


def test_a_mark_left_open_costs_its_own_row_only() -> None:
    rows = split('A,1,"x', *["B,2,"] * 100)
    assert rows[0] == (2, None)
    assert rows[1:] == [(number, ["B", "2", ""]) for number in range(3, 103)]


def test_two_marks_left_open_cost_their_own_rows_only() -> None:
    assert split('A,"1,x', "B,2,", 'C,3",x', "D,4,") == [
        (2, None),
        (3, ["B", "2", ""]),
        (4, ["C", '3"', "x"]),
        (5, ["D", "4", ""]),
    ]


def test_a_mark_left_open_on_the_last_line_is_no_row() -> None:
    assert split("A,1,", 'B,2,"x') == [(2, ["A", "1", ""]), (3, None)]


def test_a_mark_in_the_middle_of_a_bare_value_is_a_character() -> None:
    assert split('A,1,6" case') == [(2, ["A", "1", '6" case'])]


def test_text_behind_a_closing_mark_is_refused_and_not_glued_on() -> None:
    assert split('A,"30"8714,') == [(2, None)]


def test_a_value_may_have_as_many_lines_as_are_allowed_and_not_one_more() -> None:
    longest = "\n".join("x" * MAX_ROW_LINES)
    assert split(f'A,1,"{longest}"', "B,2,") == [(2, ["A", "1", longest]), (22, ["B", "2", ""])]
    assert split(f'A,1,"{longest}\n"', "B,2,")[0] == (2, None)
