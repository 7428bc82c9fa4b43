"""Undoes a batch chunk by chunk, at the pace of its license: first removes the devices that the batch made, then
revokes the tokens that it imported and that nobody has. No worker may work on the batch at the same time."""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from shlex import quote
from typing import Any

from sqlalchemy import Connection, Row, and_, func, or_, select

from models.audit import Action
from models.batch import Batch, BatchState
from models.encrypted import Keyring
from models.person import NAMES, PERSON
from models.reason import PASSING
from models.record import Record
from models.record_states import Status
from worker import audit
from worker.audit import Actor
from worker.batches.commands import NotPossible
from worker.batches.finding import choose_records, find_batch, has_unfinished, is_of_kept_batch, leave_out_names
from worker.batches.imports import Tokens
from worker.batches.long_list import LongList, Superseded, taking
from worker.batches.removal import (
    HAS_DEVICE,
    HAS_OPEN_PAIRING,
    DefaultChange,
    DeviceOutcome,
    End,
    OwnToken,
    Removal,
    Revocation,
    SortedTokens,
    find_batch_with_device,
)
from worker.config.environment import Environment
from worker.config.settings import Settings
from worker.database.engine import LOAD_LOCK, Database
from worker.intake.lists import TokenList
from worker.leases.moves import (
    HeldRecords,
    count_in_hand,
    had_device,
    had_token,
    has_nothing_open,
    hold,
    let_go,
    note_device_gone,
    take_back,
)
from worker.leases.queue import Queue
from worker.observability.progress import OnProgress, tell_nobody
from worker.observability.wording import agree, count_things
from worker.pace.search import PaceOutOfReach
from worker.pace.slots import call_patiently
from worker.pingone.client import Call
from worker.pingone.clients import Clients
from worker.pingone.devices import fold_case
from worker.pingone.errors import CredentialsRefused, Forbidden, NotDelivered, PingOneError
from worker.rules.steps import SentAgo, count_ago

# Records in a chunk. Before each chunk, the command checks again that nobody is working on the batch.
CHUNK = 200
# Devices processed at once.
THREADS = 32
# Seconds between two checks of whether the last pairing of unknown outcome is old enough to ask PingOne about it.
ASK_AGAIN = 1.0
# Progress texts of the steps.
WAITING = "Waiting for the last pairing requests"
READING = "Reading devices"
REMOVING = "Removing devices"
FOLLOWING = "Waiting for imports to end"
REVOKING = "Revoking tokens"

_CHANGED = "its record was changed meanwhile, or a worker has it: run the command again"
_HALF_SHOWN = "PingOne shows its token in one place but not in another: run the command again"
_NOT_REVOKED = "PingOne has not revoked its token: run the command again"
_NAMES_NOBODY = (
    "no row of {where} has a value in {column}, so the list matches nothing: name people as the batch's own list "
    "did, or tokens by serial"
)
_NOT_OF_BATCH = "no row of this batch has it"
_NOTHING_MADE = "this batch made nothing for it that can be removed"
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
# The token was in the inventory before this batch.
_HAD_TOKEN_BEFORE = and_(Record.is_in_inventory, ~Record.is_token_made)
# An import of this batch made the token, or may have: the import's result is unknown or outstanding.
_MAY_HAVE_TOKEN = or_(Record.is_token_made, and_(Record.import_job_id.is_not(None), ~Record.is_in_inventory))


@dataclass(frozen=True, slots=True)
class Kept:
    """Something that is left alone, and why: a device or token that stays in PingOne, or may stay; or a name on a
    person's list that no row of the batch has (`row_number` is None)."""

    row_number: int | None
    serial_number: str
    why: str


@dataclass(frozen=True, slots=True)
class Loss:
    """What somebody loses: `what` is `device`, `token` or `device and token`; `person` is the name in the row."""

    row_number: int
    serial_number: str
    person: str
    what: str


