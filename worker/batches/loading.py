"""Loads a shipment: it becomes a batch in one transaction, and each of its rows is written or refused."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from itertools import islice
from typing import Any

from sqlalchemy import Connection, insert, select, update

from models.audit import Action
from models.batch import Batch
from models.encrypted import Keyring
from models.record import Record
from models.row_fault import RowFault
from worker import audit
from worker.audit import Actor
from worker.batches import hours
from worker.batches.conflicts import Conflicts
from worker.batches.load_counts import LoadCounts
from worker.batches.loaded import AllActive, Loaded, find_loaded
from worker.batches.names import check_name
from worker.batches.record_rows import RecordRows
from worker.batches.refused_rows import RefusedRows
from worker.batches.trial import find_trial_row
from worker.config.environment import Environment
from worker.database.engine import LOAD_LOCK, Database
from worker.database.row_writer import RowWriter
from worker.intake import Row, RowError, Shipment, UnusableFile
from worker.observability.escaping import escape_line
from worker.observability.progress import OnProgress, tell_nobody
from worker.rules.hours import DailyHours

# Rows that are looked up and written together. This bounds the memory that a load needs, whatever the file's size.
CHUNK = 1000


class Loader:
    """Loads shipments for one environment. `totp_max_age` in seconds. A batch in an environment where no token ever
    became active begins with `first_records`."""

    def __init__(
        self,
        database: Database,
        keyring: Keyring,
        environment: Environment,
        actor: Actor,
        *,
        totp_max_age: float = 120.0,
        first_records: int = 0,
        on_refused: Callable[[RowError], None] = lambda _: None,
        on_progress: OnProgress = tell_nobody,
    ) -> None:
        self._database = database
        self._keyring = keyring
        self._environment = environment
        self._actor = actor
        self._max_age = timedelta(seconds=totp_max_age)
        self._first_records = first_records
        self._on_refused = on_refused
        self._on_progress = on_progress

    def load(
        self,
        shipment: Shipment,
        name: str,
        canary: int | None = None,
        daily_hours: DailyHours | None = None,
        accepted: Sequence[str] = (),
    ) -> Loaded:
        """Write the batch and its records, all or nothing; with a canary, the batch pauses after so many of them, if
        that leaves any; with hours, it runs only within them. For the audit is `accepted`, what of the preflight a
        person accepted. Raises NameTaken, NameUnfit, OtherHours; UnusableFile if no row is left; AllActive if all were
        left out."""
        with self._database.writing() as connection:
            self._database.lock(connection, LOAD_LOCK)
            if found := find_loaded(connection, self._environment.environment_id, shipment.fingerprint):
                hours.check_same_hours(connection, found.batch_id, found.name, daily_hours)
                return found
            check_name(connection, name)
            batch_id = self._insert_batch(connection, shipment, name)
            counts = self._insert_records(connection, shipment, batch_id, canary)
            if problem := counts.explain_nothing_left():
                raise UnusableFile(shipment.path, problem, "Correct them first")
            if not counts.total:
                raise AllActive(counts.left_out)
            hours.set_hours(connection, batch_id, daily_hours)
            trial = find_trial_row(connection, self._environment.environment_id, batch_id, self._first_records)
            held_back = {"canary_row": counts.held_back_from, "trial_row": trial}
            connection.execute(update(Batch).where(Batch.id == batch_id).values(counts.sums | held_back))
            terms: dict[str, Any] = {"canary": canary, "window": daily_hours and str(daily_hours)}
            terms |= {"environment": self._environment.name} | counts.sums
            others = {"left_out": counts.left_out, "accepted": list(accepted)}
            self._tell_audit(connection, shipment, name, terms, others)
            out_of_hours = hours.check_hours(self._database, connection, batch_id)
            self._database.analyze(connection, Record.__tablename__)
            sums = (counts.total, counts.rows_refused)
            return Loaded(batch_id, name, *sums, is_new=True, out_of_hours=out_of_hours, left_out=counts.left_out)

    def _tell_audit(
        self, connection: Connection, shipment: Shipment, name: str, facts: dict[str, Any], others: dict[str, Any]
    ) -> None:
        """Write the audit's line of a load: these facts, and those of the others that say something."""
        facts = describe_files(shipment) | facts | {key: value for key, value in others.items() if value}
        audit.append(self._database, connection, self._actor, Action.LOAD, name, facts)

    def _insert_batch(self, connection: Connection, shipment: Shipment, name: str) -> int:
        values = {
            "name": name,
            "environment": self._environment.name,
            "environment_id": self._environment.environment_id,
            "file": escape_line(str(shipment.path)),
            "file_sha256": shipment.fingerprint,
            "columns": shipment.columns,
            "may_import": shipment.switches.may_import,
            "may_pair": shipment.switches.may_pair,
            "created_at": self._database.now(),
            "running_since": self._database.now(),
            "judged_after": hours.latest_attempt(),
            "running_after": hours.latest_attempt(),
        }
        return int(connection.scalar(insert(Batch).values(values).returning(Batch.id)) or 0)

    def _insert_records(
        self, connection: Connection, shipment: Shipment, batch_id: int, canary: int | None
    ) -> LoadCounts:
        """Write the records, and count the rows."""
        environment_id = self._environment.environment_id
        conflicts = Conflicts(connection, self._keyring, environment_id, batch_id, is_written=True)
        record_rows = RecordRows(self._keyring, batch_id, self._max_age)
        writer = make_record_writer(self._database, connection, record_rows.columns, batch_id, environment_id)
        refused_rows = RefusedRows(connection, environment_id, batch_id)
        counts, analyzed = LoadCounts(canary), 0
        rows = shipment.rows()
        chunk = list(islice(rows, CHUNK))
        while chunk:
            errors = [row for row in chunk if isinstance(row, RowError)]
            whole = [row for row in chunk if isinstance(row, Row)]
            good, conflicting = conflicts.split(whole)
            left_out, refused = part_left_out(shipment, conflicting)
            errors += refused
            with writer.writing() as write:
                for record in good:
                    write(record_rows.values(record))
                # Read while PostgreSQL is busy with this one.
                chunk = list(islice(rows, CHUNK))
            errors.sort(key=lambda error: error.row_number)
            refused_rows.write(errors)
            for error in errors:
                self._on_refused(error)
            counts.add([record.row for record in good], len(errors), len(left_out))
            if chunk:
                self._on_progress("Loading rows", counts.rows)
            if counts.total > 10 * analyzed:
                # For the next look-ups: without statistics, PostgreSQL takes any index for as good as the right one.
                self._database.analyze(connection, Record.__tablename__)
                analyzed = counts.total
        return counts


def part_left_out(shipment: Shipment, errors: Sequence[RowError]) -> tuple[list[RowError], list[RowError]]:
    """Part the rows that a shipment leaves out on purpose from those that are refused."""
    left_out = [error for error in errors if shipment.only_new and error.fault == RowFault.ACTIVE_ELSEWHERE]
    return left_out, [error for error in errors if error not in left_out]


def describe_files(shipment: Shipment) -> dict[str, Any]:
    """Describe the files of a shipment for the audit, by their names and SHA-256. Not those of key and password, which
    could be guessed from their digests."""
    about = {"file": escape_line(shipment.path.name), "sha256": shipment.digest}
    if listed := shipment.assignment:
        about |= {"list_file": escape_line(listed.path.name), "list_sha256": listed.digest}
    return about


def make_record_writer(
    database: Database, connection: Connection, columns: tuple[str, ...], batch_id: int, environment_id: str
) -> RowWriter:
    """Make what writes new records of a batch: these columns, and those that are the same for all of them."""
    same = {
        "batch_id": batch_id,
        "environment_id": environment_id,
        "scheduled_at": connection.scalar(select(database.now())),
    }
    return RowWriter(connection, Record.metadata.tables[Record.__tablename__], columns, same)
