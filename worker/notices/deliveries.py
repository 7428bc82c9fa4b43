"""The delivery of notices in the database: each is claimed by one worker at a time, sent, and settled.

A worker claims a notice and commits, posts it outside of any transaction, and settles. One that is killed in between
does not come back; when its lease has run out, another sends the same notice again, with the same id."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, case, func, null, select, text, update

from models.notice import LONGEST_ERROR, WAITS, Notice
from worker.database.engine import Database
from worker.observability.counting import count_things
from worker.observability.escaping import escape_line
from worker.rules.hours import format_time

# Seconds until the second try where the webhook could not be reached, or failed; each time twice as long.
FIRST_DELAY = 5.0
# Seconds at most, so that a webhook that is back is told soon.
LONGEST_DELAY = 300.0
# Seconds until the second try where the webhook refuses the notice: a person has to mend its URL or its receiver first.
FIRST_DELAY_REFUSED = 300.0
# Seconds at most where it refuses.
LONGEST_DELAY_REFUSED = 3600.0
# Seconds after which a notice that was not delivered is given up.
GIVEN_UP_AFTER = 86_400.0
# Refusals that pass by themselves: Request Timeout and Too Many Requests.
_PASSING = (408, 429)


def choose_delay(tries: int, status: int | None, retry_after: float | None) -> float:
    """Seconds until the next try, after so many tries. `status`: of HTTP, None without an answer; `retry_after`:
    seconds for which the webhook asked."""
    first, longest = (
        (FIRST_DELAY_REFUSED, LONGEST_DELAY_REFUSED) if is_refusal(status) else (FIRST_DELAY, LONGEST_DELAY)
    )
    # No further doubling is needed for the longest delay, and a huge number of tries is no number of seconds.
    doublings = min(max(tries - 1, 0), 20)
    return max(min(first * float(2**doublings), longest), retry_after or 0.0)


def is_refusal(status: int | None) -> bool:
    """Whether this status says that the same notice is not taken later either: a redirect, which is not followed, or
    a refusal such as 401, 404 or 410."""
    return status is not None and 300 <= status < 500 and status not in _PASSING


# Seconds for which a worker may hold a notice: several times as long as a post takes.
LEASE = 60.0


@dataclass(frozen=True, slots=True)
class ClaimedNotice:
    """A notice that this worker alone may send now. `tries`: this one included."""

    id: int
    facts: dict[str, Any]
    tries: int


class Deliveries:
    """Claims and settles notices; thread-safe."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._due = (
            select(Notice.id, Notice.facts, Notice.tries)
            .where(text(f"notice.{WAITS}"), Notice.next_try_at <= database.now())
            .order_by(Notice.id)
            .limit(1)
            # Locked, and what another worker has just locked is left out.
            .with_for_update(skip_locked=True)
        )

    def has_due(self) -> bool:
        """Whether a notice waits to be sent now."""
        with self._database.reading() as connection:
            due = select(Notice.id).where(text(f"notice.{WAITS}"), Notice.next_try_at <= self._database.now())
            return connection.scalar(due.limit(1)) is not None

    def claim(self) -> ClaimedNotice | None:
        """Claim the oldest notice that is due; None if none is, or others have them."""
        with self._database.writing() as connection:
            due = connection.execute(self._due).one_or_none()
            if due is None:
                return None
            claim = {"next_try_at": self._database.now(LEASE), "tries": due.tries + 1}
            connection.execute(update(Notice).where(Notice.id == due.id).values(claim))
            return ClaimedNotice(due.id, due.facts, due.tries + 1)

    def settle_delivered(self, claimed: ClaimedNotice) -> None:
        """Write down that the webhook took the notice, whoever has claimed it since."""
        taken = {"delivered_at": self._database.now(), "next_try_at": None, "last_error": None}
        with self._database.writing() as connection:
            mine = update(Notice).where(Notice.id == claimed.id, Notice.delivered_at.is_(None))
            connection.execute(mine.values(taken))

    def settle_failed(self, claimed: ClaimedNotice, error: str, delay: float) -> None:
        """Write down what went wrong, and let the notice wait for so many seconds; or give it up, if it would be too
        old by then. Does nothing where another worker has claimed it meanwhile."""
        next_try_at = self._database.now(delay)
        is_too_old = next_try_at > self._database.later(Notice.created_at, GIVEN_UP_AFTER)
        failed = {
            "next_try_at": case((is_too_old, null()), else_=next_try_at),
            "last_error": escape_line(error)[:LONGEST_ERROR],
        }
        mine = (Notice.id == claimed.id, Notice.tries == claimed.tries, Notice.delivered_at.is_(None))
        with self._database.writing() as connection:
            connection.execute(update(Notice).where(*mine).values(failed))


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
