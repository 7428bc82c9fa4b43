"""A batch: one file that was loaded, bound to one PingOne environment."""

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import JSON, BigInteger, CheckConstraint, Index, String, text
from sqlalchemy.orm import Mapped, mapped_column

from models.base import LONGEST_DETAIL, Base, BigKey, UtcDateTime, one_of

# Maximum length of a name, in characters.
LONGEST_NAME = 200


class BatchState(StrEnum):
    """Whether work on a batch may continue, as a person or the upkeep of batches has set it. A finished batch has no
    state of its own: it is finished when all of its records are final."""

    # The dispatcher queues its due records at each tick, and workers may send their OTPs. A person, the breaker or the
    # upkeep pauses it; a person cancels it.
    RUNNING = "running"
    # No new call starts; `reason` says why. When an outage ends, its hours begin, or a used-up quota resets, the upkeep
    # resumes it; otherwise a person does.
    PAUSED = "paused"
    # A person cancelled it: its records are cancelled, those in progress when their call ends. A replay reopens it.
    CANCELLED = "cancelled"


# All transitions of a batch's state. Only `worker.batches.state` writes it, and checks this table first.
TRANSITIONS = frozenset(
    {
        # A person pauses it; its hours end, or the license's quota is used up; its canary or first records are done; or
        # the breaker, a worker, or the dispatcher finds an obstacle that affects every record.
        (BatchState.RUNNING, BatchState.PAUSED),
        # A person resumes it or replays its records. Or the wait is over: its hours begin, the quota resets, or a few
        # records probe whether an outage is over.
        (BatchState.PAUSED, BatchState.RUNNING),
        # A person resumes a running batch with other hours or to end a hold, or replays its records: it is judged by
        # its attempts from now on.
        (BatchState.RUNNING, BatchState.RUNNING),
        # It would have continued by itself, but now waits for something else: a person paused it, or the answers to its
        # last calls need a person. Or it should continue, but its hours have not begun.
        (BatchState.PAUSED, BatchState.PAUSED),
        # A person cancels it.
        (BatchState.RUNNING, BatchState.CANCELLED),
        (BatchState.PAUSED, BatchState.CANCELLED),
        # A person replays its cancelled records: it runs, or waits for its hours to begin.
        (BatchState.CANCELLED, BatchState.RUNNING),
        (BatchState.CANCELLED, BatchState.PAUSED),
    }
)


class Batch(Base):
    """One loaded file: whether its records may be worked on, in which hours, and which attempts it is judged by."""

    __tablename__ = "batch"
    __table_args__ = (
        CheckConstraint(one_of("state", BatchState), name="state"),
        # A file is loaded once into an environment, unless its batch was cancelled.
        Index(
            "uq_batch_file",
            "environment_id",
            "file_sha256",
            unique=True,
            postgresql_where=text("state <> 'cancelled'"),
            sqlite_where=text("state <> 'cancelled'"),
        ),
    )

    id: Mapped[int] = mapped_column(BigKey, primary_key=True)
    name: Mapped[str] = mapped_column(String(LONGEST_NAME), unique=True)
    # The environment, set at load and never changed. The name finds the configuration; the id proves that it is the
    # same tenant.
    environment: Mapped[str] = mapped_column(String(100))
    environment_id: Mapped[str] = mapped_column(String(100))
    # Whether a person, at the load or at a mend, allowed us to create tokens in the inventory, and devices.
    may_import: Mapped[bool] = mapped_column(default=False)
    may_pair: Mapped[bool] = mapped_column(default=False)
    # When PingOne's inventory was last read completely for this batch; empty if it has to be read.
    inventory_read_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    # While a worker prepares the batch: when that worker counts as dead. Otherwise: until when there is nothing to
    # prepare.
    prepared_until: Mapped[datetime | None] = mapped_column(UtcDateTime)
    # Written by `worker.batches.state` alone.
    state: Mapped[str] = mapped_column(String(16), default=BatchState.RUNNING)
    # The reason for a pause in one word, and a sentence with the cure; both empty unless paused.
    reason: Mapped[str | None] = mapped_column(String(40))
    detail: Mapped[str | None] = mapped_column(String(LONGEST_DETAIL))
    # The file: where it came from, and its header in order.
    file: Mapped[str] = mapped_column(String(1000))
    # Identifies a shipment that is loaded again: a SHA-256 (hexadecimal) of file, list, and switches together. It is
    # never shown; the audit line of the load has each file's own SHA-256.
    file_sha256: Mapped[str] = mapped_column(String(64))
    columns: Mapped[list[str]] = mapped_column(JSON)
    # Counted at load and at each mend: its records and its refused rows.
    total: Mapped[int] = mapped_column(default=0)
    rows_refused: Mapped[int] = mapped_column(default=0)
    # While set, only this many first records may begin, and the batch pauses when they are final. The resume after that
    # clears it.
    canary: Mapped[int | None]
    # While set, only this many first records may begin, in an environment without an active token. Cleared once one of
    # them is active, or by a person's resume.
    trial: Mapped[int | None]
    # During a pause for an outage: when a few records will probe whether it is over.
    probe_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    # How many outages in a row paused it, without an answered attempt in between.
    outages: Mapped[int] = mapped_column(default=0)
    # The hours of a day in which it may run, as 22:00-05:30, and the IANA name of their time zone; both or neither.
    daily_window: Mapped[str | None] = mapped_column(String(11))
    zone: Mapped[str | None] = mapped_column(String(64))
    # While it runs: when its hours end; no call starts from then on.
    closes_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    # While it is paused outside its hours or for a quota: when it continues by itself.
    resumes_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    # When it was loaded, or last began to run again.
    running_since: Mapped[datetime] = mapped_column(UtcDateTime)
    # The breaker judges a batch by the attempts with ids above these marks, whatever the clock says. A person's command
    # moves `judged_after`. `running_after` also moves whenever the batch continues by itself; only later attempts show
    # an outage.
    judged_after: Mapped[int] = mapped_column(BigInteger, default=0)
    running_after: Mapped[int] = mapped_column(BigInteger, default=0)
    # When its records were purged, and how it had ended, as worker.reports.facts reads it: only counts. Both are empty
    # while its records exist.
    purged_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    outcome: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    # The last notice to the webhook, such as `paused credentials`, and when it was sent; empty if none has been sent.
    notice: Mapped[str | None] = mapped_column(String(60))
    notice_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    # Why the webhook did not accept that notice, in a few words; empty if it did, or while the notice is on its way.
    notice_error: Mapped[str | None] = mapped_column(String(200))
