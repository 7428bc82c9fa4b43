"""Reads the report of a batch from one snapshot of the database, so that its counts add up while workers go on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, Select, func, select

from models.attempt import AttemptLine
from models.audit import Action
from models.batch import Batch, BatchState
from models.reason import PASSING
from models.record import Record, all_posts
from worker import __version__, audit
from worker.batches.finding import find_batch
from worker.batches.names import read_names_like
from worker.database.engine import Database
from worker.database.revision import read_revision
from worker.reports.batch_report.contents import Command, Origin, Report, RowCounts, State, TokenLine, Versions
from worker.reports.batch_report.refused import read_refused_groups
from worker.reports.batch_report.tally import Tally, make_line
from worker.reports.batch_report.timeline import choose_curve, make_timeline
from worker.reports.taken_over import read_taken_over

# Records that are in memory at once while they are read.
CHUNK = 1000


@contextmanager
def open_snapshot(database: Database) -> Iterator[Connection]:
    """A connection on which all statements see the database as it was at the first of them."""
    with database.reading() as connection:
        # SQLite's transactions are snapshots by themselves.
        yield connection if database.is_sqlite else connection.execution_options(isolation_level="REPEATABLE READ")


def read_report(database: Database, connection: Connection, name: str) -> Report:
    """Read the report of the batch of this name. Raises UnknownBatch."""
    batch = find_batch(connection, name, Batch.__table__)
    made_at: datetime = connection.execute(select(database.now())).scalar_one()
    commands = read_commands(connection, name)
    load = next((each for each in commands if each.action == Action.LOAD), None)
    tally = _count_records(connection, batch.id)
    counts = tally.count_rows(batch.rows_refused, batch.already_active)
    state = describe_state(batch, counts)
    return Report(
        batch=name,
        made_at=made_at,
        state=state,
        counts=counts,
        dead_letters=tally.group_dead_letters(),
        refused=read_refused_groups(connection, batch),
        timeline=make_timeline(choose_curve(tally), commands, state, batch.created_at, made_at),
        durations=tally.durations.measure(),
        in_step=tally.steps.share,
        step_columns=tally.steps.make_columns(),
        tokens=tally.tokens,
        origin=describe_origin(connection, batch, load),
        commands=commands,
        versions=Versions(__version__, read_revision(connection) or ""),
        taken_over=read_taken_over(connection, batch.id),
        names_taken=read_names_like(connection, name),
    )


def read_tokens(connection: Connection, name: str) -> Iterator[TokenLine]:
    """Read every token of a batch, in the order of its file, a chunk at a time. Raises UnknownBatch."""
    batch_id = find_batch(connection, name, Batch.id).id
    with connection.execution_options(yield_per=CHUNK).execute(_select_records(batch_id)) as found:
        yield from map(make_line, found)


def _count_records(connection: Connection, batch_id: int) -> Tally:
    """Read all records once, and count them."""
    tally = Tally()
    # Looked up record by record, so that no memory holds the attempts of all.
    first_ended_at = select(func.min(AttemptLine.ended_at)).where(AttemptLine.record_id == Record.id).correlate(Record)
    records = _select_records(batch_id).add_columns(first_ended_at.scalar_subquery().label("first_ended_at"))
    with connection.execution_options(yield_per=CHUNK).execute(records) as found:
        for record in found:
            tally.add(record)
    return tally


def _select_records(batch_id: int) -> Select[*tuple[Any, ...]]:
    """Select what a report says of records; nothing of their OTPs."""
    return (
        select(
            *(Record.serial_number, Record.row_number, Record.username, Record.email, Record.external_id),
            *(Record.user_id, Record.lot, Record.extra, Record.status, Record.reason, Record.attempts),
            *(Record.resynced, Record.otp_sent_at, Record.finalized_at),
            all_posts().label("otp_posts"),
        )
        .where(Record.batch_id == batch_id)
        .order_by(Record.row_number)
    )


def read_commands(connection: Connection, name: str) -> tuple[Command, ...]:
    """Read what was commanded for the batch, the oldest first."""
    return tuple(
        Command(line.at, line.actor, line.action, line.ticket, dict(line.facts))
        for line in audit.read(connection, name)
    )


def describe_state(batch: Row[*tuple[Any, ...]], counts: RowCounts) -> State:
    """The batch's state; one of which every record is final is finished, unless a person cancelled it."""
    is_finished = not counts.open and batch.state != BatchState.CANCELLED
    return State("finished" if is_finished else batch.state, batch.reason, batch.detail, batch.reason in PASSING)


def describe_origin(connection: Connection, batch: Row[*tuple[Any, ...]], load: Command | None) -> Origin:
    """The batch's file, who loaded it, and for which environment. `load`: the line of the audit about that."""
    facts = load.facts if load else {}
    sha256 = facts.get("sha256")
    if (batch.may_pair or batch.may_import) and sha256 == batch.file_sha256:
        # A line of before, in which files and switches have one digest together, with which no file can be compared.
        sha256 = None
    parent = batch.parent_id and connection.scalar(select(Batch.name).where(Batch.id == batch.parent_id))
    return Origin(
        file=batch.file,
        sha256=sha256,
        environment=batch.environment,
        environment_id=batch.environment_id,
        loaded_at=batch.created_at,
        loaded_by=load.actor if load else None,
        ticket=load.ticket if load else None,
        parent=parent,
        list_file=facts.get("list_file"),
        list_sha256=facts.get("list_sha256"),
    )