@dataclass(slots=True)
class DeviceCounts:
    """Counts of devices. `made`: made by the batch's records; `unknown_pairings`: pairings of unknown outcome;
    `earlier`: removed by an earlier undo; `ends`: how many of the others ended in each way."""

    made: int = 0
    unknown_pairings: int = 0
    earlier: int = 0
    ends: Counter[End] = field(default_factory=Counter)

    def to_facts(self) -> dict[str, int]:
        """The counts, in the form of the audit."""
        return {end.value: self.ends[end] for end in End if end is not End.THERE}


@dataclass(slots=True)
class TokenCounts:
    """Counts of tokens: `own` may be revoked, `revoked` were revoked now, `gone` were revoked before, `left` stay.
    `not_ours` were in the inventory before the batch; `earlier` were removed by an earlier undo. `open_imports` have
    not ended, and may still create tokens. `obstacle`: what blocked the revocation of all tokens, or of the rest, and
    its cure."""

    own: int = 0
    revoked: int = 0
    gone: int = 0
    left: int = 0
    not_ours: int = 0
    open_imports: int = 0
    earlier: int = 0
    obstacle: str | None = None

    def to_facts(self) -> dict[str, int]:
        """The counts, in the form of the audit."""
        return {"revoked": self.revoked, "gone": self.gone, "left": self.left}


@dataclass(slots=True)
class Undone:
    """What an undo found and did. `tokens` is None if only devices were requested. `defaults`: people whose default
    device changes, by user id. `kept`: what is left alone, by serial number. `cancelled`: ids of chosen records that
    are cancelled, since they have nothing open. `going`: ids, in lowercase, of the devices that would be removed or are
    gone. `there`: ids of the records whose device exists and would be removed. `losses`: who would lose what, in the
    order of the batch's rows."""

    devices: DeviceCounts = field(default_factory=DeviceCounts)
    tokens: TokenCounts | None = None
    defaults: dict[str, DefaultChange] = field(default_factory=dict)
    kept: dict[str, Kept] = field(default_factory=dict)
    cancelled: list[int] = field(default_factory=list)
    going: frozenset[str] = frozenset()
    there: set[int] = field(default_factory=set)
    losses: list[Loss] = field(default_factory=list)
    # The audit line with the plan; 0 before it is written.
    line: int = 0

    @property
    def is_whole(self) -> bool:
        """Whether everything that was to be removed was removed."""
        return not (self.kept or (self.tokens and self.tokens.obstacle))

    def list_kept(self) -> list[Kept]:
        """List what is left alone, in the order of the batch's rows; names that are in no row come last."""
        return sorted(self.kept.values(), key=lambda each: (each.row_number is None, each.row_number or 0))

    def list_default_changes(self) -> list[DefaultChange]:
        """List the people whose default device changes, in the order of the batch's rows."""
        return sorted(self.defaults.values(), key=lambda change: change.row_number)

    def keep(self, serial_number: str, row_number: int | None, why: str) -> None:
        """Note that something is left alone. If both a device and its token stay, the device's reason is kept."""
        self.kept.setdefault(serial_number, Kept(row_number, serial_number, why))


@dataclass(frozen=True, slots=True)
class UndoneBatch:
    """A batch that may be undone. `stop`: the command that would end the work on the batch, if it is not finished."""

    id: int
    name: str
    stop: str


