"""Times that begin anew after a step of the database's clock: none that was written before it can be trusted."""

from __future__ import annotations

from sqlalchemy import Connection, text, update

from models.record import UNSETTLED, OtpState, Record, Status
from worker.database.engine import Database

# Seconds after which a record goes that waits for no read. Whatever it waited for (a backoff, a slot), the step of the
# clock may have made hours of it, and a little too soon does no harm.
SOON = 10.0


class RecordTimes:
    """Seconds: how long a lease and a queue lease last, and how long after a loss a device may be read."""

    def __init__(self, database: Database, *, lease: float, queue_lease: float, read_delay: float) -> None:
        now = database.now()
        in_work = update(Record).where(Record.status == Status.ACTIVATING)
        is_sent = (Record.otp1_state == OtpState.SENT) | (Record.otp2_state == OtpState.SENT)
        pending = update(Record).where(Record.status == Status.PENDING, Record.scheduled_at > database.now(SOON))
        self._statements = (
            # A living worker ends within a whole lease from now, for it counts by its own clock.
            in_work.values(lease_until=database.now(lease)),
            in_work.where(is_sent).values(otp_sent_at=now),
            update(Record).where(Record.status == Status.QUEUED).values(lease_until=database.now(queue_lease)),
            pending.values(scheduled_at=database.now(SOON)),
            # Last: an answer may have been lost a moment ago, whatever is written down.
            update(Record).where(text(UNSETTLED)).values(scheduled_at=database.now(read_delay)),
        )

    def restart(self, connection: Connection) -> None:
        """In the caller's transaction."""
        for statement in self._statements:
            connection.execute(statement)
