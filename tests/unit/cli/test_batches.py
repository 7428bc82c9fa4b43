"""What `oathbulk replay` says about records that it leaves as they are."""

from __future__ import annotations

from worker.cli.batches import describe_staying
from worker.leases.not_replayed import NotReplayed, Why


def test_what_a_replay_leaves_is_told_with_its_reason_why_it_stays_and_what_to_do():
    stay = [
        NotReplayed(20, "locked", Why.FRESH_OTPS),
        NotReplayed(3, "locked", Why.LOADED_AGAIN, "august"),
        NotReplayed(2, "cancelled", Why.IN_PROGRESS, "september"),
    ]

    assert describe_staying("pallet 7", stay).splitlines() == [
        "25 stay as they are:",
        "  20 locked: fresh OTPs are needed, since those that they have were refused, used or too old.",
        "  3 locked: loaded again since, in batch august.",
        "  2 cancelled: in progress in batch september.",
        "The dead letters as a file, to write fresh OTPs into and load: "
        "oathbulk export 'pallet 7' --status dead_letter -o FILE",
    ]


def test_where_no_fresh_otps_are_needed_no_file_is_offered():
    told = describe_staying("pallet 7", [NotReplayed(3, "locked", Why.LOADED_AGAIN, "august")])

    assert "FILE" not in told
