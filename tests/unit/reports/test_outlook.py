"""What will become of a batch, beyond what the golden files show of it."""

import shlex
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from support.data.facts import (
    CANCELLED,
    FINISHED,
    FLEET,
    LOADED,
    PAUSED,
    RUNNING,
    SOME_LEFT,
    batch,
)

from models.reason import PAUSE_CURES, PauseReason
from models.record_states import UNTIL_LET_GO
from worker.fleet import KnownProcess
from worker.pace.known_pace import Hold, KnownPace
from worker.reports.facts import BatchStatus, Outage, Wave
from worker.reports.outlook import (
    WAITING,
    describe_dates,
    describe_going_on,
    describe_outlook,
    describe_outlook_after_run,
    describe_pace,
    explain_fleet,
    format_log_line,
    put_resumes_first,
)
from worker.reports.stall import UNPREPARED_AFTER, Fleet, Rehearsal, explain_stall
from worker.rules.resync import NeedsFlag, ResyncKnowledge

AT = datetime(2026, 11, 28, 14, 2, 10, tzinfo=UTC)
LONG_AGO, LATER = datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
# 10 records a second at 1.2 requests each is what PingOne permits.
LICENSE = KnownPace("license", rate=12.0, ceiling=12.1, found_at=LOADED, share=1.0)
LIMITED = replace(RUNNING, requests=480, license_pace=LICENSE)
OUTAGE = Outage(AT, AT + timedelta(minutes=5))
OUT = replace(batch("paused", pending=9, active=1), reason="outage", detail=PAUSE_CURES[PauseReason.OUTAGE])
ENDS = (
    " The batch continues by itself once PingOne answers. If that lasts, check PINGONE_API_URL, the proxy, and the "
    "network with `oathbulk doctor`."
)
HELD = KnownPace("license", hold=Hold(AT, AT + timedelta(seconds=20), "PingOne answered 503 and asks for 120 s", 20.4))
HOLDS = (
    "All workers hold until 14:02:30 UTC (20 s), since 14:02:10: PingOne answered 503 and asks for 120 s. "
    "To continue now: oathbulk resume pallet-7 --now"
)
# Of 1000 records, 312 are being prepared.
PREPARED = replace(RUNNING, waiting={"user": 12, "token": 300}, may_import=True)
IN_WORK = replace(batch("paused", activating=2, pending=7), reason="person", detail="Paused by alice.")
BY_PERSON = "Paused by alice; waits for `oathbulk resume pallet-7`."
INTERRUPTED = replace(batch(pending=3), fleet=Fleet(batch="rehearsal"), rehearsal=Rehearsal(Path("/homes/one")))
ANEW = "If this rehearsal was interrupted, its PingOne ended with it: `oathbulk rehearse` starts over."
MINUTE_LEFT = "Done in about 1 min 0 s at this pace."


LEARNING = replace(batch(pace=10.0, pending=595, activating=3, queued=2), resync=ResyncKnowledge(taken=4))
DATABASE_IS_FAR = "What holds it back: the database is far away (200 ms)"


def make_known(database_trip: float | None, redis_trip: float | None) -> KnownProcess:
    """A process that works, and needs so many seconds for a trip to each server."""
    return replace(FLEET.processes[0], database_trip=database_trip, redis_trip=redis_trip)


FAR_AWAY = Fleet([make_known(0.2, 0.01)])


def limit(**fields: Any) -> BatchStatus:
    return replace(LIMITED, license_pace=replace(LICENSE, **fields))


def test_what_a_file_keeps_back_may_begin_when_a_person_says_so() -> None:
    said = describe_dates({None: 1, AT: 2, UNTIL_LET_GO: 3}, UTC, AT - timedelta(days=1))
    assert said.startswith(
        f"Tokens may start: 1 at once, 2 from {AT:%Y-%m-%d %H:%M} UTC on, 3 when someone starts them"
    )


