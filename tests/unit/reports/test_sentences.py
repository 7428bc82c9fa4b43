"""What is said of a batch, beyond what the golden files show of it."""

import shlex
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from support.data.facts import (
    CANCELLED,
    FINISHED,
    LOADED,
    PAUSED,
    RUNNING,
    SOME_LEFT,
    batch,
    make_command,
    make_timeline,
    minutes,
)

from models.reason import PAUSE_CURES, PauseReason
from models.record_states import UNTIL_LET_GO
from models.row_fault import FAULT_CURES, RowFault
from worker.batches.commands import Replayed
from worker.leases.replay import NotReplayed, Why
from worker.observability.wording import format_duration, format_moment
from worker.pace.known_pace import Hold, KnownPace
from worker.reports import sentences
from worker.reports.facts import BatchStatus, Outage, Wave
from worker.reports.search import Sought
from worker.reports.sentences import WAITING, describe_outlook, write_mend
from worker.reports.stall import UNPREPARED_AFTER, Fleet, Rehearsal, explain_stall

AT = datetime(2026, 11, 28, 14, 2, 10, tzinfo=UTC)
LONG_AGO, LATER = datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
# 10 records a second at 1.2 requests each is what PingOne permits.
LICENSE = KnownPace("license", rate=12.0, ceiling=12.1, found_at=LOADED, share=1.0)
LIMITED = replace(RUNNING, requests=480, license_pace=LICENSE)
OUTAGE = Outage(AT, AT + timedelta(minutes=5))
OUT = replace(batch("paused", pending=9, active=1), reason="outage", detail=PAUSE_CURES[PauseReason.OUTAGE])
ENDS = (
    " The batch goes on by itself once PingOne answers. If that lasts, look at PINGONE_API_URL, the proxy and the"
    " network with `oathbulk doctor`."
)
HELD = KnownPace("license", hold=Hold(AT, AT + timedelta(seconds=20), "PingOne answered 503 and asks for 120 s", 20.4))
HOLDS = (
    "All workers hold until 14:02:30 UTC (20 s), since 14:02:10: PingOne answered 503 and asks for 120 s. "
    "To go on now: oathbulk resume pallet-7 --now"
)
# Of 1000 records, 312 are being prepared.
PREPARED = replace(RUNNING, waiting={"user": 12, "token": 300}, may_import=True)
IN_WORK = replace(batch("paused", activating=2, pending=7), reason="person", detail="Paused by alice.")
BY_PERSON = "Paused by alice; waits for `oathbulk resume pallet-7`."
INTERRUPTED = replace(batch(pending=3), fleet=Fleet(batch="rehearsal"), rehearsal=Rehearsal(Path("/homes/one")))
ANEW = "If this rehearsal was interrupted, its PingOne ended with it: `oathbulk rehearse` begins anew."
MINUTE_LEFT = "1 min 0 s left at this pace."


def limit(**fields: Any) -> BatchStatus:
    return replace(LIMITED, license_pace=replace(LICENSE, **fields))


