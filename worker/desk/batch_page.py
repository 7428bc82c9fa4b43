"""The page of a batch, which the desk shows, and which `oathbulk report` writes as one self-contained file. Also
computes the chart of active tokens over time, which `templates/parts.html` draws as an SVG, and configures the HTML
templates: they escape all values, and use the same sentences as the terminal."""

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from shlex import quote
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup, escape

from worker import __version__
from worker.observability.wording import count_things, escape_line, format_moment, write_share
from worker.reports import cures, outlook, search, token_history
from worker.reports.batch_history import BatchHistory, Timeline, describe_command, describe_timeline
from worker.reports.facts import BatchStatus, describe_costs, describe_made, describe_outcome

# Maximum number of a column's values that a page lists.
MOST_PARTS = 200


def describe_batch(status: BatchStatus, history: BatchHistory) -> dict[str, Any]:
    """Collect the values that the page's template shows."""
    return {
        "status": status,
        "history": history,
        "chart": draw_chart(history.timeline),
        "notes": outlook.explain_fleet([status]),
    }


def write_file(status: BatchStatus, history: BatchHistory) -> str:
    """Write the page as a file: the present status of the batch, without the links and commands of the desk."""
    template = make_environment().get_template("batch.html")
    return template.render(version=__version__, **describe_batch(status, history))


def make_environment() -> Environment:
    """Make the environment that renders the templates. It escapes everything they print, and shows characters that
    could mislead the reader, such as a change of the writing direction, as their codes."""
    environment = Environment(
        loader=PackageLoader("worker.desk"),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_show_controls,
    )
    environment.filters |= {
        "coded": mark_code,
        "number": "{:,}".format,
        "share": write_share,
        "time": format_moment,
    }
    # By default, a page is a file; the desk sets `is_file` to False.
    environment.globals |= {"outlook": outlook, "cures": cures, "search": search, "of_token": token_history}
    said = (describe_command, describe_costs, describe_made, describe_outcome, describe_timeline, count_things, quote)
    environment.globals |= {function.__name__: function for function in said}
    environment.globals |= {"is_file": True, "MOST_PARTS": MOST_PARTS}
    return environment


def mark_code(text: str) -> Markup:
    """Escape a sentence, and mark text between backticks as code."""
    *paired, rest = re.split("`([^`]*)`", escape_line(text))
    marked = (Markup("<code>%s</code>") % part if place % 2 else escape(part) for place, part in enumerate(paired))
    return Markup("").join(marked) + escape(rest)


def _show_controls(value: object) -> object:
    return escape_line(value) if isinstance(value, str) and not isinstance(value, Markup) else value


# The size of the drawing, in its own units; a browser scales it.
WIDTH, HEIGHT = 720.0, 240.0
# The edges of the plot, in the same units: there is room above for the highest number, and below for the times.
TOP, BOTTOM = 24.0, 212.0
# Maximum number of ticks on an axis.
MOST_TICKS = 6
# Seconds between two ticks of the time axis: values that divide a minute, an hour or a day evenly.
_STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400)
_DAY = 86400


@dataclass(frozen=True, slots=True)
class Tick:
    """A mark on an axis: its position, and its label."""

    at: float
    label: str


@dataclass(frozen=True, slots=True)
class Band:
    """A pause as a rectangle; `number` refers to the list below the chart."""

    x: float
    width: float
    number: int
    is_start_known: bool


@dataclass(frozen=True, slots=True)
class Chart:
    """Everything in the drawing: the curve as the path `line`, the area below it as the closed path `area`, the axes
    and the pauses."""

    line: str
    area: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    bands: tuple[Band, ...]
    dates: str
    width: float = WIDTH
    height: float = HEIGHT
    top: float = TOP
    bottom: float = BOTTOM


def draw_chart(timeline: Timeline) -> Chart | None:
    """Compute the positions of the curve and the pauses; None if no token became active."""
    if not timeline.moments:
        return None
    since = min(timeline.since, timeline.moments[0][0])
    until = max(timeline.until, timeline.moments[-1][0], since + timedelta(seconds=1))
    numbers = choose_numbers(timeline.moments[-1][1])
    scale = _Scale(since, until, numbers[-1])
    line = "".join(_draw_steps(timeline, scale))
    area = f"M{scale.x(timeline.moments[0][0]):.1f} {BOTTOM:.1f}V{line[1:].partition(' ')[2]}V{BOTTOM:.1f}Z"
    return Chart(
        line=line,
        area=area,
        x_ticks=tuple(_choose_time_ticks(scale)),
        y_ticks=tuple(Tick(scale.y(number), f"{number:,}") for number in numbers),
        bands=tuple(_place_bands(timeline, scale)),
        dates=_write_dates(since, until),
    )


@dataclass(frozen=True, slots=True)
class _Scale:
    """Converts a time and a number of tokens to a position in the drawing."""

    since: datetime
    until: datetime
    most: int

    def x(self, at: datetime) -> float:
        part = (at - self.since) / (self.until - self.since)
        return WIDTH * min(max(part, 0.0), 1.0)

    def y(self, number: int) -> float:
        return BOTTOM - (BOTTOM - TOP) * number / self.most


def _draw_steps(timeline: Timeline, scale: _Scale) -> Iterator[str]:
    """Draw the path of the curve in steps: level until the next moment, then up; level to the end."""
    for place, (at, count) in enumerate(timeline.moments):
        x, y = scale.x(at), scale.y(count)
        yield f"H{x:.1f}V{y:.1f}" if place else f"M{x:.1f} {y:.1f}"
    yield f"H{scale.x(timeline.until):.1f}"


def choose_numbers(most: int) -> range:
    """Choose the numbers on the axis. The step is the smallest of 1, 2, 5, 10, 20, 50 … with which four steps
    suffice."""
    steps = (factor * 10**power for power in itertools.count() for factor in (1, 2, 5))
    step = next(each for each in steps if 4 * each >= most)
    return range(0, most + step, step)


def _choose_time_ticks(scale: _Scale) -> Iterator[Tick]:
    """Choose ticks at round times, but not so near to an edge that it would cut off the label."""
    span = (scale.until - scale.since).total_seconds()
    step = next((each for each in _STEPS if span / each <= MOST_TICKS), None) or _DAY * -(-span // (_DAY * MOST_TICKS))
    form = "%d %b" if step >= _DAY else "%H:%M" if step >= 60 else "%H:%M:%S"
    moment = -(-scale.since.timestamp() // step) * step
    while moment <= scale.until.timestamp():
        at = datetime.fromtimestamp(moment, UTC)
        if 30 < scale.x(at) < WIDTH - 30:
            yield Tick(scale.x(at), f"{at:{form}}")
        moment += step


def _place_bands(timeline: Timeline, scale: _Scale) -> Iterator[Band]:
    for number, pause in enumerate(timeline.pauses, 1):
        begin, end = scale.x(pause.start), scale.x(pause.end or scale.until)
        # A narrower band would be invisible.
        yield Band(min(begin, WIDTH - 3), max(end - begin, 3.0), number, pause.is_start_known)


def _write_dates(since: datetime, until: datetime) -> str:
    """Write the day that the time axis covers, or the first and the last day."""
    days = list(dict.fromkeys(f"{at.astimezone(UTC):%Y-%m-%d}" for at in (since, until)))
    return " to ".join(days)
