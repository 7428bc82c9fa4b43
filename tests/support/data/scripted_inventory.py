"""A PingOne for the preparation of batches: people and an inventory in memory, which fail as a test says."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from worker.config.environment import Environment
from worker.pingone.client import Call
from worker.pingone.clients import MakeRead
from worker.pingone.configuration import MfaSettings
from worker.pingone.errors import Answer, BadToken, NotFound, TooManyTerms
from worker.pingone.inventory import ImportJob, InventoryToken, JobState, NewToken
from worker.pingone.users import User, UserAttribute
from worker.pingone.wire import Page

OK = Answer(status=200)
# More than any preparation of a test needs: one that goes on and on is told by its last calls.
MOST_CALLS = 1000


@dataclass
class ScriptedInventory:
    """Stands for the clients of a process too. `log` has each call, and how many names or tokens went with it."""

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
    # The worker applications that called, by the kind of call.
    applications: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    results: dict[str, ImportJob] = field(default_factory=dict)

    def reads(self, environment: Environment) -> _Calls:
        return _Calls(self, environment.client_id)

    jobs = reads

    def do(self, name: str, application: str, count: int | None = None, call: Call | None = None) -> None:
        self.log.append(name if count is None else f"{name} {count}")
        assert len(self.log) < MOST_CALLS, f"calls without end: {self.log[-10:]}"
        self.applications[name].add(application)
        if self.instead[name] and isinstance(failure := self.instead[name][0], BaseException):
            self.instead[name].pop(0)
            raise failure
        if call is not None:
            call.count_request(0.0)

    def create(self, tokens: Sequence[NewToken]) -> str:
        duplicates = tuple(token.serial_number for token in tokens if token.serial_number in self.tokens)
        made = [each.serial_number for each in tokens if each.serial_number not in self.tokens.keys() | self.left_out]
        self.tokens |= {serial_number: describe(serial_number) for serial_number in made}
        job_id = f"job-{len(self.results) + 1}"
        created = len(made)
        self.results[job_id] = ImportJob(job_id, JobState.DONE, OK, created=created, duplicates=duplicates)
        return job_id


@dataclass
class _Calls:
    pingone: ScriptedInventory
    application: str

    def find_users(self, attribute: UserAttribute, names: Sequence[str], *, call: Call) -> list[User]:
        self.pingone.do(f"find {attribute}", self.application, len(names), call)
        if len(names) > self.pingone.most_names:
            raise TooManyTerms(Answer(status=400))
        known = {name.casefold() for name in names}
        return [user for user in self.pingone.people if (user.find(attribute) or "").casefold() in known]

    def list_tokens(self, make_read: MakeRead, *, call: Call) -> Iterator[Page[InventoryToken]]:
        """The addresses of pages are the places in the list at which they begin."""
        tokens, size = list(self.pingone.tokens.values()), self.pingone.page_size

        def read(start: int) -> Page[InventoryToken]:
            call.permit()
            self.pingone.do("list", self.application, None, call)
            end = start + size
            return Page(tuple(tokens[start:end]), str(end) if end < len(tokens) else None, OK)

        for start in range(0, max(len(tokens), 1), size):
            yield make_read(partial(read, start))

    def find_token(self, serial_number: str, *, with_devices: bool, call: Call) -> InventoryToken | None:
        self.pingone.do("find_token", self.application, None, call)
        return self.pingone.tokens.get(serial_number)

    def read_token(self, token_id: str, *, call: Call) -> InventoryToken:
        self.pingone.do("read_token", self.application, None, call)
        return next(token for token in self.pingone.tokens.values() if token.id == token_id)

    def start_import(self, tokens: Sequence[NewToken], *, call: Call) -> str:
        self.pingone.before_import()
        call.permit()
        self.pingone.do("import", self.application, len(tokens))
        self.pingone.do("start", self.application, None, call)
        if self.pingone.bad & {token.serial_number for token in tokens}:
            raise BadToken(Answer(status=400, code="INVALID_DATA"))
        job_id = self.pingone.create(tokens)
        self.pingone.do("answer", self.application, None, call)
        return job_id

    def read_mfa_settings(self, *, call: Call) -> MfaSettings:
        self.pingone.do("settings", self.application, None, call)
        return MfaSettings()

    def read_job(self, job_id: str, *, call: Call) -> ImportJob:
        self.pingone.do("job", self.application, None, call)
        if self.pingone.instead["job"]:
            result: ImportJob = self.pingone.instead["job"].pop(0)
            return result
        if job_id not in self.pingone.results:
            raise NotFound(Answer(status=404))
        return self.pingone.results[job_id]


def describe(serial_number: str, **fields: Any) -> InventoryToken:
    """A token with the parameters of a HOTP seed of six digits, paired with nobody."""
    usual = {"id": f"id-{serial_number}", "type": "HOTP", "digits": 6, "hash_name": "sha1"}
    return InventoryToken(**(usual | {"serial_number": serial_number} | fields))
