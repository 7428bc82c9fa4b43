from __future__ import annotations

from worker.pace.unreported import UnreportedAnswers


def test_each_answer_is_told_once_and_the_last_slot_stays() -> None:
    unreported = UnreportedAnswers()
    for slot in (10, 30, 20):
        unreported.add(slot)
    assert unreported.take() == (3, 30)
    assert unreported.take() == (0, 30)


def test_answers_of_a_former_rate_do_not_count() -> None:
    unreported = UnreportedAnswers()
    unreported.add(10)
    unreported.count_since(20)
    unreported.add(19)
    assert unreported.take() == (0, 0)
    unreported.add(20)
    assert unreported.take() == (1, 20)


def test_the_same_rate_as_before_leaves_them() -> None:
    unreported = UnreportedAnswers()
    unreported.count_since(20)
    unreported.add(25)
    unreported.count_since(20)
    assert unreported.take() == (1, 25)
