"""Batches that are to be prepared, and a worker's preparation before a PingOne in memory: people and an inventory,
which fail as a test says."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from types import SimpleNamespace
from typing import Any, cast

from sqlalchemy import Row, select, update
from support.data.batches import Made, count, look, make_batch, make_environment
from support.data.moving_clock import MovingDatabase

from models.batch import Batch
from models.encrypted import Keyring, identify_row
from models.inventory_job import InventoryJob
from models.record import Record
from worker.batches.imports import Tokens
from worker.batches.long_list import Superseded, Turns
from worker.batches.people import People
from worker.batches.preparation import Failures, Preparation
from worker.batches.upkeep import Consequences, Upkeep
from worker.config.environment import Environment, Environments
from worker.config.settings import Tuning
from worker.fleet import Fitness, Sickness
from worker.pingone.client import Call
from worker.pingone.clients import Clients, MakeRead
from worker.pingone.configuration import MfaSettings
from worker.pingone.devices import User, UserAttribute
from worker.pingone.errors import NO_ANSWER, Answer, BadToken, Forbidden, NotFound, OutcomeUnknown, TooManyTerms
from worker.pingone.inventory import ImportJob, InventoryToken, JobStatus, NewToken
from worker.pingone.wire import Page
from worker.rules.breaker import Thresholds
from worker.vault.otps import Secret, Seed

OK = Answer(status=200)
# More than any preparation of a test needs: one that goes on and on is told by its last calls.
MOST_CALLS = 1000


@dataclass
class ScriptedInventory:
    """Stands for the clients of a process and for what they make. `log` has each call, and how many names or tokens
    went with it."""

    people: list[User] = field(default_factory=list)
    tokens: dict[str, InventoryToken] = field(default_factory=dict)
    # Names that go into one filter.
    most_names: int = 1000
    page_size: int = 1000
    # Serial numbers with which an import is refused as a whole.
    bad: set[str] = field(default_factory=set)
    # Serial numbers that an import leaves out without a word.
    left_out: set[str] = field(default_factory=set)
    # What the next calls of this name bring instead: an exception, or for a job its result.
    instead: dict[str, list[Any]] = field(default_factory=lambda: defaultdict(list))
    # What happens while the request of an import waits to go out.
    before_import: Callable[[], object] = lambda: None
    log: list[str] = field(default_factory=list)
    results: dict[str, ImportJob] = field(default_factory=dict)

    def reads(self, _: Environment) -> ScriptedInventory:
        return self

    jobs = reads

    def do(self, name: str, count: int | None = None, call: Call | None = None) -> None:
        self.log.append(name if count is None else f"{name} {count}")
        assert len(self.log) < MOST_CALLS, f"calls without end: {self.log[-10:]}"
        if self.instead[name] and isinstance(failure := self.instead[name][0], BaseException):
            self.instead[name].pop(0)
            raise failure
        if call is not None:
            call.keep(0.0, NO_ANSWER)

    def create(self, tokens: Sequence[NewToken]) -> str:
        duplicates = tuple(token.serial_number for token in tokens if token.serial_number in self.tokens)
        made = [each.serial_number for each in tokens if each.serial_number not in self.tokens.keys() | self.left_out]
        self.tokens |= {serial_number: describe(serial_number) for serial_number in made}
        job_id = f"job-{len(self.results) + 1}"
        created = len(made)
        self.results[job_id] = ImportJob(job_id, JobStatus.DONE, OK, created=created, duplicates=duplicates)
        return job_id

    def find_users(self, attribute: UserAttribute, names: Sequence[str], *, call: Call) -> list[User]:
        self.do(f"find {attribute}", len(names), call)
        if len(names) > self.most_names:
            raise TooManyTerms(Answer(status=400))
        known = {name.casefold() for name in names}
        return [user for user in self.people if (user.find(attribute) or "").casefold() in known]

    def list_tokens(self, make_read: MakeRead = lambda read: read(), *, call: Call) -> Iterator[Page[InventoryToken]]:
        """The addresses of pages are the places in the list at which they begin."""
        tokens, size = list(self.tokens.values()), self.page_size

        def read(start: int) -> Page[InventoryToken]:
            call.permit()
            self.do("list", None, call)
            end = start + size
            return Page(tuple(tokens[start:end]), str(end) if end < len(tokens) else None, OK)

        for start in range(0, max(len(tokens), 1), size):
            yield make_read(partial(read, start))

    def find_token(self, serial_number: str, *, with_devices: bool, call: Call) -> InventoryToken | None:
        self.do("find_token", None, call)
        return self.tokens.get(serial_number)

    def read_token(self, token_id: str, *, call: Call) -> InventoryToken:
        self.do("read_token", None, call)
        return next(token for token in self.tokens.values() if token.id == token_id)

    def start_import(self, tokens: Sequence[NewToken], *, call: Call) -> str:
        self.before_import()
        call.permit()
        self.do("import", len(tokens))
        self.do("start", None, call)
        if self.bad & {token.serial_number for token in tokens}:
            raise BadToken(Answer(status=400, code="INVALID_DATA"))
        job_id = self.create(tokens)
        self.do("answer", None, call)
        return job_id

    def read_mfa_settings(self, *, call: Call) -> MfaSettings:
        self.do("settings", None, call)
        return MfaSettings()

    def read_job(self, job_id: str, *, call: Call) -> ImportJob:
        self.do("job", None, call)
        if self.instead["job"]:
            result: ImportJob = self.instead["job"].pop(0)
            return result
        if job_id not in self.results:
            raise NotFound(Answer(status=404))
        return self.results[job_id]


def describe(serial_number: str, **fields: Any) -> InventoryToken:
    """A token with the parameters of an HOTP seed of six digits, paired with nobody."""
    usual = {"id": f"id-{serial_number}", "type": "HOTP", "digits": 6, "hash_name": "sha1"}
    return InventoryToken(**(usual | {"serial_number": serial_number} | fields))


HOTP = Seed(secret=Secret(b"12345678901234567890"))
SEND_WITHIN = 5.0
ANSWER_WITHIN = 170.0
ALICE, BOB = "a11ce000-0000-4000-8000-000000000001", "b0b00000-0000-4000-8000-000000000002"
LOST = OutcomeUnknown(Answer(status=502))
FORBIDDEN = Forbidden(Answer(status=403))


class ToldTurns(Turns):
    """Turns that tell when one is renewed amid a reading of the inventory."""

    on_renew: Callable[[], object]

    def renew(self, batch_id: int) -> bool:
        self.on_renew()
        return super().renew(batch_id)

    def check(self, batch_id: int) -> None:
        if not super().renew(batch_id):
            raise Superseded


@dataclass
class Site:
    """A worker's preparation, and the PingOne that it calls."""

    database: MovingDatabase
    keyring: Keyring
    most_tokens: int = 500
    environment: Environment = field(default_factory=make_environment)
    pingone: ScriptedInventory = field(default_factory=ScriptedInventory)
    waited: list[float] = field(default_factory=list)
    on_renew: Callable[[], object] = lambda: None
    # Why this process takes no more work.
    sick: list[Sickness] = field(default_factory=list)
    # Whether another process is well.
    is_spared: bool = False

    def __post_init__(self) -> None:
        self.upkeep = Upkeep(self.database, Thresholds())
        fitness = cast(Fitness, SimpleNamespace(fall_sick=self.fall_sick))
        licenses = cast(Environments, SimpleNamespace(license_of=lambda _: self.environment.license))
        self.failures = Failures(Consequences(self.upkeep, fitness, licenses), self.upkeep, longest_hold=120.0)

    def fall_sick(self, sickness: Sickness) -> bool:
        self.sick.append(sickness)
        return self.is_spared

    def prepare(self) -> bool:
        """One turn; it ends when it would have to wait for PingOne."""
        self.waited.clear()
        turns = ToldTurns(self.database)
        turns.on_renew = lambda: self.on_renew()
        clients = cast(Clients, self.pingone)
        tokens = Tokens(
            self.database,
            self.keyring,
            clients,
            self.waited.append,
            Tuning(
                tokens_per_import=self.most_tokens,
                send_within=SEND_WITHIN,
                call_deadline=ANSWER_WITHIN - SEND_WITHIN,
                read_delay=0.0,
            ),
        )
        return Preparation(
            self.database,
            cast(Environments, {"default": self.environment}),
            clients,
            turns,
            People(self.database, 40),
            tokens,
            self.failures,
            is_stopping=lambda: bool(self.waited),
        ).prepare_next()

    def jobs(self, made: Made) -> list[tuple[str, int]]:
        """State and size of each job, in their order."""
        mine = select(InventoryJob.state, InventoryJob.size).where(InventoryJob.batch_id == made.batch_id)
        return [(row.state, row.size) for row in self.database.rows(mine.order_by(InventoryJob.id))]

    def count(self, *conditions: Any) -> int:
        return count(self.database, Record, *conditions)


