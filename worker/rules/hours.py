"""The hours of a day in which a batch may run, by the clocks of one time zone. Pure: the time is passed in."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from difflib import get_close_matches
from functools import cache
from zoneinfo import ZoneInfo, available_timezones

# Hours as a person writes them. 24:00 is an end; it is the next day's 00:00.
_HOURS = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)-(?:([01]?\d|2[0-3]):([0-5]\d)|24:00)", re.ASCII)
# Names that mean a different zone on each machine.
_OF_THE_MACHINE = frozenset({"localtime"})
_MINUTE = timedelta(minutes=1)
# How far ahead to look for a change. Hours begin once a day, unless clocks skip them, or a country skips a day.
_LONGEST_WAIT = timedelta(days=5)


class UnfitHours(ValueError):
    """Invalid hours or time zone; the message says what would be valid."""


@dataclass(frozen=True, slots=True)
class DailyHours:
    """From `start` up to, not including, `end`, which is on the next day if it is earlier. Whole minutes of local time.
    When clocks go forward, missing hours are skipped; when they go back, a repeated hour counts twice."""

    start: time
    end: time
    zone: str

    @classmethod
    def parse(cls, hours: str, zone: str) -> DailyHours:
        """Read hours such as `22:00-05:30` in a zone such as `Europe/Berlin`. Raises UnfitHours."""
        found = _HOURS.fullmatch(hours.strip())
        if found is None:
            raise UnfitHours(f"{hours!r} is not a daily window: write it as 22:00-05:30")
        hour, minute, end_hour, end_minute = (int(part or 0) for part in found.groups())
        start, end = time(hour, minute), time(end_hour, end_minute)
        if start == end:
            raise UnfitHours(f"{hours!r} begins and ends at the same time: without a window a batch runs all day")
        return cls(start, end, check_zone(zone.strip()))

    @property
    def hours(self) -> str:
        """The hours without their zone, `22:00-05:30`."""
        return f"{self.start:%H:%M}-{self.end:%H:%M}"

    @property
    def seconds(self) -> float:
        """The duration of the hours, on a day without a clock change."""
        start, end = (timedelta(hours=each.hour, minutes=each.minute) for each in (self.start, self.end))
        return ((end - start) % timedelta(days=1)).total_seconds()

    def __str__(self) -> str:
        return f"{self.hours} {self.zone}"

    def contains(self, at: datetime) -> bool:
        """Whether the time `at` is within these hours."""
        shown = at.astimezone(ZoneInfo(self.zone)).time()
        if self.start < self.end:
            return self.start <= shown < self.end
        return shown >= self.start or shown < self.end

    def find_next_change(self, after: datetime) -> datetime:
        """When the hours end, if `after` is within them; otherwise when they begin next. UTC."""
        # Clock changes also fall on whole minutes, so checking each minute suffices: a few thousand at most, in a few
        # milliseconds, twice a day.
        is_within = self.contains(after)
        minute = after.astimezone(UTC).replace(second=0, microsecond=0) + _MINUTE
        last = minute + _LONGEST_WAIT
        while self.contains(minute) == is_within and minute < last:
            minute += _MINUTE
        return minute


def format_time(at: datetime) -> str:
    """Write a time for a person, in UTC: `2026-11-25 21:00 UTC`."""
    return f"{at:%Y-%m-%d %H:%M} UTC"


def check_zone(zone: str) -> str:
    """Return the name of a time zone that exists on this machine. Raises UnfitHours, with suggestions."""
    zones = _list_zones()
    if zone in zones:
        return zone
    by_lower = {each.lower(): each for each in sorted(zones)} | {each.split("/")[-1].lower(): each for each in zones}
    near = get_close_matches(zone.lower().replace(" ", "_"), by_lower, n=3, cutoff=0.7)
    meant = " or ".join(dict.fromkeys(by_lower[name] for name in near))
    guess = f"did you mean {meant}? " if meant else ""
    raise UnfitHours(
        f"{zone!r} is not a time zone: {guess}Use a name from the IANA database, such as Europe/Berlin,"
        " America/New_York or UTC"
    )


@cache
def _list_zones() -> frozenset[str]:
    """The names of all time zones. Listing them reads several hundred files, so the list is kept."""
    return frozenset(available_timezones() - _OF_THE_MACHINE)
