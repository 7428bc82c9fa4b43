"""How an attempt shows in Flower: a dead letter as a failed task, anything else as one that succeeded."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from worker.process.worker_parts import Activations
from worker.records import NOTHING_TO_DO, DeadLettered


def activations(said: str) -> Activations:
    environments = SimpleNamespace(get=lambda name: name)
    return Activations(environments, None, None, lambda _: SimpleNamespace(run=lambda _: said))  # type: ignore[arg-type]


def test_a_dead_letter_is_a_failure_that_says_its_reason_and_nothing_else() -> None:
    with pytest.raises(DeadLettered) as failure:
        activations("dead letter: locked").run(1, "default")
    # Flower shows the repr.
    assert repr(failure.value) == str(failure.value) == "dead letter: locked"


@pytest.mark.parametrize("said", ["active", "again in 30 s: server error", NOTHING_TO_DO])
def test_any_other_end_is_none(said: str) -> None:
    assert activations(said).run(1, "default") == said
