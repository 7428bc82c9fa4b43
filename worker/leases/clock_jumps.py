"""Sets the times of records anew after a jump of the database's clock: none that was written before it can be
trusted."""

from __future__ import annotations

from sqlalchemy import Connection, text, update

from models.record import Record
from models.record_indexes import UNSETTLED
from models.record_states import Status
from worker.database.engine import Database

# Seconds after which a pending record is due that waits for no read. Whatever it waited for (a backoff, a slot), the
# jump may have made hours of it, and a little too soon does no harm.
SOON = 10.0


class RecordTimes:
    """The leases and due times of records, as they are set after a jump. In seconds: `lease` and `queue_lease` are how
    long these last, `over_after` how long after a request PingOne may be asked what came of it."""

    def __init__(self, database: Database, *, lease: float, queue_lease: float, over_after: float) -> None:
        now = database.now()
        in_work = update(Record).where(Record.status == Status.ACTIVATING)
        pending = update(Record).where(Record.status == Status.PENDING, Record.scheduled_at > database.now(SOON))
        self._statements = (
            # A worker that lives ends its attempt within a whole lease from now, since it counts by a clock of its own.
            in_work.values(lease_until=database.now(lease)),
            # What was sent before stays so: by that time it is told who made what PingOne shows.
            in_work.where(Record.otp_sent_at > now).values(otp_sent_at=now),
            update(Record).where(Record.status == Status.QUEUED).values(lease_until=database.now(queue_lease)),
            pending.values(scheduled_at=database.now(SOON)),
            # Must come last, since it moves what the one before has set: whatever is written down, an answer may have
            # been lost a moment ago.
            update(Record).where(text(UNSETTLED)).values(scheduled_at=database.now(over_after)),
        )

    def restart(self, connection: Connection) -> None:
        """Count all of them from now on, in the caller's transaction."""
        for statement in self._statements:
            connection.execute(statement)
