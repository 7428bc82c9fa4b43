"""Compares what journals show with the database, and writes it into the database if asked to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from itertools import groupby, islice
from shlex import quote
from typing import Any

from sqlalchemy import Connection, select
from sqlalchemy import Row as DatabaseRow

from models.audit import Action
from models.batch import Batch, BatchState
from models.record_states import OtpState, Status
from worker import audit
from worker.audit import Actor
from worker.database.engine import Database
from worker.journal.evidence import Evidence, Row
from worker.leases import journal_evidence
from worker.observability.counting import agree, count_things
from worker.observability.progress import OnProgress, tell_nobody
from worker.rules.progress import Progress

# Rows that one transaction changes.
CHUNK = 1000


class StillAtWork(Exception):
    """Somebody may be working on a batch that has to be changed; the message says what to do."""


@dataclass(slots=True)
class BatchFindings:
    """What was found for one batch, in records: `answered` have an answer that the database does not know, `sent` have
    an OTP of which it does not know that it went out; `strange` are rows of the journal that the batch does not
    have."""

    name: str
    answered: int = 0
    sent: int = 0
    strange: int = 0


@dataclass(slots=True)
class Findings:
    """What was found for all batches, by the id of the batch; `missing`: how many rows of batches that the database
    does not have."""

    batches: dict[int, BatchFindings] = field(default_factory=dict)
    missing: dict[int, int] = field(default_factory=dict)

    @property
    def changes(self) -> int:
        """Records that the database has to learn something about."""
        return sum(batch.answered + batch.sent for batch in self.batches.values())

    @property
    def unknown(self) -> int:
        """Rows of the journals that the database does not have."""
        return sum(batch.strange for batch in self.batches.values()) + sum(self.missing.values())


class Reconciliation:
    """Compares a database with journals. `read_delay` in seconds; `is_written`: what was found goes into the
    database, with a line in the audit for each batch and transaction."""

    def __init__(self, database: Database, actor: Actor, *, read_delay: float, is_written: bool) -> None:
        self._database = database
        self._actor = actor
        self._read_delay = read_delay
        self._is_written = is_written

    def run(self, evidence: Mapping[Row, Evidence], on_progress: OnProgress = tell_nobody) -> Findings:
        """Compare, chunk by chunk, each in a transaction of its own. If it is interrupted, it may be run again. Raises
        StillAtWork."""
        findings, done = Findings(), 0
        for batch_id, rows in groupby(sorted(evidence), key=lambda row: row.batch):
            for chunk in _split_in_chunks(rows):
                with self._transaction() as connection:
                    self._compare(connection, batch_id, {row: evidence[row] for row in chunk}, findings)
                done += len(chunk)
                if done < len(evidence):
                    on_progress("Comparing records", done, len(evidence))
        return findings

    def _transaction(self) -> AbstractContextManager[Connection]:
        # The dispatcher puts nothing onto the queue meanwhile.
        return self._database.changing_many() if self._is_written else self._database.reading()

    def _compare(
        self, connection: Connection, batch_id: int, evidence: Mapping[Row, Evidence], findings: Findings
    ) -> None:
        columns = (Batch.id, Batch.name, Batch.state, Batch.purged_at)
        batch = connection.execute(select(*columns).where(Batch.id == batch_id)).one_or_none()
        if batch is None:
            findings.missing[batch_id] = findings.missing.get(batch_id, 0) + len(evidence)
            return
        if batch.purged_at is not None:
            # It was finished long ago, and has no records that could learn anything.
            return
        mine = findings.batches.setdefault(batch_id, BatchFindings(batch.name))
        found = journal_evidence.find_records(
            connection, batch_id, [row.row for row in evidence], is_locking=self._is_written
        )
        records = {Row(batch_id, record.row_number, record.device_id): record for record in found}
        changes = []
        for row, seen in evidence.items():
            # A record that was restored from before its pairing has no device.
            if (record := records.get(row) or records.get(row._replace(device=""))) is None:
                mine.strange += 1
            elif (learnt := _find_news(record, seen)) is not None:
                changes.append((record.id, learnt[0]))
                mine.answered, mine.sent = mine.answered + learnt[1], mine.sent + (not learnt[1])
        if changes and self._is_written:
            self._refuse_if_at_work(connection, batch)
            journal_evidence.write_progress(self._database, connection, changes, self._read_delay)
            audit.append(
                self._database, connection, self._actor, Action.RECONCILE, batch.name, {"records": len(changes)}
            )

    def _refuse_if_at_work(self, connection: Connection, batch: DatabaseRow[*tuple[Any, ...]]) -> None:
        pause = f"`oathbulk pause {quote(batch.name)}`"
        if batch.state == BatchState.RUNNING:
            raise StillAtWork(f"batch {batch.name!r} runs: {pause}, then reconcile again")
        if in_hand := journal_evidence.count_in_hand(self._database, connection, batch.id):
            are, calls_have = agree(in_hand, "is", "are"), agree(in_hand, "its call has", "their calls have")
            raise StillAtWork(
                f"{count_things(in_hand, 'record')} of batch {batch.name!r} {are} in hand: {pause}, wait until "
                f"{calls_have} ended (a minute at most), then reconcile again"
            )


def _find_news(record: DatabaseRow[Any], seen: Evidence) -> tuple[Progress, bool] | None:
    """What the database has to learn of a record, and whether that is an answer; None: nothing. An active record needs
    nothing."""
    known = journal_evidence.read_progress(record)
    learnt = seen.correct(known)
    if record.status == Status.ACTIVE or learnt == known:
        return None
    return learnt, _count_answers(learnt) > _count_answers(known)


def _count_answers(progress: Progress) -> int:
    return [otp.state for otp in (progress.first, progress.second) if otp].count(OtpState.ANSWERED)


def _split_in_chunks(rows: Iterator[Row]) -> Iterator[list[Row]]:
    while chunk := list(islice(rows, CHUNK)):
        yield chunk
