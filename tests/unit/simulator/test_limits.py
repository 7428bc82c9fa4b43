"""The limits besides the product's: rates that change, counts that restart, a quota; and the tally of it all."""

import json

import pytest
from support.simulator.settings import WatchedSettings
from support.simulator.simulation import ChangingLimit, Quota, Tally, quota_answer


def admitted(limit, *times):
    return [limit.take(at) is None for at in times]


def make(**settings):
    return ChangingLimit(WatchedSettings(**settings), "mfa")


def test_windows_lie_on_whole_multiples_wherever_the_first_request_comes():
    limit = make(rate=2, limit_window=5)
    assert admitted(limit, *[14.5] * 11) == [True] * 10 + [False]
    assert admitted(limit, *[15.0] * 11) == [True] * 10 + [False]
    assert limit.take(16.0) == pytest.approx(4.0)
    # At least one request a window.
    assert admitted(make(rate=0.5, limit_window=1), 0.0, 0.5, 1.0) == [True, False, True]


def test_a_rate_changes_so_long_after_the_first_request():
    limit = make(rate=4, limit_window=1, rate_changes={10: 2, 20: 6})
    assert admitted(limit, *[1000.0] * 5) == [True] * 4 + [False]
    assert admitted(limit, *[1010.0] * 3) == [True, True, False]
    assert admitted(limit, *[1020.0] * 7) == [True] * 6 + [False]
    bucket = make(rate=1, burst=1, rate_changes={10: 4})
    assert admitted(bucket, 0.0, 0.25, 1.0, 10.0, 10.25, 10.5) == [True, False, True, True, True, True]
    assert admitted(make(limit_window=1, rate_changes={10: 1}), 0.0, 0.0, 10.0, 10.0) == [True, True, True, False]


def test_a_quota_is_used_up_until_it_resets_and_begins_anew():
    quota = Quota(WatchedSettings(quota=2, quota_resets_after=60))
    assert [quota.take(at) for at in (100.0, 130.0, 130.0, 159.0)] == [None, None, 30.0, 1.0]
    assert [quota.take(200.0) for _ in range(3)] == [None, None, 60.0]
    assert Quota(WatchedSettings()).take(0.0) is None


@pytest.mark.parametrize(("said", "heard"), [(None, "2001-09-09T01:47:10.250Z"), ("soon", "soon")])
def test_a_spent_quota_says_when_it_resets_or_what_it_likes(said, heard):
    answer = quota_answer(30.0, 1_000_000_000.25, WatchedSettings(quota_reset_time=said))
    detail = json.loads(answer.body)["details"][0]
    assert (answer.status, detail["code"], detail["innerError"]) == (429, "QUOTA_EXCEEDED", {"quotaResetTime": heard})


def test_the_tally_counts_by_seconds():
    tally = Tally()
    for at, rate, limited in ((10.1, 5.0, False), (10.9, 6.0, True), (12.0, None, False)):
        tally.count(at, rate, limited=limited)
    assert tally.to_list() == [
        {"at": 10, "rate": 6.0, "let_through": 1, "limited": 1},
        {"at": 12, "rate": None, "let_through": 1, "limited": 0},
    ]
