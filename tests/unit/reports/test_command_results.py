"""What a command did, beyond what the golden files show of it."""

from worker.batches.commands import Replayed
from worker.leases.replay import NotReplayed, Why
from worker.reports.command_results import describe_replayed, describe_resumed, describe_staying
from worker.reports.stall import Fleet


def test_a_replay_says_as_a_resume_does_that_no_worker_runs_and_what_brings_one() -> None:
    nobody = Fleet(batch="box")
    resumed = describe_resumed("box", None, nobody, lifts_hold=False)
    assert resumed.startswith(
        "box is allowed to run, but no worker is working on it. No worker is running. `oathbulk run box` starts one"
    )
    replayed = describe_replayed("box", Replayed(2), None, nobody)
    assert replayed.splitlines() == ["2 records of box are tried again.", resumed]
    assert describe_replayed("box", Replayed(0), None, nobody) == "0 records of box are tried again."


def test_what_a_replay_leaves_is_told_with_its_reason_why_it_stays_and_what_to_do() -> None:
    stay = [
        NotReplayed(20, "locked", Why.FRESH_OTPS),
        NotReplayed(3, "cancelled", Why.FRESH_OTPS),
        NotReplayed(2, "cancelled", Why.IN_PROGRESS, "september"),
        NotReplayed(60, "cancelled", Why.SEED_ERASED),
    ]
    fresh = "they need fresh OTPs, because theirs were refused, used, or too old."
    file = "As a file, to enter fresh OTPs and mend: oathbulk export 'pallet 7'"
    assert describe_staying("pallet 7", stay).splitlines() == [
        "85 stay as they are:",
        f"  20 locked: {fresh}",
        f"  3 cancelled: {fresh}",
        "  2 cancelled: in progress in batch september.",
        "  60 cancelled: the seed was erased when the token became active. Give the vendor's file, and a list of who "
        "gets a token again: oathbulk mend 'pallet 7' FILE --assign LIST",
        f"{file} --reason locked -o 'pallet 7-fresh.csv'",
        f"{file} --status cancelled -o 'pallet 7-cancelled.csv'",
    ]
    assert describe_staying("july", [NotReplayed(1, "locked", Why.LOADED_AGAIN, "august")]) == (
        "1 stays as it is:\n  1 locked: loaded again since then, in batch august."
    )
