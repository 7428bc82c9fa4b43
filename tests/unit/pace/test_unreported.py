from __future__ import annotations

from worker.pace.unreported import Untold


def test_each_answer_is_told_once_and_the_last_slot_stays() -> None:
    untold = Untold()
    for slot in (10, 30, 20):
        untold.add(slot)
    assert untold.take() == (3, 30)
    assert untold.take() == (0, 30)


def test_answers_of_a_former_rate_do_not_count() -> None:
    untold = Untold()
    untold.add(10)
    untold.count_since(20)
    untold.add(19)
    assert untold.take() == (0, 0)
    untold.add(20)
    assert untold.take() == (1, 20)


def test_the_same_rate_as_before_leaves_them() -> None:
    untold = Untold()
    untold.count_since(20)
    untold.add(25)
    untold.count_since(20)
    assert untold.take() == (1, 25)