class Undo:
    """Undoes batches of one environment. `settings`: the workers' settings, which say when a dead worker's call is
    over. `tokens` follows import jobs that have not ended; `wait` waits for the given number of seconds."""

    def __init__(
        self,
        database: Database,
        keyring: Keyring,
        clients: Clients,
        environment: Environment,
        settings: Settings,
        actor: Actor,
        tokens: Tokens,
        wait: Callable[[float], object],
        on_progress: OnProgress = tell_nobody,
    ) -> None:
        self._database = database
        self._clients = clients
        self._environment = environment
        self._settings = settings
        self._actor = actor
        self._queue = Queue(database, lease=settings.tuning.lease, over_after=settings.tuning.over_after)
        self._revocation = Revocation(
            database, keyring, clients, environment.as_importer(), wait, settings.tuning, on_progress
        )
        self._tokens = tokens
        self._wait = wait
        self._on_progress = on_progress

    def examine(
        self,
        name: str,
        only: TokenList | None = None,
        where: Sequence[str] = (),
        *,
        devices_only: bool = False,
        gone: frozenset[str] = frozenset(),
    ) -> Undone:
        """Find out what `undo` would do, without changing anything. Pairings of unknown outcome, and imports that have
        not ended, are only counted. `gone`: ids, in lowercase, of devices that would already have been removed. Raises
        UnknownBatch, UnknownColumn, NotPossible."""
        batch = self._require_rest(name, is_whole=only is None and not where)
        made, undone = self._choose(batch, only, where, devices_only=devices_only)
        going = self._remove_devices(batch, made, undone, [], gone, is_real=False)
        undone.going, own = frozenset(going.values()), frozenset[int]()
        if undone.tokens is not None:
            with self._noting_obstacle(undone.tokens):
                ids = {row.id for row in made if not row.has_open_pairing}
                found = self._look_up_tokens(batch, ids, going, undone, undone.tokens)
                own = frozenset(token.record_id for token in found.own)
                self._sort_absent(batch, found, undone, undone.tokens)
                undone.tokens.gone = len(found.absent)
        for row in made:
            if things := [*["device"] * (row.id in undone.there), *["token"] * (row.id in own)]:
                person = next(filter(None, (getattr(row, name) for name in (*NAMES, "user_id"))), "")
                undone.losses.append(Loss(row.row_number, row.serial_number, person, " and ".join(things)))
        return undone

    def undo(
        self, name: str, only: TokenList | None = None, where: Sequence[str] = (), *, devices_only: bool = False
    ) -> Undone:
        """Remove what the batch made for all of its records, or for those in a list (`only`) that meet all conditions
        of `where`, each written as COLUMN=VALUE. Writes an audit line with the plan, then one for each chunk. It can
        stop at any moment, and can be called again. Raises UnknownBatch, UnknownColumn, NotPossible."""
        batch = self._require_rest(name, is_whole=only is None and not where)
        made, undone = self._choose(batch, only, where, devices_only=devices_only)
        of_list = ({"only": only.digest} if only else {}) | ({"where": leave_out_names(where)} if where else {})
        held = list[HeldRecords]()
        try:
            if concerned := _list_concerned(made, undone):
                facts = {"records": len(concerned), "persons": len({row.user_id for row in concerned if row.user_id})}
                facts |= {"devices": undone.devices.made, "unknown_pairings": undone.devices.unknown_pairings}
                facts |= {"cancelled": len(undone.cancelled)} if undone.cancelled else {}
                undone.line = self._write_down(name, facts | of_list)
            self._take_back(batch, undone.cancelled, undone.line)
            removed = self._remove_devices(batch, made, undone, held, is_real=True)
            if undone.tokens is not None:
                with self._noting_obstacle(undone.tokens):
                    self._revoke_tokens(batch, {row.id for row in made}, removed, undone, held, undone.tokens, of_list)
        except Superseded:
            raise NotPossible(f"batch {name!r} is being undone by another command: wait until it ends") from None
        finally:
            with self._database.changing_many() as connection:
                let_go(connection, held)
        return undone

    def _choose(
        self, batch: UndoneBatch, only: TokenList | None, where: Sequence[str], *, devices_only: bool
    ) -> tuple[_Rows, Undone]:
        """Read what the batch made for the chosen records, and count it."""
        made = read_made(self._database, batch, where)
        undone = Undone()
        if only is not None:
            if not any(getattr(row, only.column) for row in made):
                raise NotPossible(_NAMES_NOBODY.format(where=f"batch {batch.name!r}", column=only.column))
            named = {fold_case(name): name for name in only.names}
            made = [row for row in made if fold_case(getattr(row, only.column) or "") in named]
            for row in made:
                named.pop(fold_case(getattr(row, only.column)), None)
                is_undone = row.has_nothing_open or row.is_cancelled
                if not (is_undone or _may_have_device(row) or (row.may_have_token and not devices_only)):
                    undone.keep(row.serial_number, row.row_number, _NOTHING_MADE)
            for name in named.values():
                undone.keep(name, None, _NOT_OF_BATCH)
        if only is not None or where:
            # Somebody who has left must not get a token later, at its date or by a replay.
            undone.cancelled = [row.id for row in made if row.has_nothing_open]
        undone.devices = DeviceCounts(
            made=sum(row.has_device for row in made),
            unknown_pairings=sum(row.has_open_pairing for row in made),
            earlier=sum(row.had_device for row in made),
        )
        if not devices_only:
            not_ours, earlier = (sum(getattr(row, kind) for row in made) for kind in ("had_token_before", "had_token"))
            undone.tokens = TokenCounts(not_ours=not_ours, earlier=earlier)
        return made, undone

    def _take_back(self, batch: UndoneBatch, record_ids: Sequence[int], line: int) -> None:
        """Cancel the chosen records that have nothing open. Raises NotPossible."""
        chunks = taking(record_ids, CHUNK)
        while chunk := chunks():
            with self._database.changing_many() as connection:
                self._require_rest_within(connection, batch)
                take_back(self._database, connection, chunk, line)

    def _require_rest(self, name: str, *, is_whole: bool = True) -> UndoneBatch:
        """Find the batch, and check that nobody is working on it; records of dead workers are rescued first.
        `is_whole`: the whole batch is to be undone. Raises UnknownBatch, and NotPossible with a message that says what
        to do."""
        with self._database.changing_many() as connection:
            # If no worker is left, nobody else rescues the records of dead ones.
            self._queue.rescue(connection)
            return self._find_at_rest(connection, name, "cancel" if is_whole else "pause")

    def _require_rest_within(self, connection: Connection, batch: UndoneBatch) -> None:
        """Check, within a transaction, that nobody has started to work on the batch. Raises NotPossible."""
        self._find_at_rest(connection, batch.name, batch.stop)

    def _find_at_rest(self, connection: Connection, name: str, stop: str) -> UndoneBatch:
        batch = find_batch(connection, name, Batch.id, Batch.state, Batch.reason)
        first = f"`oathbulk {stop} {quote(name)}` first"
        is_unfinished = has_unfinished(connection, batch.id)
        if batch.state == BatchState.RUNNING and is_unfinished:
            raise NotPossible(f"batch {name!r} is running: {first}")
        if batch.state == BatchState.PAUSED and batch.reason in PASSING and is_unfinished:
            raise NotPossible(f"batch {name!r} is paused and continues by itself ({batch.reason}): {first}")
        if in_hand := count_in_hand(self._database, connection, batch.id):
            are, calls_have = agree(in_hand, "is", "are"), agree(in_hand, "its call has", "their calls have")
            raise NotPossible(
                f"{count_things(in_hand, 'record')} of batch {name!r} {are} in progress: wait until {calls_have} "
                "ended (a minute at most), then run the command again"
            )
        return UndoneBatch(batch.id, name, stop)

    # Devices

    def _remove_devices(
        self,
        batch: UndoneBatch,
        made: _Rows,
        undone: Undone,
        held: list[HeldRecords],
        gone_before: frozenset[str] = frozenset(),
        *,
        is_real: bool,
    ) -> Mapping[int, str]:
        """Remove the devices of these records; or, unless `is_real`, only read them, as if those in `gone_before` were
        gone. `held` collects the records that this call reserves. Returns, by record, the ids, in lowercase, of devices
        that were removed, or would be."""
        ids = [row.id for row in made if row.has_device or (is_real and row.has_open_pairing)]
        gone = dict[int, str]()
        if not ids:
            return gone
        # Get an access token before the threads start, so that wrong credentials fail once, not in each thread.
        self._clients.access_tokens(self._environment).get()
        if is_real:
            self._wait_for_pairings(batch)
        going = frozenset(row.device_id for row in made if row.has_device) | gone_before
        removal = self._make_removal(batch, going, is_real=is_real)

        def take() -> _Rows:
            while chunk := next_ids():
                if rows := self._take(batch, chunk, held, is_real=is_real):
                    return rows
            return ()

        def note(record: Row[*tuple[Any, ...]], outcome: DeviceOutcome) -> None:
            self._note_device(undone, record, outcome, is_real=is_real)
            if outcome.device_id and record.serial_number not in undone.kept:
                gone[record.id] = outcome.device_id
            if outcome.end is End.THERE:
                undone.there.add(record.id)

        next_ids = taking(ids, CHUNK)
        auditing = partial(self._auditing_chunk, batch.name, undone.devices.to_facts)
        devices = LongList(take, removal.remove, note, THREADS, auditing=auditing if is_real else nullcontext)
        devices.finish(self._on_progress, REMOVING if is_real else READING, len(ids))
        return gone

    def _make_removal(self, batch: UndoneBatch, going: frozenset[str], *, is_real: bool) -> Removal:
        lasts = timedelta(seconds=self._settings.tuning.over_after)
        return Removal(
            self._clients, self._environment, batch.id, going, self._wait, self._count_ago, lasts, is_real=is_real
        )

    def _take(self, batch: UndoneBatch, ids: Collection[int], held: list[HeldRecords], *, is_real: bool) -> _Rows:
        """Read a chunk of records. If `is_real`, also reserve them, so that nobody else works on them or loads their
        tokens meanwhile. Raises NotPossible if somebody is working on the batch again, since a person may have resumed
        it."""
        # Since the records were counted, a worker may have found out what a pairing made.
        is_concerned = or_(HAS_DEVICE, HAS_OPEN_PAIRING) if is_real else HAS_DEVICE
        chosen = select(*_COLUMNS, find_batch_with_device()).where(Record.id.in_(ids), is_concerned)
        chosen = chosen.order_by(Record.row_number)
        if not is_real:
            with self._database.reading() as connection:
                return connection.execute(chosen).all()
        # No load or mend runs at the same time, so each sees what the other has written.
        with self._database.changing_many(LOAD_LOCK) as connection:
            self._require_rest_within(connection, batch)
            chunk = connection.execute(chosen).all()
            held.append(hold(self._database, connection, [row.id for row in chunk]))
        return chunk

    def _note_device(
        self, undone: Undone, record: Row[*tuple[Any, ...]], outcome: DeviceOutcome, *, is_real: bool
    ) -> None:
        """Write down the result for a device at once, since results that are not written down have to be looked up
        again."""
        end, why = outcome.end, outcome.why
        if is_real and end in (End.REMOVED, End.GONE, End.NEVER_MADE):
            was_made = end is not End.NEVER_MADE
            with self._database.writing() as connection:
                gone = record.id, record.device_id
                if not note_device_gone(self._database, connection, *gone, was_made=was_made, line=undone.line):
                    end, why = End.LEFT, _CHANGED
        undone.devices.ends[end] += 1
        if outcome.heir is not None:
            change = DefaultChange(record.row_number, record.serial_number, record.user_id, outcome.heir)
            known = undone.defaults.setdefault(record.user_id, change)
            if change.row_number < known.row_number:
                undone.defaults[record.user_id] = change
        if end is End.LEFT:
            undone.keep(record.serial_number, record.row_number, why)

    def _wait_for_pairings(self, batch: UndoneBatch) -> None:
        """Wait until no pairing request of the batch can be under way, since its device could not be seen yet."""
        # If the clock has jumped, the time of the request cannot be relied on, but the time set for the record's
        # look-up can.
        over_after = self._settings.tuning.over_after
        is_put_off = Record.scheduled_at.between(self._database.now(0.001), self._database.now(over_after))
        was_sent_lately = Record.otp_sent_at.between(self._database.now(-over_after), self._database.now())
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
        held: list[HeldRecords],
        counts: TokenCounts,
        of_list: Mapping[str, Any],
    ) -> None:
        """Revoke the tokens of these records that the batch imported and nobody has. If no answer says whether a token
        was revoked, look it up at the end."""
        call = _make_call(batch)
        self._end_imports(batch, call)
        self._revocation.end_jobs(batch.id, call)
        found = self._look_up_tokens(batch, record_ids, removed, undone, counts)
        if found.own:
            self._write_down(batch.name, {"tokens": counts.own, **of_list})
        auditing = partial(self._auditing_chunk, batch.name, counts.to_facts)
        with auditing():
            self._note_findings(batch, found, undone, counts)
        unsure = {token.record_id: token for token in found.own}

        def note(tokens: Sequence[OwnToken], why: str | None) -> None:
            for token in tokens:
                del unsure[token.record_id]
                if why:
                    _keep_token(undone, counts, token, why)
            if not why:
                counts.revoked += self._revocation.note_revoked(tokens, undone.line)

        def take(connection: Connection, ids: Sequence[int]) -> None:
            held.append(hold(self._database, connection, ids))

        require = partial(self._require_rest_within, batch=batch)
        own = self._revocation.list_own(batch.id, found.own, require, take, call, note, auditing)
        own.finish(self._on_progress, REVOKING, len(found.own))
        if unsure:
            with auditing():
                self._look_up_unsure(batch, list(unsure.values()), undone, counts, call)

    def _look_up_unsure(
        self, batch: UndoneBatch, unsure: Sequence[OwnToken], undone: Undone, counts: TokenCounts, call: Call
    ) -> None:
        """Find out from the inventory which tokens were revoked, if no answer said so."""
        self._revocation.end_jobs(batch.id, call)
        revoked, there = self._revocation.find_revoked(unsure, call)
        counts.revoked += self._revocation.note_revoked(revoked, undone.line)
        for token in there:
            _keep_token(undone, counts, token, _NOT_REVOKED)

    def _end_imports(self, batch: UndoneBatch, call: Call) -> None:
        """Wait for the batch's import jobs to end, and write down their results, since they may have created tokens."""
        importer = self._environment.as_importer()
        while job := self._tokens.jobs.find_unfinished(batch.id):
            self._on_progress(FOLLOWING, 0)
            call_patiently(partial(self._tokens.follow, batch.id, job, importer, call))

    def _look_up_tokens(
        self,
        batch: UndoneBatch,
        record_ids: Collection[int],
        removed: Mapping[int, str],
        undone: Undone,
        counts: TokenCounts,
    ) -> SortedTokens:
        found = self._revocation.look_up(batch.id, record_ids, removed, _make_call(batch))
        counts.own = len(found.own)
        counts.open_imports = self._revocation.count_open_imports(batch.id)
        for row, why in found.kept:
            _keep_token(undone, counts, row, why)
        return found

    def _note_findings(self, batch: UndoneBatch, found: SortedTokens, undone: Undone, counts: TokenCounts) -> None:
        """Write down which tokens are gone, and which imports of unknown outcome created tokens."""
        self._sort_absent(batch, found, undone, counts)
        require = partial(self._require_rest_within, batch=batch)
        counts.gone += self._revocation.note_findings(batch.id, found, require, undone.line)

    def _sort_absent(self, batch: UndoneBatch, found: SortedTokens, undone: Undone, counts: TokenCounts) -> None:
        """Look up the tokens that are missing from the list of the inventory. Those that PingOne still has are left
        alone."""
        call = _make_call(batch)
        found.absent, shown = self._revocation.find_absent(found.absent, call)
        found.unmade, appeared = self._revocation.find_absent(found.unmade, call)
        for row in (*shown, *appeared):
            _keep_token(undone, counts, row, _HALF_SHOWN)

    @contextmanager
    def _noting_obstacle(self, counts: TokenCounts) -> Iterator[None]:
        """Record an obstacle to the revocation that only a person can remove, so that the result for the devices is
        still reported. Raises NotDelivered, and CredentialsRefused if no separate application imports tokens."""
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
            counts.obstacle = f"a call to PingOne failed ({failure}): run the command again later"
        except PaceOutOfReach:
            counts.obstacle = "Redis is out of reach: check OATHBULK_REDIS_URL and the server"

    # The audit

    @contextmanager
    def _auditing_chunk(self, name: str, count: Callable[[], dict[str, int]]) -> Iterator[None]:
        """Write an audit line about what a chunk did, however it ended; write none if it did nothing."""
        before = count()
        try:
            yield
        finally:
            done = {what: now - before[what] for what, now in count().items()}
            if any(done.values()):
                self._write_down(name, done)

    def _write_down(self, name: str, facts: dict[str, Any]) -> int:
        """Write an audit line, and return its number."""
        with self._database.writing() as connection:
            return audit.append(self._database, connection, self._actor, Action.UNDO, name, facts)


