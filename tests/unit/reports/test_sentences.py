"""What is said of a batch."""

from __future__ import annotations

import shlex
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from support.data.facts import (
    CANCELLED,
    CLOSES,
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
from unit.cli.test_status import seen

from models.reason import PAUSE_CURES, PauseReason
from models.record_states import Status
from models.row_fault import FAULT_CURES, RowFault
from worker.batches.commands import Replayed
from worker.cli.console import Room
from worker.cli.exit_codes import ALL_ACTIVE, WAITING_FOR_A_PERSON
from worker.cli.exit_codes import SOME_LEFT as CODE_SOME_LEFT
from worker.cli.run import choose_exit_code
from worker.cli.status import draw_batch, draw_batches
from worker.fleet import KnownProcess
from worker.leases.commands import NotReplayed, Why
from worker.observability.wording import format_duration, format_moment
from worker.pace.known_pace import Hold, KnownPace
from worker.reports.facts import BatchStatus, Outage
from worker.reports.search import Sought
from worker.reports.sentences import (
    WAITING,
    count_active,
    describe_cancelled,
    describe_command,
    describe_going_on,
    describe_hold,
    describe_made,
    describe_nothing_found,
    describe_outcome,
    describe_outlook,
    describe_outlook_after_run,
    describe_pace,
    describe_paused,
    describe_replayed,
    describe_resumed,
    describe_staying,
    describe_timeline,
    describe_tokens,
    describe_waiting,
    explain_fleet,
    format_log_line,
)
from worker.reports.stall import UNPREPARED_AFTER, Fleet, Rehearsal


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


SEEN_AT = datetime(2026, 11, 27, 12, 0, tzinfo=UTC)
FLEET = Fleet([KnownProcess("host:1", True, SEEN_AT, 1.0, None, None, None)])
WAITS = "12 wait until their person is found, 300 wait until their token is imported."
# Of 1000 records, 312 are being prepared.
PREPARED = replace(
    batch(pace=10.0, pending=500, queued=60, activating=40, active=400),
    waiting={"user": 12, "token": 300},
    may_import=True,
    fleet=FLEET,
)


def test_it_is_said_how_many_wait_for_what_wherever_a_batch_is_shown():
    assert WAITS in seen(draw_batch(PREPARED))
    assert WAITS in seen(draw_batches([PREPARED]))
    assert WAITS in format_log_line(PREPARED)
    assert WAITS in seen(draw_batch(replace(PREPARED, state="paused", reason="person", detail="A person paused it.")))


def test_what_nobody_waits_for_is_not_mentioned():
    assert describe_waiting(replace(PREPARED, waiting={"user": 0, "token": 0})) == ""
    assert describe_waiting(replace(PREPARED, waiting={"user": 1, "token": 0})) == (
        "1 waits until its person is found."
    )


def test_a_batch_that_may_not_import_waits_until_its_tokens_are_found():
    waits = describe_waiting(replace(PREPARED, waiting={"user": 0, "token": 7}, may_import=False))
    assert waits == "7 wait until their token is found in the inventory."


def test_what_was_made_and_what_is_unproved_is_counted():
    assert describe_made(PREPARED) == ""
    made = describe_made(replace(PREPARED, imported=74, paired=75, unproved=2))
    assert made == "74 tokens imported · 75 devices paired · 2 active unproved (PingOne wanted no OTP)"
    assert made in seen(draw_batch(replace(PREPARED, imported=74, paired=75, unproved=2)))
    assert describe_made(replace(PREPARED, unproved=1)) == "1 active unproved (PingOne wanted no OTP)"


def test_the_time_left_is_that_of_the_slower_of_activation_and_preparation():
    # 600 are left, 10 a second; 312 are being prepared.
    assert describe_outlook(replace(PREPARED, preparation_pace=100.0)) == "1 min 0 s left at this pace."
    assert describe_outlook(replace(PREPARED, preparation_pace=1.0)) == "5 min 12 s left at this pace."


def test_the_time_left_is_not_known_while_one_of_the_two_has_shown_no_pace():
    assert describe_outlook(PREPARED) == "The time left is not known yet."
    assert describe_outlook(replace(PREPARED, preparation_pace=1.0, pace=0.0)) == "The time left is not known yet."
    assert replace(PREPARED, preparation_pace=1.0, pace=0.0).to_json()["eta_seconds"] is None


def test_a_record_that_waits_for_its_time_says_nothing_of_a_batch_that_is_being_prepared():
    alone = replace(
        PREPARED,
        counts=PREPARED.counts | {Status.QUEUED: 0, Status.ACTIVATING: 0},
        next_due_at=datetime.now(UTC) + timedelta(hours=1),
        preparation_pace=1.0,
    )
    assert "wait for their time" not in describe_outlook(alone)
    assert "wait for their time" in describe_outlook(replace(alone, waiting={}))


def test_without_a_worker_nothing_is_prepared_either():
    assert describe_outlook(replace(PREPARED, pace=0.0, fleet=Fleet())) == WAITING


def test_a_batch_that_nobody_prepares_is_stalled_and_the_queue_is_named():
    late = replace(PREPARED, unprepared_for=UNPREPARED_AFTER)
    assert describe_outlook(late) == (
        "Nothing has moved for 3 min 0 s. No worker looks up persons and imports tokens. "
        "Start one that takes this queue: celery -A worker worker -Q oathbulk.prepare"
    )
    assert late.stall
    assert late.to_json()["stall"]["cause"] == "preparation"
    assert replace(late, waiting={}).stall is None
    assert replace(late, unprepared_for=UNPREPARED_AFTER - 1).stall is None


def test_all_of_it_fits_a_terminal_of_80_columns():
    large = replace(
        batch(pace=55.5, pending=48000, queued=600, activating=200, active=1000, dead_letter=200),
        waiting={"user": 30000, "token": 17000},
        may_import=True,
        imported=4000,
        paired=3000,
        unproved=100,
        fleet=FLEET,
    )
    lines = seen(draw_batch(large, Room(80, 23)), 80).splitlines()
    assert max(map(len, lines)) <= 80
    assert len(lines) <= 23
    # Each count stands below its name.
    for name in ("pending", "queued", "activating", "active", "dead_letter"):
        end = lines[1].index(f" {name}") + 1 + len(name)
        assert lines[2][:end].endswith(f" {large.counts[name]}")


JULY = replace(
    batch("finished", active=2959), name="july", rows_refused=41, refused={"otps_unfit": 40, "serial_unfit": 1}
)
LEFT = "Those that are left, with their reasons: oathbulk export july --left -o july-left.csv"
MEND = "Corrected, they go again: oathbulk mend july july-left.csv"


@pytest.mark.parametrize(
    ("active", "rows", "said"),
    [
        (2959, 3000, "2,959 of 3,000 tokens are active"),
        (0, 3, "0 of 3 tokens are active"),
        (1, 3, "1 of 3 tokens is active"),
        (0, 1, "0 of 1 token is active"),
        (1, 1, "1 of 1 token is active"),
    ],
)
def test_how_many_tokens_are_active_is_said_with_the_verb_that_agrees(active: int, rows: int, said: str):
    assert count_active(active, rows) == said


def test_rows_that_are_refused_are_told_by_reason():
    assert describe_tokens(JULY) == ["41 rows were refused at loading: 40 otps_unfit, 1 serial_unfit.", LEFT, MEND]


def test_of_a_batch_of_before_nothing_is_claimed_of_its_refused_rows():
    (line,) = describe_tokens(replace(JULY, rows_refused=3, refused=None))
    assert line.startswith("Loaded before refused rows were kept: 3 rows were refused;")
    (line,) = describe_tokens(replace(JULY, rows_refused=1, refused=None))
    assert "1 row was refused" in line


def test_where_no_row_is_refused_nothing_is_said():
    assert describe_tokens(FINISHED) == []


def test_every_fault_has_a_cure_which_the_status_writes_out():
    assert FAULT_CURES.keys() == set(RowFault)
    status = replace(JULY, refused=dict.fromkeys(RowFault, 1), rows_refused=len(RowFault))
    shown = seen(draw_batch(status, with_cures=True))
    assert all(f"{word}: {cure}" in shown for word, cure in FAULT_CURES.items())


def test_a_batch_with_refused_rows_does_not_say_that_every_token_is_active():
    assert describe_outlook(JULY).endswith("41 tokens are not active; nothing happens to them until a person acts.")


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (FINISHED, ALL_ACTIVE),
        (SOME_LEFT, CODE_SOME_LEFT),
        (JULY, CODE_SOME_LEFT),
        (replace(JULY, rows_refused=3, refused=None), CODE_SOME_LEFT),
        (batch("paused", pending=1, active=9), WAITING_FOR_A_PERSON),
    ],
)
def test_the_exit_code_is_that_of_the_shipment(status: BatchStatus, code: int):
    assert choose_exit_code(status) == code


