"""Reads a shipment's rows as the load will: which of them it takes, refuses or leaves out. Nothing is written."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice

from sqlalchemy import Connection, create_engine

from models.base import Base
from models.encrypted import Keyring, generate_key
from models.row_fault import RowFault
from worker.batches.conflicts import Conflicts, EarlierRecords
from worker.batches.loading import CHUNK, part_left_out
from worker.batches.mending import Corrections, MendedBatch
from worker.intake import Leftovers, Row, RowError, Shipment
from worker.observability.progress import OnProgress, tell_nobody, telling
from worker.preflight.consecutive import is_consecutive
from worker.preflight.findings import Verdicts
from worker.vault.otp import OtpPair
from worker.vault.seed import Seed

NOT_CONSECUTIVE = "its two OTPs do not follow each other by the seed that an earlier batch has of this token"


class RowReader:
    """Compares rows with the records of one environment, by the rules of the load, or of the mend of a batch, within a
    transaction that writes nothing."""

    def __init__(
        self, connection: Connection, keyring: Keyring, environment_id: str, batch: MendedBatch | None = None
    ) -> None:
        self._conflicts = Conflicts(connection, keyring, environment_id)
        self._earlier = EarlierRecords(connection, keyring, environment_id)
        self._corrections = Corrections(connection, keyring, batch) if batch else None

    def read(self, shipment: Shipment, on_progress: OnProgress = tell_nobody) -> tuple[Verdicts, Leftovers]:
        """Read every row of a shipment. Raises UnusableFile."""
        verdicts, leftovers = Verdicts(), Leftovers()
        tokens = telling(shipment.tokens(leftovers), on_progress, "Reading rows", each=CHUNK)
        while chunk := list(islice(tokens, CHUNK)):
            for token in chunk:
                if isinstance(token, Row):
                    verdicts.count_kind(token)
            chunk = [shipment.require_ids(token) for token in chunk]
            verdicts.refused += [row for row in chunk if isinstance(row, RowError)]
            whole = [row for row in chunk if isinstance(row, Row)]
            self._judge(shipment, whole, verdicts)
        return verdicts, leftovers

    def _judge(self, shipment: Shipment, rows: Sequence[Row], verdicts: Verdicts) -> None:
        """Part good rows of the file into those that go, those that are refused, and those that are left out."""
        if self._corrections:
            corrected = self._corrections.judge(rows)
            records, conflicting = [each.new for each in corrected.corrections], corrected.errors
        else:
            records, conflicting = self._conflicts.split(rows)
        left_out, refused = part_left_out(shipment, conflicting)
        good = [record.row for record in records]
        verdicts.refused += refused
        verdicts.refused_by_database += [error for error in refused if error.fault != RowFault.REPEATED]
        verdicts.left_out += left_out
        verdicts.good += good
        self._compare_with_seeds(good, verdicts)

    def _compare_with_seeds(self, rows: Sequence[Row], verdicts: Verdicts) -> None:
        """Note which pairs are not consecutive OTPs of a seed that we still have of their token."""
        pairs = [row for row in rows if isinstance(row.otps, OtpPair) and row.otps.second]
        earlier = self._earlier.find_by_serial_number(pairs)
        for row in pairs:
            found = [(record, self._earlier.open(record)) for record in earlier.get(row.serial_number, ())]
            seeds = [(seed, record.next_counter) for record, seed in found if isinstance(seed, Seed)]
            if seeds and not any(is_consecutive(row, seed, reached) for seed, reached in seeds):
                verdicts.doubt(row, "not_consecutive", NOT_CONSECUTIVE)


@contextmanager
def reading_without_records() -> Iterator[RowReader]:
    """Yield a reader for a database that has no records: there is none yet, or it cannot be asked."""
    engine = create_engine("sqlite://")
    try:
        Base.metadata.create_all(engine)
        with engine.connect() as connection:
            yield RowReader(connection, Keyring([generate_key()]), "")
    finally:
        engine.dispose()
