"""What the benchmarks make of the simulator's tally."""

import pytest
from benchmarks.tallies import Tally


def told(*seconds):
    names = ("at", "rate", "let_through", "limited")
    return Tally.read([dict(zip(names, second, strict=True)) for second in seconds])


def test_seconds_without_a_request_were_permitted_and_unused():
    tally = told((7, 10.0, 10, 0), (10, 20.0, 20, 5), (11, 20.0, 4, 0))
    assert tally.as_series() == [(10.0, 10, 0), (10.0, 0, 0), (10.0, 0, 0), (20.0, 20, 5), (20.0, 4, 0)]


def test_of_the_whole_the_edges_are_as_long_as_their_requests():
    tally = told((1, 10.0, 3, 0), (2, 10.0, 5, 5), (3, 10.0, 2, 0))
    assert tally.whole().used == pytest.approx(10 / 15)
    assert tally.whole().limited == pytest.approx(5 / 15)


def test_the_steady_state_is_without_the_first_and_the_last_tenth():
    middle = [(at, 10.0, 9, 1) for at in range(2, 18)]
    tally = told((0, 10.0, 1, 9), (1, 10.0, 1, 9), *middle, (18, 10.0, 1, 0), (19, 10.0, 1, 0))
    assert tally.steady().used == pytest.approx(0.9)
    assert tally.steady().limited == pytest.approx(0.1)


def test_a_run_too_short_has_no_steady_state():
    assert told((1, 10.0, 3, 0)).steady().used == 0.0
