r"""Makes text from outside safe to show to a person: what would steer a terminal, or look like another line, is shown
as \u… instead."""

from __future__ import annotations

import re

# Control characters but tabs and line feeds; separators of lines and paragraphs; what turns the direction of writing;
# and halves of characters (surrogates), which the name of a file may hold and no terminal can show.
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def escape(text: str) -> str:
    """Make a text safe to show; its line feeds and tabs stay."""
    return _CONTROLS.sub(_show_code, text)


def escape_line(text: str) -> str:
    """Make a text safe to show in one line: line feeds are shown as \\n."""
    return escape(text).replace("\n", "\\n")


def _show_code(match: re.Match[str]) -> str:
    return f"\\u{ord(match[0]):04x}"
