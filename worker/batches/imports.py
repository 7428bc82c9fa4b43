"""Finds the tokens of a batch in PingOne's inventory, compares them with their seeds and owners, and imports the
missing ones, many to a job. Every job is written down first, so that no token is created twice (`JobLog`)."""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    TextClause,
    and_,
    bindparam,
    case,
    insert,
    select,
    text,
    update,
)
from sqlalchemy.exc import IntegrityError

from models.batch import Batch
from models.encrypted import Keyring
from models.inventory_job import LONGEST_DETAIL, UNFINISHED, InventoryJob, JobKind, JobState, counted_from
from models.reason import PauseReason, Reason
from models.record import Record, needs_read
from models.record_indexes import IN_WINDOW, LACKS_TOKEN
from models.record_states import NOBODY, PairingState, Status
from worker.batches.long_list import PREPARED_IN_ORDER, Findings, Obstacle, Superseded, Turn, Turns, may_go
from worker.clocks import boot_time
from worker.config.environment import Environment
from worker.config.settings import Tuning
from worker.database.engine import Database
from worker.leases.moves import LAST_START, give_up, is_running
from worker.observability.progress import OnProgress, tell_nobody
from worker.pace.search import SlotTooFar
from worker.pace.slots import call_patiently
from worker.pingone.client import Call
from worker.pingone.clients import Clients, MakeRead, Reads
from worker.pingone.errors import (
    AlreadyImported,
    Forbidden,
    InventoryFull,
    NotFound,
    OutcomeUnknown,
    PingOneError,
    Rejected,
)
from worker.pingone.inventory import ImportJob, InventoryToken, JobStatus, NewToken
from worker.rules.decisions import tell_owner
from worker.rules.steps import SentAgo, count_ago, may_be_made_by
from worker.vault.otps import Seed, open_otps

# A job that still runs after this time counts as lost: its tokens are looked up in the inventory.
LONGEST_JOB = timedelta(minutes=10)
NOT_READABLE = (
    "The worker application is not allowed to read or import tokens (GET oathTokens, POST oathJobs). PingOne does not "
    "say which role permits it: try Environment Admin. Or set PINGONE_IMPORT_CLIENT_ID and "
    "PINGONE_IMPORT_CLIENT_SECRET to an application that has it. Then resume."
)

_COLUMNS = (
    Record.id,
    Record.batch_id,
    Record.row_number,
    Record.serial_number,
    Record.user_id,
    Record.otps,
    Record.import_job_id,
    Record.device_id,
    Record.owner_id,
    Record.pairing,
)
# For the token of a record that is being worked on: its worker finds out whose the device is.
_WRITE_IN_WORK = (
    update(Record)
    .where(Record.id == bindparam("record_id"), text(IN_WINDOW), ~Record.is_in_inventory)
    .values(is_in_inventory=True, is_token_made=bindparam("made"))
)
_WRITE = (
    update(Record)
    .where(Record.id == bindparam("record_id"), text("status = 'pending'"))
    .values(
        is_in_inventory=True,
        is_token_made=bindparam("made"),
        owner_id=bindparam("found_owner_id"),
        device_id=bindparam("found_device_id"),
        # If the inventory does not show the device that the file named, that device is gone, and a new one has to be
        # made.
        pairing=case(
            (
                and_(Record.pairing == PairingState.PAIRED, bindparam("found_device_id") != Record.device_id),
                PairingState.UNSENT,
            ),
            else_=Record.pairing,
        ),
    )
)
# This many refusals of single tokens in a row are not the tokens' fault.
MOST_REFUSED = 5
# Seconds between two status requests about a running job.
ASK_AGAIN = 1.0

_REFUSED = (
    "PingOne refuses to import token after token. Look up its codes, and fix the cause. Then resume, and "
    "replay the reason `token_refused`; or cancel."
)
_FULL = (
    "PingOne's inventory is full: the environment has the maximum number of tokens. Remove tokens that nobody"
    " uses, or ask Ping Identity for more, then resume."
)
# A row of the table of jobs.
Job = Row[*tuple[Any, ...]]
# Raises its own exception if the batch's jobs may not send another request.
Require = Callable[[Connection], object]


