"""How a batch is displayed, and what is said will become of it."""

from __future__ import annotations

import io
import shlex
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from rich.console import Console, RenderableType

from models.reason import CURES, Reason
from models.record_states import Status
from worker.cli.batch_display import (
    WAITING,
    describe_hold,
    describe_outlook,
    describe_outlook_after_run,
    draw_batch,
    draw_batches,
    format_duration,
    format_log_line,
)
from worker.pace.memory import Hold, KnownPace
from worker.reports.batch_status import BatchStatus

LOADED = datetime(2024, 11, 24, 12, 0, tzinfo=UTC)
NOTHING = {str(status): 0 for status in Status}


def batch(state: str = "running", pace: float = 0.0, **counts: int) -> BatchStatus:
    return BatchStatus(
        name="pallet-7",
        environment="default",
        state=state,
        reason=None,
        detail=None,
        total=sum(counts.values()),
        rows_refused=0,
        counts=NOTHING | counts,
        dead_letters={},
        resynced=0,
        attempts=0,
        otp_posts=0,
        requests=0,
        rate_limited=0,
        created_at=LOADED,
        finished_at=None,
        pace=pace,
        next_due_at=None,
    )


RUNNING = batch(pace=10.0, pending=500, queued=60, activating=40, active=400)
CLOSES = datetime(2026, 11, 26, 4, 30, tzinfo=UTC)
PAUSED = replace(
    batch("paused", pending=9, active=1), reason="credentials", detail="PingOne refused the credentials. Check them."
)
CANCELLED = batch("cancelled", cancelled=6, active=4)
FINISHED = replace(batch("finished", active=10), finished_at=LOADED + timedelta(minutes=1, seconds=35))
SOME_LEFT = replace(
    batch("finished", active=7, dead_letter=3),
    finished_at=LOADED + timedelta(hours=2, minutes=5),
    dead_letters={"locked": 1, "invalid_otp": 2},
)


def seen(picture: RenderableType, width: int = 400) -> str:
    """Render the drawing as text, as a terminal without colours shows it."""
    page = io.StringIO()
    Console(file=page, width=width, highlight=False).print(picture)
    return page.getvalue()


def test_a_running_batch_shows_how_far_it_is_and_when_it_will_be_finished():
    page = seen(draw_batch(RUNNING))
    assert "pallet-7" in page
    assert "running" in page
    assert "400 of 1000" in page
    for count in ("500 pending", "60 queued", "40 activating", "400 active", "0 dead_letter", "0 cancelled"):
        assert count in page
    assert "1 min 0 s left at this pace." in page


def test_a_batch_of_rows_that_came_back_names_the_one_they_come_from():
    assert "Its rows come back from batch pallet-6." in seen(draw_batch(replace(RUNNING, parent="pallet-6")))
    assert "come back" not in seen(draw_batch(RUNNING))


def test_the_pace_of_a_finished_batch_is_that_of_the_whole():
    assert "0.1 records/s" in seen(draw_batch(FINISHED))


def test_the_costs_of_a_batch_are_shown():
    page = seen(
        draw_batch(replace(RUNNING, otp_posts=431, resynced=31, requests=500, rate_limited=7, attempts=433, pace=9.96))
    )
    assert (
        "10.0 records/s · 431 OTPs posted · 31 resynced · 500 requests, 7 of them answered 429 · 433 attempts" in page
    )


def test_what_is_given_up_or_cancelled_counts_as_settled():
    assert "8 of 20" in seen(draw_batch(batch(pending=12, active=5, dead_letter=2, cancelled=1)))


def due_in(seconds: float, **counts: int) -> BatchStatus:
    return replace(batch(pace=1.0, **counts), next_due_at=datetime.now(UTC) + timedelta(seconds=seconds))


def test_a_running_batch_in_which_nothing_is_in_work_says_when_the_next_record_is_due():
    # A second may pass between the two looks at the clock.
    assert describe_outlook(due_in(600, pending=3, active=5)).replace("9 min 59 s", "10 min 0 s") == (
        "3 wait for their time; the next is due in 10 min 0 s."
    )


@pytest.mark.parametrize("counts", [{"queued": 1}, {"activating": 1}])
def test_a_running_batch_in_which_something_is_in_work_says_how_long_it_takes(counts):
    assert describe_outlook(due_in(600, pending=99, **counts)) == "1 min 40 s left at this pace."


@pytest.mark.parametrize("next_due_at", [None, LOADED, datetime(2000, 1, 1, tzinfo=UTC)])
def test_a_running_batch_that_nobody_works_on_says_so(next_due_at):
    assert describe_outlook(replace(batch(pending=3), next_due_at=next_due_at)) == WAITING