def test_of_a_rehearsal_no_replay_is_named_and_the_export_names_its_home():
    rehearsal = Rehearsal(Path("/my home"), "/venv/oathbulk")
    dead = {"dead_letters": {"locked": 3}, "replayable": {"locked": 3}}
    status = replace(batch("finished", dead_letter=3), name="july", **dead, rehearsal=rehearsal)
    left, ended = describe_tokens(status)
    assert left == LEFT.replace("oathbulk export", "OATHBULK_HOME='/my home' /venv/oathbulk export")
    assert ended.startswith("The PingOne of this rehearsal ended with it.")
    assert ended.endswith(": /venv/oathbulk simulator --tokens 12 --pairs pairs.csv --troubles 1")
    assert describe_tokens(replace(batch("finished", active=3), rehearsal=rehearsal)) == []
    # On a terminal that has no room for the cures.
    shown = seen(draw_batch(status, Room(60, 6)), 60)
    assert "OATHBULK_HOME='/my home' /venv/oathbulk status july --cures" in shown


def test_a_replay_is_named_for_the_reasons_that_it_helps_and_not_before_all_is_done():
    dead = {"locked": 2, "invalid_otp": 1, "forbidden": 1}
    status = replace(batch("finished", dead_letter=4), name="july", dead_letters=dead, replayable={})
    replay = "Without fresh OTPs, once their cause is gone (forbidden, locked): oathbulk replay july"
    assert describe_tokens(status) == [LEFT, MEND]
    helped = replace(status, replayable={"locked": 1, "forbidden": 1, "blocked": 1})
    assert describe_tokens(helped) == [LEFT, MEND, replay]
    in_words = replay.replace("oathbulk replay july", "replay them.")
    assert describe_tokens(helped, has_buttons=True) == [MEND, in_words]
    # A replay without a reason would take back what was cancelled, too.
    cancelled = replace(helped, total=5, counts=helped.counts | {"cancelled": 1})
    assert describe_tokens(cancelled) == [LEFT, MEND, f"{replay} --reason forbidden --reason locked"]
    running = replace(batch(pending=1, dead_letter=4), dead_letters=dead, replayable=helped.replayable)
    assert not any("replay" in line for line in describe_tokens(running))


