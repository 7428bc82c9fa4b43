"""The tally of what the rate limit let through, second by second."""

from worker.simulator.tally import Tally


def test_each_second_has_its_counts_and_the_latest_rate():
    tally = Tally()
    tally.count(7.1, 50.0, limited=False)
    tally.count(7.2, 50.0, limited=True)
    tally.count(7.9, 20.0, limited=False)
    tally.count(9.0, None, limited=False)
    assert tally.to_list() == [
        {"at": 7, "rate": 20.0, "let_through": 2, "limited": 1},
        {"at": 9, "rate": None, "let_through": 1, "limited": 0},
    ]


def test_only_the_latest_seconds_are_kept():
    tally = Tally(kept=2)
    for now in (1.0, 2.0, 3.0):
        tally.count(now, None, limited=False)
    assert [second["at"] for second in tally.to_list()] == [2, 3]
