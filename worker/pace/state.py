"""What the fleet's processes know in common of a license's pace, kept in Redis.

The scripts of worker.pace.scripts keep the state and give out slots; how the rate moves is decided in
worker.pace.ceiling. All times are in microseconds of Redis' own clock, so the clocks of the fleet may differ."""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import redis

from worker.pace.rate_groups import RateGroup
from worker.pace.replies import PaceNews, Reading, Reservation
from worker.pace.rows import ROWS, write_rows
from worker.pace.scripts import HOLD, LIFT, READ, REPORT_UNDELIVERED, RESERVE, WRITE
from worker.pace.search import Search

# In a second.
MICROSECONDS = 1_000_000
# Milliseconds that Redis keeps a state which nobody changes: what is older than a day is no longer known, and the
# database remembers the ceiling.
KEPT_MILLISECONDS = 24 * 60 * 60 * 1000
# Relative growth a second. A slower climb cannot be true: the next review would be further ahead than the scripts take
# for sound.
LEAST_CLIMB = 0.001
# Seconds for which what another process delivered shows that PingOne can be reached.
DELIVERED_WITHIN = 10.0
# Seconds between two times that a process tells Redis that it delivers.
DELIVERY_TOLD_EVERY = 1.0


class PaceState:
    """The state of one rate group of a license in Redis, as one process reads and changes it. Every method raises
    redis.RedisError.

    `longest_wait` and `longest_hold`, in seconds: nobody reserves a slot further away, or asks for a longer hold. A
    state with times beyond these cannot be true, and is replaced."""

    def __init__(
        self,
        redis: redis.Redis,
        license: str,
        group: RateGroup = RateGroup.MFA,
        *,
        longest_wait: float,
        longest_hold: float,
    ) -> None:
        # Its number is that of the fields: workers of the version before, which know others, have a state of their own
        # during an update. A license may have any name, so the keys of groups do not begin like this one.
        prefix = "oathbulk:pace-2" if group is RateGroup.MFA else f"oathbulk:pace-2-of-{group}"
        self._keys = [f"{prefix}:{license}"]
        self._redis = redis
        self._delivery_told_at = -math.inf
        self._process = uuid.uuid4().hex
        # A second more, for times that are rounded.
        self._bounds = [math.ceil(longest_wait * MICROSECONDS), math.ceil((longest_hold + 1) * MICROSECONDS)]
        scripts = (RESERVE, HOLD, REPORT_UNDELIVERED, LIFT, READ, WRITE)
        self._reserve, self._hold, self._report_undelivered, self._lift, self._read, self._write = map(
            redis.register_script, scripts
        )

    def reserve(
        self,
        furthest: Sequence[float],
        hold: float,
        answers: int,
        last: int,
        why: str = "",
        last_lifting: int = 0,
    ) -> tuple[PaceNews, list[Reservation]] | None:
        """Reserve the next slots, report answers, and tell of a hold that Redis may have forgotten. None: Redis has no
        state of this license, or none that can be true.

        A slot is asked for by how many seconds away it may be, and of each there is an answer, in the same order.
        `answers` have come since the last reservation, and `last`, in microseconds, is the last of their slots. `hold`
        is in seconds, 0 for none; `why` is its reason, and `last_lifting` when a person lifted a hold last, as far as
        this process has heard."""
        held: list[str | int] = [math.ceil(hold * MICROSECONDS), why, last_lifting]
        process = self._process if answers and self._is_time_to_tell_of_delivery() else ""
        asked = [int(seconds * MICROSECONDS) for seconds in furthest]
        found = self._reserve(keys=self._keys, args=[*self._bounds, *held, answers, last, process, *asked])
        return _read_reservations(found) if found else None

    def _is_time_to_tell_of_delivery(self) -> bool:
        """Whether Redis was not told for a second that this process delivers: with every answer that would make
        reservations slower."""
        now = time.monotonic()
        is_time = now - self._delivery_told_at >= DELIVERY_TOLD_EVERY
        if is_time:
            self._delivery_told_at = now
        return is_time

    def hold(self, seconds: float, why: str) -> int:
        """Hold the fleet; return when a person lifted a hold last."""
        return int(self._hold(keys=self._keys, args=[*self._bounds, math.ceil(seconds * MICROSECONDS), why]))

    def report_undelivered(self, seconds: float, why: str) -> tuple[bool, int]:
        """Hold the fleet, unless another process has delivered just now; then return True, for this process must hold
        alone. With it, when a person lifted a hold last."""
        report: list[str | int] = [
            math.ceil(seconds * MICROSECONDS),
            why,
            self._process,
            int(DELIVERED_WITHIN * MICROSECONDS),
        ]
        is_alone, last_lifting = self._report_undelivered(keys=self._keys, args=[*self._bounds, *report])
        return bool(is_alone), last_lifting

    def lift(self) -> int:
        """End the fleet's hold; return when that was."""
        return int(self._lift(keys=self._keys, args=[*self._bounds, KEPT_MILLISECONDS]))

    def read_held_until(self) -> int:
        """Read until when the fleet holds; 0 where it does not, or where that cannot be read: the next reservation
        replaces such a state."""
        try:
            return int(self._redis.hget(self._keys[0], "held_until") or 0)
        except ValueError:
            return 0

    def read(self) -> Reading:
        """Read the state, with the time in Redis. A state that cannot be true is removed from Redis."""
        seconds, microseconds, state = self._read(keys=self._keys, args=self._bounds)
        parts = [_decode(part) for part in state]
        kept = dict(zip(parts[::2], parts[1::2], strict=True))

        def at(name: str) -> float:
            return float(kept.get(name, 0)) / MICROSECONDS

        return Reading(
            parse_search(kept),
            int(kept.get("version", 0)),
            int(kept.get("answers", 0)),
            at("last"),
            int(seconds) + int(microseconds) / MICROSECONDS,
            at("held_until"),
            at("next_at"),
            at("held_since"),
            kept.get("held_why", ""),
            int(float(kept.get("lifted", 0))),
            int(kept.get("slots", 0)),
        )

    def write(self, search: Search, version: int, slots: int) -> bool:
        """Write this search, if the state is still of this version; otherwise False, and nothing is written. `slots`
        had been given out when it was read."""
        pairs = [part for pair in write_fields(search).items() for part in pair]
        return bool(self._write(keys=self._keys, args=[version, KEPT_MILLISECONDS, slots, *pairs]))


