"""Keeps the paces of licenses in the database and in Redis the same: what was found of their limits, which Redis may
forget, and what a person has set."""

from __future__ import annotations

from functools import partial
from typing import Any

from sqlalchemy import Float, literal

from worker.database.engine import Database
from worker.pace.groups import apply_share, make_other_groups
from worker.pace.known_pace import KnownPace, read_pace, write_pace
from worker.pace.replies import Reading
from worker.pace.search import Search, fix_rate, free_rate, resume_below_ceiling, set_share
from worker.pace.slots import Pace

# A rate is written to the database when it differs from the one there by more than this part of it.
RATE_NEWS = 0.02
# A ceiling is written to the database when it differs from the one there by more than this part of it.
CEILING_NEWS = 0.005
# Seconds by which the end of a hold may differ between Redis and the database, told by two clocks and rounded, and
# still be the same.
SAME_HOLD = 1.0


class PaceMemory:
    """The paces of all licenses, as the database remembers them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def read(self, license: str) -> KnownPace:
        """Read what is known of a license's pace, in a transaction of its own."""
        with self._database.reading() as connection:
            return read_pace(self._database, connection, license)

    def recall_search(self, license: str, now: float) -> Search | None:
        """Make the search that a fleet without one in Redis begins with, of what a person has set, or of the ceiling
        that was found; None where there is neither. `now` is in seconds of Redis' clock."""
        known = self.read(license)
        if known.fixed_rate:
            return fix_rate(Search(known.fixed_rate, share=known.share), known.fixed_rate, now)
        return resume_below_ceiling(known.ceiling, known.share, now) if known.ceiling else None

    def recall_share(self, license: str, rate: float, _: float) -> Search | None:
        """Make the search that another rate group than that of activations begins with at this rate, if a person has
        set a share of the license; otherwise None."""
        share = self.read(license).share
        return Search(rate, share=share) if share < 1 else None

    def synchronize(self, pace: Pace) -> None:
        """Take to Redis what a person has set, and write to the database what was found of the limit, and the fleet's
        hold. The dispatcher does so once a tick, for the pace of activations; a share, and the end of a hold, go to all
        rate groups of its license. Raises redis.RedisError."""
        known, reading = self.read(pace.license), pace.read()
        if known.is_to_be_lifted:
            pace.lift()
            reading = pace.read()
        for other in make_other_groups(pace):
            if known.is_to_be_lifted:
                other.lift()
            apply_share(other, known.share)
        found = self._compare_holds(known, reading) | self._exchange_search(pace, known, reading)
        if found:
            self._write(pace.license, found)

    def _compare_holds(self, known: KnownPace, reading: Reading) -> dict[str, Any]:
        """Return the columns of the hold that have changed in Redis since they were written. Redis' clock and the
        database's may differ, so what counts is how far away the end of the hold is."""
        lifted: dict[str, Any] = {"is_to_be_lifted": False} if known.is_to_be_lifted else {}
        left, before = reading.hold_left, known.hold
        if not left:
            is_news = before is not None or known.is_to_be_lifted
            return lifted | dict.fromkeys(("held_since", "held_until", "held_why")) if is_news else {}
        if before and before.why == reading.held_why and abs(before.left - left) <= SAME_HOLD:
            return lifted
        return lifted | {
            "held_since": self._database.now(literal(min(reading.held_since - reading.now, 0.0), Float())),
            "held_until": self._database.now(literal(left, Float())),
            "held_why": reading.held_why,
        }

    def _exchange_search(self, pace: Pace, known: KnownPace, reading: Reading) -> dict[str, Any]:
        """Apply to the search in Redis what a person has set; then return the columns of what was found of the limit,
        as far as they differ enough from those in the database."""
        if reading.search is None:
            return {}
        search = _apply_settings(reading.search, known, reading.now)
        if search != reading.search:
            search = pace.change(partial(_change_to_settings, known))
        is_news = _is_news(search.rate, known.rate, RATE_NEWS) or _is_news(search.ceiling, known.ceiling, CEILING_NEWS)
        found: dict[str, Any] = {"rate": search.rate} if is_news else {}
        if is_news and search.ceiling:
            found |= {"ceiling": search.ceiling, "found_at": self._database.now()}
        return found

    def _write(self, license: str, values: dict[str, Any]) -> None:
        with self._database.changing_many() as connection:
            write_pace(connection, license, values)


def _change_to_settings(known: KnownPace, search: Search, reading: Reading) -> Search:
    return _apply_settings(search, known, reading.now)


def _apply_settings(search: Search, known: KnownPace, now: float) -> Search:
    """Give the search the rate or the share that a person has set."""
    if known.fixed_rate:
        is_so = search.is_fixed and search.rate == known.fixed_rate
        return search if is_so else fix_rate(search, known.fixed_rate, now)
    if search.is_fixed:
        search = free_rate(search, now)
    return search if search.share == known.share else set_share(search, known.share, now)


def _is_news(found: float, known: float | None, part: float) -> bool:
    """Whether what was found differs from what is known by more than this part of it."""
    return found > 0 and abs(found - (known or 0.0)) > part * found
