"""The records of one shipment: how they stand, and how they were made to end."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import Select, func, select, text

from models.attempt import AttemptLine, Outcome
from models.record import Record
from models.record_indexes import IN_WINDOW
from models.record_states import Status
from support.judges.final_records import judge_endings
from worker.database.engine import Database
from worker.simulator.shipment import MadeShipment

# Posts that a row costs if nothing goes wrong; one, but for these.
POSTS_BY_REASON = {"resync_failed": 2, "device_not_found": 0}


class Records:
    """All records of a database that holds this shipment only."""

    def __init__(self, database: Database, shipment: MadeShipment) -> None:
        self._database = database
        self._shipment = shipment

    def in_window(self) -> int:
        """Records that are queued or in work."""
        return self._count(select(func.count()).select_from(Record).where(text(IN_WINDOW)))

    def attempts(self, outcome: Outcome | None = None) -> int:
        """Lines of history: all, or those with this outcome."""
        statement = select(func.count()).select_from(AttemptLine)
        return self._count(statement if outcome is None else statement.where(AttemptLine.outcome == outcome))

    def rescued_in_work(self) -> int:
        """Records that a worker has in hand after another lost them."""
        lost = select(AttemptLine.record_id).where(AttemptLine.outcome == Outcome.LOST)
        return self._count(select(func.count()).where(Record.status == Status.ACTIVATING, Record.id.in_(lost)))

    def posts_as_made(self) -> int:
        """OTP posts that the shipment costs if no answer is lost."""
        made = self._shipment.expected.values()
        return sum(POSTS_BY_REASON.get(end.reason or "", 1) + end.resynced for end in made)

    def wrong_endings(self, excused: Collection[str] = ()) -> list[str]:
        """Records that did not end as they were made to, a sentence each; dead letters of some reasons are excused."""
        return judge_endings(self._database, self._shipment.expected, excused)

    def _count(self, statement: Select[tuple[int]]) -> int:
        with self._database.reading() as connection:
            return connection.scalar(statement) or 0
