"""Reads PingOne's inventory of tokens, and compares it with the records of a batch: which tokens are there, with their
seed's parameters, and whose device each of them is."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

from sqlalchemy import Connection, Row, bindparam, select, text, update
from sqlalchemy.exc import IntegrityError

from models.batch import Batch
from models.encrypted import Keyring
from models.inventory_job import InventoryJob, JobState
from models.reason import PauseReason, Reason
from models.record import Record
from models.record_states import NOBODY, Status
from worker.batches.long_list import LAST_ROW, Findings, Obstacle, Turn
from worker.config.environment import Environment
from worker.database.engine import Database
from worker.observability.progress import OnProgress, tell_nobody
from worker.pace.slots import call_patiently
from worker.pingone.client import Call
from worker.pingone.clients import Clients, Reads
from worker.pingone.errors import Forbidden
from worker.pingone.inventory import InventoryToken
from worker.pingone.wire import Page, check_onward
from worker.rules.pairing import tell_owner
from worker.rules.progress import SentAgo, count_ago, may_be_made_by
from worker.vault.otps import Seed, open_otps

# After which a job that still runs counts as lost: its tokens are looked for in the inventory.
LONGEST_JOB = timedelta(minutes=10)
NOT_READABLE = (
    "The worker application may not read or import tokens (GET oathTokens, POST oathJobs). Give it a role that may,"
    " probably Environment Admin; or set PINGONE_IMPORT_CLIENT_ID and PINGONE_IMPORT_CLIENT_SECRET to an application"
    " that has it. Then resume."
)

TokenPage = Page[InventoryToken]
# Makes a read, and waits for its slot as long as its caller can wait. It raises what the read raises.
MakeRead = Callable[[Callable[[], TokenPage]], TokenPage]

_COLUMNS = (
    Record.id,
    Record.batch_id,
    Record.row_number,
    Record.serial_number,
    Record.user_id,
    Record.otps,
    Record.import_job_id,
)
_WRITE = (
    update(Record)
    .where(Record.id == bindparam("record_id"), text("status = 'pending'"))
    .values(
        is_in_inventory=True,
        is_token_made=bindparam("made"),
        owner_id=bindparam("found_owner_id"),
        device_id=bindparam("found_device_id"),
    )
)


def list_pages(
    reads: Reads, call: Call, make_read: MakeRead = lambda read: read(), on_progress: OnProgress = tell_nobody
) -> Iterator[TokenPage]:
    """Read the whole inventory, page by page as the caller asks for the next one. `make_read` makes each read; by
    default it does not wait for a slot that is far. Raises any PingOneError, OutcomeUnknown also where the pages lead
    back to one of them, since the rest of the list is not known then; and SlotTooFar."""
    page: TokenPage | None = None
    known, count = set[str](), 0
    while page is None or page.next_url:
        # One page at a time, so that a wait for a slot does not begin the list anew.
        following = make_read(partial(_read_page, reads, page, call))
        check_onward(following, page, known)
        if following.next_url:
            known.add(following.next_url)
        page = following
        count += len(page.items)
        if page.next_url:
            # PingOne does not tell how many there are.
            on_progress("Reading the inventory", count)
        yield page


def find_tokens(
    reads: Reads, serial_numbers: Collection[str], call: Call, on_progress: OnProgress = tell_nobody
) -> dict[str, InventoryToken]:
    """Read the whole list, and keep the tokens with these serial numbers (in small letters), by serial number. It waits
    for its slots however long that takes. Raises any PingOneError, and PaceOutOfReach."""
    return {
        token.serial_number.lower(): token
        for page in list_pages(reads, call, call_patiently, on_progress)
        for token in page.items
        if token.serial_number is not None and token.serial_number.lower() in serial_numbers
    }


class Inventory:
    """Writes down what PingOne's inventory says of the records of a batch."""

    def __init__(self, database: Database, keyring: Keyring, clients: Clients) -> None:
        self._database = database
        self._keyring = keyring
        self._clients = clients

    def read(
        self, turn: Turn, environment: Environment, call: Call, make_read: MakeRead, renew: Callable[[int], bool]
    ) -> None:
        """Read the whole list, and take in what it says of this batch; a reading that does not come to its end begins
        anew. `renew` keeps the batch for this worker, and is False when it does not run any more. Raises any
        PingOneError, SlotTooFar, and Obstacle where tokens are to be imported and none may be read."""
        lost = self.find_lost(turn.batch_id)
        try:
            for page in list_pages(self._clients.reads(environment), call, make_read):
                self.take(turn.batch_id, page.items, turn.last_row)
                if not renew(turn.batch_id):
                    return
        except Forbidden as failure:
            if turn.may_import:
                raise Obstacle(PauseReason.PERMISSIONS, NOT_READABLE) from failure
            self.assume(turn.batch_id)
        self.end_reading(turn.batch_id, lost)

    def compare_duplicate(self, batch_id: int, serial_number: str, environment: Environment, call: Call) -> None:
        """Read back a token that was in the inventory before its import, and take in what it says."""
        reads = self._clients.reads(environment)
        token = reads.find_token(serial_number, with_devices=False, call=call)
        if token is None:
            # PingOne said that it is there, but does not show it.
            self.assume(batch_id, serial_number)
            return
        # PingOne may write its serial number in other letters than the file.
        read_back = replace(reads.read_token(token.id, call=call), serial_number=serial_number)
        self.take(batch_id, [read_back])

    def take(self, batch_id: int, tokens: Sequence[InventoryToken], last_row: int = LAST_ROW) -> None:
        """Take in some tokens of the inventory: those of pending records of the batch are there, or differ. A record
        beyond `last_row`, which does not go yet, is not given up: a canary of five ends five, and when the rest goes,
        the inventory is read again."""
        by_serial = {token.serial_number.lower(): token for token in tokens if token.serial_number}
        with self._database.changing_many() as connection:
            lost = self._read_lost(connection, batch_id)
            findings = Findings()
            for row in self._read_rows(connection, batch_id, [token.serial_number for token in tokens]):
                token = by_serial[row.serial_number.lower()]
                # Made by the job, and by nobody else before or after it.
                is_made = row.import_job_id in lost and may_be_made_by(lost[row.import_job_id], token.age, LONGEST_JOB)
                judged = self._judge(row, token, is_made=is_made)
                if isinstance(judged, dict):
                    findings.found.append(judged)
                elif row.row_number <= last_row:
                    findings.given_up.setdefault(judged, []).append(row.id)
            _write(connection, findings.found)
            findings.give_up(self._database, connection)

    def find_lost(self, batch_id: int) -> frozenset[int]:
        """Find the import jobs of a batch that are of unknown fate: a reading that begins now will tell it."""
        with self._database.reading() as connection:
            return frozenset(self._read_lost(connection, batch_id))

    def end_reading(self, batch_id: int, told: frozenset[int]) -> None:
        """Note that the inventory was read to its end. `told`: the jobs of unknown fate when the reading began; their
        tokens that were not found are not there, and go again. Of a job that was lost since then, another reading has
        to tell."""
        with self._database.changing_many() as connection:
            if told >= self._read_lost(connection, batch_id).keys():
                read = update(Batch).where(Batch.id == batch_id)
                connection.execute(read.values(inventory_read_at=self._database.now()))
            not_there = update(Record).where(
                Record.batch_id == batch_id, Record.import_job_id.in_(told), ~Record.is_in_inventory
            )
            connection.execute(not_there.values(import_job_id=None))

    def assume(self, batch_id: int, serial_number: str | None = None) -> None:
        """Take all tokens of the batch to be in the inventory, or the one with this serial number, since they cannot be
        read there: their pairing will show it."""
        with self._database.changing_many() as connection:
            mine = update(Record).where(Record.batch_id == batch_id, Record.status == Status.PENDING)
            if serial_number is not None:
                mine = mine.where(Record.serial_number == serial_number)
            connection.execute(mine.where(~Record.is_in_inventory).values(is_in_inventory=True))

    def _read_lost(self, connection: Connection, batch_id: int) -> dict[int, SentAgo | None]:
        """Read the import jobs of a batch that are of unknown fate, and how long ago the request of each was sent."""
        columns = InventoryJob.id, InventoryJob.sent_at, self._database.now().label("now")
        lost = select(*columns).where(InventoryJob.batch_id == batch_id, InventoryJob.state == JobState.LOST)
        return {job.id: count_ago(job.now, job.sent_at) for job in connection.execute(lost)}

    def _read_rows(
        self, connection: Connection, batch_id: int, serial_numbers: Iterable[str | None]
    ) -> Sequence[Row[*tuple[Any, ...]]]:
        """Read the records of the batch that have one of these serial numbers, and whose token was not found yet."""
        # PingOne may write a serial number in other letters than the file.
        named = {form for serial in serial_numbers if serial for form in (serial, serial.lower(), serial.upper())}
        environment_id = select(Batch.environment_id).where(Batch.id == batch_id).scalar_subquery()
        mine = select(*_COLUMNS).where(
            # Together with the serial number, this is what the index of tokens has.
            Record.environment_id == environment_id,
            Record.serial_number.in_(named),
            Record.status == Status.PENDING,
            ~Record.is_in_inventory,
        )
        # Asked for the batch too, SQLite would go through all of its records.
        return [row for row in connection.execute(mine) if row.batch_id == batch_id]

    def _judge(
        self, row: Row[*tuple[Any, ...]], token: InventoryToken, *, is_made: bool
    ) -> tuple[Reason, str] | dict[str, Any]:
        """Say what is to be written of a record by what the inventory says of its token; or why it is given up, and
        what PingOne showed."""
        source = open_otps(self._keyring, row.otps, row.batch_id, row.row_number)
        # A device whose user is not told is somebody's.
        owner = token.user_id.lower() if token.user_id else (None if token.device_id else NOBODY)
        if isinstance(source, Seed) and find_difference(source, token):
            return Reason.TOKEN_DIFFERS, ""
        if owner and row.user_id and owner != row.user_id.lower():
            return Reason.TOKEN_TAKEN, tell_owner(owner)
        device = {"found_owner_id": owner, "found_device_id": (token.device_id or "").lower() if owner else ""}
        return {"record_id": row.id, "made": is_made and owner == NOBODY} | device


def find_difference(seed: Seed, token: InventoryToken) -> str | None:
    """Find the parameter that PingOne has otherwise, so that every OTP would be refused; None if all that it tells are
    the seed's."""
    ours = {
        "type": seed.otp_type,
        "number of digits": seed.digits,
        "hash": seed.hash_algorithm,
        "time step": seed.time_step,
    }
    theirs = {
        "type": token.type and token.type.lower(),
        "number of digits": token.digits,
        "hash": token.hash_name and token.hash_name.lower().removeprefix("hmac"),
        "time step": token.time_step if seed.time_step else None,
    }
    return next((name for name, value in theirs.items() if value is not None and value != ours[name]), None)


def _write(connection: Connection, there: list[dict[str, Any]]) -> None:
    """Write down which tokens are there. A device that another record has is left out: its owner is looked up when the
    token is paired."""
    if not there:
        return
    try:
        with connection.begin_nested():
            connection.execute(_WRITE, there)
    except IntegrityError:
        connection.execute(_WRITE, [values | {"found_device_id": ""} for values in there])


def _read_page(reads: Reads, after: TokenPage | None, call: Call) -> TokenPage:
    return next(reads.list_tokens(after=after, call=call))
