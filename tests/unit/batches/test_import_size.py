"""How many tokens the next job imports, after how the last one ended."""

from __future__ import annotations

import pytest

from models.inventory_job import JobState
from worker.batches.tokens import choose_size


@pytest.mark.parametrize(
    ("last_state", "last_size", "size"),
    [
        # Fewer after a failure, down to one.
        (JobState.FAILED, 500, 250),
        (JobState.FAILED, 3, 1),
        (JobState.FAILED, 1, 1),
        # More again after a success, up to the setting.
        (JobState.DONE, 1, 2),
        (JobState.DONE, 125, 250),
        (JobState.DONE, 400, 500),
        # The setting was lowered meanwhile.
        (JobState.FAILED, 5000, 250),
        (JobState.DONE, 5000, 500),
    ],
)
def test_fewer_go_after_a_failure_and_more_after_a_success(last_state, last_size, size):
    assert choose_size(last_state, last_size, 500) == size


def test_a_token_that_is_refused_comes_to_stand_alone():
    """Of 500 tokens the last makes every job fail that brings it."""
    left, state, size = 500, JobState.DONE, 250
    jobs = 0
    while (state, size) != (JobState.FAILED, 1):
        size = min(choose_size(state, size, 500), left)
        state = JobState.FAILED if size == left else JobState.DONE
        left -= size if state == JobState.DONE else 0
        jobs += 1
    assert left == 1
    assert jobs < 40
