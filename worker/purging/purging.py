"""Purges batches that ended long ago: says which, and does it.

A batch is marked first, with its outcome, in one transaction: from then on nobody is shown a record of it. Its records
go after that, chunk by chunk, and a purge that was interrupted goes on with them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import select, update

from models.audit import Action
from models.batch import Batch
from models.encrypted import Keyring
from worker import audit
from worker.audit import Actor
from worker.database.engine import LOAD_LOCK, Database
from worker.database.erasing import empty_log
from worker.observability.progress import OnProgress, tell_nobody
from worker.purging.candidates import Candidate, Candidates
from worker.purging.removing import Removing, count_left, find_left, remove_all_but_records
from worker.vault.fingerprints import make_fingerprints

# What is told of the work.
REMOVING = "Removing records"


@dataclass(frozen=True, slots=True)
class LeftBatch:
    """A batch of which an interrupted purge has left records."""

    id: int
    name: str
    records: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What a purge does: batches that ended long ago, of which those with an obstacle stay, and batches whose purge was
    interrupted."""

    candidates: Sequence[Candidate]
    left: Sequence[LeftBatch]

    @property
    def going(self) -> list[Candidate]:
        """The batches that are purged."""
        return [each for each in self.candidates if each.obstacle is None]

    @property
    def records(self) -> int:
        """How many records go."""
        return sum(each.records for each in self.going) + sum(each.records for each in self.left)


class Purging:
    """Purges batches that ended longer ago than `older_than`. `gives_up`: also those with dead letters that a person
    has not dealt with."""

    def __init__(
        self, database: Database, keyring: Keyring, actor: Actor, older_than: timedelta, *, gives_up: bool = False
    ) -> None:
        self._database = database
        self._keyring = keyring
        self._actor = actor
        self._older_than = older_than
        self._candidates = Candidates(database, older_than, gives_up=gives_up)
        self._removing = Removing(database, keyring)

    def examine(self) -> Plan:
        """Find out what `purge` would do, and change nothing."""
        with self._database.reading() as connection:
            left = [LeftBatch(each.id, each.name, count_left(connection, each.id)) for each in find_left(connection)]
            return Plan(list(self._candidates.find(connection)), left)

    def purge(self, plan: Plan, on_progress: OnProgress = tell_nobody) -> Plan:
        """Do what the plan says, but for batches that a person has put to work again meanwhile. Returns what was done.
        Raises KeyIsGone."""
        removed = 0
        for left in plan.left:
            self._note_continuation(left)
            for count in self._removing.remove(left.id):
                on_progress(REMOVING, removed := removed + count, plan.records)
        done = list[Candidate]()
        for candidate in plan.going:
            if marked := self._mark(candidate):
                done.append(marked)
                for count in self._removing.remove(candidate.id):
                    on_progress(REMOVING, removed := removed + count, plan.records)
        empty_log(self._database)
        return Plan(done, plan.left)

    def _mark(self, candidate: Candidate) -> Candidate | None:
        """Write down that a batch is purged, how it ended, and who wanted that; None if it is at work again. Beside no
        load and no replay, which look at earlier records."""
        with self._database.changing_many(LOAD_LOCK) as connection:
            mine = select(Batch.__table__).where(Batch.id == candidate.id, Batch.purged_at.is_(None))
            batch = connection.execute(mine.with_for_update()).one_or_none()
            found = batch and self._candidates.find_again(connection, batch)
            if not found:
                return None
            # Before anything goes, so that a key that is gone is noticed.
            make_fingerprints(connection, self._keyring)
            remove_all_but_records(connection, found.id)
            values = {"purged_at": self._database.now(), "outcome": found.counted.to_json()}
            connection.execute(update(Batch).where(Batch.id == found.id).values(values))
            counts = {status: number for status, number in found.counted.statuses.items() if number}
            facts: dict[str, Any] = {"records": found.records, "older_than_days": self._older_than.days, **counts}
            facts["ended_at"] = found.ended_at.isoformat(timespec="seconds")
            audit.append(self._database, connection, self._actor, Action.PURGE, found.name, facts)
        return found

    def _note_continuation(self, left: LeftBatch) -> None:
        """Write down that somebody goes on with a purge that was interrupted."""
        with self._database.writing() as connection:
            facts = {"records": left.records, "is_continued": True}
            audit.append(self._database, connection, self._actor, Action.PURGE, left.name, facts)
