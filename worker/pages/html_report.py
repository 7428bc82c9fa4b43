"""The report as a page of HTML: one file that needs nothing from elsewhere."""

from __future__ import annotations

import re
from collections.abc import Iterator
from shlex import quote

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup, escape

from worker.observability.counting import count_things, write_share
from worker.observability.escaping import escape_line
from worker.pages import sentences, wording
from worker.pages.chart import draw_chart
from worker.reports.batch_report.contents import Report

# Pieces of a page that are written together.
BUFFERED = 200
# Groups of a column that the page shows; those that stand out come first.
SHOWN_GROUPS = 12


def render_html(report: Report) -> Iterator[str]:
    """Write the page, piece by piece."""
    template = make_environment().get_template("report.html")
    stream = template.stream(report=report, chart=draw_chart(report.timeline), shown_groups=SHOWN_GROUPS)
    stream.enable_buffering(BUFFERED)
    return iter(stream)


def make_environment(*packages: str) -> Environment:
    """Make what renders the templates of `worker.pages`, and of `packages`, each from its directory `templates`.
    Whatever they print is escaped, and what would steer the reader's eye, such as a change of the direction of writing,
    is shown as its code."""
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(package) for package in ("worker.pages", *packages)]),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_show_controls,
    )
    environment.filters |= _FILTERS
    environment.globals |= {"say": sentences, "count_things": count_things, "quote": quote}
    return environment


def mark_code(text: str) -> Markup:
    """Escape a sentence, and set what stands between backticks as code."""
    *paired, rest = re.split("`([^`]*)`", escape_line(text))
    marked = (Markup("<code>%s</code>") % part if place % 2 else escape(part) for place, part in enumerate(paired))
    return Markup("").join(marked) + escape(rest)


def _show_controls(value: object) -> object:
    return escape_line(value) if isinstance(value, str) and not isinstance(value, Markup) else value


# What templates write values with.
_FILTERS = {
    "number": wording.write_number,
    "share": write_share,
    "exact_share": wording.write_exact_share,
    "time": wording.write_time,
    "span": wording.write_span,
    "coded": mark_code,
}
