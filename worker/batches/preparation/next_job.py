"""Chooses which tokens the next import job of a batch brings. Works in the caller's transaction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, TextClause, select, text

from models.batch import Batch
from models.encrypted import Keyring
from models.inventory_job import InventoryJob, JobKind, JobState
from models.record import Record
from models.record_indexes import LACKS_TOKEN
from worker.batches.preparation.turns import Turn
from worker.pingone.inventory import NewToken
from worker.rules.import_size import choose_size
from worker.vault.sealed_otps import open_otps
from worker.vault.seed import Seed

# Jobs with a single token that PingOne refuses in a row until it is not the tokens' fault.
MOST_REFUSED = 5


def lacks_token(turn: Turn) -> tuple[ColumnElement[bool] | TextClause, ...]:
    """Whether the token of a record that may go is still to be found or imported."""
    return Record.batch_id == turn.batch_id, text(LACKS_TOKEN), Record.row_number <= turn.last_row


def choose_job_size(connection: Connection, batch_id: int, most: int) -> int:
    """Choose how many tokens the next job of a batch imports, by how the last one ended: `most` at most."""
    jobs = select(InventoryJob.state, InventoryJob.size).where(*_imports_of(batch_id))
    last = connection.execute(jobs.order_by(InventoryJob.id.desc())).first()
    return choose_size(last and last.state, last.size if last else 0, most)


def find_refusal(connection: Connection, batch_id: int) -> str | None:
    """Find what PingOne said last where it refused one token after the other, each by itself, since the batch began to
    run; None where it did not."""
    runs_since = select(Batch.running_since).where(Batch.id == batch_id).scalar_subquery()
    jobs = select(InventoryJob.state, InventoryJob.size, InventoryJob.detail).where(
        *_imports_of(batch_id), InventoryJob.sent_at >= runs_since
    )
    last = connection.execute(jobs.order_by(InventoryJob.id.desc()).limit(MOST_REFUSED)).all()
    is_each_refused = len(last) == MOST_REFUSED and all((job.state, job.size) == (JobState.FAILED, 1) for job in last)
    return (last[0].detail or "nothing") if is_each_refused else None


def read_rows(connection: Connection, turn: Turn, size: int) -> Sequence[Row[*tuple[Any, ...]]]:
    """Read the next records whose token is to be imported, `size` at most, in the order of the file."""
    columns = (Record.id, Record.batch_id, Record.row_number, Record.serial_number, Record.otps)
    lacking = select(*columns).where(*lacks_token(turn), Record.import_job_id.is_(None))
    return connection.execute(lacking.order_by(Record.row_number).limit(size)).all()


def make_token(keyring: Keyring, row: Row[*tuple[Any, ...]]) -> NewToken | None:
    """Make a token of a record's seed; None if it has a pair of OTPs."""
    seed = open_otps(keyring, row.otps, row.batch_id, row.row_number)
    if not isinstance(seed, Seed):
        return None
    return NewToken(
        serial_number=row.serial_number,
        secret=seed.secret,
        otp_type=seed.otp_type,
        digits=seed.digits,
        hash_algorithm=seed.hash_algorithm,
        time_step=seed.time_step,
        counter=seed.counter if seed.otp_type == "hotp" else None,
        row_number=row.row_number,
    )


def _imports_of(batch_id: int) -> tuple[ColumnElement[bool], ...]:
    """Whether a job imports tokens of this batch, and is not lost."""
    return (
        InventoryJob.batch_id == batch_id,
        InventoryJob.kind == JobKind.IMPORT,
        InventoryJob.state != JobState.LOST,
    )
