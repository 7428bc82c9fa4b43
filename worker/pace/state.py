"""pingone: what the fleet's processes know in common of a license's pace, kept in Redis.

The scripts of worker.pace.scripts keep the state and give out slots; what becomes of the rate is decided in
worker.pace.ceiling. All times are in microseconds of Redis' own clock, so the clocks of the fleet may differ."""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, NamedTuple

import redis

from worker.pace.scripts import HOLD, LIFT, READ, RESERVE, UNDELIVERED, WRITE
from worker.pace.search import Search

MICROSECONDS = 1_000_000
# What is older than a day is no longer known; the database remembers the ceiling.
KEPT = 24 * 60 * 60 * 1000
# Growth a second, below which no climb is: the next look would be further ahead than the scripts take for sound.
SLOWEST_CLIMB = 0.001
# Seconds for which what another process delivered shows that PingOne can be reached.
DELIVERED_WITHIN = 10.0
# Seconds between two times that a process tells that it delivers.
DELIVERED_TOLD = 1.0


class Reservation(NamedTuple):
    """`outcome`: 1 reserved, 0 too far, -1 nobody has begun. The slot and how far away it is; until when the fleet
    holds; microseconds between slots; since when answers count; whether there are enough for a look at the rate; and
    when a person lifted a hold last, 0 for never."""

    outcome: int
    slot: int
    wait: int
    held_until: int
    interval: int
    counted_since: int
    is_look_due: int
    lifted: int


@dataclass(frozen=True, slots=True)
class Reading:
    """`search` is None where nobody has begun, or another version has. `answers` since `search.since`, the last of them
    to a slot at `last`; all slots before `next_slot` are given out. `held_since` and `held_why` belong to the hold that
    lasts until `held_until`; `lifted` is a number that is another each time that a person lifts one. Times in
    seconds."""

    search: Search | None
    version: int
    answers: int
    last: float
    now: float
    held_until: float
    next_slot: float
    held_since: float = 0.0
    held_why: str = ""
    lifted: int = 0

    @property
    def hold_left(self) -> float:
        """Seconds that the fleet's hold still lasts, 0 if there is none."""
        return max(self.held_until - self.now, 0.0)


class PaceState:
    """One license's state, as one process asks for it. Every method raises redis.RedisError.

    `longest_wait` and `longest_hold`, in seconds: nobody reserves a slot further away, or asks for a longer hold, so
    that a state beyond them is begun anew."""

    def __init__(self, redis: redis.Redis, license: str, *, longest_wait: float, longest_hold: float) -> None:
        self._keys = [f"oathbulk:pace:{license}"]
        self._redis = redis
        self._told_at = -math.inf
        self._process = uuid.uuid4().hex
        # A second more, for times that are rounded.
        self._bounds = [math.ceil(longest_wait * MICROSECONDS), math.ceil((longest_hold + 1) * MICROSECONDS)]
        scripts = (RESERVE, HOLD, UNDELIVERED, LIFT, READ, WRITE)
        self._reserve, self._hold, self._undelivered, self._lift, self._read, self._write = map(
            redis.register_script, scripts
        )

    def reserve(
        self, furthest: float, hold: float, answers: int, last: int, why: str = "", lifted: int = 0
    ) -> Reservation:
        """`furthest` and `hold` in seconds, `last` in microseconds; `why` and `lifted` go with the hold."""
        held: list[str | int] = [math.ceil(hold * MICROSECONDS), why, lifted]
        process = self._process if answers and self._is_news_that_it_delivered() else ""
        arguments = [*self._bounds, int(furthest * MICROSECONDS), *held, answers, last, process]
        return Reservation(*self._reserve(keys=self._keys, args=arguments))

    def _is_news_that_it_delivered(self) -> bool:
        """Once in a second or so: with every answer it would make a reservation dearer."""
        now = time.monotonic()
        is_news = now - self._told_at >= DELIVERED_TOLD
        if is_news:
            self._told_at = now
        return is_news

    def hold(self, seconds: float, why: str) -> int:
        """The fleet holds; when a person lifted a hold last."""
        return int(self._hold(keys=self._keys, args=[*self._bounds, math.ceil(seconds * MICROSECONDS), why]))

    def undelivered(self, seconds: float, why: str) -> tuple[bool, int]:
        """The fleet holds, unless another process has delivered just now: then the first is True. The other is as for
        `hold`."""
        told: list[str | int] = [
            math.ceil(seconds * MICROSECONDS),
            why,
            self._process,
            int(DELIVERED_WITHIN * MICROSECONDS),
        ]
        is_alone, lifted = self._undelivered(keys=self._keys, args=[*self._bounds, *told])
        return bool(is_alone), lifted

    def lift(self) -> int:
        """End the fleet's hold; when that was."""
        return int(self._lift(keys=self._keys, args=[*self._bounds, KEPT]))

    def held_until(self) -> int:
        """0 where there is no hold, or none that can be read: the next reservation sees to that."""
        try:
            return int(self._redis.hget(self._keys[0], "held_until") or 0)
        except ValueError:
            return 0

    def read(self) -> Reading:
        seconds, microseconds, state = self._read(keys=self._keys, args=self._bounds)
        parts = [_text(part) for part in state]
        kept = dict(zip(parts[::2], parts[1::2], strict=True))

        def at(name: str) -> float:
            return float(kept.get(name, 0)) / MICROSECONDS

        return Reading(
            _search(kept),
            int(kept.get("version", 0)),
            int(kept.get("answers", 0)),
            at("last"),
            int(seconds) + int(microseconds) / MICROSECONDS,
            at("held_until"),
            at("next_at"),
            at("held_since"),
            kept.get("held_why", ""),
            int(float(kept.get("lifted", 0))),
        )

    def write(self, search: Search, version: int) -> bool:
        """False: the state is no longer of this version."""
        values: dict[str, float] = {name: float(value) for name, value in asdict(search).items()}
        values |= {
            "interval": math.ceil(MICROSECONDS / search.rate),
            "counted_since": int(search.since * MICROSECONDS),
            "look_from": int(search.look_at * MICROSECONDS),
        }
        pairs = [part for pair in values.items() for part in pair]
        return bool(self._write(keys=self._keys, args=[version, KEPT, *pairs]))


def _search(kept: Mapping[str, str]) -> Search | None:
    """None where nobody has begun, or another version has, which knew other fields; and for what is no search."""
    if not kept.keys() >= {"interval", *(field.name for field in fields(Search))}:
        return None
    values: dict[str, Any] = {field.name: float(kept[field.name]) for field in fields(Search)}
    if not values["rate"] > 0 or 0 < values["climb"] < SLOWEST_CLIMB:
        return None
    return Search(**values | {name: bool(values[name]) for name in ("has_fallen", "is_fixed")})


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