def _read_reservations(found: Sequence[int]) -> tuple[PaceNews, list[Reservation]]:
    """Read what RESERVE has returned."""
    news = PaceNews(*found[: len(PaceNews._fields)])
    slots = found[len(PaceNews._fields) :]
    return news, [
        Reservation(bool(is_reserved), slot, wait, news.interval, bool(news.is_review_due) and not number)
        for number, (is_reserved, slot, wait) in enumerate(zip(slots[::3], slots[1::3], slots[2::3], strict=True))
    ]


def write_fields(search: Search) -> dict[str, float | str]:
    """Make the fields that Redis keeps of a search."""
    values: dict[str, float | str] = {}
    for field in fields(search):
        value = getattr(search, field.name)
        values[field.name] = write_rows(value) if isinstance(value, tuple) else float(value)
    return values | {
        "interval": math.ceil(MICROSECONDS / search.rate),
        "counted_since": int(search.since * MICROSECONDS),
        "look_from": int(search.review_due_at * MICROSECONDS),
    }


def parse_search(kept: Mapping[str, str]) -> Search | None:
    """Make a search of the fields that Redis keeps; None where there is none, where another version of this program
    wrote it, which knew other fields, or where it cannot be true."""
    if not kept.keys() >= {"interval", *(field.name for field in fields(Search))}:
        return None
    try:
        values: dict[str, Any] = {
            field.name: ROWS[field.name](kept[field.name]) if field.name in ROWS else float(kept[field.name])
            for field in fields(Search)
        }
    except (ValueError, TypeError):
        return None
    numbers = [value for value in values.values() if isinstance(value, float)]
    if not all(map(math.isfinite, numbers)) or min(values["rate"], values["held"]) <= 0:
        return None
    if 0 < values["climb"] < LEAST_CLIMB:
        return None
    return Search(**values | {"is_fixed": bool(values["is_fixed"])})


def _decode(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
