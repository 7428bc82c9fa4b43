"""How all batches are displayed: by their tokens."""

from __future__ import annotations

from dataclasses import replace

from support.data.statuses import CANCELLED, PAUSED, RUNNING, SOME_LEFT
from unit.cli.test_status import NARROW, seen

from worker.cli.status import draw_batches
from worker.reports.sentences import describe_outlook

MENDED = replace(
    SOME_LEFT,
    name="mended",
    rows_refused=3,
    refused={"otps_unfit": 3},
)


def test_without_a_batch_a_person_is_told_how_to_begin() -> None:
    assert "oathbulk run FILE" in seen(draw_batches([]))
    assert "oathbulk rehearse" in seen(draw_batches([]))


def test_where_no_terminal_is_every_batch_stands_on_a_line_with_its_outlook() -> None:
    others = [replace(PAUSED, name="b"), replace(CANCELLED, name="c"), replace(SOME_LEFT, name="d"), MENDED]
    head, *lines = seen(draw_batches([RUNNING, *others])).splitlines()
    assert head.split() == ["batch", "state", "tokens", "active", "dead", "letters", "left", "outlook"]
    rows = [line.split(maxsplit=6) for line in lines]
    assert [row[:6] for row in rows] == [
        ["pallet-7", "running", "1000", "400", "0", "600"],
        ["b", "paused", "10", "1", "0", "9"],
        ["c", "cancelled", "10", "4", "0", "6"],
        ["d", "finished", "10", "7", "3", "3"],
        ["mended", "finished", "13", "7", "3", "6"],
    ]
    to_do = ["600 still to do. ", "9 still to do. ", "", "", ""]
    outlooks = [describe_outlook(status) for status in [RUNNING, *others]]
    assert [row[6].strip() for row in rows] == [begin + end for begin, end in zip(to_do, outlooks, strict=True)]


def test_on_a_terminal_the_outlook_stands_below_its_batch_and_no_line_is_wider() -> None:
    long_name = replace(PAUSED, name="a name that is " + "very " * 7 + "long")
    head, *lines = [line.rstrip() for line in seen(draw_batches([long_name, MENDED], NARROW), 80).splitlines()]
    assert "outlook" not in head
    assert max(map(len, (head, *lines))) <= 80
    cells = next(number for number, line in enumerate(lines) if line.startswith("mended"))
    assert lines[cells].split() == ["mended", "finished", "13", "7", "3", "6"]
    assert " ".join(line.strip() for line in lines[cells + 1 :]) == describe_outlook(MENDED)
    assert all(line.startswith("    ") for number, line in enumerate(lines) if number not in (0, cells))


def test_a_control_character_makes_no_line_longer_than_the_terminal() -> None:
    lines = seen(draw_batches([replace(PAUSED, name="\x1b" * 70, detail="\x1b" * 70)], NARROW), 80).splitlines()
    assert max(map(len, lines)) <= 80