def list_tokens(
    reads: Reads, call: Call, make_read: MakeRead, on_progress: OnProgress = tell_nobody
) -> Iterator[InventoryToken]:
    """Go through the whole inventory, and report progress. `make_read` makes the read of each page. Raises any
    PingOneError, and SlotTooFar."""
    count = 0
    for page in reads.list_tokens(make_read, call=call):
        count += len(page.items)
        if page.next_url:
            # PingOne does not say how many tokens there are.
            on_progress("Reading the inventory", count)
        yield from page.items


def find_tokens(
    reads: Reads, serial_numbers: Collection[str], call: Call, on_progress: OnProgress = tell_nobody
) -> dict[str, InventoryToken]:
    """Read the whole inventory, and return the tokens with these serial numbers (lowercase), by serial number. Waits
    for its slots as long as it takes. Raises any PingOneError, and PaceOutOfReach."""
    return {
        token.serial_number.lower(): token
        for token in list_tokens(reads, call, call_patiently, on_progress)
        if token.serial_number is not None and token.serial_number.lower() in serial_numbers
    }


def find_difference(seed: Any, token: InventoryToken) -> str | None:
    """Find a parameter in which the token differs from the seed, so that PingOne would refuse every OTP; None if all
    parameters that PingOne shows agree. `seed`: a seed, or a row with its parameters."""
    wanted = {
        "type": seed.otp_type,
        "number of digits": seed.digits,
        "hash": seed.hash_algorithm,
        "time step": seed.time_step,
    }
    shown = {
        "type": token.type and token.type.lower(),
        "number of digits": token.digits,
        "hash": token.hash_name and token.hash_name.lower().removeprefix("hmac"),
        "time step": token.time_step if seed.time_step else None,
    }
    return next((name for name, value in shown.items() if value is not None and value != wanted[name]), None)


class JobLost(Exception):
    """The result of a job will never be known: only the inventory shows which tokens it created."""


