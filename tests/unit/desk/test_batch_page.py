"""The page of a batch as a file: harmless whatever stands in it, whole by itself; and its drawing and its colors. How
it reads, the golden files hold."""

import re
from dataclasses import replace
from html import unescape
from importlib.resources import files
from pathlib import Path

import pytest
from support.data.facts import PAUSED, RUNNING, SOME_LEFT, make_command, make_history, make_timeline, minutes

from worker.desk.batch_page import (
    MOST_TICKS,
    WIDTH,
    choose_numbers,
    draw_chart,
    make_environment,
    write_file,
)
from worker.observability.wording import write_share
from worker.reports.batch_history import PauseSpan
from worker.reports.stall import Rehearsal

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>"


def list_names(source: str) -> set[str]:
    """The names of a page's elements and of their attributes."""
    unquoted = re.sub(r'"[^"]*"', "", source)
    tags = " ".join(re.findall(r"<[^>]*", unquoted))
    return set(re.findall(r"(?<=<)\w+|[\w-]+(?=\s*=)", tags))


def test_text_from_outside_stays_text() -> None:
    history = make_history(
        commands=(make_command(minutes(0), HOSTILE, "load", HOSTILE, {HOSTILE: HOSTILE, "list": [HOSTILE]}),),
        timeline=make_timeline((1, 2), PauseSpan(minutes(1), minutes(2), HOSTILE)),
    )
    names = dict.fromkeys(("file", "environment", "environment_id", "loaded_by", "ticket"), HOSTILE)
    stands = {"state": "paused", "reason": HOSTILE, "detail": f"{HOSTILE} `{HOSTILE}`"}
    status = replace(RUNNING, name=HOSTILE, environment=HOSTILE, **stands)
    source = write_file(status, replace(history, origin=replace(history.origin, **names)))

    assert not [found for found in list_names(source) if found in ("script", "img") or found.startswith("on")]
    assert unescape(re.sub(r"<[^>]*>", "", source)).count(HOSTILE) >= 17


def test_what_turns_the_direction_of_writing_is_shown_as_its_code() -> None:
    turned, history = "gpj.\u202eexe", make_history()
    source = write_file(
        replace(SOME_LEFT, environment=turned), replace(history, origin=replace(history.origin, file=turned))
    )
    assert ("\u202e" in source, source.count("gpj.\\u202eexe")) == (False, 2)


def test_the_page_needs_nothing_from_elsewhere_and_leads_nowhere() -> None:
    history = make_history(timeline=make_timeline((1, 2), PauseSpan(minutes(1), minutes(2), "a")))
    for status in (SOME_LEFT, RUNNING, PAUSED):
        source = write_file(status, history)
        assert re.findall(r"https?:|//\w|@import|url\(", source) == []
        loading = {"script", "link", "img", "iframe", "object", "embed", "base", "use", "image"}
        assert list_names(source) & (loading | {"a", "form", "button", "input"}) == set()
        policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
        assert re.findall(r'http-equiv="Content-Security-Policy"\s+content="([^"]*)"', source) == [policy]


def test_commands_on_a_batch_of_a_rehearsal_name_its_home() -> None:
    rehearsed = replace(SOME_LEFT, rehearsal=Rehearsal(Path("/tmp/first"), "oathbulk"))
    assert "OATHBULK_HOME=/tmp/first oathbulk export pallet-7 -o FILE" in write_file(rehearsed, make_history())


@pytest.mark.parametrize(("most", "top"), [(1, 1), (2, 2), (4, 4), (5, 6), (11, 15), (2959, 3000), (100_001, 150_000)])
def test_the_axis_ends_at_a_round_number_above_the_curve(most: int, top: int) -> None:
    numbers = choose_numbers(most)
    assert (numbers[-1], len(numbers) <= 5) == (top, True)


@pytest.mark.parametrize(
    ("span", "dates"),
    [
        (0.001, "2026-03-01"),
        (0.2, "2026-03-01"),
        (7, "2026-03-01"),
        (180, "2026-03-01 to 2026-03-02"),
        (20_000, "2026-03-01 to 2026-03-15"),
        (500_000, "2027-02-12"),
    ],
)
def test_all_is_within_the_drawing_however_long_it_took(span: float, dates: str) -> None:
    chart = draw_chart(make_timeline((span / 2, span), PauseSpan(minutes(-60), minutes(span + 60), "a")))
    assert len({tick.label for tick in chart.x_ticks}) == len(chart.x_ticks) <= MOST_TICKS + 1
    assert all(0 < tick.at < WIDTH for tick in chart.x_ticks)
    assert all(0 <= float(number) <= WIDTH for number in re.findall(r"-?\d+\.\d+", chart.area))
    assert (chart.bands[0].x, chart.bands[0].width) == (0, WIDTH)
    assert chart.dates.endswith(dates)


def test_pauses_are_bands_with_numbers_and_none_is_too_narrow_to_see() -> None:
    long, short = PauseSpan(minutes(2), minutes(4), "a"), PauseSpan(minutes(5), minutes(5), "b", is_start_known=False)
    chart = draw_chart(make_timeline((1, 10), long, short, PauseSpan(minutes(9), None, "c")))
    bands = [(band.x, band.width, band.number, band.is_start_known) for band in chart.bands]
    assert bands == [(144, 144, 1, True), (360, 3, 2, False), (648, 72, 3, True)]


def test_a_template_that_names_what_is_not_there_fails() -> None:
    with pytest.raises(Exception, match="is undefined"):
        make_environment().from_string("{{ nothing }}").render()


def measure_luminance(color: str) -> float:
    parts = [int(color[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_text_is_readable_on_each_ground_and_failures_have_a_colour_of_their_own(scheme: int) -> None:
    """https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio"""
    style = (files("worker.desk") / "templates" / "style.css").read_text()
    colors = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", re.findall(r":root \{.*?\}", style, re.DOTALL)[scheme]))
    for ground in ("paper", "wash", "accent-wash"):
        for ink in ("ink", "quiet", "accent"):
            dark, light = sorted(measure_luminance(colors[name]) for name in (ground, ink))
            assert (light + 0.05) / (dark + 0.05) >= 4.5, (ink, ground)
    assert set(re.findall(r"(\S+) {[^}]*var\(--bad\)", style)) == {".failed", ".state-dead_letter"}


@pytest.mark.parametrize(
    ("share", "said"),
    [
        (0, "0 %"),
        (0.00001, "0.1 %"),
        (0.01, "1 %"),
        (0.123, "12.3 %"),
        (0.8, "80 %"),
        (0.98633, "98.6 %"),
        (0.99999, "99.9 %"),
        (1, "100 %"),
    ],
)
def test_a_share_is_never_rounded_to_nothing_or_to_all(share: float, said: str) -> None:
    assert write_share(share) == said