WAVES = (Wave(AT, 2), Wave(UNTIL_LET_GO, 1))
TWO_WAIT = f"2 wait for a date: the next wave, of 2, begins on {AT:%Y-%m-%d %H:%M} UTC"
NO_WORKER = str(explain_stall(Fleet()))
ONE_KEPT_BACK = "1 is kept back until `oathbulk resume pallet-7 --where …` starts it."


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (replace(batch(pace=1.0, pending=99, queued=1), next_due_at=LATER), "Done in about 1 min 40 s at this pace."),
        (
            replace(batch(pace=1.0, pending=99, activating=1), next_due_at=LATER),
            "Done in about 1 min 40 s at this pace.",
        ),
        (batch(pending=3), WAITING),
        (replace(batch(pending=3), next_due_at=LONG_AGO), WAITING),
        # The pace is that of the last half minute: right after Ctrl-C there is one still.
        (replace(RUNNING, fleet=Fleet()), WAITING),
        (replace(PREPARED, pace=0.0, fleet=Fleet()), WAITING),
        (CANCELLED, "Cancelled."),
        (
            batch("cancelled", pending=2, activating=1, cancelled=7),
            "Cancelled. 3 rows are read once more before they end.",
        ),
        (
            replace(FINISHED, rows_refused=1),
            "Finished at 2024-11-24 12:01:35 UTC: 1 failed. Nothing happens to it until someone acts.",
        ),
        (
            LIMITED,
            f"{MINUTE_LEFT} PingOne permits 12 requests/s. If this address is not listed under Rate Limits and Allowed"
            " IPs, listing it would bring that down to about 21 s.",
        ),
        (
            limit(share=0.5, ceiling=24.2),
            f"{MINUTE_LEFT} That is 50 % of the 24 requests/s that PingOne permits.",
        ),
        (limit(fixed_rate=12.0, set_by="eve"), f"{MINUTE_LEFT} It stays at 12 requests/s, as eve set it."),
        # Others than PingOne decide how long it takes.
        (limit(rate=40.0), MINUTE_LEFT),
        (limit(ceiling=None), MINUTE_LEFT),
        (limit(rate=None), MINUTE_LEFT),
        # What is far away, or not yet known, holds it back; not where PingOne's limit decides.
        (replace(RUNNING, fleet=FAR_AWAY), f"{MINUTE_LEFT} {DATABASE_IS_FAR}."),
        (
            replace(RUNNING, fleet=Fleet([make_known(0.2, 0.3), make_known(None, 0.09)])),
            f"{MINUTE_LEFT} {DATABASE_IS_FAR}.",
        ),
        (
            replace(LEARNING, fleet=Fleet([make_known(0.04, 0.3)])),
            f"{MINUTE_LEFT} What holds it back: it is not known yet whether OTP 1 needs oathResync, so only a few "
            "tokens are tried at a time; Redis is far away (300 ms).",
        ),
        (replace(LEARNING, resync=ResyncKnowledge(NeedsFlag.NO)), MINUTE_LEFT),
        (replace(LEARNING, counts=LEARNING.counts | {"queued": 60, "pending": 537}), MINUTE_LEFT),
        (replace(batch(pending=3), fleet=FAR_AWAY), f"The search for the best pace continues. {DATABASE_IS_FAR}."),
        (
            replace(batch(pending=3), fleet=FAR_AWAY, still_for=90.0),
            f"Nothing has moved for 1 min 30 s. {DATABASE_IS_FAR}. {explain_stall(FAR_AWAY)}",
        ),
        (
            replace(OUT, outage=replace(OUTAGE, is_overdue=True)),
            f"Paused (outage): PingOne has not answered since 14:02:10; the next try was due at 14:07:10 UTC.{ENDS}",
        ),
        (
            replace(OUT, outage=replace(OUTAGE, since=None)),
            f"Paused (outage): PingOne has not answered; the next try is at 14:07:10 UTC.{ENDS}",
        ),
        (
            replace(OUT, outage=replace(OUTAGE, since=AT - timedelta(days=1))),
            "Paused (outage): PingOne has not answered since 2026-11-27 14:02:10; the next try is at 14:07:10 UTC."
            f"{ENDS}",
        ),
        (
            replace(OUT, outage=OUTAGE, detail="20 OTPs were spent."),
            "Paused (outage): PingOne has not answered since 14:02:10; the next try is at 14:07:10 UTC. 20 OTPs were"
            " spent.",
        ),
        # A few records try whether it is over.
        (
            replace(batch(pace=5.0, queued=2, pending=9), outage=Outage(None, None)),
            f"PingOne has not answered; oathbulk is trying again now.{ENDS}",
        ),
        (replace(RUNNING, license_pace=HELD), HOLDS),
        (replace(batch(pending=3), next_due_at=LATER, license_pace=HELD), HOLDS),
        # What does not run has no part in a hold.
        (
            replace(PAUSED, license_pace=HELD),
            "Paused (credentials): PingOne refused the credentials. Check them. Continue with: oathbulk resume "
            "pallet-7",
        ),
        (replace(CANCELLED, license_pace=HELD), "Cancelled."),
        # 600 are left, 10 a second; 312 are being prepared: the slower of the two decides.
        (replace(PREPARED, preparation_pace=100.0), MINUTE_LEFT),
        (replace(PREPARED, preparation_pace=1.0), "Done in about 5 min 12 s at this pace."),
        (PREPARED, "The search for the best pace continues."),
        (replace(PREPARED, preparation_pace=1.0, pace=0.0), "The search for the best pace continues."),
        # A record that waits for its time says nothing of a batch that is being prepared.
        (
            replace(batch(pending=3), waiting={"user": 1}, next_due_at=LATER, preparation_pace=1.0),
            "The search for the best pace continues.",
        ),
        (
            replace(PREPARED, unprepared_for=UNPREPARED_AFTER),
            "Nothing has moved for 3 min 0 s. No worker is looking people up or importing tokens. "
            "Start one for this queue: celery -A worker worker -Q oathbulk.prepare",
        ),
        (replace(PREPARED, unprepared_for=UNPREPARED_AFTER, waiting={}), MINUTE_LEFT),
        (replace(PREPARED, unprepared_for=UNPREPARED_AFTER - 1), "The search for the best pace continues."),
        (
            replace(IN_WORK, in_work_until=LATER),
            f"{BY_PERSON} 2 records are still being worked on; if their worker died, the wait for it ends at 00:00:00 "
            f"UTC.",
        ),
        (
            replace(IN_WORK, counts=IN_WORK.counts | {"activating": 1}, in_work_until=LONG_AGO),
            f"{BY_PERSON} 1 record is still being worked on, though its worker's time ran out at 00:00:00 UTC; "
            f"the next worker takes over.",
        ),
        (IN_WORK, BY_PERSON),
        (replace(IN_WORK, on_the_table=3), f"{BY_PERSON} 3 are waiting to be given out."),
        (
            replace(PAUSED, on_the_table=1),
            "Paused (credentials): PingOne refused the credentials. Check them. 1 is waiting to be given out. Continue "
            "with: oathbulk resume pallet-7",
        ),
        (
            replace(IN_WORK, reason="window", detail="It waits.", on_the_table=3),
            "Paused (window): It waits. 3 are waiting to be given out.",
        ),
        (replace(batch(pending=3), waves=WAVES), f"{TWO_WAIT}. {ONE_KEPT_BACK}"),
        (
            replace(batch(pending=3), waves=WAVES, fleet=Fleet()),
            f"{TWO_WAIT}. {ONE_KEPT_BACK} {NO_WORKER}",
        ),
        (replace(batch(pending=1), waves=WAVES[1:], fleet=Fleet()), ONE_KEPT_BACK),
        # 100 go now at one a second; the wave begins in an hour, and ends two seconds later.
        (
            replace(batch(pace=1.0, pending=102, queued=1), waves=WAVES, read_at=AT - timedelta(hours=1)),
            f"Done in about 1 min 40 s at this pace. Then {TWO_WAIT}; all are done in about 1 h 0 min. {ONE_KEPT_BACK}",
        ),
        (replace(INTERRUPTED, still_for=90.0), f"Nothing has moved for 1 min 30 s. No worker is running. {ANEW}"),
        # What comes later is told without a worker, too.
        (
            replace(batch(pending=100), waves=WAVES, on_the_table=3, fleet=Fleet()),
            f"{WAITING} {TWO_WAIT}. {ONE_KEPT_BACK} 3 are waiting to be given out.",
        ),
        (
            replace(batch(pending=100), on_the_table=3, still_for=90.0, fleet=Fleet()),
            f"Nothing has moved for 1 min 30 s. 3 are waiting to be given out. {explain_stall(Fleet())}",
        ),
        # A cure that ends with a command is the end.
        (
            replace(batch(pending=3), waves=WAVES[1:], still_for=90.0, fleet=Fleet()),
            f"Nothing has moved for 1 min 30 s. {ONE_KEPT_BACK} {explain_stall(Fleet())}",
        ),
    ],
)
def test_the_outlook_says_what_becomes_of_a_batch(status: BatchStatus, said: str) -> None:
    assert describe_outlook(status) == said


