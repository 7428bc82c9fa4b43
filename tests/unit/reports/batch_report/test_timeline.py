"""The curve of active tokens: few points, however many tokens."""

from __future__ import annotations

from support.data.reports import minutes

from worker.reports.batch_report.timeline import MOST_MOMENTS, choose_moments


def test_few_tokens_are_all_there() -> None:
    times = [minutes(number).timestamp() for number in (1, 2, 3)]
    assert choose_moments(times) == ((minutes(1), 1), (minutes(2), 2), (minutes(3), 3))


def test_many_tokens_become_few_points_from_the_first_to_the_last() -> None:
    moments = choose_moments([minutes(number / 1000).timestamp() for number in range(100_000)])
    assert len(moments) <= MOST_MOMENTS
    assert (moments[0], moments[-1]) == ((minutes(0), 1), (minutes(99.999), 100_000))
    assert list(moments) == sorted(moments, key=lambda moment: moment[1])


def test_tokens_of_the_same_moment_are_one_point() -> None:
    assert choose_moments([minutes(1).timestamp()] * 5)[-1] == (minutes(1), 5)


def test_no_token_is_no_point() -> None:
    assert choose_moments([]) == ()
