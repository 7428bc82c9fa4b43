"""What `oathbulk replay` says about records that it leaves as they are."""

from __future__ import annotations

from worker.leases.not_replayed import NotReplayed, Why
from worker.reports.sentences.commanded import describe_cancelled, describe_staying


def test_one_record_is_told_as_one():
    assert describe_staying("july", [NotReplayed(1, "locked", Why.FRESH_OTPS)]).startswith("1 stays as it is:\n")
    assert describe_cancelled("july", 1).startswith("july is cancelled: 1 record. ")


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
        "As a file, to write fresh OTPs into and load: "
        "oathbulk export 'pallet 7' --reason invalid_otp --reason locked -o FILE",
    ]


def test_what_was_cancelled_and_needs_fresh_otps_has_a_file_of_its_own():
    stay = [NotReplayed(1, "locked", Why.FRESH_OTPS), NotReplayed(2, "cancelled", Why.FRESH_OTPS)]

    assert describe_staying("july", stay).splitlines()[-2:] == [
        "As a file, to write fresh OTPs into and load: oathbulk export july --reason locked -o FILE",
        "As a file, to write fresh OTPs into and load: oathbulk export july --status cancelled -o FILE",
    ]


def test_where_no_fresh_otps_are_needed_no_file_is_offered():
    told = describe_staying("pallet 7", [NotReplayed(3, "locked", Why.LOADED_AGAIN, "august")])

    assert "FILE" not in told