WAVES = (Wave(AT, 2), Wave(UNTIL_LET_GO, 1))
TWO_WAIT = f"2 wait for a date: the next wave, of 2, begins on {AT:%Y-%m-%d %H:%M} UTC"
NO_WORKER = str(explain_stall(Fleet()))
ONE_KEPT_BACK = "1 is kept back until `oathbulk resume pallet-7 --where …` lets it go."


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (replace(batch(pace=1.0, pending=99, queued=1), next_due_at=LATER), "1 min 40 s left at this pace."),
        (replace(batch(pace=1.0, pending=99, activating=1), next_due_at=LATER), "1 min 40 s left at this pace."),
        (batch(pending=3), WAITING),
        (replace(batch(pending=3), next_due_at=LONG_AGO), WAITING),
        # The pace is that of the last half minute: right after Ctrl-C there is one still.
        (replace(RUNNING, fleet=Fleet()), WAITING),
        (replace(PREPARED, pace=0.0, fleet=Fleet()), WAITING),
        (CANCELLED, "Cancelled."),
        (
            batch("cancelled", pending=2, activating=1, cancelled=7),
            "Cancelled. 3 records are read once more before they end.",
        ),
        (
            replace(FINISHED, rows_refused=1),
            "Finished after 1 min 35 s: 1 token is not active; nothing happens to it until a person acts.",
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
            f"PingOne has not answered; it is tried again now.{ENDS}",
        ),
        (replace(RUNNING, license_pace=HELD), HOLDS),
        (replace(batch(pending=3), next_due_at=LATER, license_pace=HELD), HOLDS),
        # What does not run has no part in a hold.
        (
            replace(PAUSED, license_pace=HELD),
            "Paused (credentials): PingOne refused the credentials. Check them. Go on with: oathbulk resume pallet-7",
        ),
        (replace(CANCELLED, license_pace=HELD), "Cancelled."),
        # 600 are left, 10 a second; 312 are being prepared: the slower of the two decides.
        (replace(PREPARED, preparation_pace=100.0), MINUTE_LEFT),
        (replace(PREPARED, preparation_pace=1.0), "5 min 12 s left at this pace."),
        (PREPARED, "The time left is not known yet."),
        (replace(PREPARED, preparation_pace=1.0, pace=0.0), "The time left is not known yet."),
        # A record that waits for its time says nothing of a batch that is being prepared.
        (
            replace(batch(pending=3), waiting={"user": 1}, next_due_at=LATER, preparation_pace=1.0),
            "The time left is not known yet.",
        ),
        (
            replace(PREPARED, unprepared_for=UNPREPARED_AFTER),
            "Nothing has moved for 3 min 0 s. No worker looks up persons and imports tokens. "
            "Start one that takes this queue: celery -A worker worker -Q oathbulk.prepare",
        ),
        (replace(PREPARED, unprepared_for=UNPREPARED_AFTER, waiting={}), MINUTE_LEFT),
        (replace(PREPARED, unprepared_for=UNPREPARED_AFTER - 1), "The time left is not known yet."),
        (
            replace(IN_WORK, in_work_until=LATER),
            f"{BY_PERSON} 2 records are still in work; if their worker died, the wait for it ends at 00:00:00 UTC.",
        ),
        (
            replace(IN_WORK, counts=IN_WORK.counts | {"activating": 1}, in_work_until=LONG_AGO),
            f"{BY_PERSON} 1 record is still in work, though the time of its worker ran out at 00:00:00 UTC; the next "
            "worker that runs takes over.",
        ),
        (IN_WORK, BY_PERSON),
        (replace(batch(pending=3), waves=WAVES), f"{TWO_WAIT}. {ONE_KEPT_BACK}"),
        (
            replace(batch(pending=3), waves=WAVES, fleet=Fleet()),
            f"{TWO_WAIT}. {ONE_KEPT_BACK} {NO_WORKER}",
        ),
        (replace(batch(pending=1), waves=WAVES[1:], fleet=Fleet()), ONE_KEPT_BACK),
        # 100 go now at one a second; the wave begins in an hour, and ends two seconds later.
        (
            replace(batch(pace=1.0, pending=102, queued=1), waves=WAVES, read_at=AT - timedelta(hours=1)),
            f"1 min 40 s left at this pace. Then {TWO_WAIT}; all are done in about 1 h 0 min. {ONE_KEPT_BACK}",
        ),
        (replace(INTERRUPTED, still_for=90.0), f"Nothing has moved for 1 min 30 s. No worker runs. {ANEW}"),
    ],
)
def test_the_outlook_says_what_becomes_of_a_batch(status: BatchStatus, said: str) -> None:
    assert describe_outlook(status) == said


@pytest.mark.parametrize("name", ["x; touch owned", "$(touch owned)", "`touch owned`", "a'b", "two words", "--help"])
def test_a_command_that_is_suggested_can_be_pasted_whatever_the_batch_is_called(name: str) -> None:
    _, _, command = describe_outlook(replace(PAUSED, name=name)).partition("Go on with: ")
    assert shlex.split(command) == ["oathbulk", "resume", name]


def test_what_does_not_run_by_itself_after_a_run_names_the_command_that_goes_on() -> None:
    again = sentences.describe_going_on("pallet-7")
    waits = replace(batch("paused", pending=3), reason="window", detail="It waits.")
    left = f"Nothing works on it here any more; 3 records are left. {again}"
    assert sentences.describe_outlook_after_run(waits, again) == f"Paused (window): It waits. {left}"
    for ended in (CANCELLED, FINISHED, SOME_LEFT):
        assert sentences.describe_outlook_after_run(ended, again) == describe_outlook(ended)
    assert sentences.format_log_line(RUNNING) == (
        f"pallet-7: 500 pending, 60 queued, 40 activating, 400 active; 10.0 records/s; {MINUTE_LEFT}"
    )
    stopped = sentences.format_log_line(replace(batch(pending=3), waiting={"user": 3}), stopped=again)
    assert stopped == f"pallet-7: 3 pending; 0.0 records/s; 3 wait until their person is found. {left}"