def _may_have_device(row: Row[*tuple[Any, ...]]) -> bool:
    """Whether a record made a device, may have made one, or had one until an earlier undo."""
    return bool(row.has_device or row.has_open_pairing or row.had_device)


def _list_concerned(made: _Rows, undone: Undone) -> _Rows:
    """List the records from which something may be removed, or which are cancelled."""
    cancelled = frozenset(undone.cancelled)
    return [
        row
        for row in made
        if row.has_device
        or row.has_open_pairing
        or row.id in cancelled
        or (undone.tokens and row.may_have_token and not row.had_token)
    ]


def _keep_token(undone: Undone, counts: TokenCounts, token: Row[*tuple[Any, ...]] | OwnToken, why: str) -> None:
    counts.left += 1
    undone.keep(token.serial_number, token.row_number, why)


def _make_call(batch: UndoneBatch) -> Call:
    return Call(f"oathbulk-batch-{batch.id}", f"oathbulk-revocation-{batch.id}")


def read_made(database: Database, batch: UndoneBatch, where: Sequence[str] = ()) -> _Rows:
    """Read what each record of a batch made or may have made, and which of these things earlier undos removed. With
    `where`, read only the records that meet all of its conditions."""
    columns = (Record.id, Record.row_number, func.lower(Record.device_id).label("device_id"))
    names = (getattr(Record, name) for name in ("serial_number", *PERSON))
    kinds = {
        "has_device": HAS_DEVICE,
        "has_open_pairing": HAS_OPEN_PAIRING,
        "had_device": had_device(),
        "may_have_token": _MAY_HAVE_TOKEN,
        "had_token": had_token(),
        "had_token_before": _HAD_TOKEN_BEFORE,
        "has_nothing_open": has_nothing_open(),
        "is_cancelled": Record.status == Status.CANCELLED,
    }
    made = select(*columns, *names, *(kind.label(name) for name, kind in kinds.items()))
    with database.reading() as connection:
        chosen = made.where(Record.batch_id == batch.id, choose_records(connection, batch.name, where))
        return connection.execute(chosen.order_by(Record.row_number)).all()


