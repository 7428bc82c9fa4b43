"""Shipments written as a file, loaded, ended, and looked at in the database."""

import csv
import io
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import select
from support.data.batches import TESTER, Made, count, enqueue, make_batch
from support.data.calls import called
from support.data.moving_clock import MovingDatabase

from models.attempt import AttemptLine
from models.batch import Batch
from models.encrypted import Keyring
from models.reason import Reason
from models.record import Record
from worker.batches.loading import Loaded, Loader
from worker.config.environment import Environment
from worker.intake.files import Hints
from worker.intake.lists import open_assignment
from worker.intake.rows import RowError
from worker.intake.shipment import NO_HINTS, open_shipment
from worker.leases.lease import Leases
from worker.observability.progress import OnProgress, tell_nobody
from worker.rules.steps import Active, DeadLetter, Decision

HEADER = ("serial", "otp1", "otp2", "user_id", "device_id")
Token = dict[str, str]
# How records end.
ACTIVE, REFUSED, GONE = Active(), DeadLetter(Reason.INVALID_OTP), DeadLetter(Reason.DEVICE_NOT_FOUND)


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


@dataclass
class LoadingDesk:
    """Where shipments are written and loaded, and their records ended; keeps the rows that were refused."""

    database: MovingDatabase
    keyring: Keyring
    directory: Path
    # Of whom records are ended.
    leases: Leases | None = None
    refused: list[RowError] = field(default_factory=list)

    def write(
        self,
        tokens: Sequence[Token],
        name: str = "shipment.csv",
        columns: Sequence[str] = (),
        *,
        lineterminator: str = "\n",
        **dialect: Any,
    ) -> Path:
        """Write a file of these rows. Unless it is said which, its columns are those of a shipment, and what else they
        have."""
        columns = columns or list(dict.fromkeys([*HEADER, *(column for token in tokens for column in token)]))
        path, text = self.directory / name, io.StringIO(newline="")
        writer = csv.DictWriter(text, columns, restval="", lineterminator=lineterminator, **dialect)
        writer.writeheader()
        writer.writerows(tokens)
        path.write_text(text.getvalue(), newline="")
        return path

    def load(self, tokens: Sequence[Token], name: str = "shipment", *decisions: Decision, **parts: Any) -> Loaded:
        """Load a batch, and end its first records so."""
        loaded = self.load_file(self.write(tokens, f"{name}.csv"), name, **parts)
        self.end(loaded, *decisions)
        return loaded

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
        who: Path | None = None,
        hints: Hints = NO_HINTS,
        canary: int | None = None,
        **settings: float,
    ) -> Loaded:
        """`who`: the list of who gets what, which lies beside the file."""
        self.refused = []
        assignment = open_assignment(who) if who else None
        loader = Loader(
            self.database,
            keyring or self.keyring,
            into or environment(),
            TESTER,
            on_refused=refused or self.refused.append,
            on_progress=on_progress,
            **settings,
        )
        return loader.load(open_shipment(path, hints=hints, assignment=assignment, only_new=only_new), name, canary)

    def end(self, loaded: Loaded, *decisions: Decision) -> None:
        """Let the first records of a batch end so, each with its OTP 1 sent and answered, but for a device that is
        gone: that counts as not sent."""
        first = select(Record.id).where(Record.batch_id == loaded.batch_id).order_by(Record.row_number)
        for record_id, decision in zip(self.database.values(first.limit(len(decisions))), decisions, strict=False):
            enqueue(self.database, loaded)
            assert self.leases is not None
            claimed = self.leases.claim(record_id, "tenant-1")
            assert claimed is not None
            sent, counter = claimed.progress, claimed.progress.next_counter
            if not claimed.is_otp1_marked:
                assert self.leases.mark_sent(claimed, 1, 60_000_000 if counter == 0 else counter)
                sent = sent.with_otp_sent(1, 60_000_000 if counter == 0 else counter)
            progress = sent.with_otp_unsent(1) if decision == GONE else sent.with_otp_answered(1)
            assert self.leases.settle(claimed, progress, decision, called(1))

    def records(self, loaded: Loaded) -> Sequence[Any]:
        mine = select(Record.__table__).where(Record.batch_id == loaded.batch_id).order_by(Record.row_number)
        return self.database.rows(mine)

    def found(self) -> tuple[int, int, int]:
        """Batches, records and attempts that the database holds."""
        return count(self.database, Batch), count(self.database, Record), count(self.database, AttemptLine)


def earlier(database: MovingDatabase, keyring: Keyring, **columns: Any) -> Made:
    """Token 0 in a batch that was loaded before, and how it stands there."""
    same = {"serial_number": token(0)["serial"], "device_id": token(0)["device_id"]}
    return make_batch(database, [same | columns], name="earlier", environment_id="tenant-1", keyring=keyring)


def file_bytes(directory: Path) -> bytes:
    """The bytes of SQLite's database and of its log."""
    return b"".join(path.read_bytes() for path in sorted(directory.glob("oathbulk.db*")))