def test_what_brings_a_worker_names_the_only_batch_and_of_a_rehearsal_says_that_it_is_begun_anew() -> None:
    waits = replace(batch(pending=3), fleet=Fleet(batch="box 7"))
    (one,), (several,) = sentences.explain_fleet([waits]), sentences.explain_fleet([waits, waits])
    assert "`oathbulk run 'box 7'` brings one" in one
    assert "`oathbulk run BATCH` brings one" in several
    assert sentences.explain_fleet([INTERRUPTED]) == [f"No worker runs. {ANEW}"]


JULY = replace(batch("finished", dead_letter=4), name="july")
# One of the four reasons needs fresh OTPs.
HELPED = replace(
    JULY,
    dead_letters={"locked": 2, "invalid_otp": 1, "forbidden": 1},
    replayable={"locked": 1, "forbidden": 1, "blocked": 1},
)
LEFT = "Those that are left, with their reasons: oathbulk export july --left -o july-left.csv"
MEND = "Corrected, they go again: oathbulk mend july july-left.csv"
REPLAY = "Without fresh OTPs, once their cause is gone (forbidden, locked): oathbulk replay july"


def test_a_batch_of_a_name_with_a_slash_has_no_file_in_another_folder() -> None:
    assert write_mend("2026/12", "left") == "oathbulk mend 2026/12 2026-12-left.csv"


REHEARSED = Rehearsal(Path("/my home"), "/venv/oathbulk")


@pytest.mark.parametrize(
    ("status", "lines"),
    [
        (FINISHED, []),
        (replace(HELPED, replayable={}), [LEFT, MEND]),
        (HELPED, [LEFT, MEND, REPLAY]),
        # A replay without a reason would take back what was cancelled, too.
        (
            replace(HELPED, total=5, counts=HELPED.counts | {"cancelled": 1}),
            [LEFT, MEND, f"{REPLAY} --reason forbidden --reason locked"],
        ),
        (replace(HELPED, total=5, counts=HELPED.counts | {"pending": 1}, state="running"), [LEFT, MEND]),
        (
            replace(HELPED, rehearsal=REHEARSED),
            [
                LEFT.replace("oathbulk export", "OATHBULK_HOME='/my home' /venv/oathbulk export"),
                "The PingOne of this rehearsal ended with it. To practise how tokens come back: "
                "/venv/oathbulk simulator --tokens 12 --pairs pairs.csv --troubles 1",
            ],
        ),
        (replace(FINISHED, rehearsal=REHEARSED), []),
    ],
)
def test_a_batch_names_the_commands_that_help_those_that_are_left(status: BatchStatus, lines: list[str]) -> None:
    assert sentences.describe_tokens(status) == lines


def test_every_fault_of_a_row_has_a_cure() -> None:
    assert FAULT_CURES.keys() == set(RowFault)


@pytest.mark.parametrize(
    ("fields", "waits", "made"),
    [
        ({"waiting": {"user": 0, "token": 0}}, "", ""),
        ({"waiting": {"user": 1, "token": 0}}, "1 waits until its person is found.", ""),
        (
            {"waiting": {"user": 12, "token": 7}, "may_import": False},
            "12 wait until their person is found, 7 wait until their token is found in the inventory.",
            "",
        ),
        ({"unproved": 1}, "", "1 active unproved (PingOne wanted no OTP)"),
        (
            {"imported": 74, "paired": 1, "unproved": 2},
            "",
            "74 tokens imported · 1 device paired · 2 active unproved (PingOne wanted no OTP)",
        ),
    ],
)
def test_what_a_batch_waits_for_and_what_it_has_made_is_counted(fields: dict[str, Any], waits: str, made: str) -> None:
    status = replace(RUNNING, **fields)
    assert (sentences.describe_waiting(status), sentences.describe_made(status)) == (waits, made)


def test_a_replay_says_as_a_resume_does_that_no_worker_runs_and_what_brings_one() -> None:
    nobody = Fleet(batch="box")
    resumed = sentences.describe_resumed("box", None, nobody, lifts_hold=False)
    assert resumed.startswith("box may run, but nothing works on it. No worker runs. `oathbulk run box` brings one")
    replayed = sentences.describe_replayed("box", Replayed(2), None, nobody)
    assert replayed.splitlines() == ["2 records of box go again.", resumed]
    assert sentences.describe_replayed("box", Replayed(0), None, nobody) == "0 records of box go again."