class JobLog:
    """Jobs of one kind. Each job is written down before its request goes out, again with PingOne's id, and again with
    its result, since PingOne forgets jobs that have ended. A request goes out within `send_within` seconds after its
    job was marked as sent. After `over_after` more seconds no answer can come, and PingOne is no longer working on the
    request."""

    def __init__(self, database: Database, clients: Clients, kind: JobKind, tuning: Tuning) -> None:
        self._database = database
        self._clients = clients
        self._kind = kind
        self._tuning = tuning
        ages = {"is_unanswered": tuning.over_after, "is_too_old": LONGEST_JOB.total_seconds()}
        self._columns = (
            *(InventoryJob.id, InventoryJob.job_id, InventoryJob.size),
            *((counted_from() < database.now(-age)).label(name) for name, age in ages.items()),
        )

    def find_unfinished(self, batch_id: int, job: int | None = None) -> Job | None:
        """Find the first job of a batch without a result; with `job`, only this one."""
        unfinished = select(*self._columns).where(text(UNFINISHED), *self._are_of(batch_id))
        if job is not None:
            unfinished = unfinished.where(InventoryJob.id == job)
        with self._database.reading() as connection:
            return connection.execute(unfinished.order_by(InventoryJob.id)).first()

    def choose_size(self, connection: Connection, batch_id: int) -> int:
        """Choose the number of tokens for a batch's next job, based on the result of the last one."""
        last, most = self.read_ended(connection, batch_id, 1), self._tuning.tokens_per_import
        return choose_size(last[0].state, last[0].size, most) if last else most

    def read_ended(
        self, connection: Connection, batch_id: int, most: int, *conditions: ColumnElement[bool]
    ) -> list[Job]:
        """Read state, size and detail of a batch's latest jobs, except lost ones."""
        jobs = select(InventoryJob.state, InventoryJob.size, InventoryJob.detail)
        ended = jobs.where(*self._are_of(batch_id), InventoryJob.state != JobState.LOST, *conditions)
        return list(connection.execute(ended.order_by(InventoryJob.id.desc()).limit(most)))

    def begin(self, connection: Connection, batch_id: int, size: int) -> int:
        """Write down a job as sent. Returns the id of its row."""
        values = {"batch_id": batch_id, "kind": self._kind, "state": JobState.SENT, "size": size}
        written = insert(InventoryJob).values(values | {"sent_at": self._database.now()}).returning(InventoryJob.id)
        return connection.scalars(written).one()

    def send(self, job: int, request: Callable[[Call], str], call: Call, require: Require) -> None:
        """Send the request of a job, and write down the id that PingOne gives it. Each try marks the job as sent again,
        since PingOne may ask for a wait of minutes in between. Raises any PingOneError, SlotTooFar, and whatever
        `require` raises; Superseded if another worker has marked the job as lost."""

        def mark_again() -> None:
            call.permit()
            marked_after = boot_time()
            self.mark_sent_again(job, require)
            marking.send_before = marked_after + self._tuning.send_within

        marking = replace(call, send_before=boot_time() + self._tuning.send_within, permit=mark_again)
        self.note_started(job, request(marking))

    def mark_sent_again(self, job: int, require: Require) -> None:
        """Write down that a job's request is only now being sent, so its answer may come later than expected."""
        with self._database.changing_many() as connection:
            require(connection)
            sent = update(InventoryJob).where(InventoryJob.id == job, InventoryJob.state == JobState.SENT)
            if not connection.execute(sent.values(sent_at=self._database.now())).rowcount:
                raise Superseded

    def note_started(self, job: int, pingone_id: str) -> None:
        """Write down the id that PingOne gave to a job, unless another worker has since marked the job as lost."""
        with self._database.writing() as connection:
            sent = update(InventoryJob).where(InventoryJob.id == job, InventoryJob.state == JobState.SENT)
            connection.execute(sent.values({"job_id": pingone_id, "state": JobState.RUNNING}))

    def ask(self, job: Job, environment: Environment, call: Call) -> ImportJob | None:
        """Ask for the result of a job; None: the job still runs, or the answer to its request may still come. Raises
        JobLost, and whatever the read raises."""
        try:
            result = self._clients.jobs(environment).read_job(job.job_id, call=call) if job.job_id else None
        except NotFound:
            # PingOne forgets jobs that have ended; a new job may not be visible everywhere yet.
            result = None
        if result is not None and result.state != JobStatus.RUNNING:
            return result
        if job.is_unanswered if result is None else job.is_too_old:
            raise JobLost
        return None

    def end(
        self, connection: Connection, job: int, state: JobState, *, detail: str | None = None, **values: Any
    ) -> bool:
        """Write down how a job ended. False: another worker has already done so, and the caller must do nothing
        more."""
        ended = update(InventoryJob).where(InventoryJob.id == job, text(UNFINISHED))
        values |= {"state": state, "detail": detail and detail[:LONGEST_DETAIL], "ended_at": self._database.now()}
        return connection.execute(ended.values(values)).rowcount == 1

    def _are_of(self, batch_id: int) -> tuple[ColumnElement[bool], ...]:
        return InventoryJob.batch_id == batch_id, InventoryJob.kind == self._kind


