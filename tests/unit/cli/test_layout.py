"""How texts and columns are laid out: texts are broken between words for a terminal, and a command in them stays whole,
so that it can be pasted."""

from __future__ import annotations

import pytest
from rich.text import Text

from worker.cli.console import PIPE, Room, align, label_text, wrap

EXPORT = "oathbulk export july --left -o july-left.csv"


def lines(text: str, width: int) -> list[str]:
    return [line.plain for line in wrap(Text(text), width)]


def test_prose_is_broken_between_words() -> None:
    assert lines("Each token is told of.", 12) == ["Each token", "is told of."]
    assert lines("Two\n\nparagraphs of text", 11) == ["Two", "", "paragraphs", "of text"]
    assert lines("日本 日本 日本", 9) == ["日本 日本", "日本"]
    assert lines("", 9) == [""]


def test_a_word_that_is_too_long_stays_whole_and_where_it_is() -> None:
    assert lines("In /home/a/very/long/path it is.", 10) == ["In", "/home/a/very/long/path", "it is."]
    assert lines("  /home/a/very/long/path is it", 10) == ["  /home/a/very/long/path", "is it"]


@pytest.mark.parametrize(
    "command",
    [
        EXPORT,
        "oathbulk export 'Lot 7, east: a' -o 'Lot 7, east: a.csv'",
        "OATHBULK_HOME=/tmp/home oathbulk status july",
        "/srv/.venv/bin/oathbulk run july.csv --key-file july.key",
        "celery -A worker worker --queues oathbulk",
    ],
)
@pytest.mark.parametrize("width", [20, 60])
def test_a_command_stays_whole_and_begins_a_line_where_it_would_not_fit(command: str, width: int) -> None:
    assert lines(f"Those that are left are here: {command}", width)[-1] == command
    broken = lines(f"Those that are left are here: {command}, so that all of them are known", width)
    assert [line for line in broken if line.startswith(f"{command},")]


def test_a_command_that_fits_stays_behind_its_text() -> None:
    assert lines(f"Left: {EXPORT}", 60) == [f"Left: {EXPORT}"]


def test_a_command_between_backticks_stays_whole() -> None:
    told = "No worker runs. `oathbulk run /srv/july.csv` brings one; `celery -A worker worker` too."
    assert lines(told, 20) == [
        "No worker runs.",
        "`oathbulk run /srv/july.csv`",
        "brings one;",
        "`celery -A worker worker`",
        "too.",
    ]


def test_the_name_alone_is_no_command() -> None:
    assert lines("How oathbulk reads it is told there", 14) == ["How oathbulk", "reads it is", "told there"]


LONG = "one two three four five six seven eight nine ten"


def lay_out(label: str, text: str, width: int, **options: int) -> list[str]:
    return [line.plain for line in label_text(label, text, Room(width, 24), **options)]


def test_a_line_that_is_too_long_goes_on_below_its_text() -> None:
    assert lay_out("user", LONG, 40, indent=2) == [
        "  user      one two three four five six",
        "            seven eight nine ten",
    ]


def test_in_a_pipe_a_line_stays_whole() -> None:
    assert [line.plain for line in label_text("user", LONG, PIPE, indent=2)] == [f"  user      {LONG}"]


def test_a_label_that_is_too_wide_keeps_a_gap() -> None:
    assert lay_out("Cost centre of the unit", "4711", 80) == ["Cost centre of the unit 4711"]


def test_text_from_outside_cannot_begin_a_line_of_its_own() -> None:
    (line,) = lay_out("user", "eve\nNext  nothing: it is active\x1b[2J", 80)

    assert line == "user      eve\\nNext  nothing: it is active\\u001b[2J"


def test_columns_are_as_wide_as_their_widest_cell_and_numbers_stand_at_the_right() -> None:
    rows = [("batch", "tokens"), ("日本", ("7", "red")), ("b", "12")]
    assert [line.plain for line in align(rows, right=(1,))] == ["batch  tokens", "日本        7", "b          12"]
