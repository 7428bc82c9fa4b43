"""Mends a batch: corrected rows come back into the batch that they belong to, all of them in one transaction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from itertools import islice
from typing import Any

from sqlalchemy import Connection, null, update
from sqlalchemy import Row as ResultRow

from models.audit import Action
from models.batch import Batch, BatchState
from models.encrypted import Keyring
from models.record_states import OtpState, PairingState, Status
from worker import audit
from worker.audit import Actor
from worker.batches import hours
from worker.batches.commands import NotPossible
from worker.batches.corrections import Corrected, Correction, Corrections, MendedBatch
from worker.batches.finding import find_batch
from worker.batches.loading import CHUNK, describe_files, make_record_writer
from worker.batches.record_rows import RecordRows
from worker.batches.refused_rows import close_refused_rows
from worker.database.engine import LOAD_LOCK, Database
from worker.intake import Row, RowError, Shipment, Switches, UnusableFile
from worker.leases.replay import mend
from worker.observability.progress import OnProgress, tell_nobody

_BATCH_COLUMNS = (Batch.id, Batch.name, Batch.environment_id, Batch.state, Batch.columns)


@dataclass(slots=True)
class Mended:
    """What a mend did, in rows of its file. `again`: records of the batch that go again; `added`: rows that became
    records, which had been refused or are new; `active` and `in_work` were left as they are, and `left_out`, which
    another batch made active; `refused` are told one by one, and change nothing. `is_paused`: the batch is paused, so
    that none of them goes yet."""

    again: int = 0
    added: int = 0
    active: int = 0
    in_work: int = 0
    left_out: int = 0
    refused: int = 0
    is_paused: bool = False


class Mender:
    """Brings corrected rows into batches. `totp_max_age` in seconds."""

    def __init__(
        self,
        database: Database,
        keyring: Keyring,
        actor: Actor,
        *,
        totp_max_age: float = 120.0,
        on_refused: Callable[[RowError], None] = lambda _: None,
        on_progress: OnProgress = tell_nobody,
    ) -> None:
        self._database = database
        self._keyring = keyring
        self._actor = actor
        self._max_age = timedelta(seconds=totp_max_age)
        self._on_refused = on_refused
        self._on_progress = on_progress

    def mend(self, shipment: Shipment, name: str, accepted: Sequence[str] = ()) -> Mended:
        """Bring the rows of a file into the batch of this name, all or nothing. A batch that was cancelled runs again;
        one that is paused stays so. `accepted`, what of the preflight a person accepted, is for the audit. Raises
        UnknownBatch, NotPossible, UnusableFile."""
        with self._database.changing_many(LOAD_LOCK) as connection:
            batch = find_batch(connection, name, *_BATCH_COLUMNS, is_locking=True)
            mended = self._mend_rows(connection, shipment, batch)
            if mended.again or mended.added:
                self._let_go(connection, shipment, batch)
            facts = describe_files(shipment) | asdict(mended) | {"accepted": list(accepted)}
            del facts["is_paused"]
            audit.append(self._database, connection, self._actor, Action.MEND, name, facts)
            return mended

    def _mend_rows(self, connection: Connection, shipment: Shipment, batch: ResultRow[*tuple[Any, ...]]) -> Mended:
        """Write what becomes of each row, and count the rows."""
        mended = Mended(is_paused=batch.state == BatchState.PAUSED)
        corrections = Corrections(connection, self._keyring, _describe_batch(batch, shipment), is_written=True)
        write = _Writer(self._database, connection, batch, RecordRows(self._keyring, batch.id, self._max_age))
        rows = shipment.tokens()
        done, closed = 0, 0
        while chunk := list(islice(rows, CHUNK)):
            corrected = corrections.judge([row for row in chunk if isinstance(row, Row)])
            write.write(corrected)
            errors = [row for row in chunk if isinstance(row, RowError)] + corrected.errors
            for error in sorted(errors, key=lambda error: error.row_number):
                self._on_refused(error)
            again = sum(correction.record is not None for correction in corrected.corrections)
            mended.again += again
            mended.added += len(corrected.corrections) - again
            mended.active += corrected.active
            mended.in_work += corrected.in_work
            mended.left_out += corrected.left_out
            mended.refused += len(errors)
            closed += len(corrected.closed)
            done += len(chunk)
            self._on_progress("Mending rows", done)
        if mended.added and not (mended.again or mended.active or mended.in_work or closed):
            problem = f"none of its tokens is one of batch {batch.name!r}"
            raise UnusableFile(shipment.path, problem, "Load it as a batch of its own, or mend the batch it belongs to")
        write.count()
        return mended

    def _let_go(self, connection: Connection, shipment: Shipment, batch: ResultRow[*tuple[Any, ...]]) -> None:
        """Let the batch work on what was mended: it is judged by its attempts from now on, and what PingOne's inventory
        has is read anew."""
        switches = shipment.switches
        values = {
            "columns": list(dict.fromkeys([*batch.columns, *shipment.columns])),
            "may_import": switches.may_import,
            "may_pair": switches.may_pair,
            "inventory_read_at": null(),
            "judged_after": hours.latest_attempt(),
        }
        connection.execute(update(Batch).where(Batch.id == batch.id).values(values))
        if batch.state == BatchState.CANCELLED:
            hours.let_run(self._database, connection, batch.id)


def read_mended_batch(connection: Connection, name: str, shipment: Shipment) -> MendedBatch:
    """Read what the rows of a file are compared with that mends the batch of this name. Raises UnknownBatch."""
    return _describe_batch(find_batch(connection, name, *_BATCH_COLUMNS), shipment)


def _describe_batch(batch: ResultRow[*tuple[Any, ...]], shipment: Shipment) -> MendedBatch:
    return MendedBatch(batch.id, batch.environment_id, may_pair=shipment.switches.may_pair, only_new=shipment.only_new)


def allow_as_before(connection: Connection, name: str, shipment: Shipment) -> Shipment:
    """Allow a file to create in the tenant what its batch may create already, too. Raises UnknownBatch."""
    batch, typed = find_batch(connection, name, Batch.may_import, Batch.may_pair), shipment.switches
    return replace(shipment, switches=Switches(typed.may_import or batch.may_import, typed.may_pair or batch.may_pair))


class _Writer:
    """Writes corrections into one batch."""

    def __init__(
        self,
        database: Database,
        connection: Connection,
        batch: ResultRow[*tuple[Any, ...]],
        record_rows: RecordRows,
    ) -> None:
        self._database = database
        self._connection = connection
        self._batch_id = batch.id
        self._record_rows = record_rows
        self._new = make_record_writer(database, connection, record_rows.columns, batch.id, batch.environment_id)
        self._added = self._closed = 0

    def write(self, corrected: Corrected) -> None:
        """Write what becomes of some rows."""
        again = [each for each in corrected.corrections if each.record is not None]
        for status in (Status.DEAD_LETTER, Status.CANCELLED):
            mine = [self._change(each) for each in again if each.record and each.record.status == status]
            if mend(self._database, self._connection, status, mine) != len(mine):
                raise NotPossible(
                    "another command changed the same records at this moment: nothing was done, try again"
                )
        new = [each for each in corrected.corrections if each.record is None]
        with self._new.writing() as write:
            for each in new:
                write(self._record_rows.values(each.new))
        self._added += len(new)
        self._closed += close_refused_rows(self._connection, self._batch_id, corrected.closed)

    def count(self) -> None:
        """Write down how many records and refused rows the batch has now."""
        sums = {"total": Batch.total + self._added, "rows_refused": Batch.rows_refused - self._closed}
        self._connection.execute(update(Batch).where(Batch.id == self._batch_id).values(sums))

    def _change(self, correction: Correction) -> dict[str, Any]:
        """The columns of a record that goes again, with its id."""
        record = correction.record
        assert record is not None, "only a record is changed"  # noqa: S101
        columns = dict(zip(self._record_rows.columns, self._record_rows.values(correction.new), strict=True))
        has_token = record.is_token_made and record.is_in_inventory
        is_device_kept = columns["device_id"] == record.device_id
        columns |= {
            "is_token_made": has_token,
            "is_device_made": record.is_device_made and bool(record.device_id),
            "is_in_inventory": has_token if correction.is_sought else record.is_in_inventory,
            "import_job_id": None if correction.is_sought else record.import_job_id,
            "owner_id": None if correction.is_sought else record.owner_id,
            "pairing": record.pairing if is_device_kept else PairingState.UNSENT,
        }
        if columns["device_id"] and not is_device_kept:
            columns["is_in_inventory"] = True
        # A seed makes another pair under a new budget; a pair that is kept goes on where it was.
        is_renewed = correction.is_fresh or columns["next_counter"] is not None
        posts = record.otp1_posts + record.otp2_posts
        columns |= {
            "otp1_state": OtpState.UNSENT if is_renewed else record.otp1_state,
            "otp2_state": OtpState.UNSENT if is_renewed else record.otp2_state,
            "otp1_posts": 0 if is_renewed else record.otp1_posts,
            "otp2_posts": 0 if is_renewed else record.otp2_posts,
            "posts_forgiven": record.posts_forgiven + (posts if is_renewed else 0),
        }
        return columns | {"this_id": record.id}
