"""Revokes the tokens that a batch imported and that are not paired, many to a job; or says which those are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from sqlalchemy import Row, and_, func, select

from models.audit import Action
from models.record import Record
from worker import audit
from worker.audit import Actor
from worker.batches.inventory_list import find_tokens
from worker.batches.preparation.imports import Imports
from worker.batches.preparation.token_work import TokenWork
from worker.batches.undo.kept import Kept
from worker.batches.undo.obstacles import explaining_failures
from worker.batches.undo.revoking import Revoking
from worker.batches.undo.standing import Standing, UndoneBatch
from worker.batches.undo.token_list import OwnToken, Sorted, TokenList
from worker.config.environment import Environment
from worker.database.engine import Database
from worker.leases.undoing import had_token, note_tokens_gone
from worker.observability.progress import OnProgress, tell_nobody, telling
from worker.pace.patience import call_patiently
from worker.pingone.client import Call
from worker.pingone.clients import Clients

_HALF_SHOWN = "PingOne shows it in one place and not in another: give the command again"
_NOT_REVOKED = "PingOne has not revoked it: give the command again"

# A record, or what is known of its token.
T = TypeVar("T", bound="Row[*tuple[Any, ...]] | OwnToken")


@dataclass(slots=True)
class Revoked:
    """What was found and done, in tokens: `own` may be revoked, `revoked` were, `gone` were revoked before; `kept`
    stay, each with why; `not_ours` were in the inventory before the batch; `earlier` were written down as gone by
    earlier runs. `open_imports` have not ended, and may make tokens still."""

    own: int = 0
    revoked: int = 0
    gone: int = 0
    not_ours: int = 0
    open_imports: int = 0
    earlier: int = 0
    kept: list[Kept] = field(default_factory=list)

    def to_facts(self) -> dict[str, Any]:
        """The counts, as the audit has them."""
        return {"revoked": self.revoked, "gone": self.gone, "left": len(self.kept)}


class Revocation:
    """Revokes the tokens of batches of one environment. `imports` and `work` follow import jobs whose end is not
    written down."""

    def __init__(
        self,
        database: Database,
        clients: Clients,
        importer: Environment,
        actor: Actor,
        standing: Standing,
        tokens: TokenList,
        imports: Imports,
        work: TokenWork,
        revoking: Revoking,
        on_progress: OnProgress = tell_nobody,
    ) -> None:
        self._database = database
        self._clients = clients
        self._importer = importer
        self._actor = actor
        self._standing = standing
        self._tokens = tokens
        self._imports = imports
        self._work = work
        self._revoking = revoking
        self._on_progress = on_progress

    def examine(self, name: str) -> Revoked:
        """Find out what `revoke` would do, and change nothing; tokens of imports that have not ended are not among
        them. Raises UnknownBatch, NotPossible, CannotGoOn."""
        batch = self._standing.require_rest(name)
        with explaining_failures():
            tokens = self._look_up(batch, self._make_call(batch))
        return self._count(batch, tokens)

    def revoke(self, name: str) -> Revoked:
        """Revoke the tokens, with a line in the audit before and after. It may end at any moment, and be called again.
        Raises UnknownBatch, NotPossible, CannotGoOn."""
        batch = self._standing.require_rest(name)
        call = self._make_call(batch)
        with explaining_failures():
            self._end_imports(batch, call)
            self._revoking.end_jobs(batch.id, call)
            tokens = self._look_up(batch, call)
        result = self._count(batch, tokens)
        self._write_down(name, {"tokens": result.own})
        try:
            with explaining_failures():
                self._note_findings(batch, tokens, result, call)
                self._revoke_own(batch, tokens, result, call)
        finally:
            self._write_down(name, result.to_facts())
        return result

    def _end_imports(self, batch: UndoneBatch, call: Call) -> None:
        """Wait for the end of import jobs of the batch, and write it down: they may have made tokens."""
        while job := self._imports.find_unfinished(batch.id):
            self._on_progress("Waiting for the end of imports", 0)
            call_patiently(partial(self._work.follow, batch.id, job, self._importer, call, is_busy=False))

    def _look_up(self, batch: UndoneBatch, call: Call) -> Sorted:
        rows = self._tokens.read(batch.id)
        wanted = {row.serial_number.lower() for row in rows}
        found = find_tokens(self._clients.reads(self._importer), wanted, call, self._on_progress) if wanted else {}
        return self._tokens.sort(rows, found)

    def _note_findings(self, batch: UndoneBatch, tokens: Sorted, result: Revoked, call: Call) -> None:
        """Write down which tokens are gone, and what came of imports of unknown fate. Raises NotPossible if the batch
        goes on meanwhile, for then it may import the tokens again."""
        absent, shown = self._look_up_each(tokens.absent, call)
        unmade, appeared = self._look_up_each(tokens.unmade, call)
        for row in (*shown, *appeared):
            result.kept.append(Kept(row.row_number, row.serial_number, _HALF_SHOWN))
        made = [token.record_id for token in tokens.own]
        with self._database.changing_many() as connection:
            self._standing.require_rest_within(connection, batch.name)
            self._tokens.note_fates(connection, batch.id, made=made, never_made=[row.id for row in unmade])
            result.gone += note_tokens_gone(self._database, connection, [row.id for row in absent])

    def _look_up_each(self, tokens: Sequence[T], call: Call) -> tuple[list[T], list[T]]:
        """Look tokens up one by one that the list does not have, since what was imported moments ago may not be listed
        yet. Returns those that the inventory does not have, and those that it has."""
        reads = self._clients.reads(self._importer)
        absent, there = list[T](), list[T]()
        for token in telling(tokens, self._on_progress, "Looking tokens up", len(tokens), each=10):
            look_up = partial(reads.find_token, token.serial_number, with_devices=False, call=call)
            (absent if call_patiently(look_up) is None else there).append(token)
        return absent, there

    def _revoke_own(self, batch: UndoneBatch, tokens: Sorted, result: Revoked, call: Call) -> None:
        """Revoke the tokens that may be; those of which no answer tells whether they were revoked are looked up in the
        end."""
        outcome = self._revoking.revoke(batch, tokens.own, call, self._on_progress)
        result.revoked += outcome.revoked
        result.kept += outcome.kept
        if not outcome.unsure:
            return
        self._revoking.end_jobs(batch.id, call)
        wanted = {token.serial_number.lower(): token for token in outcome.unsure}
        listed = find_tokens(self._clients.reads(self._importer), wanted, call, self._on_progress)
        unlisted = [token for serial_number, token in wanted.items() if serial_number not in listed]
        gone, shown = self._look_up_each(unlisted, call)
        with self._database.changing_many() as connection:
            result.revoked += note_tokens_gone(self._database, connection, [token.record_id for token in gone])
        for token in (*(wanted[serial_number] for serial_number in listed), *shown):
            result.kept.append(Kept(token.row_number, token.serial_number, _NOT_REVOKED))

    def _count(self, batch: UndoneBatch, tokens: Sorted) -> Revoked:
        kinds = (and_(Record.is_in_inventory, ~Record.is_token_made), had_token())
        counting = [select(func.count()).where(Record.batch_id == batch.id, kind) for kind in kinds]
        with self._database.reading() as connection:
            not_ours, earlier = (connection.scalar(count) or 0 for count in counting)
        kept = [Kept(row.row_number, row.serial_number, why) for row, why in tokens.kept]
        open_imports = self._tokens.count_open_imports(batch.id)
        return Revoked(own=len(tokens.own), not_ours=not_ours, open_imports=open_imports, earlier=earlier, kept=kept)

    def _make_call(self, batch: UndoneBatch) -> Call:
        return Call(f"oathbulk-batch-{batch.id}", f"oathbulk-revocation-{batch.id}")

    def _write_down(self, name: str, facts: dict[str, Any]) -> None:
        with self._database.writing() as connection:
            audit.append(self._database, connection, self._actor, Action.REVOKE, name, facts)
