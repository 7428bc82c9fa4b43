"""The preflight: asks the files, and then PingOne, everything that can be known before an OTP is spent."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from worker.config.settings import Environment, Settings
from worker.intake import Shipment
from worker.pace.errors import SlotTooFar
from worker.pingone.client import Call
from worker.pingone.errors import Forbidden, NotFound
from worker.pingone.inventory import InventoryToken
from worker.pingone.pages import Page
from worker.pingone.reads import Reads
from worker.pingone.users import User, UserAttribute
from worker.preflight import files, tenant
from worker.preflight.findings import Finding, Level, Verdicts
from worker.preflight.inventory import check_inventory
from worker.preflight.persons import check_persons
from worker.rules.resync import ResyncKnowledge

T = TypeVar("T")

# Requests that a record takes: one post where the token is in step, two where it is not, which a fifth usually is.
REQUESTS_PER_RECORD = 1.2
# Tries of a read for which no slot is near.
TRIES = 20


@dataclass(slots=True)
class Report:
    """What a preflight has found. `unknown` says what could not be read, and why."""

    verdicts: Verdicts
    findings: list[Finding] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    requests: int = 0
    # Seconds that the batch takes at the pace it begins with.
    seconds: float = 0.0

    def blocking(self, accepted: frozenset[str]) -> list[Finding]:
        """What keeps the shipment from being loaded: all that stops it, and what is asked and not accepted."""
        return [
            finding
            for finding in self.findings
            if finding.level == Level.STOP or (finding.level == Level.ASK and finding.name not in accepted)
        ]


def check_shipment(shipment: Shipment, settings: Settings, rate: float) -> Report:
    """Find what the files tell by themselves. `rate`: requests a second that the batch begins with. Raises
    UnusableFile."""
    verdicts, leftovers = files.read_rows(shipment)
    report = Report(verdicts, files.check_files(shipment, verdicts, leftovers, totp_max_age=settings.totp_max_age))
    report.seconds = len(verdicts.good) * REQUESTS_PER_RECORD / rate
    return report


class TenantCheck:
    """Asks PingOne about a shipment. What our roles do not permit to read is not known, and stops nothing."""

    def __init__(self, reads: Reads, environment: Environment, settings: Settings) -> None:
        self._reads = reads
        self._environment = environment
        self._settings = settings
        self._call = Call(session_id="oathbulk-check", transaction_id="oathbulk-check")

    def add_to(self, report: Report, known: ResyncKnowledge, measure_clock: Callable[[], float]) -> None:
        """Add what PingOne tells to a report. Raises PingOneError for everything but a read that is forbidden."""
        reads, budget = self._reads, self._settings.otp_post_budget
        self._ask(report, "the clock", lambda: tenant.check_clock(measure_clock()))
        self._ask(report, "the license", lambda: tenant.check_capabilities(self._read(reads.read_capabilities)))
        self._ask(report, "the policies", lambda: self._check_policies(len(report.verdicts.good), budget))
        self._ask(report, "the MFA settings", lambda: tenant.check_settings(self._read(reads.read_mfa_settings)))
        self._ask(report, "the inventory", lambda: check_inventory(report.verdicts, self._list_tokens()))
        self._ask(report, "the users", lambda: check_persons(report.verdicts, self._find_users))
        is_fixed = self._environment.resync_on_first_call is not None
        report.findings += tenant.check_learnt(known, is_fixed=is_fixed)
        report.requests = self._call.requests

    def _check_policies(self, persons: int, post_budget: int) -> list[Finding]:
        policies = self._read(self._reads.read_policies)
        return tenant.check_policies(policies, persons=persons, post_budget=post_budget)

    def _read(self, read: Callable[..., T]) -> T:
        return _wait_for_slot(lambda: read(call=self._call))

    def _ask(self, report: Report, what: str, check: Callable[[], list[Finding]]) -> None:
        """Add the findings of a check; if its read is forbidden, say that this is not known."""
        try:
            report.findings += check()
        except (Forbidden, NotFound) as refused:
            report.unknown.append(f"{what}: {refused.answer}")

    def _find_users(self, attribute: UserAttribute, names: Sequence[str]) -> list[User]:
        return _wait_for_slot(lambda: self._reads.find_users(attribute, names, call=self._call))

    def _list_tokens(self) -> Iterator[InventoryToken]:
        """Go through the inventory page by page."""
        page: Page[InventoryToken] | None = None
        while page is None or page.next_url:
            after = page
            page = _wait_for_slot(lambda: next(self._reads.list_tokens(after=after, call=self._call)))  # noqa: B023
            yield from page.items


def _wait_for_slot(read: Callable[[], T]) -> T:
    """Read, and try again where the fleet's next slot is far. Raises what the read raises."""
    for _ in range(TRIES):
        try:
            return read()
        except SlotTooFar as far:
            time.sleep(far.wait)
    return read()
