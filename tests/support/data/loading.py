"""Shipments for tests: written as a file, loaded, and looked at in the database."""

from __future__ import annotations

import csv
import io
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import select

from models.attempt import AttemptLine
from models.batch import Batch
from models.encrypted import Keyring
from models.record import Record
from support.data.batches import TESTER, Made, count, make_batch
from support.data.moving_clock import MovingDatabase
from worker.batches.loading import Loaded, Loader
from worker.config.environment import Environment
from worker.intake import RowError, open_shipment
from worker.observability.progress import OnProgress, tell_nobody

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
