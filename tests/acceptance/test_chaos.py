"""Chaos, in short: each disturbance once, in a random order that its seed repeats. `python -m chaos` goes on.

On PostgreSQL two workers and beat share the work, on a single machine they are of one run; among the disturbances are a
worker that is killed and a queue that is wiped."""

from __future__ import annotations

import pytest
from chaos.disturbances import DISTURBANCES
from chaos.runs import STACKS, make_stack
from chaos.schedule import disturb

pytestmark = pytest.mark.faults

SEED = 1


# A token of a box takes two requests and more.
@pytest.mark.parametrize(("is_box", "records"), [(False, 480), (True, 230)], ids=["pairs", "box"])
@pytest.mark.parametrize("kind", STACKS)
def test_whatever_is_done_to_it_the_batch_finishes_by_itself_and_keeps_the_promises(kind, is_box, records, tmp_path):
    told = []
    with make_stack(kind, tmp_path, records=records, rate=12, is_box=is_box) as stack:
        stack.start()
        happened = disturb(stack, SEED, told.append, once=True)
        assert set(happened) == {name for name, disturbance in DISTURBANCES.items() if disturbance.fits(stack)}, told
        status = stack.wait_until_finished()
        stack.judge()
    assert status.counts["active"] > 0.83 * records
    # The simulator's own faults were among it.
    assert stack.counts["faults"]