def test_a_paused_batch_says_why_and_how_to_go_on():
    page = seen(draw_batch(PAUSED))
    assert "paused" in page
    assert "(credentials): PingOne refused the credentials. Check them." in page
    assert "oathbulk resume pallet-7" in page


@pytest.mark.parametrize("name", ["x; touch owned", "$(touch owned)", "`touch owned`", "a'b", "two words", "--help"])
def test_a_command_that_is_suggested_can_be_pasted_whatever_the_batch_is_called(name):
    _, _, command = describe_outlook(replace(PAUSED, name=name)).partition("Go on with: ")
    assert shlex.split(command) == ["oathbulk", "resume", name]


def test_a_cancelled_batch_says_what_is_still_read():
    assert describe_outlook(CANCELLED) == "Cancelled."
    assert "3 records are read once more" in describe_outlook(batch("cancelled", pending=2, activating=1, cancelled=7))


def test_a_finished_batch_says_how_long_it_took():
    page = seen(draw_batch(FINISHED))
    assert "10 of 10" in page
    assert "Finished after 1 min 35 s: every token is active." in page


def test_a_batch_that_finished_with_dead_letters_says_that_nothing_more_happens():
    page = seen(draw_batch(SOME_LEFT))
    assert "Finished after 2 h 5 min: 3 are not active; nothing happens to them until a person acts." in page


def test_dead_letters_stand_with_their_cures_the_most_frequent_first():
    lines = seen(draw_batch(SOME_LEFT)).splitlines()
    (first,) = [number for number, line in enumerate(lines) if "invalid_otp" in line]
    (second,) = [number for number, line in enumerate(lines) if "locked" in line and "invalid_otp" not in line]
    assert first < second
    assert CURES[Reason.INVALID_OTP] in lines[first]
    assert CURES[Reason.LOCKED] in lines[second]


def test_every_reason_of_a_dead_letter_can_be_drawn():
    page = seen(draw_batch(replace(SOME_LEFT, dead_letters={str(reason): 1 for reason in Reason})))
    assert all(str(reason) in page for reason in Reason)


def test_an_empty_batch_can_be_drawn():
    page = seen(draw_batch(batch("finished")))
    assert "0 of 0" in page
    assert "Finished after no time: every token is active." in page


def test_without_a_batch_a_person_is_told_how_to_begin():
    assert "oathbulk run FILE" in seen(draw_batches([]))
    assert "oathbulk rehearse" in seen(draw_batches([]))


def test_every_batch_stands_on_a_line_with_its_outlook():
    others = [replace(PAUSED, name="b"), replace(CANCELLED, name="c"), replace(SOME_LEFT, name="d")]
    head, *lines = seen(draw_batches([RUNNING, *others])).splitlines()
    assert head.split() == ["batch", "state", "total", "active", "dead", "letters", "left", "outlook"]
    rows = [line.split(maxsplit=6) for line in lines]
    assert [row[:6] for row in rows] == [
        ["pallet-7", "running", "1000", "400", "0", "600"],
        ["b", "paused", "10", "1", "0", "9"],
        ["c", "cancelled", "10", "4", "0", "0"],
        ["d", "finished", "10", "7", "3", "0"],
    ]
    assert [row[6].strip() for row in rows] == [describe_outlook(status) for status in [RUNNING, *others]]


@pytest.mark.parametrize("name", ["[bold]", "[/]", "pallet [7]", ":smile:"])
def test_a_name_is_shown_as_it_is(name):
    named = replace(PAUSED, name=name, detail=f"{name} is no environment.")
    for page in (seen(draw_batch(named)), seen(draw_batches([named]))):
        assert page.count(name) == 3


def test_a_log_gets_the_same_in_one_line():
    line = format_log_line(RUNNING)
    assert line == (
        "pallet-7: 500 pending, 60 queued, 40 activating, 400 active; 10.0 records/s; 1 min 0 s left at this pace."
    )


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.4, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 0 s"),
        (95, "1 min 35 s"),
        (3599.7, "1 h 0 min"),
        (7500, "2 h 5 min"),
        (200_000, "55 h 33 min"),
    ],
)
def test_a_duration_reads_as_a_person_says_it(seconds, text):
    assert format_duration(seconds) == text


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


LIMITED = replace(
    RUNNING, requests=480, license_pace=KnownPace("license", rate=12.0, ceiling=12.1, found_at=LOADED, share=1.0)
)


