"""The table of the audit, in a pipe and on a terminal."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

from worker.cli.audit import _draw_table
from worker.cli.console import PIPE, Room

AT = datetime(2026, 7, 1, 8, 0, tzinfo=UTC)
FACTS = {"file": "boxes/july.csv", "records": 3000, "rows_refused": 0, "environment": "default"}


def line(number: int, **fields: Any) -> Any:
    usual = {"id": number, "at": AT, "actor": "ann@desk", "action": "load", "batch": "july", "ticket": "CHG-1"}
    return SimpleNamespace(**usual | {"facts": FACTS} | fields)


def test_where_there_is_room_a_line_of_the_audit_is_one_line() -> None:
    for room in (PIPE, Room(200, 24)):
        head, first = (each.plain for each in _draw_table([line(1)], room))
        assert head.split() == ["line", "when", "(UTC)", "who", "what", "batch", "ticket", "facts"]
        assert first.endswith("CHG-1   file=boxes/july.csv, records=3000, rows_refused=0, environment=default")


def test_on_a_narrow_terminal_the_facts_stand_below_their_line_and_nothing_is_cut() -> None:
    drawn = [each.plain for each in _draw_table([line(1), line(2, action="pause", facts={})], Room(60, 24))]
    assert drawn[2].split() == ["1", "2026-07-01", "08:00:00", "ann@desk", "load", "july", "CHG-1"]
    assert drawn[3:5] == ["      file=boxes/july.csv, records=3000, rows_refused=0,", "      environment=default"]
    assert (drawn[5].split()[0], len(drawn)) == ("2", 6)
    assert max(map(len, drawn)) <= 60
