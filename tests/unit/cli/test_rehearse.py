"""What a rehearsal plays on."""

from __future__ import annotations

from pathlib import Path

import pytest

from worker.cli.rehearse import running_simulator
from worker.embedded.home import EmbeddedError


def test_a_simulator_that_does_not_start_is_told_with_its_last_words(tmp_path: Path) -> None:
    (tmp_path / "world.json").write_text('{"no such": 1}')
    with (
        pytest.raises(EmbeddedError, match=r"the simulator does not start: .*no such"),
        running_simulator(tmp_path),
    ):
        pass
