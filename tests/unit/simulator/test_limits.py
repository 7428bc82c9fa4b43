"""The rate limit, by bucket and by window, the quota, and how a refusal is answered."""

import json
from email.utils import parsedate_to_datetime

import pytest

from worker.simulator.limits import Limit, Quota, limit_answer, quota_answer
from worker.simulator.settings import Settings

WALL = 1_000_000_000.25


def test_without_a_rate_there_is_no_limit():
    limit = Limit(Settings())
    assert all(limit.take(0.0) is None for _ in range(1000))


def test_a_bucket_gives_its_burst_and_then_its_rate():
    limit = Limit(Settings(rate=4, burst=2))
    assert [limit.take(0.0), limit.take(0.0)] == [None, None]
    assert limit.take(0.0) == pytest.approx(0.25)
    assert limit.take(0.25) is None
    assert limit.take(0.25) is not None


def test_a_bucket_holds_no_more_than_its_burst():
    limit = Limit(Settings(rate=4, burst=2))
    assert [limit.take(1000.0) is None for _ in range(3)] == [True, True, False]


def test_a_refused_request_takes_nothing_from_the_bucket():
    limit = Limit(Settings(rate=1, burst=1))
    limit.take(0.0)
    assert [limit.take(at) is None for at in (0.3, 0.6, 0.9, 1.0)] == [False, False, False, True]


def admitted(limit, *times):
    return [limit.take(at) is None for at in times]


def test_a_window_counts_anew_when_it_ends():
    limit = Limit(Settings(rate=2, limit_window=1))
    assert [limit.take(0.0), limit.take(0.5)] == [None, None]
    assert limit.take(0.75) == pytest.approx(0.25)
    assert [limit.take(1.0), limit.take(1.0)] == [None, None]
    assert limit.take(1.0) == pytest.approx(1.0)


def test_windows_lie_on_whole_multiples_wherever_the_first_request_comes():
    limit = Limit(Settings(rate=2, limit_window=5))
    assert admitted(limit, *[14.5] * 11) == [True] * 10 + [False]
    assert admitted(limit, *[15.0] * 11) == [True] * 10 + [False]
    assert limit.take(16.0) == pytest.approx(4.0)


def test_a_window_lets_one_request_through_at_the_least():
    limit = Limit(Settings(rate=0.5, limit_window=1))
    assert admitted(limit, 0.0, 0.5, 1.0) == [True, False, True]


def test_a_rate_changes_so_long_after_the_first_request():
    limit = Limit(Settings(rate=4, limit_window=1, rate_changes={10: 2, 20: 6}))
    assert [limit.rate(at) for at in (0.0, 1000.0)] == [4, 4]
    assert admitted(limit, *[1000.0] * 5) == [True] * 4 + [False]
    assert [limit.rate(at) for at in (1009.9, 1010.0, 1019.9, 1020.0)] == [4, 2, 2, 6]
    assert admitted(limit, *[1010.0] * 3) == [True, True, False]
    assert admitted(limit, *[1020.0] * 7) == [True] * 6 + [False]


def test_a_bucket_fills_at_the_changed_rate():
    limit = Limit(Settings(rate=1, burst=1, rate_changes={10: 4}))
    assert admitted(limit, 0.0, 0.25, 1.0, 10.0, 10.25, 10.5) == [True, False, True, True, True, True]


def test_a_limit_may_begin_late():
    limit = Limit(Settings(limit_window=1, rate_changes={10: 1}))
    assert admitted(limit, 0.0, 0.0, 10.0, 10.0) == [True, True, True, False]


@pytest.mark.parametrize(("window", "wait"), [(None, 1.0), (3.0, 3.0)])
def test_a_rate_of_nothing_refuses_every_request_at_every_time(window, wait):
    limit = Limit(Settings(rate=0, limit_window=window))
    assert [limit.take(at) for at in (0.0, 0.5, 1000.0)] == [wait] * 3


def say(wait=0.3, **settings):
    answer = limit_answer(wait, WALL, Settings(**settings))
    return answer, dict(answer.headers).get(b"retry-after")


def test_retry_after_is_in_whole_seconds_and_never_too_few():
    answer, retry_after = say(wait=1.2)
    assert (answer.status, answer.code, answer.detail_code, retry_after) == (
        429,
        "REQUEST_LIMITED",
        "LIMIT_EXCEEDED",
        b"2",
    )
    assert say(wait=0.001)[1] == b"1"


def test_retry_after_may_be_a_date():
    _, retry_after = say(wait=0.5, retry_after="date")
    assert parsedate_to_datetime(retry_after.decode()).timestamp() == 1_000_000_001


def test_retry_after_may_be_missing():
    assert say(retry_after="none")[1] is None


def test_a_spent_quota_says_when_it_resets():
    answer, _ = say(limit_answer="quota", quota_resets_after=60)
    detail = json.loads(answer.body)["details"][0]
    assert detail["code"] == "QUOTA_EXCEEDED"
    assert detail["innerError"] == {"quotaResetTime": "2001-09-09T01:47:40.250Z"}


def test_a_quota_is_used_up_until_it_resets_and_begins_anew():
    quota = Quota(Settings(quota=2, quota_resets_after=60))
    assert [quota.take(100.0), quota.take(130.0)] == [None, None]
    assert [quota.take(130.0), quota.take(159.0)] == [30.0, 1.0]
    assert [quota.take(200.0), quota.take(200.0), quota.take(200.0)] == [None, None, 60.0]


def test_without_a_quota_none_is_used_up():
    assert all(Quota(Settings()).take(0.0) is None for _ in range(1000))


def test_a_quota_of_nothing_lets_nothing_through():
    quota = Quota(Settings(quota=0, quota_resets_after=60))
    assert [quota.take(0.0), quota.take(61.0)] == [60.0, 60.0]


@pytest.mark.parametrize(
    ("said", "heard"), [(None, "2001-09-09T01:47:10.250Z"), ("soon", "soon"), ("", ""), (1e300, 1e300)]
)
def test_a_spent_quota_may_say_what_it_likes(said, heard):
    answer = quota_answer(30.0, WALL, Settings(quota_reset_time=said))
    assert (answer.status, answer.code, answer.detail_code) == (429, "REQUEST_LIMITED", "QUOTA_EXCEEDED")
    assert json.loads(answer.body)["details"][0]["innerError"] == {"quotaResetTime": heard}


def test_a_limit_may_come_as_forbidden():
    assert say(limit_answer="forbidden")[0].status == 403
