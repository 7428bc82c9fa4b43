"""Chaos, in short: each disturbance once, in a random order that its seed repeats. `python -m chaos` goes on."""

from __future__ import annotations

import pytest
from chaos.disturbances import DISTURBANCES
from chaos.runs import STACKS, make_stack
from chaos.schedule import disturb

pytestmark = pytest.mark.faults

SEED = 1


@pytest.mark.parametrize("kind", STACKS)
def test_whatever_is_done_to_it_the_batch_finishes_by_itself_and_keeps_the_promises(kind, tmp_path):
    told = []
    with make_stack(kind, tmp_path, records=480, rate=12) as stack:
        stack.start()
        happened = disturb(stack, SEED, told.append, once=True)
        assert set(happened) == {name for name, disturbance in DISTURBANCES.items() if disturbance.fits(stack)}, told
        status = stack.wait_until_finished()
        stack.judge()
    assert status.counts["active"] > 400
    # The simulator's own faults were among it.
    assert stack.counts["faults"]
