"""Which lot stands out, and which only looks as if it did."""

from __future__ import annotations

import pytest

from worker.reports.batch_report.standing_out import mark_groups, tail_of_binomial

# Nine lots of 100 tokens, of which about 12 in 100 are out of step.
ORDINARY = {f"B{number}": (100, 10 + number % 5) for number in range(1, 10)}


def names_that_stand_out(**groups: tuple[int, int]) -> list[str]:
    return [group.name for group in mark_groups(ORDINARY | groups) if group.stands_out]


def test_a_lot_that_is_far_off_is_named_and_comes_first() -> None:
    first, *others = mark_groups(ORDINARY | {"B7": (20, 18)})

    assert (first.name, first.tokens, first.out_of_step, first.stands_out) == ("B7", 20, 18, True)
    assert first.elsewhere == pytest.approx(sum(out for _, out in ORDINARY.values()) / 900, abs=0.02)
    assert not any(group.stands_out for group in others)
    assert [group.share for group in others] == sorted((group.share for group in others), reverse=True)


def test_ordinary_lots_are_not_named() -> None:
    assert names_that_stand_out() == []


@pytest.mark.parametrize(
    ("why", "group"),
    [
        ("nine tokens are too few", (9, 9)),
        ("less than twice the share of the others", (1000, 220)),
        ("chance brings as many now and then", (12, 4)),
    ],
)
def test_a_lot_that_may_be_chance_is_not_named(why: str, group: tuple[int, int]) -> None:
    assert names_that_stand_out(X=group) == [], why


def test_two_lots_that_are_far_off_are_both_named() -> None:
    assert names_that_stand_out(X=(200, 190), Y=(200, 180)) == ["X", "Y"]


def test_where_nobody_else_is_out_of_step_a_few_are_enough() -> None:
    marked = mark_groups({"clean": (500, 0), "X": (20, 4)})
    assert [group.name for group in marked if group.stands_out] == ["X"]


def test_the_more_lots_are_compared_the_more_improbable_one_has_to_be() -> None:
    def stands_out(lots: int) -> bool:
        others = {f"L{number}": (50, 5) for number in range(lots)}
        return mark_groups(others | {"X": (50, 15)})[0].stands_out

    assert (stands_out(10), stands_out(400)) == (True, False)


def test_a_lot_alone_has_nothing_to_be_compared_with() -> None:
    (only,) = mark_groups({"X": (50, 50)})
    assert not only.stands_out


@pytest.mark.parametrize(
    ("at_least", "tries", "chance", "probability"),
    [(1, 1, 0.25, 0.25), (2, 2, 0.5, 0.25), (9, 10, 0.5, 11 / 1024), (0, 10, 0.5, 1.0), (3, 10, 0.1, 0.0701908264)],
)
def test_the_tail_of_the_binomial(at_least: int, tries: int, chance: float, probability: float) -> None:
    assert tail_of_binomial(at_least, tries, chance) == pytest.approx(probability)
