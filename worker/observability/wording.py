"""How things are written for people: counts, shares, times, and durations in a sentence; and outside text made safe to
show, so that it neither controls a terminal nor looks like another line."""

import re
from datetime import UTC, datetime


def count_things(number: int, one: str) -> str:
    """Write a number with its noun: `1 token`, `2 tokens`, `2,959 tokens`."""
    return f"{number:,} {agree(number, one, one + 's')}"


def agree(number: int, one: str, many: str) -> str:
    """Choose the word that agrees with a number, such as `is` or `are`."""
    return one if number == 1 else many


def write_share(share: float) -> str:
    """Write a share in percent: 0.1234 becomes `12.3 %`, and 0.8 becomes `80 %`. A small share is never rounded to
    nothing, and an incomplete one never to all."""
    percent = share * 100
    written = f"{min(max(percent, 0.1), 99.9) if 0 < percent < 100 else percent:.1f}"
    return f"{written.removesuffix('.0')} %"


def format_duration(seconds: float) -> str:
    """Write a number of seconds for a person, by its two largest units: 95 becomes `1 min 35 s`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{agree(days, '1 day', f'{days} days')} {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def format_moment(at: datetime | None) -> str:
    """Write a time in UTC for a person, to the second: `2026-11-25 21:00:05`; empty for None."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S}" if at else ""


# Control characters except tabs and line feeds; separators of lines and paragraphs; characters that change the writing
# direction; and surrogates, which a file name may contain and no terminal can show.
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def escape(text: str) -> str:
    """Make a text safe to show; its line feeds and tabs stay."""
    return _CONTROLS.sub(_show_code, text)


def escape_line(text: str) -> str:
    """Make a text safe to show in one line: line feeds are shown as \\n."""
    return escape(text).replace("\n", "\\n")


def _show_code(match: re.Match[str]) -> str:
    return f"\\u{ord(match[0]):04x}"
