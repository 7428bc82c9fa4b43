"""How the room in a license's window is shared among its batches."""

from __future__ import annotations

from collections import Counter

import pytest

from worker.dispatch import BatchWork, share_room


def share(
    room: int, due: dict[int, int], counts: dict[int, int] | None = None, most: int | None = None
) -> Counter[int]:
    """What each batch gets of the room, by its id, if so many of its records are due."""
    left, got, in_window = dict(due), Counter[int](), Counter(counts or {})

    def enqueue(batch: BatchWork, part: int) -> int:
        taken = min(part, left[batch.batch_id])
        left[batch.batch_id] -= taken
        got[batch.batch_id] += taken
        in_window[batch.batch_id] += taken
        return taken

    share_room(room, [BatchWork(batch_id, "default", most=most) for batch_id in due], in_window, enqueue)
    return got


def test_each_batch_gets_an_equal_part_of_the_room() -> None:
    assert share(12, {1: 1000, 2: 1000, 3: 1000}) == {1: 4, 2: 4, 3: 4}


def test_what_a_small_batch_leaves_goes_to_the_others() -> None:
    assert share(100, {1: 1000, 2: 7, 3: 1000}) in ({1: 47, 2: 7, 3: 46}, {1: 46, 2: 7, 3: 47})


def test_a_batch_alone_gets_all_of_it() -> None:
    assert share(64, {1: 1000}) == {1: 64}


@pytest.mark.parametrize("crowded", [1, 2])
def test_the_last_place_goes_to_the_batch_that_has_the_least_in_the_window(crowded: int) -> None:
    other = 3 - crowded
    assert share(1, {1: 10, 2: 10}, {crowded: 50}) == {other: 1}


def test_a_batch_gets_no_more_than_it_may_have_at_once() -> None:
    assert share(64, {1: 1000, 2: 1000}, {1: 2}, most=3) == {1: 1, 2: 3}


@pytest.mark.parametrize("room", [0, -5])
def test_without_room_nothing_is_queued(room: int) -> None:
    assert share(room, {1: 10, 2: 10}) == {}
