"""The records of one shipment: how they stand, and how they were made to end."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import Select, func, select, text
from sqlalchemy.exc import SQLAlchemyError

from models.attempt import AttemptLine, Outcome
from models.record import Record
from models.record_indexes import IN_WINDOW
from models.record_states import FINAL, Status
from support.judges.final_records import judge_endings
from worker.database.engine import Database
from worker.simulator.shipment import MadeShipment

# Posts that a row costs if nothing goes wrong; one, but for these.
POSTS_BY_REASON = {"resync_failed": 2, "device_not_found": 0}
# Of a record that is not finished: what says why.
_WORK = (
    *(Record.id, Record.status, Record.scheduled_at, Record.lease_until, Record.attempts, Record.not_found),
    *(Record.otp_type, Record.otp1_state, Record.otp2_state, Record.pairing, Record.verdict),
)
_MOST_TOLD = 5


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

    def describe_unfinished(self) -> str:
        """The first records that have no final status, if the database can tell: a line each, then their attempts."""
        left = select(*_WORK).where(Record.status.not_in(FINAL)).order_by(Record.scheduled_at).limit(_MOST_TOLD)
        try:
            with self._database.reading() as connection:
                found = {row.id: row for row in connection.execute(left)}
                attempts = select(AttemptLine.__table__).where(AttemptLine.record_id.in_(found))
                lines = connection.execute(attempts.order_by(AttemptLine.id)).all()
        except SQLAlchemyError as error:
            return str(error)
        return "\n".join(map(str, [*found.values(), *lines]))

    def _count(self, statement: Select[tuple[int]]) -> int:
        with self._database.reading() as connection:
            return connection.scalar(statement) or 0
