"""The paces of licenses: those of one process, one for each license and rate group; and what the database remembers
about them. Redis may forget a found limit, so the dispatcher writes it to the database, and applies a person's settings
in Redis. Groups other than activations are known only to Redis, for a day after the last change, since their work is
over within minutes. From the database, they get only the license's share and the end of a hold."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import redis
from sqlalchemy import Float, literal

from worker.config.environment import Environment
from worker.config.settings import Settings
from worker.database.engine import Database
from worker.pace.known_pace import KnownPace, read_pace, write_pace
from worker.pace.redis_state import Reading
from worker.pace.search import (
    START_RATES,
    RateGroup,
    Search,
    choose_rates,
    fix_rate,
    free_rate,
    resume_below_ceiling,
    set_share,
)
from worker.pace.slots import Pace

# A rate is written to the database when it differs from the stored one by more than this fraction.
RATE_NEWS = 0.02
# A ceiling is written to the database when it differs from the stored one by more than this fraction.
CEILING_NEWS = 0.005
# Seconds by which the end of a hold may differ between Redis and the database, due to two clocks and rounding, and
# still count as the same.
SAME_HOLD = 1.0


class Paces:
    """Paces of an installation, by license and rate group; thread-safe. `on_alone` gets a sentence when this process
    could not reach PingOne while another could; `on_lifted` gets the license whose hold a person ended."""

    def __init__(
        self,
        redis: redis.Redis,
        memory: PaceMemory,
        settings: Settings,
        *,
        installation: str = "",
        on_alone: Callable[[str], object],
        on_lifted: Callable[[str], object],
    ) -> None:
        self._redis = redis
        self._memory = memory
        self._settings = settings
        self._installation = installation
        self._on_alone = on_alone
        self._on_lifted = on_lifted
        self._lock = threading.Lock()
        self._known: dict[tuple[str, RateGroup], Pace] = {}

    def of(self, environment: Environment, group: RateGroup = RateGroup.MFA) -> Pace:
        """The pace of the environment's license in this rate group."""
        with self._lock:
            if (environment.license, group) not in self._known:
                self._known[environment.license, group] = self._make(environment, group)
            return self._known[environment.license, group]

    def _make(self, environment: Environment, group: RateGroup) -> Pace:
        rate, highest = choose_rates(group, environment.rate, environment.rate_max)
        return Pace(
            self._redis,
            environment.license,
            rate,
            group,
            highest=highest,
            recall=partial(self._memory.recall_search, environment.license, group, rate),
            furthest=self._settings.tuning.furthest_slot,
            threads=self._settings.concurrency,
            longest_hold=self._settings.tuning.longest_hold,
            installation=self._installation,
            on_alone=self._on_alone,
            on_lifted=partial(self._on_lifted, environment.license),
        )


class PaceMemory:
    """The paces of all licenses, as the database remembers them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def read(self, license: str) -> KnownPace:
        """Read what is known about a license's pace, in its own transaction."""
        with self._database.reading() as connection:
            return read_pace(self._database, connection, license)

    def recall_search(self, license: str, group: RateGroup, rate: float, now: float) -> Search | None:
        """Make the first search for a fleet that has none in Redis, from a person's settings or the ceiling that was
        found; None without either. `now` is in seconds of Redis' clock. No limit is remembered for groups other than
        activations; they begin with the license's share, at this rate."""
        known = self.read(license)
        if group is not RateGroup.MFA:
            return Search(rate, share=known.share)
        if known.fixed_rate:
            return fix_rate(Search(known.fixed_rate, share=known.share), known.fixed_rate, now)
        return resume_below_ceiling(known.ceiling, known.share, now) if known.ceiling else None

    def synchronize(self, pace: Pace) -> None:
        """Apply a person's settings in Redis, and write the found limit and the fleet's hold to the database. The
        dispatcher does this at each tick, for the pace of activations; a share, and the end of a hold, apply to all
        rate groups of the license. Raises redis.RedisError."""
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
            with self._database.changing_many() as connection:
                write_pace(connection, pace.license, found)

    def _compare_holds(self, known: KnownPace, reading: Reading) -> dict[str, Any]:
        """Return the columns of the hold that have changed in Redis since they were written. The clocks of Redis and
        the database may differ, so the remaining times are compared."""
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
        """Apply a person's settings to the search in Redis; then return the columns of the found limit that differ
        enough from the database's."""
        if reading.search is None:
            return {}
        search = _apply_settings(reading.search, known, reading.now)
        if search != reading.search:
            search = pace.change(lambda search, reading: _apply_settings(search, known, reading.now))
        is_news = _is_news(search.rate, known.rate, RATE_NEWS) or _is_news(search.ceiling, known.ceiling, CEILING_NEWS)
        found: dict[str, Any] = {"rate": search.rate} if is_news else {}
        if is_news and search.ceiling:
            found |= {"ceiling": search.ceiling, "found_at": self._database.now()}
        return found


def make_other_groups(pace: Pace) -> list[Pace]:
    """Make paces of this license's other rate groups, to read and change them in Redis."""
    return [
        Pace(
            pace.redis,
            pace.license,
            rate,
            group,
            furthest=pace.furthest,
            longest_hold=pace.longest_hold,
            installation=pace.installation,
        )
        for group, rate in START_RATES.items()
    ]


def apply_share(pace: Pace, share: float) -> None:
    """Make the pace of a group keep to this share of the license, if Redis has one that does not. Raises
    redis.RedisError."""
    search = pace.read().search
    if search is not None and search.share != share:
        pace.change(lambda search, reading: set_share(search, share, reading.now))


def _apply_settings(search: Search, known: KnownPace, now: float) -> Search:
    """Give the search a person's rate or share."""
    if known.fixed_rate:
        is_so = search.is_fixed and search.rate == known.fixed_rate
        return search if is_so else fix_rate(search, known.fixed_rate, now)
    if search.is_fixed:
        search = free_rate(search, now)
    return search if search.share == known.share else set_share(search, known.share, now)


def _is_news(found: float, known: float | None, part: float) -> bool:
    """Whether the found value differs from the known one by more than this fraction."""
    return found > 0 and abs(found - (known or 0.0)) > part * found
