"""Numbers, times and spans of time as a person reads them."""

from __future__ import annotations

from datetime import UTC, datetime

# Below it, a span is told in milliseconds; in seconds.
_SHORT = 1.0


def write_number(number: int) -> str:
    """Write a number with commas: 2959 becomes `2,959`."""
    return f"{number:,}"


def write_exact_share(share: float) -> str:
    """Write a share in percent with one digit behind the point: `12.3 %`; nothing and all have none."""
    return f"{share:.0%}".replace("%", " %") if share in (0, 1) else f"{min(max(100 * share, 0.1), 99.9):.1f} %"


def write_time(at: datetime | None) -> str:
    """Write a time in UTC, to the second; empty for None."""
    return "" if at is None else f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S}"


def write_span(seconds: float | None) -> str:
    """Write a span of time with its two largest units: 95 becomes `1 min 35 s`; a dash for None."""
    if seconds is None:
        return "–"
    if seconds < _SHORT:
        return f"{round(seconds * 1000)} ms"
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def list_words(words: list[str]) -> str:
    """Write words as a list in a sentence: `a, b and c`."""
    return " and ".join(filter(None, (", ".join(words[:-1]), *words[-1:])))
