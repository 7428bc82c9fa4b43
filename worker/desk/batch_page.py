"""The page of a batch, which the desk shows and `oathbulk report` writes as one file that needs nothing from elsewhere;
and what renders pages of HTML: values are escaped, and templates say things in the words of the terminal."""

import re
from shlex import quote
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup, escape

from worker import __version__
from worker.desk.chart import draw_chart
from worker.observability.wording import count_things, escape_line, format_moment
from worker.reports import sentences, token_history
from worker.reports.facts import BatchStatus
from worker.reports.overview import Overview

# Values of a column that a page lists.
MOST_PARTS = 200


def describe_batch(status: BatchStatus, overview: Overview) -> dict[str, Any]:
    """What the template of the page tells."""
    return {
        "status": status,
        "overview": overview,
        "chart": draw_chart(overview.timeline),
        "notes": sentences.explain_fleet([status]),
    }


def write_file(status: BatchStatus, overview: Overview) -> str:
    """Write the page as a file: as the batch stands now, and without what only the desk can do."""
    template = make_environment().get_template("batch.html")
    return template.render(version=__version__, **describe_batch(status, overview))


def make_environment() -> Environment:
    """Make what renders the templates. Whatever they print is escaped, and what would steer the reader's eye, such as a
    change of the direction of writing, is shown as its code."""
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
        "share": write_exact_share,
        "time": format_moment,
    }
    # A page of the desk says that it is none.
    environment.globals |= {"say": sentences, "of_token": token_history, "count_things": count_things, "quote": quote}
    environment.globals |= {"is_file": True, "MOST_PARTS": MOST_PARTS}
    return environment


def mark_code(text: str) -> Markup:
    """Escape a sentence, and set what stands between backticks as code."""
    *paired, rest = re.split("`([^`]*)`", escape_line(text))
    marked = (Markup("<code>%s</code>") % part if place % 2 else escape(part) for place, part in enumerate(paired))
    return Markup("").join(marked) + escape(rest)


def write_exact_share(share: float) -> str:
    """Write a share in percent with one digit behind the point: `12.3 %`; nothing and all have none."""
    return f"{share:.0%}".replace("%", " %") if share in (0, 1) else f"{min(max(100 * share, 0.1), 99.9):.1f} %"


def _show_controls(value: object) -> object:
    return escape_line(value) if isinstance(value, str) and not isinstance(value, Markup) else value
