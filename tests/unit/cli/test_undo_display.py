"""What a person is told of an undo."""

from __future__ import annotations

from collections import Counter

from worker.batches.undo.kept import Kept
from worker.batches.undo.read_back import DefaultChange, Heir
from worker.batches.undo.removal import End
from worker.batches.undo.revocation import Revoked
from worker.batches.undo.unpaired import Unpaired
from worker.cli.undo_display import describe_revoked, describe_unpaired


def test_a_dry_run_says_that_imports_are_followed_first_and_how_to_go_on() -> None:
    assert list(describe_revoked("box", Revoked(open_imports=2), is_done=False)) == [
        "0 tokens of box would be revoked.",
        "2 imports have not ended: with --yes they are followed first.",
        "Nothing was changed. To revoke them: oathbulk revoke box --yes",
    ]


def test_one_device_and_one_token_are_told_as_one() -> None:
    found = Unpaired(
        1, 1, 1, Counter({End.THERE: 1, End.GONE: 1}), {"user": DefaultChange(2, "MADE1", "user", Heir.NEXT)}
    )
    shown, earlier, pairing, person, _ = describe_unpaired("box", found, is_done=False)
    assert shown == "1 device of box would be removed; 1 is gone already."
    assert earlier == "1 was removed by an earlier run."
    assert pairing == "1 pairing was of unknown fate: with --yes it is looked up first."
    assert person.startswith("For 1 person the default device changes: 1 is asked for its next one,")
    (done, *_) = describe_revoked("box", Revoked(own=1, revoked=1, gone=1), is_done=True)
    assert done == "1 token of box was revoked; 1 was gone already."
    (again, *_) = describe_revoked("box", Revoked(own=1, revoked=1, earlier=1), is_done=True)
    assert again == "2 tokens of box: 1 revoked now, 1 by an earlier run; 0 were gone already."
    _, not_ours, imports, _ = describe_revoked("box", Revoked(not_ours=1, open_imports=1), is_done=False)
    assert not_ours == "1 was in the inventory before the batch: it stays."
    assert imports == "1 import has not ended: with --yes it is followed first."


def test_after_an_undo_it_is_said_how_the_file_is_loaded_again() -> None:
    *_, again = describe_revoked("box 7", Revoked(own=2, revoked=2), is_done=True)
    assert again.startswith("To load its file again: oathbulk cancel 'box 7', and then run the file with another name")
    kept = Revoked(own=2, revoked=1, kept=[Kept(2, "MADE1", "it is paired")])
    assert not any("again" in line for line in describe_revoked("box 7", kept, is_done=True))


def test_an_unpairing_that_is_given_again_tells_of_the_devices_that_the_first_one_removed() -> None:
    (shown, earlier) = describe_unpaired("box", Unpaired(earlier=2), is_done=False)
    assert (shown, earlier) == (
        "0 devices of box would be removed; 0 are gone already.",
        "2 were removed by an earlier run.",
    )
    done, _ = describe_unpaired("box", Unpaired(earlier=2), is_done=True)
    assert done == "2 devices of box: 0 removed now, 2 by an earlier run; 0 were gone already."
    (none,) = describe_unpaired("box", Unpaired(), is_done=True)
    assert none == "box has made no device, so there is none to remove."
