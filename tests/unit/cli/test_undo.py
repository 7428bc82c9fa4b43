"""What a person is told of an undo."""

from __future__ import annotations

from worker.batches.undo.revocation import Revoked
from worker.cli.undo import describe_revoked


def test_a_dry_run_says_that_imports_are_followed_first_and_how_to_go_on() -> None:
    assert list(describe_revoked("box", Revoked(open_imports=2), is_done=False)) == [
        "0 tokens of box would be revoked.",
        "2 imports have not ended: with --yes they are followed first.",
        "Nothing was changed. To revoke them: oathbulk revoke box --yes",
    ]
