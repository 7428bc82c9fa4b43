r"""Text from outside on its way to a person: what would steer a terminal or feign a line is shown as \u… instead."""

from __future__ import annotations

import re

# Control characters but tabs and line feeds, separators of lines and paragraphs, what turns the direction of writing,
# and halves of characters, which a name of a file may hold and no terminal can show.
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def escape(text: str) -> str:
    """The text with its line feeds and tabs."""
    return _CONTROLS.sub(_shown, text)


def escape_line(text: str) -> str:
    """The text as one line."""
    return escape(text).replace("\n", "\\n")


def _shown(match: re.Match[str]) -> str:
    return f"\\u{ord(match[0]):04x}"