def test_an_eta_says_what_would_make_it_shorter():
    """10 records/s at 1.2 requests each is what PingOne permits."""
    assert describe_outlook(LIMITED) == (
        "1 min 0 s left at this pace. PingOne permits 12 requests/s. If this address were listed under Rate Limits and "
        "Allowed IPs, and is not yet: about 21 s."
    )
    assert LIMITED.to_json()["eta_if_listed_seconds"] == 21


def test_an_eta_says_what_a_share_or_a_persons_rate_makes_of_it():
    assert LIMITED.license_pace is not None
    shared = replace(LIMITED.license_pace, share=0.5, ceiling=24.2)
    assert "That is 50% of the 24 requests/s that PingOne permits." in describe_outlook(
        replace(LIMITED, license_pace=shared)
    )
    fixed = replace(LIMITED.license_pace, fixed_rate=12.0, set_by="eve")
    assert "It stays at 12 requests/s, as eve set it." in describe_outlook(replace(LIMITED, license_pace=fixed))


@pytest.mark.parametrize("known", [{"rate": 40.0}, {"ceiling": None}, {"rate": None}])
def test_an_eta_that_others_than_pingone_decide_promises_nothing(known):
    assert LIMITED.license_pace is not None
    assert describe_outlook(replace(LIMITED, license_pace=replace(LIMITED.license_pace, **known))) == describe_outlook(
        RUNNING
    )


@pytest.mark.parametrize("reason", ["outage", "window", "quota"])
def test_what_passes_by_itself_asks_nobody_for_anything(reason):
    waits = replace(PAUSED, reason=reason, detail="It waits; goes on by itself at 2026-11-25 21:00 UTC.")

    assert describe_outlook(waits) == f"Paused ({reason}): It waits; goes on by itself at 2026-11-25 21:00 UTC."


def test_the_end_of_a_window_is_told_beside_what_is_left():
    nightly = replace(RUNNING, hours="22:00-05:30", zone="Europe/Berlin", closes_at=CLOSES)

    assert describe_outlook(nightly) == (
        "1 min 0 s left at this pace. Its window 22:00-05:30 Europe/Berlin closes at 2026-11-26 04:30 UTC."
    )
    assert describe_outlook(RUNNING) == "1 min 0 s left at this pace."


# When the run that worked on it has ended.


AGAIN = "Go on with: oathbulk run pallet-7.csv"


def test_after_an_interruption_no_time_is_left_and_the_command_is_named():
    page = seen(draw_batch(RUNNING, stopped=AGAIN))

    assert f"Nothing works on it here any more; 600 records are left. {AGAIN}" in page
    assert "left at this pace" not in page


def test_what_would_go_on_by_itself_does_not_where_nothing_runs():
    waits = replace(batch("paused", pending=3), reason="window", detail="It waits.")

    assert (
        describe_outlook_after_run(waits, AGAIN)
        == f"{describe_outlook(waits)} Nothing works on it here any more; 3 records are left. {AGAIN}"
    )


@pytest.mark.parametrize("ended", [PAUSED, CANCELLED, FINISHED, SOME_LEFT], ids=lambda status: status.state)
def test_what_needs_no_run_looks_the_same_after_an_interruption(ended: BatchStatus):
    assert describe_outlook_after_run(ended, AGAIN) == describe_outlook(ended)


HOLD = Hold(
    since=LOADED,
    until=datetime(2026, 11, 24, 10, 31, 7, tzinfo=UTC),
    why="PingOne answered 503 and asks for 120 s",
    left=20.4,
)
HELD = KnownPace("license", hold=HOLD)
ALL_HOLD = (
    "All workers hold until 10:31:07 UTC (20 s): PingOne answered 503 and asks for 120 s. To go on now: oathbulk "
)


@pytest.mark.parametrize(
    "status",
    [batch(pending=3), RUNNING, due_in(600, pending=3, active=5)],
    ids=["nobody works on it", "it has a pace", "its records wait for their time"],
)
def test_a_batch_whose_workers_hold_says_until_when_and_why_and_how_to_go_on(status):
    held = replace(status, name="pallet 7", license_pace=HELD)
    assert describe_outlook(held) == f"{ALL_HOLD}resume 'pallet 7' --now"
    assert held.to_json()["hold"] == {
        "since": "2024-11-24T12:00:00+00:00",
        "until": "2026-11-24T10:31:07+00:00",
        "why": "PingOne answered 503 and asks for 120 s",
    }


def test_a_batch_that_does_not_run_has_no_part_in_a_hold():
    for status in (PAUSED, CANCELLED, FINISHED):
        assert describe_outlook(replace(status, license_pace=HELD)) == describe_outlook(status)


def test_a_license_says_that_its_workers_hold_for_whatever_batch():
    assert describe_hold(HOLD) == f"{ALL_HOLD}resume BATCH --now"
