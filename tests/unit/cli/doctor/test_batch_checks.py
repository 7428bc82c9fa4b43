"""What doctor says of batches whose due work does not move."""

from __future__ import annotations

from dataclasses import replace

from support.data.statuses import FLEET, RUNNING

from worker.cli.doctor.batch_checks import check_batches
from worker.cli.doctor.finding import State
from worker.reports.stall import STILL_AFTER, Fleet

STILL = replace(RUNNING, still_for=STILL_AFTER + 10, fleet=Fleet(batch="pallet 7"))


def test_a_batch_that_stands_still_without_a_worker_is_a_fault_with_the_cure_of_status() -> None:
    found = check_batches([RUNNING, STILL])
    assert (found.state, found.detail) == (
        State.FAULT,
        "pallet-7: nothing has moved for 1 min 10 s. No worker runs.",
    )
    assert found.cure.startswith("`oathbulk run 'pallet 7'` brings one; or start `celery -A worker worker`")


def test_batches_that_stand_still_for_the_same_reason_have_one_cure() -> None:
    found = check_batches([STILL, replace(STILL, name="pallet-8")])
    assert found.detail.count("No worker runs.") == 2
    assert "pallet-8: nothing has moved" in found.detail
    assert found.cure == check_batches([STILL]).cure


def test_work_that_moves_or_waits_only_shortly_is_no_fault() -> None:
    assert check_batches([]).state is State.WELL
    found = check_batches([replace(RUNNING, fleet=FLEET), replace(STILL, name="pallet-8", still_for=STILL_AFTER - 1)])
    assert (found.state, found.detail) == (State.WELL, "work left in pallet-7, pallet-8; none stands still")
