"""How many tokens the next job imports. Pure.

A job is refused as a whole, for its length or for a single token. So fewer tokens go after a failure, until a token
that is refused stands alone, and more again after a success."""

from __future__ import annotations

from models.inventory_job import JobState


def choose_size(last_state: str | None, last_size: int, most: int) -> int:
    """Choose the size of the next job after one of `last_size` tokens that ended in `last_state`; None: there was none
    yet."""
    if last_state is None:
        return most
    if last_state == JobState.FAILED:
        return max(1, min(last_size, most) // 2)
    return min(most, 2 * last_size)