class Tokens:
    """Finds the tokens of batches in PingOne's inventory, and imports them. `wait` waits the given number of
    seconds."""

    def __init__(
        self,
        database: Database,
        keyring: Keyring,
        clients: Clients,
        wait: Callable[[float], object],
        tuning: Tuning,
    ) -> None:
        self._database = database
        self._keyring = keyring
        self._clients = clients
        self._wait = wait
        self.jobs = JobLog(database, clients, JobKind.IMPORT, tuning)
        # When the status of each job was last requested, in `boot_time` seconds.
        self._asked_at: dict[int, float] = {}
        self._is_running = is_running(database)
        # No job begins near the end of the hours: its result would not be read until they begin again.
        self._may_begin = is_running(database, LAST_START)

    def read_inventory(
        self, turn: Turn, environment: Environment, call: Call, turns: Turns, after_page: Callable[[], object]
    ) -> None:
        """Read the whole inventory, and record what it shows about this batch; after an interruption, the reading
        starts over. Raises any PingOneError, SlotTooFar, and Obstacle if tokens have to be imported and we lack the
        permission to read the inventory."""
        lost = self.begin_reading(turn.batch_id)
        try:
            for page in self._clients.reads(environment).list_tokens(call=call):
                self.take_in(turn.batch_id, page.items, turn.first)
                if not turns.renew(turn.batch_id):
                    return
                after_page()
        except Forbidden as failure:
            if turn.may_import:
                raise Obstacle(PauseReason.PERMISSIONS, NOT_READABLE) from failure
            self.assume(turn.batch_id)
        self.end_reading(turn.batch_id, lost, turns.is_held(turn.batch_id))

    def compare_duplicate(self, batch_id: int, serial_number: str, environment: Environment, call: Call) -> None:
        """Read back a token that was in the inventory before its import, and record what PingOne shows."""
        reads = self._clients.reads(environment)
        token = reads.find_token(serial_number, with_devices=False, call=call)
        if token is None:
            # PingOne called it a duplicate, but does not show it.
            self.assume(batch_id, serial_number)
            return
        # PingOne may spell its serial number differently than the file.
        read_back = replace(reads.read_token(token.id, call=call), serial_number=serial_number)
        self.take_in(batch_id, [read_back])

    def take_in(self, batch_id: int, tokens: Sequence[InventoryToken], first: int | None = None) -> None:
        """Record which records of the batch have these tokens of the inventory, and give up pending ones whose token
        differs. Records after the `first` ones are not given up yet: the inventory is read again before they run."""
        by_serial = {token.serial_number.lower(): token for token in tokens if token.serial_number}
        with self._database.changing_many() as connection:
            lost = self._read_lost(connection, batch_id)
            findings = Findings()
            may_go_now = may_go(batch_id, first)
            going = None if first is None else frozenset(connection.scalars(select(Record.id).where(*may_go_now)))
            for row in self._read_rows(connection, batch_id, [token.serial_number for token in tokens]):
                token = by_serial[row.serial_number.lower()]
                # The token's age shows whether the lost job created it, or somebody else before or after.
                is_made = row.import_job_id in lost and may_be_made_by(lost[row.import_job_id], token.age, LONGEST_JOB)
                judged = self._judge(row, token, is_made=is_made)
                if isinstance(judged, dict):
                    findings.found.append(judged)
                elif going is None or row.id in going:
                    findings.given_up.setdefault(judged, []).append(row.id)
            _write(connection, findings.found)
            findings.give_up(self._database, connection)

    def begin_reading(self, batch_id: int) -> frozenset[int]:
        """Read which import jobs of unknown outcome this reading of the inventory will settle."""
        with self._database.reading() as connection:
            return frozenset(self._read_lost(connection, batch_id))

    def end_reading(self, batch_id: int, lost: frozenset[int], is_held: ColumnElement[bool]) -> None:
        """Record that the inventory was read to its end. Tokens of these `lost` jobs that were not found do not exist,
        and are imported again. The inventory has to be read once more if another job has been lost since, or
        if a command let records run again, which this reading has not judged. In the latter case `is_held` is false,
        and another worker may have the turn."""
        with self._database.changing_many() as connection:
            if lost >= self._read_lost(connection, batch_id).keys():
                read = update(Batch).where(is_held)
                connection.execute(read.values(inventory_read_at=self._database.now()))
            not_there = update(Record).where(
                Record.batch_id == batch_id, Record.import_job_id.in_(lost), ~Record.is_in_inventory
            )
            connection.execute(not_there.values(import_job_id=None))

    def assume(self, batch_id: int, serial_number: str | None = None) -> None:
        """Assume that all tokens of the batch, or the one with this serial number, are in the inventory, since it
        cannot be read. Pairing them will show whether that is true."""
        with self._database.changing_many() as connection:
            assumed = update(Record).where(Record.batch_id == batch_id, Record.status == Status.PENDING)
            if serial_number is not None:
                assumed = assumed.where(Record.serial_key == serial_number.lower())
            connection.execute(assumed.where(~Record.is_in_inventory).values(is_in_inventory=True))

    def _read_lost(self, connection: Connection, batch_id: int) -> dict[int, SentAgo | None]:
        """Read the batch's import jobs of unknown outcome, and how long ago the request of each was sent."""
        columns = InventoryJob.id, InventoryJob.sent_at, self._database.now().label("now")
        lost = select(*columns).where(InventoryJob.batch_id == batch_id, InventoryJob.state == JobState.LOST)
        return {job.id: count_ago(job.now, job.sent_at) for job in connection.execute(lost)}

    def _read_rows(
        self, connection: Connection, batch_id: int, serial_numbers: Iterable[str | None]
    ) -> Sequence[Row[*tuple[Any, ...]]]:
        """Read the batch's records with these serial numbers whose token has not been found yet."""
        named = {serial.lower() for serial in serial_numbers if serial}
        environment_id = select(Batch.environment_id).where(Batch.id == batch_id).scalar_subquery()
        rows = select(*_COLUMNS).where(
            # Together with the serial number, these are the columns of the index of tokens.
            Record.environment_id == environment_id,
            Record.serial_key.in_(named),
            Record.status.in_((Status.PENDING, Status.QUEUED, Status.ACTIVATING)),
            ~Record.is_in_inventory,
        )
        # With the batch as an SQL condition, SQLite would read all of its records.
        return [row for row in connection.execute(rows) if row.batch_id == batch_id]

    def _judge(
        self, row: Row[*tuple[Any, ...]], token: InventoryToken, *, is_made: bool
    ) -> tuple[Reason, str] | dict[str, Any]:
        """Compare a token with its record. Returns the columns to write; or the reason to give up the record, and what
        PingOne showed."""
        source = open_otps(self._keyring, row.otps, row.batch_id, row.row_number)
        # A device that the answer shows without a user belongs to some unknown user.
        owner = token.user_id.lower() if token.user_id else (None if token.device_id else NOBODY)
        if isinstance(source, Seed) and find_difference(source, token):
            return Reason.TOKEN_DIFFERS, ""
        if owner and row.user_id and owner != row.user_id.lower():
            return Reason.TOKEN_TAKEN, tell_owner(owner)
        device = {"found_owner_id": owner, "found_device_id": (token.device_id or "").lower() if owner else ""}
        if owner != NOBODY and not row.device_id and row.pairing in (PairingState.SENT, PairingState.MISSED):
            # One of our requests may have created the device. The look-up that settles that request also uses the
            # device's age to tell whose it is.
            device = {"found_owner_id": row.owner_id, "found_device_id": ""}
        return {"record_id": row.id, "made": is_made and owner == NOBODY} | device

    def begin(self, turn: Turn, *, is_whole: bool) -> tuple[int, list[NewToken]] | None:
        """Write down the next job as sent. Returns the id of its row, and its tokens; None if no token has to be
        imported, if the tokens do not fill a job (with `is_whole`), or if the batch no longer runs. Gives up records
        without a seed, since they have nothing to import."""
        with self._database.changing_many() as connection:
            # In the same transaction, so that no job begins after a committed pause; an undo relies on that.
            if connection.scalar(select(Batch.id).where(Batch.id == turn.batch_id, self._may_begin)) is None:
                return None
            size = self.jobs.choose_size(connection, turn.batch_id)
            columns = (Record.id, Record.batch_id, Record.row_number, Record.serial_number, Record.otps)
            lacking = select(*columns).where(*lacks_token(turn), Record.import_job_id.is_(None))
            rows = connection.execute(lacking.order_by(*PREPARED_IN_ORDER).limit(size)).all()
            if is_whole and len(rows) < size:
                return None
            tokens = {row.id: token for row in rows if (token := make_token(self._keyring, row))}
            without_seed = [row.id for row in rows if row.id not in tokens]
            give_up(self._database, connection, without_seed, Reason.TOKEN_NOT_IN_INVENTORY)
            if not tokens:
                return None
            job = self.jobs.begin(connection, turn.batch_id, len(tokens))
            connection.execute(update(Record).where(Record.id.in_(list(tokens))).values(import_job_id=job))
            return job, list(tokens.values())

    def start_next(self, turn: Turn, environment: Environment, call: Call, *, is_busy: bool) -> bool:
        """Start the next job. False: no token is left to import; or there is other work (`is_busy`) and too few tokens
        for a whole job. Raises Obstacle, any PingOneError, SlotTooFar, Superseded."""
        if (begun := self.begin(turn, is_whole=is_busy)) is None:
            return False
        job, tokens = begun

        def request(call: Call) -> str:
            return self._clients.jobs(environment).start_import(tokens, call=call)

        try:
            self.jobs.send(job, request, call, lambda connection: self.require_running(connection, turn.batch_id))
        except OutcomeUnknown:
            raise
        except InventoryFull as refusal:
            self.take_back(job)
            raise Obstacle(PauseReason.REFUSED, _FULL, refusal) from refusal
        except Rejected as refusal:
            if isinstance(refusal, AlreadyImported) and len(tokens) == 1:
                self.take_back(job)
                self.compare_duplicate(turn.batch_id, tokens[0].serial_number, environment, call)
            else:
                self.note_refused(job, str(refusal.answer))
                self._check_refusals(turn.batch_id, len(tokens))
        except Forbidden as failure:
            self.take_back(job)
            raise Obstacle(PauseReason.PERMISSIONS, NOT_READABLE) from failure
        except (PingOneError, SlotTooFar, Superseded):
            self.take_back(job)
            raise
        return True

    def require_running(self, connection: Connection, batch_id: int) -> None:
        """Check that the batch still runs. Raises Superseded."""
        if connection.scalar(select(Batch.id).where(Batch.id == batch_id, self._is_running)) is None:
            raise Superseded

    def follow(self, batch_id: int, job: Job, environment: Environment, call: Call, *, is_busy: bool = False) -> None:
        """Find out how a job ended, and write it down. `is_busy`: there is other work, so this call does not wait.
        Raises Obstacle, any PingOneError, SlotTooFar."""
        if is_busy and boot_time() < self._asked_at.get(job.id, -ASK_AGAIN) + ASK_AGAIN:
            return
        self._asked_at = {job.id: boot_time()}
        try:
            result = self.jobs.ask(job, environment, call)
        except JobLost:
            self.note_lost(batch_id, job.id)
            return
        if result is None:
            if not is_busy:
                self._wait(ASK_AGAIN)
        elif result.has_made_nothing:
            self.note_refused(job.id, result.reason or "the job made no token and gave no reason")
            self._check_refusals(batch_id, job.size)
        else:
            for serial_number in self.note_done(batch_id, job.id, result):
                self.compare_duplicate(batch_id, serial_number, environment, call)

    def take_back(self, job: int) -> None:
        """Close a job whose request did not go out, or on which PingOne did not act. Its tokens are imported again."""
        with self._database.changing_many() as connection:
            # The job is kept, since the size of the next job depends on how the last one ended.
            if self.jobs.end(connection, job, JobState.LOST, done=0):
                _release(connection, job)

    def note_refused(self, job: int, answer: str) -> None:
        """Write down that PingOne refused a job, and why (`answer`). Its tokens are tried again, fewer at a time; a
        single refused token is given up."""
        with self._database.changing_many() as connection:
            if not self.jobs.end(connection, job, JobState.FAILED, detail=answer):
                return
            ids = connection.scalars(select(Record.id).where(Record.import_job_id == job)).all()
            if len(ids) == 1:
                give_up(self._database, connection, ids, Reason.TOKEN_REFUSED, f"PingOne said: {answer}")
            _release(connection, job)

    def note_lost(self, batch_id: int, job: int) -> None:
        """Write down that a job's result will never be known: the inventory has to be read to see which tokens it
        created."""
        with self._database.changing_many() as connection:
            if self.jobs.end(connection, job, JobState.LOST):
                connection.execute(update(Batch).where(Batch.id == batch_id).values(inventory_read_at=None))

    def note_done(self, batch_id: int, job: int, result: ImportJob) -> Sequence[str]:
        """Write down the result of a finished job. The batch owns the tokens that the job created. Duplicates were in
        the inventory before: returns their serial numbers, as our records spell them, for the caller to compare. If
        there are any, or if the counts do not add up, the inventory has to be read again."""
        duplicates = {serial.lower() for serial in result.duplicates}
        with self._database.changing_many() as connection:
            unfinished = select(InventoryJob.size).where(InventoryJob.id == job, text(UNFINISHED))
            size = connection.scalar(unfinished)
            if size is None:
                return ()
            of_job = update(Record).where(Record.import_job_id == job)
            is_duplicate = Record.serial_key.in_(duplicates)
            there_before = select(Record.serial_number).where(Record.import_job_id == job, is_duplicate)
            serial_numbers = connection.scalars(there_before).all()
            # A duplicate does not belong to the batch, whatever else the result says. If this process dies before the
            # comparison, the token must be found in the inventory before another job can contain it, since that job's
            # answer might get lost.
            connection.execute(of_job.where(is_duplicate).values(import_job_id=None))
            if result.created == 0:
                connection.execute(of_job.values(import_job_id=None))
            are_all_named = len(serial_numbers) == len(duplicates)
            adds_up = are_all_named and result.created is not None and result.created + len(duplicates) == size
            if duplicates or not adds_up:
                connection.execute(update(Batch).where(Batch.id == batch_id).values(inventory_read_at=None))
            if not adds_up:
                self.jobs.end(connection, job, JobState.LOST, detail="created and duplicates do not add up")
                return ()
            connection.execute(of_job.values(is_in_inventory=True, is_token_made=True, owner_id=NOBODY))
            self.jobs.end(connection, job, JobState.DONE, done=result.created, duplicates=len(duplicates))
            return serial_numbers

    def give_up_all(self, turn: Turn) -> int:
        """Give up the records whose token is not in the inventory, since the batch may not import, unless their device
        has yet to be read. Returns how many."""
        count = 0
        with self._database.changing_many() as connection:
            lacking = select(Record.id).where(*lacks_token(turn), ~needs_read()).limit(1000)
            while ids := connection.scalars(lacking).all():
                count += give_up(self._database, connection, ids, Reason.TOKEN_NOT_IN_INVENTORY)
        return count

    def _check_refusals(self, batch_id: int, size: int) -> None:
        """Raise Obstacle if PingOne has refused MOST_REFUSED single tokens in a row since the batch began to run, the
        last one in this job of `size` tokens: that is hardly the tokens' fault."""
        if size > 1:
            return
        runs_since = select(Batch.running_since).where(Batch.id == batch_id).scalar_subquery()
        with self._database.reading() as connection:
            last = self.jobs.read_ended(connection, batch_id, MOST_REFUSED, InventoryJob.sent_at >= runs_since)
        if [(job.state, job.size) for job in last] == [(JobState.FAILED, 1)] * MOST_REFUSED:
            raise Obstacle(PauseReason.REFUSED, _REFUSED, last[0].detail or "nothing")