def find_batches_of(database: Database, only: TokenList) -> dict[str, TokenList]:
    """Find the batches that have tokens from a list, the oldest first, each with its part of the list. Raises
    NotPossible if the list names people by a kind of name that no batch uses."""
    column, parts, chunks = getattr(Record, only.column), dict[str, set[str]](), taking(only.names, CHUNK)
    with database.reading() as connection:
        if connection.scalar(select(Record.id).where(column.is_not(None), column != "").limit(1)) is None:
            raise NotPossible(_NAMES_NOBODY.format(where="any batch", column=only.column))
        while chunk := chunks():
            folded = set(map(fold_case, chunk))
            # SQLite's `lower` changes ASCII letters only.
            is_ascii = all(map(str.isascii, chunk))
            is_named = or_(column.in_(chunk), func.lower(column).in_(folded)) if is_ascii else column.is_not(None)
            of_batches = select(Batch.id, Batch.name, column.label("named")).join(Batch, Batch.id == Record.batch_id)
            named = of_batches.where(is_named, is_of_kept_batch()).distinct().order_by(Batch.id)
            for row in connection.execute(named):
                if fold_case(row.named) in folded:
                    parts.setdefault(row.name, set()).add(fold_case(row.named))
    return {
        batch: replace(only, names=tuple(name for name in only.names if fold_case(name) in found))
        for batch, found in parts.items()
    }
