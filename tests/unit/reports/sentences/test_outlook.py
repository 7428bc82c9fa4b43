"""What is said will become of a batch, and how it stands in a line of a log."""

from __future__ import annotations

import shlex
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from unit.cli.test_batch_display import CANCELLED, CLOSES, FINISHED, LOADED, PAUSED, RUNNING, SOME_LEFT, batch

from models.reason import PAUSE_CURES, PauseReason
from worker.pace.known_pace import Hold, KnownPace
from worker.reports.facts import BatchStatus, Outage
from worker.reports.sentences.outlook import (
    WAITING,
    describe_going_on,
    describe_hold,
    describe_outlook,
    describe_outlook_after_run,
    explain_fleet,
    format_log_line,
)
from worker.reports.stall import Fleet, Rehearsal


def due_in(seconds: float, **counts: int) -> BatchStatus:
    return replace(batch(pace=1.0, **counts), next_due_at=datetime.now(UTC) + timedelta(seconds=seconds))


def test_a_running_batch_in_which_nothing_is_in_work_says_when_the_next_record_is_due():
    # A second may pass between the two looks at the clock.
    assert describe_outlook(due_in(600, pending=3, active=5)).replace("9 min 59 s", "10 min 0 s") == (
        "3 wait for their time; the next is due in 10 min 0 s."
    )
    assert describe_outlook(due_in(600, pending=1)).startswith("1 waits for its time;")


@pytest.mark.parametrize("counts", [{"queued": 1}, {"activating": 1}])
def test_a_running_batch_in_which_something_is_in_work_says_how_long_it_takes(counts):
    assert describe_outlook(due_in(600, pending=99, **counts)) == "1 min 40 s left at this pace."


@pytest.mark.parametrize("next_due_at", [None, LOADED, datetime(2000, 1, 1, tzinfo=UTC)])
def test_a_running_batch_that_nobody_works_on_says_so(next_due_at):
    assert describe_outlook(replace(batch(pending=3), next_due_at=next_due_at)) == WAITING


@pytest.mark.parametrize("name", ["x; touch owned", "$(touch owned)", "`touch owned`", "a'b", "two words", "--help"])
def test_a_command_that_is_suggested_can_be_pasted_whatever_the_batch_is_called(name):
    _, _, command = describe_outlook(replace(PAUSED, name=name)).partition("Go on with: ")
    assert shlex.split(command) == ["oathbulk", "resume", name]


def test_a_cancelled_batch_says_what_is_still_read():
    assert describe_outlook(CANCELLED) == "Cancelled."
    assert "3 records are read once more" in describe_outlook(batch("cancelled", pending=2, activating=1, cancelled=7))


def test_a_log_gets_the_same_in_one_line():
    line = format_log_line(RUNNING)
    assert line == (
        "pallet-7: 500 pending, 60 queued, 40 activating, 400 active; 10.0 records/s; 1 min 0 s left at this pace."
    )


LIMITED = replace(
    RUNNING, requests=480, license_pace=KnownPace("license", rate=12.0, ceiling=12.1, found_at=LOADED, share=1.0)
)


def test_an_eta_says_what_would_make_it_shorter():
    """10 records/s at 1.2 requests each is what PingOne permits."""
    assert describe_outlook(LIMITED) == (
        "1 min 0 s left at this pace. PingOne permits 12 requests/s. If this address is not listed under Rate Limits "
        "and Allowed IPs, listing it would bring that down to about 21 s."
    )
    assert LIMITED.to_json()["eta_if_listed_seconds"] == 21


