"""What a rehearsal plays on."""

from __future__ import annotations

from pathlib import Path

import pytest

from worker.cli.rehearsal_stage import replacing_home, running_simulator
from worker.embedded.home import EmbeddedError


def test_a_simulator_that_does_not_start_is_told_with_its_last_words(tmp_path: Path) -> None:
    """Its log goes with the home, if the rehearsal before comes back."""
    (tmp_path / "world.json").write_text('{"no such": 1}')
    with (
        pytest.raises(EmbeddedError, match=r"the simulator does not start: .*no such"),
        running_simulator(tmp_path),
    ):
        pass


@pytest.mark.parametrize("was_killed", [False, True])
def test_a_rehearsal_that_loads_nothing_leaves_the_one_before_as_it_was(tmp_path: Path, was_killed: bool) -> None:
    home = tmp_path / "rehearsal"
    # A rehearsal that was killed before it had loaded anything has moved the one before aside.
    kept = home.with_name("rehearsal.before") if was_killed else home
    kept.mkdir()
    (kept / "journal.jsonl").write_text("of before")
    if was_killed:
        home.mkdir()
    with replacing_home(home):
        assert list(home.iterdir()) == []
    assert (home / "journal.jsonl").read_text() == "of before"
    assert list(tmp_path.iterdir()) == [home]
