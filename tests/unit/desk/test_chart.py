"""Where curve, axes and pauses stand in the drawing."""

from __future__ import annotations

import re

import pytest
from support.data.facts import make_timeline, minutes

from worker.desk.chart import BOTTOM, MOST_TICKS, TOP, WIDTH, Chart, choose_numbers, draw_chart
from worker.reports.overview import Pause, Timeline


def draw(timeline: Timeline) -> Chart:
    chart = draw_chart(timeline)
    assert chart is not None
    return chart


def test_the_curve_climbs_in_steps_from_the_first_token_to_the_end() -> None:
    chart = draw(make_timeline((5, 10)))
    assert chart.line == f"M360.0 {(TOP + BOTTOM) / 2:.1f}H720.0V{TOP:.1f}H720.0"
    assert chart.area == f"M360.0 {BOTTOM:.1f}V{(TOP + BOTTOM) / 2:.1f}H720.0V{TOP:.1f}H720.0V{BOTTOM:.1f}Z"


def test_no_token_is_no_chart() -> None:
    assert draw_chart(make_timeline(())) is None


@pytest.mark.parametrize(("most", "top"), [(1, 1), (2, 2), (4, 4), (5, 6), (11, 15), (2959, 3000), (100_001, 150_000)])
def test_the_axis_ends_at_a_round_number_above_the_curve(most: int, top: int) -> None:
    numbers = choose_numbers(most)
    assert numbers[-1] == top
    assert len(numbers) <= 5


@pytest.mark.parametrize("span", [0.001, 0.2, 7, 95, 1440, 20_000, 500_000])
def test_the_time_axis_has_few_ticks_within_the_drawing(span: float) -> None:
    chart = draw(make_timeline((span / 2, span)))
    assert len(chart.x_ticks) <= MOST_TICKS + 1
    assert all(0 < tick.at < WIDTH for tick in chart.x_ticks)
    assert len({tick.label for tick in chart.x_ticks}) == len(chart.x_ticks)


def test_pauses_are_bands_with_numbers_and_none_is_too_narrow_to_see() -> None:
    long, short = Pause(minutes(2), minutes(4), "a"), Pause(minutes(5), minutes(5), "b", is_start_known=False)
    lasting = Pause(minutes(9), None, "c")
    bands = draw(make_timeline((1, 10), long, short, lasting)).bands
    assert [(band.x, band.width, band.number) for band in bands] == [(144, 144, 1), (360, 3, 2), (648, 72, 3)]
    assert [band.is_start_known for band in bands] == [True, False, True]


def test_nothing_is_drawn_outside() -> None:
    outside = Pause(minutes(-60), minutes(600), "a")
    chart = draw(make_timeline((1, 2, 3, 400), outside))
    numbers = [float(number) for number in re.findall(r"-?\d+\.\d+", chart.area)]
    assert all(0 <= number <= WIDTH for number in numbers)
    assert (chart.bands[0].x, chart.bands[0].width) == (0, WIDTH)


def test_the_days_of_the_axis_are_named() -> None:
    assert draw(make_timeline((1,))).dates == "2026-03-01"
    assert draw(make_timeline((1, 180))).dates == "2026-03-01 to 2026-03-02"
