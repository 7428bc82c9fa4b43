"""Shipments written as a file, loaded, and looked at in the database; and batches that ended long ago, which are
purged."""

import csv
import io
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import select, text
from support.data.batches import TESTER, Made, count, enqueue, make_batch
from support.data.moving_clock import MovingDatabase

from models.attempt import AttemptLine
from models.batch import Batch
from models.encrypted import Keyring
from models.reason import Reason
from models.record import Record
from worker.batches.loading import Loaded, Loader
from worker.config.environment import Environment
from worker.intake.rows import RowError
from worker.intake.shipment import open_shipment
from worker.leases.settlement import CallSummary
from worker.leases.worker import Leases
from worker.observability.progress import OnProgress, tell_nobody
from worker.purging import Plan, Purging
from worker.rules.steps import Active, DeadLetter, Decision

HEADER = ("serial", "otp1", "otp2", "user_id", "device_id")
Token = dict[str, str]


def environment(name: str = "default", environment_id: str = "tenant-1") -> Environment:
    return Environment(name=name, environment_id=environment_id, client_id="id", client_secret="secret")


def token(number: int, **columns: str) -> Token:
    """A row of a shipment; the same number is the same token on the same device, with the same OTPs."""
    return {
        "serial": f"MADE{number:06}",
        "otp1": f"{number:06}",
        "otp2": f"{number + 500_000:06}",
        "user_id": str(uuid.UUID(int=number)),
        "device_id": str(uuid.UUID(int=1 << 100 | number)),
    } | columns


class LoadingDesk:
    """Where shipments are written and loaded; keeps the rows that were refused."""

    def __init__(self, database: MovingDatabase, keyring: Keyring, directory: Path) -> None:
        self.database = database
        self.keyring = keyring
        self.directory = directory
        self.refused: list[RowError] = []

    def write(self, tokens: Sequence[Token], name: str = "shipment.csv") -> Path:
        columns = list(dict.fromkeys([*HEADER, *(column for token in tokens for column in token)]))
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(tokens)
        path = self.directory / name
        path.write_text(text.getvalue())
        return path

    def load(self, tokens: Sequence[Token], name: str = "shipment", **parts: Any) -> Loaded:
        return self.load_file(self.write(tokens, f"{name}.csv"), name, **parts)

    def load_file(
        self,
        path: Path,
        name: str = "shipment",
        *,
        into: Environment | None = None,
        keyring: Keyring | None = None,
        refused: Callable[[RowError], None] | None = None,
        on_progress: OnProgress = tell_nobody,
        only_new: bool = False,
        **settings: float,
    ) -> Loaded:
        self.refused = []
        loader = Loader(
            self.database,
            keyring or self.keyring,
            into or environment(),
            TESTER,
            on_refused=refused or self.refused.append,
            on_progress=on_progress,
            **settings,
        )
        return loader.load(open_shipment(path, only_new=only_new), name)

    def records(self, loaded: Loaded) -> Sequence[Any]:
        mine = select(Record.__table__).where(Record.batch_id == loaded.batch_id).order_by(Record.row_number)
        with self.database.reading() as connection:
            return connection.execute(mine).all()

    def found(self) -> tuple[int, int, int]:
        """Batches, records and attempts that the database holds."""
        return count(self.database, Batch), count(self.database, Record), count(self.database, AttemptLine)


def earlier(database: MovingDatabase, keyring: Keyring, **columns: Any) -> Made:
    """Token 0 in a batch that was loaded before, and how it stands there."""
    same = {"serial_number": token(0)["serial"], "device_id": token(0)["device_id"]}
    return make_batch(database, [same | columns], name="earlier", environment_id="tenant-1", keyring=keyring)


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
