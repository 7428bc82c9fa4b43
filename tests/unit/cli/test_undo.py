"""What a person is told of an undo."""

from __future__ import annotations

from worker.batches.undo.kept import Kept
from worker.batches.undo.revocation import Revoked
from worker.batches.undo.unpaired import Unpaired
from worker.cli.undo import describe_revoked, describe_unpaired


def test_a_dry_run_says_that_imports_are_followed_first_and_how_to_go_on() -> None:
    assert list(describe_revoked("box", Revoked(open_imports=2), is_done=False)) == [
        "0 tokens of box would be revoked.",
        "2 imports have not ended: with --yes they are followed first.",
        "Nothing was changed. To revoke them: oathbulk revoke box --yes",
    ]


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
