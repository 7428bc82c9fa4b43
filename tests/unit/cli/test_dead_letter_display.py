"""How the reasons of dead letters are displayed."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.data.statuses import SOME_LEFT, batch

from models.reason import CURES, SEED_CURES, Reason
from worker.cli.layout import PIPE, Room
from worker.cli.status import draw_dead_letters
from worker.reports.sentences import LONGEST, SHORT_CURES, SHORT_SEED_CURES

TERMINAL = Room(80, 23)
LETTERS = {str(reason): 10 + number for number, reason in enumerate(Reason)}
RUNNING = replace(batch(pending=1, dead_letter=3), dead_letters={"locked": 1, "invalid_otp": 12345}, name="pallet 7")
MANY = replace(RUNNING, dead_letters=LETTERS)


def draw(status, room=TERMINAL, left=20, with_cures=False):
    return [line.plain for line in draw_dead_letters(status, room, left, with_cures=with_cures)]


def test_a_batch_without_dead_letters_shows_nothing_of_them():
    assert draw(batch(active=1)) == []


def test_each_reason_has_a_line_with_a_short_cure_the_most_frequent_first():
    assert draw(RUNNING) == [
        "count  reason       what to do (dead letters are given up until then)",
        f"12345  invalid_otp  {SHORT_CURES[Reason.INVALID_OTP]}",
        f"    1  locked       {SHORT_CURES[Reason.LOCKED]}",
        "What to do, in full: oathbulk status 'pallet 7' --cures",
    ]


def test_every_reason_has_a_short_cure_that_80_columns_have_room_for():
    assert set(SHORT_CURES) == set(Reason)
    assert set(SHORT_SEED_CURES) == set(Reason)
    assert max(map(len, [*SHORT_CURES.values(), *SHORT_SEED_CURES.values()])) <= LONGEST
    assert not any("…" in line for line in draw(replace(MANY, dead_letters=LETTERS | {"locked": 99999}), left=1000))


def test_a_batch_of_seeds_has_the_cures_of_seeds():
    seeds = replace(RUNNING, has_seeds=True)

    assert f"12345  invalid_otp  {SHORT_SEED_CURES[Reason.INVALID_OTP]}" in draw(seeds)
    assert SEED_CURES[Reason.INVALID_OTP] in " ".join(" ".join(draw(seeds, with_cures=True)).split())


@pytest.mark.parametrize(("left", "hidden"), [(20, 5), (len(Reason) + 1, 1), (3, 22), (2, 23), (1, 23)])
def test_where_there_is_no_room_the_last_line_tells_how_many_are_hidden(left, hidden):
    lines = draw(MANY, left=left)
    assert len(lines) <= left
    more = "1 more reason" if hidden == 1 else f"{hidden} more reasons"
    assert lines[-1] == f"and {more}: oathbulk status 'pallet 7' --cures"


def test_a_narrow_terminal_cuts_the_cure_and_nothing_else():
    lines = draw(RUNNING, Room(40, 23))
    assert max(map(len, lines)) <= 40
    assert lines[1].startswith("12345  invalid_otp  check token")
    assert lines[1].endswith("…")


def test_of_a_finished_batch_the_cures_are_written_out_if_there_is_room():
    text = " ".join(" ".join(draw(SOME_LEFT)).split())
    assert CURES[Reason.INVALID_OTP] in text
    assert text.index("invalid_otp") < text.index("locked")
    assert CURES[Reason.INVALID_OTP] not in " ".join(" ".join(draw(SOME_LEFT, left=5)).split())


def test_with_cures_all_of_them_are_written_out_whatever_the_room():
    lines = draw(MANY, left=3, with_cures=True)
    text = " ".join(" ".join(lines).split())
    assert all(cure in text for cure in CURES.values())
    assert max(map(len, lines)) <= 80


def test_elsewhere_than_on_a_terminal_each_reason_is_one_line_with_all_of_its_cure():
    lines = draw(replace(MANY, state="finished"), PIPE, PIPE.height)
    assert len(lines) == 1 + len(Reason)
    assert all(any(f"{reason} " in line and CURES[reason] in line for line in lines) for reason in Reason)
