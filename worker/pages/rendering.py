"""Makes what renders pages of HTML: values are escaped, and templates say things in the words of the terminal."""

from __future__ import annotations

import re
from shlex import quote

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup, escape

from worker.observability.counting import count_things
from worker.observability.escaping import escape_line
from worker.pages import sentences, wording
from worker.reports.sentences import costs, history, next_step, outlook, pace, preparation, search, tokens

# What templates say in sentences.
_SAYS = {
    **{"say": sentences, "outlook": outlook, "history": history, "next_step": next_step, "pace": pace},
    **{"preparation": preparation, "search": search, "tokens": tokens, "costs": costs},
}
# What templates write values with.
_FILTERS = {
    "number": wording.write_number,
    "exact_share": wording.write_exact_share,
    "time": wording.write_time,
}


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
    environment.filters |= _FILTERS | {"coded": mark_code}
    # A page of the desk says that it is none.
    environment.globals |= _SAYS | {"count_things": count_things, "quote": quote, "is_file": True}
    return environment


def mark_code(text: str) -> Markup:
    """Escape a sentence, and set what stands between backticks as code."""
    *paired, rest = re.split("`([^`]*)`", escape_line(text))
    marked = (Markup("<code>%s</code>") % part if place % 2 else escape(part) for place, part in enumerate(paired))
    return Markup("").join(marked) + escape(rest)


def _show_controls(value: object) -> object:
    return escape_line(value) if isinstance(value, str) and not isinstance(value, Markup) else value