def make(
    site: Site,
    records: int | list[dict[str, Any]] = 1,
    *,
    may_import: bool = True,
    seed: Seed | None = HOTP,
    **common: Any,
) -> Made:
    """A batch of tokens with seeds that are to be found or imported; None: with pairs of OTPs."""
    lacking = {"device_id": "", "is_in_inventory": False} | common
    made = make_batch(site.database, records, keyring=site.keyring, **lacking)
    mine = {"may_import": may_import, "may_pair": True}
    site.database.change(update(Batch).where(Batch.id == made.batch_id).values(mine))
    if seed:
        rows = {record_id: identify_row(made.batch_id, number) for number, record_id in enumerate(made.ids, start=2)}
        sealed = {record_id: site.keyring.seal(seed.to_plaintext(), row) for record_id, row in rows.items()}
        to_seed = update(Record).values(next_counter=0)
        site.database.change(*(to_seed.where(Record.id == key).values(otps=otps) for key, otps in sealed.items()))
    return made


def of(site: Site, made: Made) -> Row[Any]:
    return look(site.database, made.id)


def serial(site: Site, made: Made, number: int = 0) -> str:
    return str(look(site.database, made.ids[number]).serial_number)


def finish(site: Site, most: int = 60) -> None:
    """Turns until nothing is left to prepare, with some seconds between two of them."""
    for _ in range(most):
        if not site.prepare():
            return
        site.database.ahead += 6.0
    raise AssertionError(f"the preparation does not end: {site.pingone.log[-10:]}")
