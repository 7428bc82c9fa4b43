"""The delivery of notices in the database: each is claimed by one worker at a time, sent, and settled.

A worker claims a notice and commits, posts it outside of any transaction, and settles. One that is killed in between
does not come back; when its lease has run out, another sends the same notice again, with the same id."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import case, null, select, text, update

from models.notice import LONGEST_ERROR, WAITS, Notice
from worker.database.engine import Database
from worker.notices.delays import GIVEN_UP_AFTER
from worker.observability.escaping import escape_line

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