def test_what_a_replay_leaves_is_told_with_its_reason_why_it_stays_and_what_to_do() -> None:
    stay = [
        NotReplayed(20, "locked", Why.FRESH_OTPS),
        NotReplayed(3, "cancelled", Why.FRESH_OTPS),
        NotReplayed(2, "cancelled", Why.IN_PROGRESS, "september"),
        NotReplayed(60, "cancelled", Why.SEED_ERASED),
    ]
    fresh = "fresh OTPs are needed, since those that they have were refused, used or too old."
    file = "As a file, to write fresh OTPs into and mend: oathbulk export 'pallet 7'"
    assert sentences.describe_staying("pallet 7", stay).splitlines() == [
        "85 stay as they are:",
        f"  20 locked: {fresh}",
        f"  3 cancelled: {fresh}",
        "  2 cancelled: in progress in batch september.",
        "  60 cancelled: the seed was erased when the token became active. Give the vendor's file, and a list of those "
        "who get theirs anew: oathbulk mend 'pallet 7' FILE --assign LIST",
        f"{file} --reason locked -o 'pallet 7-fresh.csv'",
        f"{file} --status cancelled -o 'pallet 7-cancelled.csv'",
    ]
    assert sentences.describe_staying("july", [NotReplayed(1, "locked", Why.LOADED_AGAIN, "august")]) == (
        "1 stays as it is:\n  1 locked: loaded again since, in batch august."
    )


BEGINNING = "No record is like that. What is searched for has to be the beginning of a value."


@pytest.mark.parametrize(
    ("sought", "said"),
    [
        (Sought(user="lea", status="activating"), BEGINNING),
        (Sought(status="activating"), "No record is activating."),
        (Sought(status="dead_letter", batch="july"), "No record of july is a dead letter."),
        (Sought(status="cancelled", reason="locked"), "No record is cancelled and has the reason locked."),
        (Sought(status="refused", batch="july"), "No row of july was refused."),
        (Sought(status="refused", reason="locked"), "No record is refused and has the reason locked."),
        (Sought(reason="locked"), "No record has the reason locked."),
        (Sought(batch="july"), "There is no record of july."),
        (Sought(), "There is no record."),
    ],
)
def test_it_is_said_that_there_is_none_and_how_a_text_is_read_only_where_there_was_one(
    sought: Sought, said: str
) -> None:
    assert sentences.describe_nothing_found(sought) == said


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "0 s"),
        (59.6, "1 min 0 s"),
        (95, "1 min 35 s"),
        (3599.7, "1 h 0 min"),
        (200_000, "55 h 33 min"),
    ],
)
def test_a_duration_reads_as_a_person_says_it(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        ({"active": 3000}, "All 3,000 tokens are active."),
        ({"active": 1}, "The only token is active."),
        ({}, "The batch has no tokens."),
        ({"active": 1, "dead_letter": 1}, "1 of 2 tokens is active; the other one was given up."),
        ({"dead_letter": 1}, "0 of 1 token is active; it was given up."),
        ({"active": 5, "pending": 2}, "5 of 7 tokens are active; the other 2 are still to do."),
        (
            {"active": 2959, "dead_letter": 33, "refused": 5, "cancelled": 3},
            "2,959 of 3,000 tokens are active; 41 are not: 33 were given up, 5 were refused at loading "
            "and 3 were cancelled.",
        ),
    ],
)
def test_the_outcome_is_one_sentence(counts: dict[str, int], said: str) -> None:
    rows = {name: number for name, number in counts.items() if name != "refused"}
    assert sentences.describe_outcome(replace(batch(**rows), rows_refused=counts.get("refused", 0))) == said


def test_chart_and_commands_are_told_in_words() -> None:
    only = "The only active token became so at 2026-03-01 21:31:00 UTC."
    assert sentences.describe_timeline(make_timeline((1,))) == only
    assert sentences.describe_timeline(make_timeline((1, 1.01))).endswith("21:31:00, 600 ms after the first.")
    facts = {"reasons": ["locked", "blocked"], "canary": None, "may_import": True, "rows_refused": 0}
    said = sentences.describe_command(make_command(minutes(0), "alice", "replay", None, facts))
    assert said == "reasons: locked, blocked; may import: yes; rows refused: 0"
    assert format_moment(minutes(0).astimezone(timezone(timedelta(hours=9)))) == "2026-03-01 21:30:00"