def test_an_eta_says_what_a_share_or_a_persons_rate_makes_of_it():
    assert LIMITED.license_pace is not None
    shared = replace(LIMITED.license_pace, share=0.5, ceiling=24.2)
    assert "That is 50 % of the 24 requests/s that PingOne permits." in describe_outlook(
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


AGAIN = describe_going_on("pallet-7")


def test_what_would_go_on_by_itself_does_not_where_nothing_runs():
    waits = replace(batch("paused", pending=3), reason="window", detail="It waits.")

    assert (
        describe_outlook_after_run(waits, AGAIN)
        == f"{describe_outlook(waits)} Nothing works on it here any more; 3 records are left. {AGAIN}"
    )


@pytest.mark.parametrize("ended", [CANCELLED, FINISHED, SOME_LEFT], ids=lambda status: status.state)
def test_what_needs_no_run_looks_the_same_after_an_interruption(ended: BatchStatus):
    assert describe_outlook_after_run(ended, AGAIN) == describe_outlook(ended)


HOLD = Hold(
    since=datetime(2026, 11, 24, 10, 30, 47, tzinfo=UTC),
    until=datetime(2026, 11, 24, 10, 31, 7, tzinfo=UTC),
    why="PingOne answered 503 and asks for 120 s",
    left=20.4,
)
HELD = KnownPace("license", hold=HOLD)
ALL_HOLD = (
    "All workers hold until 10:31:07 UTC (20 s), since 10:30:47: PingOne answered 503 and asks for 120 s. "
    "To go on now: oathbulk "
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
        "since": "2026-11-24T10:30:47+00:00",
        "until": "2026-11-24T10:31:07+00:00",
        "why": "PingOne answered 503 and asks for 120 s",
    }


def test_a_batch_that_does_not_run_has_no_part_in_a_hold():
    for status in (PAUSED, CANCELLED, FINISHED):
        assert describe_outlook(replace(status, license_pace=HELD)) == describe_outlook(status)


def test_where_buttons_are_the_way_on_is_said_in_words():
    held = replace(RUNNING, license_pace=HELD)
    by_person = replace(PAUSED, reason="person", detail="eve paused it.")
    assert describe_outlook(held, has_buttons=True).endswith("To go on now: resume it, and end the hold too.")
    assert describe_outlook(PAUSED, has_buttons=True).endswith("Check them. It waits for a person.")
    assert describe_outlook(by_person, has_buttons=True) == "eve paused it; waits for a person to resume it."


def test_a_license_says_that_its_workers_hold_for_whatever_batch():
    assert describe_hold(HOLD) == f"{ALL_HOLD}resume BATCH --now"


def test_where_no_worker_is_left_no_time_left_is_claimed():
    """The pace is that of the last half minute: right after Ctrl-C there is one still."""
    left_alone = replace(RUNNING, fleet=Fleet())
    assert left_alone.eta_seconds
    assert describe_outlook(left_alone) == WAITING


def test_the_line_of_a_log_claims_no_time_left_after_an_interruption_either():
    line = format_log_line(replace(RUNNING, pace=0.0), stopped=AGAIN)
    assert line.endswith(f"; 0.0 records/s; Nothing works on it here any more; 600 records are left. {AGAIN}")


AT = datetime(2026, 11, 28, 14, 2, 10, tzinfo=UTC)
OUTAGE = Outage(AT, AT + timedelta(minutes=5))
OUT = replace(batch("paused", pending=9, active=1), reason="outage", detail=PAUSE_CURES[PauseReason.OUTAGE])


@pytest.mark.parametrize(
    ("outage", "said"),
    [
        (OUTAGE, "PingOne has not answered since 14:02:10; the next try is at 14:07:10 UTC."),
        (
            replace(OUTAGE, is_overdue=True),
            "PingOne has not answered since 14:02:10; the next try was due at 14:07:10 UTC.",
        ),
        (replace(OUTAGE, since=None), "PingOne has not answered; the next try is at 14:07:10 UTC."),
        (
            replace(OUTAGE, since=AT - timedelta(days=1)),
            "PingOne has not answered since 2026-11-27 14:02:10; the next try is at 14:07:10 UTC.",
        ),
    ],
)
def test_an_outage_says_since_when_and_when_the_next_try_is(outage: Outage, said: str):
    assert describe_outlook(replace(OUT, outage=outage)) == (
        f"Paused (outage): {said} The batch goes on by itself once PingOne answers. If that lasts, look at"
        " PINGONE_API_URL, the proxy and the network with `oathbulk doctor`."
    )


def test_what_the_pause_for_an_outage_says_of_its_cost_is_not_lost():
    costly = replace(OUT, outage=OUTAGE, detail="20 OTPs were spent.")
    assert describe_outlook(costly).endswith("the next try is at 14:07:10 UTC. 20 OTPs were spent.")


def test_while_a_few_records_try_whether_an_outage_is_over_it_is_still_told():
    trying = replace(batch(pace=5.0, queued=2, pending=9), outage=Outage(datetime.now(UTC), None))
    assert "it is tried again now" in format_log_line(trying)
    assert trying.to_json()["outage"]["next_try_at"] is None


def test_what_brings_a_worker_names_the_file_of_one_batch_and_none_where_there_are_several():
    waits = replace(batch(pending=3), fleet=Fleet(batch="box 7"))

    (one,) = explain_fleet([waits])
    (several,) = explain_fleet([waits, waits])

    assert "`oathbulk run 'box 7'` brings one" in one
    assert "`oathbulk run BATCH` brings one" in several


def test_a_rehearsal_that_nothing_works_on_is_begun_anew_since_its_pingone_has_ended():
    interrupted = replace(batch(pending=3), fleet=Fleet(batch="rehearsal"), rehearsal=Rehearsal(Path("/homes/one")))
    anew = "If this rehearsal was interrupted, its PingOne ended with it: `oathbulk rehearse` begins anew."

    assert explain_fleet([interrupted]) == [f"No worker runs. {anew}"]
    assert describe_outlook(replace(interrupted, still_for=90.0)).endswith(anew)


def test_a_paused_batch_says_until_when_it_waits_for_records_of_a_worker_that_may_have_died():
    in_work = replace(batch("paused", activating=2, pending=7), reason="person", detail="Paused by alice.")
    ahead = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=45)

    assert describe_outlook(replace(in_work, in_work_until=ahead)) == (
        "Paused by alice; waits for `oathbulk resume pallet-7`. 2 records are still in work; if their worker died, the "
        f"wait for it ends at {ahead:%H:%M:%S} UTC."
    )
    one = replace(in_work, counts=in_work.counts | {"activating": 1}, in_work_until=LOADED)
    assert (
        "1 record is still in work, though the time of its worker ran out at 12:00:00 UTC; the next worker that runs "
        "takes over."
    ) in describe_outlook(one)
    assert "in work" not in describe_outlook(in_work)
