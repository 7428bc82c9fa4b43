"""What a person is told of `oathbulk unpair` and `oathbulk revoke`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from shlex import quote

from worker.batches.undo.kept import Kept
from worker.batches.undo.read_back import Heir
from worker.batches.undo.removal import End
from worker.batches.undo.revocation import Revoked
from worker.batches.undo.unpaired import Unpaired
from worker.observability.counting import agree, count_things

# Lines of the same kind that are printed; --json has all of them.
MOST_LINES = 20


def describe_unpaired(batch: str, unpaired: Unpaired, *, is_done: bool) -> Iterator[str]:
    """Say what was removed, or would be, and for whom that changes what they are asked for first."""
    if not (unpaired.devices or unpaired.unknown or unpaired.earlier):
        yield f"{batch} has made no device, so there is none to remove."
        return
    ends = unpaired.ends
    removed, gone = ends[End.REMOVED], ends[End.GONE]
    if not is_done:
        there = count_things(ends[End.THERE], "device")
        yield f"{there} of {batch} would be removed; {gone:,} {agree(gone, 'is', 'are')} gone already."
    elif not unpaired.earlier:
        yield _tell_done("device", batch, "removed", removed, gone)
    else:
        yield _add_earlier("device", batch, "removed", removed, unpaired.earlier, gone)
    if not is_done and unpaired.earlier:
        yield f"{unpaired.earlier:,} {agree(unpaired.earlier, 'was', 'were')} removed by an earlier run."
    if unpaired.unknown:
        are_looked_up = agree(unpaired.unknown, "it is looked up", "they are looked up")
        found = f"{ends[End.NEVER_MADE]:,} had made no device" if is_done else f"with --yes {are_looked_up} first"
        pairings = f"{count_things(unpaired.unknown, 'pairing')} {agree(unpaired.unknown, 'was', 'were')}"
        yield f"{pairings} of unknown fate: {found}."
    heirs = [change.heir for change in unpaired.defaults.values()]
    if heirs:
        following, none = heirs.count(Heir.NEXT), heirs.count(Heir.NONE)
        yield (
            f"For {count_things(len(heirs), 'person')} the default device changes: {following:,} "
            f"{agree(following, 'is asked for its', 'are asked for their')} next one, {none:,} "
            f"{agree(none, 'has', 'have')} no other active device."
        )
    if not is_done and (ends[End.THERE] or ends[End.GONE] or unpaired.unknown):
        yield f"Nothing was changed. To remove them: oathbulk unpair {quote(batch)} --yes"
    elif is_done and not unpaired.kept:
        yield f"To revoke the tokens that the batch imported: oathbulk revoke {quote(batch)}"


def _tell_done(thing: str, batch: str, verb: str, now: int, gone: int) -> str:
    """Say how many things of a batch were taken away."""
    were = agree(now, "was", "were")
    return f"{count_things(now, thing)} of {batch} {were} {verb}; {_tell_gone(gone)}"


def _add_earlier(thing: str, batch: str, verb: str, now: int, earlier: int, gone: int) -> str:
    """Say how many things of a batch were taken away now, and by an earlier run that was interrupted."""
    total = count_things(now + earlier + gone, thing)
    return f"{total} of {batch}: {now:,} {verb} now, {earlier:,} by an earlier run; {_tell_gone(gone)}"


def _tell_gone(gone: int) -> str:
    return f"{gone:,} {agree(gone, 'was', 'were')} gone already."


def describe_revoked(batch: str, revoked: Revoked, *, is_done: bool) -> Iterator[str]:
    """Say which tokens were revoked, or would be."""
    if not is_done:
        yield f"{count_things(revoked.own, 'token')} of {batch} would be revoked."
    elif not revoked.earlier:
        yield _tell_done("token", batch, "revoked", revoked.revoked, revoked.gone)
    else:
        yield _add_earlier("token", batch, "revoked", revoked.revoked, revoked.earlier, revoked.gone)
    if not is_done and revoked.earlier:
        yield f"{revoked.earlier:,} {agree(revoked.earlier, 'was', 'were')} revoked by an earlier run."
    if revoked.not_ours:
        were, stay = agree(revoked.not_ours, "was", "were"), agree(revoked.not_ours, "it stays", "they stay")
        yield f"{revoked.not_ours:,} {were} in the inventory before the batch: {stay}."
    if revoked.open_imports:
        have, they = agree(revoked.open_imports, "has", "have"), agree(revoked.open_imports, "it is", "they are")
        yield f"{count_things(revoked.open_imports, 'import')} {have} not ended: with --yes {they} followed first."
    if not is_done and (revoked.own or revoked.open_imports):
        yield f"Nothing was changed. To revoke them: oathbulk revoke {quote(batch)} --yes"
    elif is_done and not revoked.kept:
        yield (
            f"To load its file again: oathbulk cancel {quote(batch)}, and then run the file with another name for the"
            " batch (--batch NAME)."
        )


def list_kept(kept: Sequence[Kept]) -> Iterator[str]:
    """Name what stays, and why; of many, the first."""
    if kept:
        yield f"{len(kept):,} {agree(len(kept), 'stays', 'stay')}:"
    for each in kept[:MOST_LINES]:
        yield f"  row {each.row_number} ({each.serial_number}): {each.why}"
    if len(kept) > MOST_LINES:
        yield f"  and {len(kept) - MOST_LINES} more: --json names them"
