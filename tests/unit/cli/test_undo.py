"""What a person is told of an undo."""

from __future__ import annotations

from collections import Counter

from worker.batches.removal import DefaultChange, End, Heir
from worker.batches.undo import DeviceCounts, Kept, TokenCounts, Undone
from worker.cli.undo import describe

COMMAND = "oathbulk undo box"
NO_DEVICE = "box has made no device, so there is none to remove."


def tell(undone: Undone, *, is_done: bool, is_partial: bool = False) -> list[str]:
    return list(describe("box", undone, COMMAND, is_done=is_done, is_partial=is_partial))


def test_a_dry_run_says_that_imports_are_followed_first_and_how_to_go_on() -> None:
    assert tell(Undone(tokens=TokenCounts(open_imports=2)), is_done=False) == [
        NO_DEVICE,
        "0 tokens of box would be revoked.",
        "2 imports have not ended: with --yes they are followed first.",
        "Nothing was changed. To do it: oathbulk undo box --yes",
    ]


def test_one_device_and_one_token_are_told_as_one() -> None:
    found = Undone(
        DeviceCounts(1, 1, 1, Counter({End.THERE: 1, End.GONE: 1})),
        TokenCounts(own=1, not_ours=1, open_imports=1, earlier=1),
        {"user": DefaultChange(2, "MADE1", "user", Heir.NEXT)},
    )
    devices, pairing, person, token, not_ours, imports, _ = tell(found, is_done=False)
    assert devices == "1 device of box would be removed; 1 is gone already. 1 was removed by an earlier run."
    assert pairing == "1 pairing was of unknown fate: with --yes it is looked up first."
    assert person.startswith("For 1 person the default device changes: 1 is asked for its next one,")
    assert token == "1 token of box would be revoked. 1 was revoked by an earlier run."
    assert not_ours == "1 was in the inventory before the batch: it stays."
    assert imports == "1 import has not ended: with --yes it is followed first."
    _, done, _ = tell(Undone(tokens=TokenCounts(own=1, revoked=1, gone=1)), is_done=True)
    assert done == "1 token of box was revoked; 1 was gone already."
    _, again, _ = tell(Undone(tokens=TokenCounts(own=1, revoked=1, earlier=1)), is_done=True)
    assert again == "2 tokens of box: 1 revoked now, 1 by an earlier run; 0 were gone already."


def test_after_a_whole_undo_it_is_said_how_the_file_is_loaded_again() -> None:
    done = Undone(tokens=TokenCounts(own=2, revoked=2))
    assert tell(done, is_done=True)[-1].endswith("oathbulk mend box FILE --assign LIST")
    assert not any("again" in line for line in tell(done, is_done=True, is_partial=True))
    done.kept["MADE1"] = Kept(2, "MADE1", "it is paired")
    assert tell(done, is_done=True)[-2:] == ["1 is left alone:", "  row 2 (MADE1): it is paired"]


def test_given_again_it_tells_of_what_the_first_one_took_away() -> None:
    before = Undone(DeviceCounts(earlier=2), TokenCounts(earlier=2))
    assert tell(before, is_done=False) == [
        "0 devices of box would be removed; 0 are gone already. 2 were removed by an earlier run.",
        "0 tokens of box would be revoked. 2 were revoked by an earlier run.",
    ]
    devices, tokens, _ = tell(before, is_done=True)
    assert devices == "2 devices of box: 0 removed now, 2 by an earlier run; 0 were gone already."
    assert tokens == "2 tokens of box: 0 revoked now, 2 by an earlier run; 0 were gone already."
    assert tell(Undone(), is_done=True) == [NO_DEVICE]
    assert tell(Undone(tokens=TokenCounts()), is_done=False) == [
        NO_DEVICE,
        "box has imported no token, so there is none to revoke.",
    ]


def test_what_keeps_tokens_from_being_revoked_is_told_with_what_was_done() -> None:
    done = Undone(DeviceCounts(1, ends=Counter({End.REMOVED: 1})), TokenCounts(obstacle="Give it the role."))
    assert tell(done, is_done=True)[-1] == "Tokens stay in the inventory. Give it the role."
    assert tell(done, is_done=False)[1:2] == ["Tokens stay in the inventory. Give it the role."]


def test_serial_numbers_of_the_list_that_are_nothing_to_the_batch_are_named() -> None:
    many = Undone(kept={f"A{number}": Kept(None, f"A{number}", "no row of this batch has it") for number in range(21)})
    lines = tell(many, is_done=False, is_partial=True)
    assert lines[1:3] == ["21 are left alone:", "  A0: no row of this batch has it"]
    assert lines[-1] == "  and 1 more: --json names them"
