"""Reads the values of a JSON answer. None stands for what is missing, or of a wrong type: "not known". Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

# Ids and serial numbers, as they go into logs and addresses.
_ID = re.compile(r"[\x21-\x7e]{1,100}")
# Ids that PingOne gave to what we had it make. They go into the addresses of calls that change something, where no
# server on the way may take a character for anything else: "%2E%2E" and ";x" vanish from a path.
_PLAIN_ID = re.compile(r"[A-Za-z0-9_-]{1,100}")
# Names of people: anything but control characters and halves of surrogate pairs, which no database takes. PingOne
# permits 1,024 characters for the longest of them, the external id.
_TEXT = re.compile(r"[^\x00-\x1f\x7f\ud800-\udfff]{1,1024}")


def find_part(value: object, *names: str) -> object:
    """Go down a JSON object by these names; None where one of them is missing."""
    for name in names:
        if not isinstance(value, Mapping):
            return None
        value = value.get(name)
    return value


def read_id(value: object) -> str | None:
    """Read an id or a serial number."""
    return value if isinstance(value, str) and _ID.fullmatch(value) else None


def read_plain_id(value: object) -> str | None:
    """Read an id that leads to one thing alone, whatever a server on the way makes of its address."""
    return value if isinstance(value, str) and _PLAIN_ID.fullmatch(value) else None


def read_text(value: object) -> str | None:
    """Read a name as it is, so that it can be compared: it is not masked, and not made harmless for a terminal."""
    return value if isinstance(value, str) and _TEXT.fullmatch(value) else None


def read_truth(value: object) -> bool | None:
    """Read true or false."""
    return value if isinstance(value, bool) else None


def read_count(value: object) -> int | None:
    """Read a whole number from 0 on."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def read_number(value: object) -> float | None:
    """Read a number from 0 on; None for one that has no end."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        return None
    # Larger ones fit into no float, and are no limits and no times.
    return float(value) if value < 1e15 else None


def read_time(value: object) -> datetime | None:
    """Read a time in ISO 8601, as UTC."""
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else None
        if moment is None:
            return None
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def read_age(value: object, now: datetime | None) -> timedelta | None:
    """Read how long ago this time was, such as that of a creation, by the time of the answer that tells it: so an error
    of our clock does not matter."""
    at = read_time(value)
    return now - at if now and at else None
