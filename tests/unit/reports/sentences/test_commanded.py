"""What is said once a batch was commanded, above all of records that a replay leaves as they are."""

from __future__ import annotations

from datetime import UTC, datetime

from worker.batches.commands import Replayed
from worker.fleet import KnownProcess
from worker.leases.not_replayed import NotReplayed, Why
from worker.reports.sentences.commanded import (
    describe_cancelled,
    describe_paused,
    describe_replayed,
    describe_resumed,
    describe_staying,
)
from worker.reports.stall import Fleet

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