def _write(connection: Connection, there: list[dict[str, Any]]) -> None:
    """Record which tokens are in the inventory. Does not write a device that another record has already: its owner is
    looked up when the token is paired."""
    if not there:
        return
    try:
        with connection.begin_nested():
            connection.execute(_WRITE, there)
    except IntegrityError:
        connection.execute(_WRITE, [values | {"found_device_id": ""} for values in there])
    connection.execute(_WRITE_IN_WORK, [{name: values[name] for name in ("record_id", "made")} for values in there])


def choose_size(last_state: str, last_size: int, most: int) -> int:
    """Choose the size of the next job after a job of `last_size` tokens ended in `last_state`. PingOne refuses a job as
    a whole, because of its length or of one token. So the size falls after each failure, until the refused token is
    alone in its job, and grows again after a success."""
    if last_state == JobState.FAILED:
        return max(1, min(last_size, most) // 2)
    return min(most, 2 * last_size)


def lacks_token(turn: Turn) -> tuple[ColumnElement[bool] | TextClause, ...]:
    """Whether a record that may run has a token that is still to be found or imported."""
    return *may_go(turn.batch_id, turn.first), text(LACKS_TOKEN)


def make_token(keyring: Keyring, row: Row[*tuple[Any, ...]]) -> NewToken | None:
    """Make an inventory token from a record's seed; None if the record has a pair of OTPs."""
    seed = open_otps(keyring, row.otps, row.batch_id, row.row_number)
    if not isinstance(seed, Seed):
        return None
    return NewToken(serial_number=row.serial_number, seed=seed, row_number=row.row_number)


def _release(connection: Connection, job: int) -> None:
    """Make the tokens of a job available for another import, except those in the inventory."""
    of_job = update(Record).where(Record.import_job_id == job, ~Record.is_in_inventory)
    connection.execute(of_job.values(import_job_id=None))