AT_WORK = Fleet([KnownProcess("host:1", True, datetime(2026, 11, 27, tzinfo=UTC), 1.0, None, None, None)])


def test_one_record_is_told_as_one():
    assert describe_staying("july", [NotReplayed(1, "locked", Why.FRESH_OTPS)]).startswith("1 stays as it is:\n")
    assert describe_cancelled("july", 1).startswith("july is cancelled: 1 record. ")


def test_a_pause_says_what_goes_on():
    assert describe_paused("pallet 7") == "pallet 7 is paused. Go on with: oathbulk resume 'pallet 7'"


def test_a_replay_says_as_a_resume_does_that_no_worker_runs_and_what_brings_one():
    nobody = Fleet(batch="box")

    resumed = describe_resumed("box", None, nobody, lifts_hold=False)

    assert "box may run, but nothing works on it. No worker runs. `oathbulk run box` brings one" in resumed
    assert describe_replayed("box", Replayed(2), None, nobody).splitlines() == ["2 records of box go again.", resumed]
    assert describe_replayed("box", Replayed(2), None, AT_WORK) == "2 records of box go again."
    assert describe_replayed("box", Replayed(0), None, nobody) == "0 records of box go again."


def test_what_a_replay_leaves_is_told_with_its_reason_why_it_stays_and_what_to_do():
    stay = [
        NotReplayed(20, "locked", Why.FRESH_OTPS),
        NotReplayed(3, "locked", Why.LOADED_AGAIN, "august"),
        NotReplayed(2, "invalid_otp", Why.FRESH_OTPS),
        NotReplayed(2, "cancelled", Why.IN_PROGRESS, "september"),
    ]

    assert describe_staying("pallet 7", stay).splitlines() == [
        "27 stay as they are:",
        "  20 locked: fresh OTPs are needed, since those that they have were refused, used or too old.",
        "  3 locked: loaded again since, in batch august.",
        "  2 invalid_otp: fresh OTPs are needed, since those that they have were refused, used or too old.",
        "  2 cancelled: in progress in batch september.",
        "As a file, to write fresh OTPs into and mend: "
        "oathbulk export 'pallet 7' --reason invalid_otp --reason locked -o 'pallet 7-fresh.csv'",
    ]


