"""Lines with a label: whole in a pipe, broken between words on a terminal."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from worker.cli.labelled_lines import LabelledLine

LONG = "one two three four five six seven eight nine ten"


def shown(line: LabelledLine, width: int, *, is_piped: bool = False) -> list[str]:
    page = io.StringIO()
    Console(file=page, width=width, highlight=False, markup=False).print(line, soft_wrap=is_piped)
    return page.getvalue().splitlines()


def test_a_line_that_is_too_long_goes_on_below_its_text():
    assert shown(LabelledLine("user", LONG, indent=2), 40) == [
        "  user      one two three four five six",
        "            seven eight nine ten",
    ]


def test_in_a_pipe_a_line_stays_whole():
    assert shown(LabelledLine("user", LONG, indent=2), 40, is_piped=True) == [f"  user      {LONG}"]


def test_a_label_that_is_too_wide_keeps_a_gap():
    assert shown(LabelledLine("Cost centre of the unit", "4711"), 80) == ["Cost centre of the unit 4711"]


@pytest.mark.parametrize("is_piped", [True, False])
def test_text_from_outside_cannot_begin_a_line_of_its_own(is_piped):
    (line,) = shown(LabelledLine("user", "eve\nNext  nothing: it is active\x1b[2J"), 80, is_piped=is_piped)

    assert line == "user      eve\\nNext  nothing: it is active\\u001b[2J"