@pytest.mark.parametrize("name", ["x; touch owned", "$(touch owned)", "`touch owned`", "a'b", "two words", "--help"])
def test_a_command_that_is_suggested_can_be_pasted_whatever_the_batch_is_called(name: str) -> None:
    _, _, command = describe_outlook(replace(PAUSED, name=name)).partition("Continue with: ")
    assert shlex.split(command) == ["oathbulk", "resume", name]


def test_what_does_not_run_by_itself_after_a_run_names_the_command_that_goes_on() -> None:
    again = describe_going_on("pallet-7")
    waits = replace(batch("paused", pending=3), reason="window", detail="It waits.")
    left = f"No worker here is working on it anymore; 3 rows are to do. {again}"
    assert describe_outlook_after_run(waits, again) == f"Paused (window): It waits. {left}"
    kept_back = replace(batch(pending=1), waves=WAVES[1:])
    resumed = "Continue with: oathbulk resume pallet-7 --where …, then oathbulk run pallet-7"
    assert describe_outlook_after_run(kept_back, again).endswith(f"1 row is to do. {resumed}")
    ends = ([kept_back, FINISHED], [kept_back, waits], [replace(PAUSED, name="box"), kept_back])
    assert [put_resumes_first(statuses, again) for statuses in ends] == [
        *(resumed, again),
        resumed.replace(": ", ": oathbulk resume box, then "),
    ]
    for ended in (CANCELLED, FINISHED, SOME_LEFT):
        assert describe_outlook_after_run(ended, again) == describe_outlook(ended)
    steps = "500 pending, 60 queued, 40 activating"
    assert format_log_line(RUNNING) == f"pallet-7: 400 active, 600 to do; {steps}; 10.0 records/s; {MINUTE_LEFT}"
    stopped = format_log_line(replace(batch(pending=3), waiting={"user": 3}), stopped=again)
    waiting = "3 wait until their person is found."
    assert stopped == f"pallet-7: 0 active, 3 to do; 3 pending; 0.0 records/s; {waiting} {left}"