def test_what_was_cancelled_and_needs_fresh_otps_has_a_file_of_its_own():
    stay = [NotReplayed(1, "locked", Why.FRESH_OTPS), NotReplayed(2, "cancelled", Why.FRESH_OTPS)]

    assert describe_staying("july", stay).splitlines()[-2:] == [
        "As a file, to write fresh OTPs into and mend: oathbulk export july --reason locked -o july-fresh.csv",
        "As a file, to write fresh OTPs into and mend: oathbulk export july --status cancelled -o july-cancelled.csv",
    ]


def test_tokens_whose_seed_was_erased_are_loaded_from_the_vendors_file_and_offered_no_file_for_otps():
    assert describe_staying("pallet 7", [NotReplayed(60, "cancelled", Why.SEED_ERASED)]).splitlines() == [
        "60 stay as they are:",
        "  60 cancelled: the seed was erased when the token became active. Give the vendor's file, and a list of those "
        "who get theirs anew: oathbulk mend 'pallet 7' FILE --assign LIST",
    ]


def test_where_no_fresh_otps_are_needed_no_file_is_offered():
    told = describe_staying("pallet 7", [NotReplayed(3, "locked", Why.LOADED_AGAIN, "august")])

    assert "FILE" not in told


@pytest.mark.parametrize(("share", "said"), [(0.6, "60 %"), (0.996, "99.6 %"), (0.004, "0.4 %")])
def test_a_share_of_the_ceiling_is_never_rounded_to_nothing_or_to_all(share: float, said: str) -> None:
    *_, line = describe_pace(KnownPace("license", 40.0, 50.0, share=share))
    assert line == f"Ours are {said} of that; the rest is left to people who sign on."


BEGINNING = "No record is like that. What is searched for has to be the beginning of a value."


@pytest.mark.parametrize(
    ("sought", "said"),
    [
        (Sought(text="ACME"), BEGINNING),
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
    assert describe_nothing_found(sought) == said


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


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        ({"active": 3000}, "All 3,000 tokens are active."),
        ({"active": 1}, "The only token is active."),
        ({}, "The batch has no tokens."),
        ({"active": 1, "dead_letter": 1}, "1 of 2 tokens is active; the other one was given up."),
        ({"dead_letter": 1}, "0 of 1 token is active; it was given up."),
        ({"pending": 1}, "0 of 1 token is active; it is still to do."),
        ({"active": 5, "pending": 2}, "5 of 7 tokens are active; the other 2 are still to do."),
        (
            {"active": 2959, "dead_letter": 33, "refused": 5, "cancelled": 3},
            "2,959 of 3,000 tokens are active; 41 are not: 33 were given up, 5 were refused at loading "
            "and 3 were cancelled.",
        ),
        (
            {"active": 0, "dead_letter": 1, "pending": 1},
            "0 of 2 tokens are active; 2 are not: 1 was given up and 1 is still to do.",
        ),
    ],
)
def test_the_outcome_is_one_sentence(counts: dict[str, int], said: str) -> None:
    refused = counts.get("refused", 0)
    rows = {name: number for name, number in counts.items() if name != "refused"}
    assert describe_outcome(replace(batch(**rows), rows_refused=refused)) == said


def test_the_chart_is_told_in_words() -> None:
    assert describe_timeline(make_timeline((1, 2, 3, 4))) == (
        "The first token became active at 2026-03-01 21:31:00 UTC, half of the 4 were active by 2026-03-01 21:32:00, "
        "and the last became so at 2026-03-01 21:34:00, 3 min 0 s after the first."
    )
    assert describe_timeline(make_timeline((1,))) == "The only active token became so at 2026-03-01 21:31:00 UTC."
    assert describe_timeline(make_timeline(())) == "No token is active."


def test_the_facts_of_a_command_are_written_without_empty_ones() -> None:
    facts = {"records": 3, "reasons": ["locked", "blocked"], "canary": None, "may_import": True, "rows_refused": 0}
    said = describe_command(make_command(minutes(0), "alice", "replay", None, facts))
    assert said == "records: 3; reasons: locked, blocked; may import: yes; rows refused: 0"


def test_a_time_is_in_utc_whatever_zone_it_came_in() -> None:
    assert format_moment(minutes(0).astimezone(timezone(timedelta(hours=9)))) == "2026-03-01 21:30:00"
    assert format_moment(None) == ""
