"""Reads how the deliveries of notices went, for `oathbulk doctor`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, func, select

from models.notice import Notice
from worker.observability.counting import count_things
from worker.rules.hours import format_time

_IS_WAITING = Notice.next_try_at.is_not(None)
_IS_GIVEN_UP = Notice.next_try_at.is_(None) & Notice.delivered_at.is_(None)


@dataclass(frozen=True, slots=True)
class DeliveryReport:
    """How many notices were delivered, wait, and were given up after 24 hours; what went wrong last, and when the last
    one was delivered. `lost`: those given up that were written since then."""

    delivered: int
    waiting: int
    given_up: int
    lost: int
    last_delivered_at: datetime | None
    last_error: str | None

    @property
    def is_well(self) -> bool:
        """Whether notices are delivered, as far as is known."""
        return not self.lost and self.last_error is None

    def __str__(self) -> str:
        if not self.delivered + self.waiting + self.given_up:
            return "nothing was told yet"
        last = f", the last one at {format_time(self.last_delivered_at)}" if self.last_delivered_at else ""
        parts = [f"{count_things(self.delivered, 'notice')} delivered{last}"]
        if self.waiting:
            parts.append(
                f"{self.waiting} to be sent" + (f" (last error: {self.last_error})" if self.last_error else "")
            )
        if self.given_up:
            parts.append(f"{self.given_up} given up after 24 hours")
        cure = "" if self.is_well else "; see whether the URL is right and its server takes the notices"
        return ", ".join(parts) + cure


def read_deliveries(connection: Connection) -> DeliveryReport:
    """Read how the deliveries went so far."""
    delivered, waiting, given_up, last_delivered_at = connection.execute(
        select(
            func.count(Notice.delivered_at),
            func.count().filter(_IS_WAITING),
            func.count().filter(_IS_GIVEN_UP),
            func.max(Notice.delivered_at),
        )
    ).one()
    lost = select(func.count()).where(_IS_GIVEN_UP)
    if last_delivered_at is not None:
        lost = lost.where(Notice.created_at > last_delivered_at)
    failing = select(Notice.last_error).where(_IS_WAITING, Notice.last_error.is_not(None))
    return DeliveryReport(
        delivered,
        waiting,
        given_up,
        connection.scalar(lost) or 0,
        last_delivered_at,
        connection.scalar(failing.order_by(Notice.id.desc()).limit(1)),
    )