def test_what_brings_a_worker_names_the_only_batch_and_of_a_rehearsal_says_that_it_is_begun_anew() -> None:
    waits = replace(batch(pending=3), fleet=Fleet(batch="box 7"))
    (one,), (several,) = explain_fleet([waits]), explain_fleet([waits, waits])
    assert "`oathbulk run 'box 7'` starts one" in one
    assert "`oathbulk run BATCH` starts one" in several
    assert len(explain_fleet([replace(batch(pending=100), waves=WAVES, fleet=Fleet())])) == 1
    assert explain_fleet([INTERRUPTED]) == [f"No worker is running. {ANEW}"]


DATES = [datetime(2026, month, 1, tzinfo=UTC) for month in (1, 2, 9)]
NOW = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("dates", "said"),
    [
        ({}, ""),
        ({None: 1}, "The one token may start at once."),
        ({None: 589}, "All 589 tokens may start at once."),
        ({DATES[0]: 3}, "Tokens may start: 3 whose date, 2026-01-01 00:00 UTC, is past: at once. "),
        (
            {None: 1, DATES[0]: 3, DATES[1]: 4, DATES[2]: 5},
            "Tokens may start: 1 at once, 7 whose date, 2026-02-01 00:00 UTC or before, is past: at once, 5 from"
            " 2026-09-01 00:00 UTC on. ",
        ),
    ],
)
def test_when_everything_may_begin_is_always_said(dates: dict[datetime | None, int], said: str) -> None:
    assert describe_dates(dates, None, NOW).partition("Dates without")[0] == said


def test_a_pace_that_is_not_stored_is_not_told_as_no_request() -> None:
    # A short run ends before its pace is stored.
    assert describe_pace(KnownPace("license"))[0] == "License license: its pace is not known yet."


def test_what_nobody_is_named_for_starts_when_it_is_given_out() -> None:
    given = "at once (those without a person: once they are given out)"
    assert describe_dates({None: 12}, None, gives_out=True) == f"All 12 tokens may start {given}."
    assert describe_dates({None: 2, DATES[2]: 1}, UTC, NOW, gives_out=True).startswith(f"Tokens may start: 2 {given}, ")
