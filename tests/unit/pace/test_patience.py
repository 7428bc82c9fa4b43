"""A command waits for its slot however long the fleet holds."""

from __future__ import annotations

import pytest

from worker.pace.errors import PaceOutOfReach, SlotTooFar
from worker.pace.slots import call_patiently


def make_call(failures: list[Exception]) -> tuple[list[int], object]:
    calls = list[int]()

    def call() -> str:
        calls.append(1)
        if failures:
            raise failures.pop(0)
        return "done"

    return calls, call


@pytest.mark.parametrize("times", [0, 1, 50])
def test_it_is_tried_until_there_is_a_slot(times: int) -> None:
    calls, call = make_call([SlotTooFar(0.0)] * times)
    assert call_patiently(call) == "done"  # type: ignore[arg-type, comparison-overlap]
    assert len(calls) == times + 1


@pytest.mark.parametrize(("times", "is_raised"), [(4, False), (5, True), (9, True)])
def test_redis_out_of_reach_is_given_up_after_five_tries(times: int, is_raised: bool) -> None:
    calls, call = make_call([PaceOutOfReach(0.0)] * times)
    if is_raised:
        with pytest.raises(PaceOutOfReach):
            call_patiently(call)  # type: ignore[arg-type]
    else:
        assert call_patiently(call) == "done"  # type: ignore[arg-type, comparison-overlap]
    assert len(calls) == 5


def test_any_other_failure_is_the_callers() -> None:
    calls, call = make_call([ValueError("no")])
    with pytest.raises(ValueError, match="no"):
        call_patiently(call)  # type: ignore[arg-type]
    assert calls == [1]
