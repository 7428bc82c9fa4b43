"""What a person is told of the pace of each rate group of a license."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from worker.pace.known_pace import KnownPace
from worker.pace.rate_groups import PURPOSES, RateGroup
from worker.pace.slots import Pace


@dataclass(frozen=True, slots=True)
class GroupPace:
    """What is known of the pace of one rate group; rates are in requests a second."""

    group: RateGroup
    # Whether Redis could be asked: if not, nothing is known of a group beside that of activations.
    is_read: bool = True
    # None where nothing went out for a day.
    rate: float | None = None
    # None until PingOne has refused a request.
    ceiling: float | None = None
    # None unless a person has set a rate.
    fixed_rate: float | None = None
    # Until when its calls are held, why, in a sentence, and for how many seconds more; None while they are not.
    held_until: datetime | None = None
    held_why: str | None = None
    held_left: float | None = None

    def to_json(self) -> dict[str, Any]:
        hold = {"until": self.held_until.isoformat(), "why": self.held_why} if self.held_until else None
        names = ("is_read", "rate", "ceiling", "fixed_rate")
        return (
            {"group": self.group, "for": PURPOSES[self.group]}
            | {name: getattr(self, name) for name in names}
            | {"hold": hold}
        )


def read_group(pace: Pace) -> GroupPace:
    """Read what Redis knows of the pace of a group. Raises redis.RedisError."""
    reading = pace.read()
    search, left = reading.search, reading.hold_left
    known = GroupPace(pace.group)
    if search is not None:
        fixed_rate = search.rate if search.is_fixed else None
        known = replace(known, rate=search.rate, ceiling=search.ceiling or None, fixed_rate=fixed_rate)
    if left:
        until = datetime.fromtimestamp(reading.held_until, UTC)
        known = replace(known, held_until=until, held_why=reading.held_why, held_left=left)
    return known


def describe_known(known: KnownPace) -> GroupPace:
    """Make of what the database knows of the pace of activations what is said of every group."""
    hold = known.hold
    return GroupPace(
        RateGroup.MFA,
        rate=known.rate,
        ceiling=known.ceiling,
        fixed_rate=known.fixed_rate,
        held_until=hold.until if hold else None,
        held_why=hold.why if hold else None,
        held_left=hold.left if hold else None,
    )
