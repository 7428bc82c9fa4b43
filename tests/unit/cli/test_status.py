"""How one batch or all are displayed, with the reasons of dead letters, and what is said will become of them."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console, RenderableType
from support.data.facts import CANCELLED, FINISHED, LOADED, PAUSED, RUNNING, SOME_LEFT, batch

from models.reason import CURES, SEED_CURES, Reason
from models.record_states import Status
from worker.cli.console import PIPE, Room
from worker.cli.status import draw_batch, draw_batches, draw_dead_letters
from worker.reports.facts import BatchStatus
from worker.reports.sentences import LONGEST, SHORT_CURES, SHORT_SEED_CURES, describe_outlook


def seen(picture: RenderableType, width: int = 400) -> str:
    """Render the drawing as text, as a terminal without colours shows it."""
    page = io.StringIO()
    Console(file=page, width=width, highlight=False).print(picture)
    return page.getvalue()


def test_a_running_batch_shows_how_far_it_is_and_when_it_will_be_finished():
    page = seen(draw_batch(RUNNING))
    assert "pallet-7" in page
    assert "running" in page
    assert "400 of 1000 active" in page
    lines = page.splitlines()
    assert lines[1].split() == ["total", "pending", "queued", "activating", "active"]
    assert lines[2].split() == ["1000", "500", "60", "40", "400"]
    assert lines[3] == "1 min 0 s left at this pace."


def test_the_pace_of_a_finished_batch_is_that_of_the_whole():
    assert "0.1 records/s" in seen(draw_batch(FINISHED))


def test_the_costs_of_a_batch_are_shown():
    page = seen(
        draw_batch(replace(RUNNING, otp_posts=431, resynced=31, requests=500, rate_limited=7, attempts=433, pace=9.96))
    )
    assert (
        "10.0 records/s · 431 OTPs posted · 31 resynced by a second OTP · 500 requests, 7 of them answered 429" in page
    )
    assert "· 433 attempts" in page
    one = seen(draw_batch(replace(RUNNING, otp_posts=1, requests=1, attempts=1)))
    assert "1 OTP posted · 0 resynced by a second OTP · 1 request, 0 of them answered 429 · 1 attempt" in " ".join(
        one.split()
    )
    assert "1 attempts" not in one


def test_what_is_given_up_cancelled_or_refused_does_not_count_as_active():
    (head, *_) = seen(draw_batch(given_up_in_part(pending=9))).splitlines()
    assert head == "pallet-7  running  5 of 20 active"


def test_the_bar_has_parts_for_what_is_active_given_up_and_still_to_do():
    (head, *_) = draw_on(given_up_in_part(pending=9), NARROW)
    assert re.split(" +", head)[2:] == ["━" * 10 + "╍" * 12 + "─" * 18, "5", "of", "20", "active"]


@pytest.mark.parametrize(
    ("counts", "bar"),
    [
        ({"active": 588, "dead_letter": 12}, "━" * 39 + "╍"),
        ({"active": 999, "pending": 1}, "━" * 39 + "─"),
        ({"active": 998, "dead_letter": 1, "pending": 1}, "━" * 39 + "╍"),
        ({"dead_letter": 2}, "╍" * 40),
        ({"active": 2}, "━" * 40),
        ({}, "─" * 40),
    ],
)
def test_a_few_that_are_given_up_are_seen_in_the_bar_and_it_is_full_of_active_ones_at_the_end_only(counts, bar):
    (head, *_) = draw_on(batch(**counts), NARROW)
    assert bar in head.split()


def test_the_bar_of_a_terminal_that_has_only_ascii_is_drawn_of_that():
    page = io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="backslashreplace")
    drawn = draw_batch(batch(active=5, dead_letter=2, pending=3), Room(80, 23, is_ascii=True))
    Console(file=page, width=80).print(drawn)
    page.seek(0)
    assert "=" * 20 + "x" * 8 + "-" * 12 in page.read()


def given_up_in_part(**counts):
    """A batch of which five tokens are active, and six were given up in one of three ways."""
    return replace(batch(active=5, dead_letter=2, cancelled=1, **counts), rows_refused=3)


def test_a_paused_batch_says_why_and_how_to_go_on():
    page = seen(draw_batch(PAUSED))
    assert "paused" in page
    assert "(credentials): PingOne refused the credentials. Check them." in page
    assert "oathbulk resume pallet-7" in page


def test_a_finished_batch_says_how_long_it_took():
    page = seen(draw_batch(FINISHED))
    assert "10 of 10 active" in page
    assert "Finished after 1 min 35 s: every token is active." in page


def test_a_batch_that_finished_with_dead_letters_says_that_nothing_more_happens():
    page = seen(draw_batch(SOME_LEFT))
    assert "Finished after 2 h 5 min: 3 tokens are not active; nothing happens to them until a person acts." in page


def test_an_empty_batch_can_be_drawn():
    page = seen(draw_batch(batch("finished")))
    assert "0 of 0 active" in page
    assert "Finished after no time: every token is active." in page


@pytest.mark.parametrize("name", ["[bold]", "[/]", "pallet [7]", ":smile:"])
def test_a_name_is_shown_as_it_is(name):
    named = replace(PAUSED, name=name, detail=f"{name} is no environment.")
    for page in (seen(draw_batch(named)), seen(draw_batches([named]))):
        assert page.count(name) == 3


def test_the_eta_is_what_is_left_at_the_present_pace():
    assert RUNNING.eta_seconds == 60.0
    assert batch(pending=3).eta_seconds is None
    assert FINISHED.eta_seconds == 0.0


def test_the_same_goes_out_as_json_with_every_promised_key():
    facts = replace(SOME_LEFT, rows_refused=2).to_json()
    promised = (
        "batch environment state reason total rows_refused counts resynced attempts otp_posts requests rate_limited"
        " dead_letters created_at finished_at"
    )
    assert set(promised.split()) <= set(facts)
    assert set(facts["counts"]) == {str(status) for status in Status}
    assert sum(facts["counts"].values()) == facts["total"]
    assert facts["finished_at"] == "2024-11-24T14:05:00+00:00"


# When the run that worked on it has ended.


def test_after_an_interruption_no_time_is_left_and_the_command_is_named():
    again = "Go on with: oathbulk run pallet-7"
    page = seen(draw_batch(RUNNING, stopped=again))

    assert f"Nothing works on it here any more; 600 records are left. {again}" in page
    assert "left at this pace" not in page


def test_a_pause_that_ended_the_run_names_both_commands_that_go_on():
    page = seen(draw_batch(PAUSED, stopped="Go on with: oathbulk run pallet-7"))

    both = "This run has ended. Go on with: oathbulk resume pallet-7, then oathbulk run pallet-7"
    assert f"Check them. {both}" in page
    assert page.count("Go on with") == 1


# How high it is.


NARROW = Room(width=80, height=23)
FULL = replace(
    batch(pace=9.8, pending=48000, queued=100, activating=40, active=1204, dead_letter=656),
    dead_letters={str(reason): 100 - number for number, reason in enumerate(Reason)},
    imported=400,
    paired=390,
)
LONG = replace(FULL, state="paused", reason="person", detail="A person paused it. " * 20)


def draw_on(status: BatchStatus, room: Room, **options: Any) -> list[str]:
    return [line.rstrip() for line in seen(draw_batch(status, room, **options), room.width).splitlines()]


@pytest.mark.parametrize("status", [FULL, LONG, replace(FULL, state="finished", finished_at=LOADED)])
@pytest.mark.parametrize("room", [NARROW, Room(60, 23), Room(120, 39)])
def test_a_drawing_is_never_higher_or_wider_than_the_terminal(status: BatchStatus, room: Room):
    lines = draw_on(status, room)
    assert len(lines) <= room.height
    assert max(map(len, lines)) <= room.width


def test_the_outlook_stands_above_the_reasons_and_the_last_line_tells_how_many_are_hidden():
    lines = draw_on(FULL, NARROW)
    assert lines.index("1 h 21 min left at this pace.") < lines.index(
        "count  reason                  what to do (dead letters are given up until then)"
    )
    shown = sum("  " in line and line.split()[1] in set(Reason) for line in lines)
    assert lines[-1] == f"and {len(Reason) - shown} more reasons: oathbulk status pallet-7 --cures"
    assert len(lines) == NARROW.height


def test_what_is_said_of_the_fleet_stands_above_the_reasons_too():
    lines = draw_on(FULL, NARROW, notes=["No worker runs."])
    assert lines.index("No worker runs.") < lines.index(
        "count  reason                  what to do (dead letters are given up until then)"
    )
    assert len(lines) == NARROW.height


def test_a_batch_of_a_long_name_keeps_its_count_in_the_same_line():
    (head, *_) = draw_on(replace(RUNNING, name="a name that is " + "very " * 20 + "long"), NARROW)
    assert head.endswith("400 of 1000 active")


def test_a_control_character_makes_no_line_longer_than_the_terminal():
    lines = draw_on(replace(PAUSED, detail="\x1b" * 70), NARROW)
    assert max(map(len, lines)) <= 80


# All batches, by their tokens.


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


def test_a_control_character_in_a_name_makes_no_line_of_the_table_longer() -> None:
    lines = seen(draw_batches([replace(PAUSED, name="\x1b" * 70, detail="\x1b" * 70)], NARROW), 80).splitlines()
    assert max(map(len, lines)) <= 80


# The reasons of dead letters.


LETTERS = {str(reason): 10 + number for number, reason in enumerate(Reason)}
GIVEN_UP = replace(batch(pending=1, dead_letter=3), dead_letters={"locked": 1, "invalid_otp": 12345}, name="pallet 7")
MANY = replace(GIVEN_UP, dead_letters=LETTERS)


def draw_letters(status, room=NARROW, left=20, with_cures=False):
    return [line.plain for line in draw_dead_letters(status, room, left, with_cures=with_cures)]


def test_a_batch_without_dead_letters_shows_nothing_of_them():
    assert draw_letters(batch(active=1)) == []


def test_each_reason_has_a_line_with_a_short_cure_the_most_frequent_first():
    assert draw_letters(GIVEN_UP) == [
        "count  reason       what to do (dead letters are given up until then)",
        f"12345  invalid_otp  {SHORT_CURES[Reason.INVALID_OTP]}",
        f"    1  locked       {SHORT_CURES[Reason.LOCKED]}",
        "What to do, in full: oathbulk status 'pallet 7' --cures",
    ]


def test_every_reason_has_a_short_cure_that_80_columns_have_room_for():
    assert set(SHORT_CURES) == set(Reason)
    assert set(SHORT_SEED_CURES) == set(Reason)
    assert max(map(len, [*SHORT_CURES.values(), *SHORT_SEED_CURES.values()])) <= LONGEST
    assert not any(
        "…" in line for line in draw_letters(replace(MANY, dead_letters=LETTERS | {"locked": 99999}), left=1000)
    )


def test_a_batch_of_seeds_has_the_cures_of_seeds():
    seeds = replace(GIVEN_UP, has_seeds=True)

    assert f"12345  invalid_otp  {SHORT_SEED_CURES[Reason.INVALID_OTP]}" in draw_letters(seeds)
    assert SEED_CURES[Reason.INVALID_OTP] in " ".join(" ".join(draw_letters(seeds, with_cures=True)).split())


@pytest.mark.parametrize(("left", "hidden"), [(20, 5), (len(Reason) + 1, 1), (3, 22), (2, 23), (1, 23)])
def test_where_there_is_no_room_the_last_line_tells_how_many_are_hidden(left, hidden):
    lines = draw_letters(MANY, left=left)
    assert len(lines) <= left
    more = "1 more reason" if hidden == 1 else f"{hidden} more reasons"
    assert lines[-1] == f"and {more}: oathbulk status 'pallet 7' --cures"


def test_a_narrow_terminal_cuts_the_cure_and_nothing_else():
    lines = draw_letters(GIVEN_UP, Room(40, 23))
    assert max(map(len, lines)) <= 40
    assert lines[1].startswith("12345  invalid_otp  check token")
    assert lines[1].endswith("…")


def test_of_a_finished_batch_the_cures_are_written_out_if_there_is_room():
    text = " ".join(" ".join(draw_letters(SOME_LEFT)).split())
    assert CURES[Reason.INVALID_OTP] in text
    assert text.index("invalid_otp") < text.index("locked")
    assert CURES[Reason.INVALID_OTP] not in " ".join(" ".join(draw_letters(SOME_LEFT, left=5)).split())


def test_with_cures_all_of_them_are_written_out_whatever_the_room():
    lines = draw_letters(MANY, left=3, with_cures=True)
    text = " ".join(" ".join(lines).split())
    assert all(cure in text for cure in CURES.values())
    assert max(map(len, lines)) <= 80


def test_elsewhere_than_on_a_terminal_each_reason_is_one_line_with_all_of_its_cure():
    lines = draw_letters(replace(MANY, state="finished"), PIPE, PIPE.height)
    assert len(lines) == 1 + len(Reason)
    assert all(any(f"{reason} " in line and CURES[reason] in line for line in lines) for reason in Reason)
