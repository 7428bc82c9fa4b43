"""How records that were found look: a table where it fits, else lines with labels."""

from __future__ import annotations

import io

from rich.console import Console
from support.data.facts import DEVICE, NOW, USER, make_row, refused_line

from worker.cli.console import PIPE, Room
from worker.cli.show import draw_findings
from worker.reports.search import Findings, Sought

FIELDS = {
    **{"record": 1, "serial_number": "MADE0000001", "batch": "july", "row": 2, "environment": "default"},
    **{"user_id": USER, "username": None, "email": None, "external_id": None, "device_id": DEVICE, "lot": None},
    **{"status": "pending", "reason": None, "scheduled_at": NOW, "finalized_at": None},
}
WAITING = make_row(FIELDS)
GIVEN_UP = make_row(
    FIELDS
    | {"serial_number": "MADE2", "row": 345, "username": "alice", "status": "dead_letter", "reason": "locked"}
    | {"finalized_at": NOW}
)
IN_WORK = make_row(FIELDS | {"status": "activating"})


def seen(findings: Findings, width: int = 400, *, is_piped: bool = False) -> list[str]:
    page = io.StringIO()
    Console(file=page, width=width, highlight=False, markup=False).print(
        draw_findings(findings, Sought(text="MADE"), PIPE if is_piped else Room(width, 24)), soft_wrap=is_piped
    )
    return page.getvalue().splitlines()


TABLE = [
    "token        batch  row  user                                  status       reason  when (UTC)",
    f"MADE0000001  july     2  {USER}  pending              due 2026-11-28 12:30:00",
    "MADE2        july   345  alice                                 dead_letter  locked  2026-11-28 12:30:00",
]


def test_records_stand_in_a_table_with_the_name_that_a_person_knows():
    assert seen(Findings([WAITING, GIVEN_UP], 0), 120) == TABLE


def test_in_a_pipe_it_is_a_table_whatever_the_width():
    assert seen(Findings([WAITING, GIVEN_UP], 0), 40, is_piped=True) == TABLE


def test_on_a_narrow_terminal_each_record_has_two_lines_and_no_id_is_cut():
    assert seen(Findings([WAITING, GIVEN_UP], 0), 80) == [
        "MADE0000001  pending, due 2026-11-28 12:30:00 UTC",
        f"             user {USER}, batch july, row 2",
        "MADE2        dead_letter, locked, 2026-11-28 12:30:00 UTC",
        "             user alice, batch july, row 345",
    ]


def test_what_is_in_work_has_no_time():
    assert seen(Findings([IN_WORK], 0))[1].endswith("activating")


def test_the_number_of_others_is_told():
    assert "and 1,234 more" in seen(Findings([WAITING], 1234))[-1]
    assert "more" not in "".join(seen(Findings([WAITING], 0)))


def test_it_is_told_where_names_were_not_searched():
    told = "Only serial numbers were searched, since these begin so."
    assert seen(Findings([WAITING], 3, is_by_serial_number=True))[-1] == told
    assert told not in seen(Findings([WAITING], 3))


def test_nothing_found_is_said():
    assert seen(Findings([], 0))[0].startswith("No record is like that.")


def test_a_name_cannot_begin_a_line_of_its_own():
    assert len(seen(Findings([make_row(FIELDS | {"username": "eve\nMADE3  july"})], 0))) == 2


def test_refused_rows_are_told_below_the_records_and_where_there_is_none():
    said = "Row 17 of july was refused: otp1 is missing: write it there"
    assert seen(Findings([WAITING], 0, refused=[refused_line()]))[-1].split(maxsplit=1) == ["MADE7", said]
    assert seen(Findings([], 0, refused=[refused_line(serial_number=None)])) == [f"no serial {said}"]
