"""Undoes a batch chunk by chunk, at the pace of its license: takes a chunk, asks PingOne, writes down what came of it,
goes on. First the devices that the batch made, then the tokens that it imported and that nobody has."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from typing import Any

from sqlalchemy import Row, and_, or_, select

from models.audit import Action
from models.record import Record
from worker import audit
from worker.audit import Actor
from worker.batches.preparation.imports import Imports
from worker.batches.preparation.token_work import TokenWork
from worker.batches.undo.devices import DefaultChange, DeviceOutcome, End, Removal
from worker.batches.undo.ownership import HAS_DEVICE, HAS_OPEN_PAIRING, find_batch_with_device, read_made
from worker.batches.undo.revocation_jobs import Revoking
from worker.batches.undo.tokens import OwnToken, SortedTokens, Tokens
from worker.batches.undo.undo_check import UndoCheck, UndoneBatch
from worker.batches.undo.undone import DeviceCounts, TokenCounts, Undone
from worker.config.environment import Environment
from worker.config.settings import Settings
from worker.database.engine import Database
from worker.intake import SerialList
from worker.leases.undoing import KeptRecord, keep_from_work, let_go, note_device_gone
from worker.observability.progress import OnProgress, tell_nobody
from worker.pace.errors import PaceOutOfReach
from worker.pace.slots import call_patiently
from worker.pingone.client import Call
from worker.pingone.clients import Clients
from worker.pingone.errors import CredentialsRefused, Forbidden, NotDelivered, PingOneError
from worker.rules.ages import SentAgo, count_ago

# Records that are worked on before the batch is looked at again.
CHUNK = 200
# Devices that are worked on at once.
THREADS = 32
# Seconds after which workers take records again that a killed command kept: many times what a chunk takes.
KEPT_FOR = 600.0
# Seconds between two questions whether PingOne may be asked about the last pairing of unknown fate.
ASK_AGAIN = 1.0
# What is told of each step.
WAITING = "Waiting until the last requests to pair are over"
READING = "Reading devices"
REMOVING = "Removing devices"
FOLLOWING = "Waiting for the end of imports"
REVOKING = "Revoking tokens"

_CHANGED = "its record was changed meanwhile, or a worker has it: give the command again"
_HALF_SHOWN = "PingOne shows its token in one place and not in another: give the command again"
_NOT_REVOKED = "PingOne has not revoked its token: give the command again"
_NOT_OF_BATCH = "no row of this batch has it"
_NOTHING_MADE = "this batch has made nothing of it that may be taken away"
_FORBIDDEN = (
    "PingOne forbids the worker application to read or revoke tokens: give it the role that imports them, or set "
    "PINGONE_IMPORT_CLIENT_ID and PINGONE_IMPORT_CLIENT_SECRET to an application that has it"
)
_COLUMNS = (
    Record.id,
    Record.row_number,
    Record.serial_number,
    Record.user_id,
    Record.device_id,
    Record.owner_id,
    Record.pairing_began_at,
    Record.otp_sent_at,
)

_Rows = Sequence[Row[*tuple[Any, ...]]]


class Undo:
    """Undoes batches of one environment. `imports` and `work` follow import jobs whose end is not written down; `wait`
    waits so many seconds."""

    def __init__(
        self,
        database: Database,
        clients: Clients,
        environment: Environment,
        settings: Settings,
        actor: Actor,
        check: UndoCheck,
        tokens: Tokens,
        revoking: Revoking,
        imports: Imports,
        work: TokenWork,
        wait: Callable[[float], object],
        on_progress: OnProgress = tell_nobody,
    ) -> None:
        self._database = database
        self._clients = clients
        self._environment = environment
        self._settings = settings
        self._actor = actor
        self._check = check
        self._tokens = tokens
        self._revoking = revoking
        self._imports = imports
        self._work = work
        self._wait = wait
        self._on_progress = on_progress

    def examine(self, name: str, only: SerialList | None = None, *, devices_only: bool = False) -> Undone:
        """Find out what `undo` would do, and change nothing. Pairings of unknown fate, and imports that have not ended,
        are counted only, with whatever they made. Raises UnknownBatch, NotPossible."""
        batch = self._check.require_rest(name, is_whole=only is None)
        made, undone = self._choose(batch, only, devices_only=devices_only)
        going = self._remove_devices(batch, made, undone, [], is_real=False)
        if undone.tokens is not None:
            with self._noting_obstacle(undone.tokens):
                ids = {row.id for row in made if not row.has_open_pairing}
                self._look_up_tokens(batch, ids, going, undone, undone.tokens)
        return undone

    def undo(self, name: str, only: SerialList | None = None, *, devices_only: bool = False) -> Undone:
        """Take away what the batch made: of all its records, or `only` of those with these serial numbers. Each chunk
        has a line in the audit; so has what is about to be done, before. It may end at any moment, and be called
        again. Raises UnknownBatch, NotPossible."""
        batch = self._check.require_rest(name, is_whole=only is None)
        made, undone = self._choose(batch, only, devices_only=devices_only)
        of_list = {"only": only.digest} if only else {}
        kept_from_work = list[KeptRecord]()
        try:
            if undone.devices.made or undone.devices.unknown_pairings:
                facts = {"devices": undone.devices.made, "unknown_pairings": undone.devices.unknown_pairings}
                self._write_down(Action.UNPAIR, name, facts | of_list)
            removed = self._remove_devices(batch, made, undone, kept_from_work, is_real=True)
            if undone.tokens is not None:
                with self._noting_obstacle(undone.tokens):
                    self._revoke_tokens(batch, {row.id for row in made}, removed, undone, undone.tokens, of_list)
        finally:
            with self._database.changing_many() as connection:
                let_go(connection, kept_from_work)
        return undone

    def _choose(self, batch: UndoneBatch, only: SerialList | None, *, devices_only: bool) -> tuple[_Rows, Undone]:
        """Read what the batch made by the records that are chosen, and count it."""
        made = read_made(self._database, batch.id)
        undone = Undone()
        if only is not None:
            by_serial = {row.serial_number.lower(): row for row in made}
            for serial in only.serial_numbers:
                row = by_serial.get(serial.lower())
                if row is None:
                    undone.keep(serial, None, _NOT_OF_BATCH)
                elif not (_may_have_device(row) or (row.may_have_token and not devices_only)):
                    undone.keep(row.serial_number, row.row_number, _NOTHING_MADE)
            wanted = {serial.lower() for serial in only.serial_numbers}
            made = [row for row in made if row.serial_number.lower() in wanted]
        undone.devices = DeviceCounts(
            made=sum(row.has_device for row in made),
            unknown_pairings=sum(row.has_open_pairing for row in made),
            earlier=sum(row.had_device for row in made),
        )
        if not devices_only:
            not_ours, earlier = (sum(getattr(row, kind) for row in made) for kind in ("had_token_before", "had_token"))
            undone.tokens = TokenCounts(not_ours=not_ours, earlier=earlier)
        return made, undone

    # Devices

    def _remove_devices(
        self, batch: UndoneBatch, made: _Rows, undone: Undone, kept: list[KeptRecord], *, is_real: bool
    ) -> Mapping[int, str]:
        """Remove the devices of these records, or only read them back; `kept`: the records that workers are kept from
        meanwhile. Returns the devices that go or are gone, in small letters, by record."""
        ids = [row.id for row in made if row.has_device or (is_real and row.has_open_pairing)]
        gone = dict[int, str]()
        if not ids:
            return gone
        # Before threads ask: wrong credentials are one failure, and not one for each of them.
        self._clients.access_tokens(self._environment).get()
        if is_real:
            self._wait_for_pairings(batch)
        removal = Removal(
            self._clients,
            self._environment,
            batch.id,
            frozenset(row.device_id for row in made if row.has_device),
            self._wait,
            self._count_ago,
            timedelta(seconds=self._settings.over_after),
            is_real=is_real,
        )

        def note(record: Row[*tuple[Any, ...]], outcome: DeviceOutcome) -> None:
            self._note_device(undone, record, outcome, is_real=is_real)
            if outcome.device_id and record.serial_number not in undone.kept:
                gone[record.id] = outcome.device_id
            self._on_progress(step, undone.devices.ends.total(), len(ids))

        step = REMOVING if is_real else READING
        self._on_progress(step, 0, len(ids))
        for start in range(0, len(ids), CHUNK):
            chunk = self._take(batch, ids[start : start + CHUNK], kept, is_real=is_real)
            with self._auditing_chunk(Action.UNPAIR, batch.name, undone.devices.to_facts, is_real=is_real):
                _run(removal, chunk, note)
        return gone

    def _take(self, batch: UndoneBatch, ids: Collection[int], kept: list[KeptRecord], *, is_real: bool) -> _Rows:
        """Take a chunk of records. Where they are to be changed, workers are kept from those that are pending. Raises
        NotPossible where somebody works on the batch by now: a person may have resumed it."""
        # Since they were counted, a worker may have found out what came of a pairing.
        is_concerned = or_(HAS_DEVICE, HAS_OPEN_PAIRING) if is_real else HAS_DEVICE
        mine = select(*_COLUMNS, find_batch_with_device()).where(Record.id.in_(ids), is_concerned)
        mine = mine.order_by(Record.row_number)
        if not is_real:
            with self._database.reading() as connection:
                return connection.execute(mine).all()
        with self._database.changing_many() as connection:
            self._check.require_rest_within(connection, batch)
            chunk = connection.execute(mine).all()
            now_kept = keep_from_work(self._database, connection, [row.id for row in chunk], KEPT_FOR)
        kept += now_kept
        return chunk

    def _note_device(
        self, undone: Undone, record: Row[*tuple[Any, ...]], outcome: DeviceOutcome, *, is_real: bool
    ) -> None:
        """Write down what became of a device, at once: what is not written down has to be looked up again."""
        end, why = outcome.end, outcome.why
        if is_real and end in (End.REMOVED, End.GONE, End.NEVER_MADE):
            was_made = end is not End.NEVER_MADE
            with self._database.writing() as connection:
                if not note_device_gone(self._database, connection, record.id, record.device_id, was_made=was_made):
                    end, why = End.LEFT, _CHANGED
        undone.devices.ends[end] += 1
        if outcome.heir is not None:
            change = DefaultChange(record.row_number, record.serial_number, record.user_id, outcome.heir)
            undone.defaults.setdefault(record.user_id, change)
        if end is End.LEFT:
            undone.keep(record.serial_number, record.row_number, why)

    def _wait_for_pairings(self, batch: UndoneBatch) -> None:
        """Wait until no request to pair of the batch can be under way any more: what it makes could not be seen yet."""
        # After a jump of the clock the request's time does not show it; but the record's look-up was put off as long.
        over_after = self._settings.over_after
        is_put_off = Record.scheduled_at.between(self._database.now(0.001), self._database.now(over_after))
        was_sent_lately = Record.otp_sent_at > self._database.now(-over_after)
        is_under_way = and_(HAS_OPEN_PAIRING, or_(was_sent_lately, is_put_off))
        under_way = select(Record.id).where(Record.batch_id == batch.id, is_under_way).limit(1)
        while True:
            with self._database.reading() as connection:
                if connection.scalar(under_way) is None:
                    return
            self._on_progress(WAITING, 0)
            self._wait(ASK_AGAIN)

    def _count_ago(self, record: Row[*tuple[Any, ...]]) -> SentAgo | None:
        with self._database.reading() as connection:
            now = connection.execute(select(self._database.now())).scalar_one()
        return count_ago(now, record.otp_sent_at, record.pairing_began_at)

    # Tokens

    def _revoke_tokens(
        self,
        batch: UndoneBatch,
        record_ids: Collection[int],
        removed: Mapping[int, str],
        undone: Undone,
        counts: TokenCounts,
        of_list: Mapping[str, str],
    ) -> None:
        """Revoke the tokens of these records that the batch imported and that nobody has. Those of which no answer
        tells whether they were revoked are looked up in the end."""
        call = _make_call(batch)
        self._end_imports(batch, call)
        self._revoking.end_jobs(batch.id, call)
        found = self._look_up_tokens(batch, record_ids, removed, undone, counts)
        if found.own:
            self._write_down(Action.REVOKE, batch.name, {"tokens": counts.own, **of_list})
        with self._auditing_chunk(Action.REVOKE, batch.name, counts.to_facts):
            self._note_findings(batch, found, undone, counts, call)
        unsure = list[OwnToken]()
        for start in range(0, len(found.own), self._settings.tokens_per_import):
            self._on_progress(REVOKING, start, len(found.own))
            with self._auditing_chunk(Action.REVOKE, batch.name, counts.to_facts):
                chunk = found.own[start : start + self._settings.tokens_per_import]
                others = self._revoking.revoke(batch, chunk, partial(self._note_revoked, counts), call)
                unsure += others.unsure
                for token, why in others.refused:
                    _keep_token(undone, counts, token, why)
        if unsure:
            with self._auditing_chunk(Action.REVOKE, batch.name, counts.to_facts):
                self._revoking.end_jobs(batch.id, call)
                revoked, there = self._tokens.find_revoked(unsure, call)
                self._note_revoked(counts, revoked)
                for token in there:
                    _keep_token(undone, counts, token, _NOT_REVOKED)

    def _end_imports(self, batch: UndoneBatch, call: Call) -> None:
        """Wait for the end of import jobs of the batch, and write it down: they may have made tokens."""
        importer = self._environment.as_importer()
        while job := self._imports.find_unfinished(batch.id):
            self._on_progress(FOLLOWING, 0)
            call_patiently(partial(self._work.follow, batch.id, job, importer, call, is_busy=False))

    def _look_up_tokens(
        self,
        batch: UndoneBatch,
        record_ids: Collection[int],
        removed: Mapping[int, str],
        undone: Undone,
        counts: TokenCounts,
    ) -> SortedTokens:
        found = self._tokens.look_up(batch.id, record_ids, removed, _make_call(batch))
        counts.own = len(found.own)
        counts.open_imports = self._tokens.count_open_imports(batch.id)
        for row, why in found.kept:
            _keep_token(undone, counts, row, why)
        return found

    def _note_findings(
        self, batch: UndoneBatch, found: SortedTokens, undone: Undone, counts: TokenCounts, call: Call
    ) -> None:
        """Write down which tokens are gone, and what came of imports of unknown fate; but for those that the list does
        not have, and the inventory has."""
        found.absent, shown = self._tokens.find_absent(found.absent, call)
        found.unmade, appeared = self._tokens.find_absent(found.unmade, call)
        for row in (*shown, *appeared):
            _keep_token(undone, counts, row, _HALF_SHOWN)
        counts.gone += self._tokens.note_findings(self._check, batch, found)

    def _note_revoked(self, counts: TokenCounts, tokens: Sequence[OwnToken]) -> None:
        """Write down that tokens were revoked, at once, and count them."""
        counts.revoked += self._tokens.note_revoked(tokens)

    @contextmanager
    def _noting_obstacle(self, counts: TokenCounts) -> Iterator[None]:
        """Note what keeps tokens from being revoked that only a person can mend: what was done of the devices is told
        all the same. Raises NotDelivered, and CredentialsRefused where those of the devices are meant."""
        try:
            yield
        except NotDelivered:
            raise
        except CredentialsRefused as refusal:
            if self._environment.as_importer() is self._environment:
                raise
            counts.obstacle = (
                f"PingOne refused the credentials of the application that imports ({refusal}): check "
                "PINGONE_IMPORT_CLIENT_ID and PINGONE_IMPORT_CLIENT_SECRET"
            )
        except Forbidden as failure:
            counts.obstacle = f"{_FORBIDDEN} ({failure})"
        except PingOneError as failure:
            counts.obstacle = f"PingOne does not do it ({failure}): give the command again later"
        except PaceOutOfReach:
            counts.obstacle = "Redis is out of reach: check OATHBULK_REDIS_URL and the server"

    # The audit

    @contextmanager
    def _auditing_chunk(
        self, action: Action, name: str, count: Callable[[], dict[str, int]], *, is_real: bool = True
    ) -> Iterator[None]:
        """Write a line in the audit of what a chunk did, however it ended, if it did anything."""
        before = count()
        try:
            yield
        finally:
            done = {what: now - before[what] for what, now in count().items()}
            if is_real and any(done.values()):
                self._write_down(action, name, done)

    def _write_down(self, action: Action, name: str, facts: dict[str, Any]) -> None:
        with self._database.writing() as connection:
            audit.append(self._database, connection, self._actor, action, name, facts)


def _may_have_device(row: Row[*tuple[Any, ...]]) -> bool:
    """Whether a record made a device, or may have, or had one until an earlier undo."""
    return bool(row.has_device or row.has_open_pairing or row.had_device)


def _keep_token(undone: Undone, counts: TokenCounts, token: Row[*tuple[Any, ...]] | OwnToken, why: str) -> None:
    counts.left += 1
    undone.keep(token.serial_number, token.row_number, why)


def _make_call(batch: UndoneBatch) -> Call:
    return Call(f"oathbulk-batch-{batch.id}", f"oathbulk-revocation-{batch.id}")


def _run(removal: Removal, chunk: _Rows, note: Callable[[Row[*tuple[Any, ...]], DeviceOutcome], None]) -> None:
    """Work on the records of a chunk, several at once, and note how each ended. After a failure, or Ctrl-C, no further
    one is begun; what is under way is waited for, and noted as well."""
    pool = ThreadPoolExecutor(THREADS)
    ending = deque((record, pool.submit(removal.remove, record)) for record in chunk)

    def note_first() -> None:
        record, end = ending[0]
        note(record, end.result())
        ending.popleft()

    def note_others() -> None:
        for record, end in ending:
            if not end.cancelled() and end.exception() is None:
                note(record, end.result())

    # In a thread of its own: Ctrl-C interrupts the main thread only, and would come between what is written down and
    # its count.
    with ThreadPoolExecutor(1) as noting:
        try:
            while ending:
                noting.submit(note_first).result()
        finally:
            pool.shutdown(cancel_futures=True)
            noting.submit(note_others).result()
