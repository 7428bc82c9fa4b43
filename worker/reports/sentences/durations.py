"""How a number of seconds is written for a person."""

from __future__ import annotations


def format_duration(seconds: float) -> str:
    """Write a number of seconds for a person: 95 becomes `1 min 35 s`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
