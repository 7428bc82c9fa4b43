"""Batches that ended long ago, loaded from files and ended by the leases' own statements; and their purge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import text

from models.reason import Reason
from support.data.batches import TESTER, Made, enqueue
from support.data.loading import LoadingDesk, Token
from support.data.moving_clock import MovingDatabase
from worker.batches.loading import Loaded
from worker.leases.settlement import CallSummary
from worker.leases.worker import Leases
from worker.purging import Plan, Purging
from worker.rules.progress import Active, DeadLetter, Decision

DAY = 86400.0
ACTIVE, REFUSED = Active(), DeadLetter(Reason.INVALID_OTP)


@dataclass
class PurgeDesk:
    """Loads files, ends their records, lets time pass and purges."""

    desk: LoadingDesk
    leases: Leases
    # The key of the desk's keyring.
    key: str

    @property
    def database(self) -> MovingDatabase:
        return self.desk.database

    def load(self, tokens: Sequence[Token], *decisions: Decision, name: str = "july", **parts: Any) -> Loaded:
        """Load a batch, and end its first records so."""
        loaded = self.desk.load(tokens, name, **parts)
        self.end(loaded, *decisions)
        return loaded

    def end(self, loaded: Loaded, *decisions: Decision) -> None:
        """Let the first records of a batch end so, each with its OTP 1 sent and answered."""
        made = Made(loaded.batch_id, loaded.name, [record.id for record in self.desk.records(loaded)])
        for record_id, decision in zip(made.ids, decisions, strict=False):
            enqueue(self.database, made)
            claimed = self.leases.claim(record_id, "tenant-1")
            assert claimed is not None
            progress = claimed.progress
            if not claimed.is_otp1_marked:
                assert self.leases.mark_sent(claimed, 1, 60_000_000)
                progress = progress.with_otp_sent(1, 60_000_000)
            assert self.leases.settle(claimed, progress.with_otp_answered(1), decision, CallSummary(1))

    def make(self, days: int = 90, **options: Any) -> Purging:
        return Purging(self.database, TESTER, timedelta(days=days), **options)

    def purge(self, days: int = 90, **options: Any) -> Plan:
        """Purge what ended longer ago than so many days, a hundred days later."""
        self.database.ahead += 100 * DAY
        purging = self.make(days, **options)
        return purging.purge(purging.examine())

    def read_everything(self) -> str:
        """All rows of all tables but the audit, as text."""
        with self.database.reading() as connection:
            tables = ("batch", "record", "attempt", "notice", "inventory_job", "process")
            return str([connection.execute(text(f"SELECT * FROM {table}")).all() for table in tables])


def file_bytes(directory: Path) -> bytes:
    """The bytes of SQLite's database and of its log."""
    return b"".join(path.read_bytes() for path in sorted(directory.glob("oathbulk.db*")))
