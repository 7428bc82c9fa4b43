"""The preflight: asks the files and our own records, and then PingOne, all that can be known before an OTP is spent."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import ceil
from typing import TypeVar

from worker.batches.tokens import list_tokens
from worker.config.environment import Environment
from worker.config.settings import Settings
from worker.intake import NO_SWITCHES, Shipment, Switches
from worker.observability.progress import OnProgress, tell_nobody
from worker.pace.errors import PaceOutOfReach, SlotTooFar
from worker.pace.rate_groups import RateGroup
from worker.pingone.client import Call
from worker.pingone.devices import UserDevice
from worker.pingone.errors import CredentialsRefused, NotDelivered, PingOneError
from worker.pingone.reads import MfaSettings, Reads
from worker.pingone.users import User, UserAttribute
from worker.pingone.wire import is_from_pingone
from worker.preflight import files, tenant
from worker.preflight.files import RowReader
from worker.preflight.findings import Finding, Level, Verdicts
from worker.preflight.tenant import check_devices, check_inventory, check_persons
from worker.rules.hours import DailyHours
from worker.rules.resync import ResyncKnowledge

T = TypeVar("T")

# Requests that a record takes: one post where the token is in step, two where it is not, which a fifth usually is.
REQUESTS_PER_RECORD = 1.2
# And those that it takes before that if it has no device.
REQUESTS_PER_PAIRING = 1.0
# Seconds for which a read waits until the fleet has a slot for it.
LONGEST_WAIT = 60.0


class NotReady(Exception):
    """A shipment is not loaded, for what its preflight has found; the message says what to do."""


class NotPingOne(Exception):
    """What should be PingOne answers nothing as PingOne does, so that nothing would become of a load; the message says
    what to look at. `place`: the setting with the URL that was asked, and the URL."""

    def __init__(self, place: str, failure: PingOneError) -> None:
        super().__init__(
            f"PingOne answered no read: at {place} came {failure}. Look at this URL, the proxy and the network with"
            " `oathbulk doctor`, or leave PingOne out with --offline"
        )


@dataclass(slots=True)
class Report:
    """What a preflight has found. `unknown` says what could not be read, and why; `is_complete` is False where PingOne
    should have been asked, and could not be. `batch`: the name of the batch that this very file is already."""

    verdicts: Verdicts
    findings: list[Finding] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    requests: int = 0
    is_complete: bool = True
    # Seconds that the batch takes at `rate` requests a second: those that it begins with, or the license's if it has
    # fewer (`is_rate_bought`).
    seconds: float = 0.0
    rate: float = 0.0
    is_rate_bought: bool = False
    batch: str | None = None

    def blocking(self, accepted: frozenset[str]) -> list[Finding]:
        """What keeps the shipment from being loaded: all that stops it, and what is asked and not accepted."""
        return [
            finding
            for finding in self.findings
            if finding.level == Level.STOP or (finding.level == Level.ASK and finding.name not in accepted)
        ]

    def keep_to_license(self, bought: float | None) -> None:
        """Count the seconds at the requests a second that the license has, if these are fewer. None: not known."""
        if bought and bought < self.rate:
            self.seconds *= self.rate / bought
            self.rate, self.is_rate_bought = bought, True

    def choose_accepted(self, accepted: frozenset[str]) -> list[str]:
        """Of the findings that a person accepts, those that were made and asked about."""
        return [finding.name for finding in self.findings if finding.level == Level.ASK and finding.name in accepted]


def check_shipment(
    shipment: Shipment,
    reader: RowReader,
    settings: Settings,
    rate: float,
    on_progress: OnProgress = tell_nobody,
) -> Report:
    """Find what the files and our own records tell. `rate`: requests a second that the batch begins with. Raises
    UnusableFile."""
    verdicts, leftovers = reader.read(shipment, on_progress)
    report = Report(
        verdicts, files.check_files(shipment, verdicts, leftovers, totp_max_age=settings.tuning.totp_max_age)
    )
    pairings = sum(row.device_id is None for row in verdicts.good)
    report.rate = rate
    report.seconds = (len(verdicts.good) * REQUESTS_PER_RECORD + pairings * REQUESTS_PER_PAIRING) / rate
    return report


class TenantCheck:
    """Asks PingOne about a shipment. What a read does not tell is not known, and stops nothing. `switches`: what may be
    created in the tenant."""

    def __init__(
        self,
        reads: Reads,
        environment: Environment,
        settings: Settings,
        switches: Switches = NO_SWITCHES,
        on_progress: OnProgress = tell_nobody,
    ) -> None:
        self._reads = reads
        self._environment = environment
        self._settings = settings
        self._switches = switches
        self._on_progress = on_progress
        self._max_devices: int | None = None
        # Whether PingOne itself answered any read, and what came instead, last.
        self._was_answered = False
        self._foreign: PingOneError | None = None
        self._call = Call(session_id="oathbulk-check", transaction_id="oathbulk-check")

    def add_to(self, report: Report, known: ResyncKnowledge, measure_clock: Callable[[], float]) -> None:
        """Add what PingOne tells to a report. Raises NotDelivered, CredentialsRefused, PaceOutOfReach: then nothing can
        be asked; and NotPingOne where reads were answered, and none of them by PingOne itself."""
        reads, verdicts = self._reads, report.verdicts
        is_fixed = self._environment.resync_on_first_call is not None
        report.findings += tenant.check_learnt(known, is_fixed=is_fixed)
        try:
            self._ask(report, "the clock", lambda: tenant.check_clock(measure_clock()))
            self._ask(report, "the license", lambda: self._check_license(report))
            self._ask(report, "the policies", lambda: self._check_policies(len(verdicts.good)))
            self._ask(report, "the MFA settings", lambda: self._check_settings(self._read(reads.read_mfa_settings)))
            # First, since a token may be another person's, and a person have too many devices.
            self._ask(report, "the users", lambda: check_persons(verdicts, self._find_users, self._on_progress))
            self._ask(report, "the inventory", self._check_inventory(report))
            self._ask(report, "the persons' devices", lambda: self._check_devices(report))
        finally:
            report.requests = self._call.requests
        if self._foreign is not None and not self._was_answered:
            raise NotPingOne(f"PINGONE_API_URL={self._environment.api_url}", self._foreign)

    def _check_license(self, report: Report) -> list[Finding]:
        capabilities = self._read(self._reads.read_capabilities)
        report.keep_to_license(capabilities.rates.get(RateGroup.MFA))
        return tenant.check_capabilities(capabilities)

    def _check_policies(self, persons: int) -> list[Finding]:
        return tenant.check_policies(
            self._read(self._reads.read_policies),
            persons=persons,
            post_budget=self._settings.otp_post_budget,
            makes_devices=self._switches.may_pair,
        )

    def _check_inventory(self, report: Report) -> Callable[[], list[Finding]]:
        return lambda: check_inventory(
            report.verdicts, list_tokens(self._reads, self._call, self._make, self._on_progress), self._switches
        )

    def _check_settings(self, settings: MfaSettings) -> list[Finding]:
        self._max_devices = settings.max_devices
        return tenant.check_settings(settings)

    def _check_devices(self, report: Report) -> list[Finding]:
        return check_devices(
            report.verdicts, self._list_devices, max_devices=self._max_devices, on_progress=self._on_progress
        )

    def _read(self, read: Callable[..., T]) -> T:
        return self._make(lambda: read(call=self._call))

    def _make(self, read: Callable[[], T]) -> T:
        """Make a read, and note whether PingOne itself answers. Raises what the read raises."""
        try:
            result = _wait_for_slot(read)
        except PingOneError as failure:
            if is_from_pingone(failure.answer):
                self._was_answered = True
            else:
                self._foreign = failure
            raise
        self._was_answered = True
        return result

    def _ask(self, report: Report, what: str, check: Callable[[], list[Finding]]) -> None:
        """Add the findings of a check; if its read is refused or gets no readable answer, say that this is not
        known."""
        try:
            report.findings += check()
        except (CredentialsRefused, NotDelivered, PaceOutOfReach):
            raise
        except (PingOneError, SlotTooFar) as refused:
            report.unknown.append(f"{what}: {refused}")

    def _find_users(self, attribute: UserAttribute, names: Sequence[str]) -> list[User]:
        return self._make(lambda: self._reads.find_users(attribute, names, call=self._call))

    def _list_devices(self, user_id: str) -> list[UserDevice]:
        return self._make(lambda: self._reads.list_devices(user_id, call=self._call))


def _wait_for_slot(read: Callable[[], T]) -> T:
    """Read, and try again where the fleet's next slot is far, but not for longer than LONGEST_WAIT. Raises what the
    read raises."""
    waited = 0.0
    while True:
        try:
            return read()
        except PaceOutOfReach:
            raise
        except SlotTooFar as far:
            if waited + far.wait > LONGEST_WAIT:
                raise
            time.sleep(far.wait)
            waited += far.wait


@dataclass(frozen=True, slots=True)
class ExpectedWork:
    """What a run would do. `imports` and `devices`, the tokens to be imported and the devices to be made, are upper
    limits unless `is_exact`: then the rows were compared with PingOne's inventory. `days`: on how many days it works
    where the batch has hours."""

    tokens: int
    imports: int
    devices: int
    is_exact: bool
    requests: int
    days: int | None


def expect_work(report: Report, switches: Switches, hours: DailyHours | None) -> ExpectedWork:
    """Count what a run would do with the rows that a load takes."""
    good = report.verdicts.good
    without_device = sum(row.device_id is None for row in good)
    noted = {finding.name: finding.tokens for finding in report.findings if finding.level == Level.NOTE}
    is_exact = _is_inventory_known(report)
    imports = noted.get("token_not_in_inventory", 0) if is_exact else len(good)
    devices = noted.get("token_not_paired", 0) + imports if is_exact else without_device
    return ExpectedWork(
        tokens=len(good),
        imports=imports if switches.may_import else 0,
        devices=min(devices, without_device) if switches.may_pair else 0,
        is_exact=is_exact,
        requests=round(report.seconds * report.rate),
        days=max(1, ceil(report.seconds / hours.seconds)) if hours else None,
    )


def _is_inventory_known(report: Report) -> bool:
    """Whether the rows were compared with PingOne's inventory."""
    is_asked = report.is_complete and report.requests > 0
    return is_asked and not any(text.startswith("the inventory:") for text in report.unknown)
