"""Fills in a plan: from the preflight's report, what a person asks for, and the settings in force."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from worker import __version__
from worker.audit import this_person
from worker.cli.load_request import LoadRequest
from worker.cli.planned import collect_own_parts
from worker.cli.settings_in_force import list_settings
from worker.installation.installation import Installation
from worker.intake import Row, Shipment
from worker.pages.plan_contents import Column, FindingLine, Numbers, Plan, Preflight, Source, Target, Timing
from worker.preflight.findings import Level
from worker.preflight.plan import find_host, hash_parts
from worker.preflight.preflight import Report
from worker.rules.hours import DailyHours
from worker.vault.seed import Seed

# Values that a column may have; a shipment may come in many lots.
MOST_VALUES = 20
MOST_LOTS = 500
# Tokens that share a value, on average, at least.
FEWEST_TO_SHARE = 5
# Characters of a value: longer ones are remarks.
LONGEST_VALUE = 80


@dataclass(frozen=True, slots=True)
class PlanFiller:
    """Fills in the plan of a shipment for what a person asks for."""

    installation: Installation
    shipment: Shipment
    request: LoadRequest

    def fill(self, report: Report, starting: str, again: str) -> Plan:
        """Make the plan. `starting` is the command that starts the batch, to which the option with the plan's hash is
        added; `again` the one that makes the plan anew, for where nothing would be loaded. Raises ConfigError."""
        parts = collect_own_parts(self.installation, self.shipment, self.request)
        plan_hash = hash_parts(parts)
        preflight = _tell_preflight(report, self.request.accepted)
        return Plan(
            hash=plan_hash,
            parts=parts,
            made_at=datetime.now(UTC),
            made_by=this_person(self.installation.settings).name,
            version=__version__,
            command=again if preflight.blocking else f"{starting} --plan {plan_hash}",
            ticket=self.request.ticket,
            may_import=self.shipment.switches.may_import,
            may_pair=self.shipment.switches.may_pair,
            source=self._describe_source(),
            target=self._describe_target(),
            numbers=self._count(report),
            columns=_count_columns(report.verdicts.good),
            preflight=preflight,
            timing=self._tell_timing(report),
            settings=list_settings(self.installation, self.request.environment, parts),
        )

    def _describe_source(self) -> Source:
        shipment, listed = self.shipment, self.shipment.assignment
        return Source(
            file=str(shipment.path),
            sha256=shipment.digest,
            format=shipment.format.name,
            list_file=str(listed.path) if listed else None,
            list_sha256=listed.digest if listed else None,
        )

    def _describe_target(self) -> Target:
        environment = self.installation.environment(self.request.environment)
        return Target(
            batch=self.request.name,
            environment=environment.name,
            environment_id=environment.environment_id,
            api_host=find_host(environment.api_url),
            token_host=find_host(environment.token_url),
            license=environment.license,
        )

    def _count(self, report: Report) -> Numbers:
        """Count the rows, and what is made for them."""
        verdicts, switches = report.verdicts, self.shipment.switches
        is_exact = is_inventory_known(report)
        counts = {finding.name: finding.tokens for finding in report.findings if finding.level == Level.NOTE}
        without_device = sum(row.device_id is None for row in verdicts.good)
        imports = counts.get("token_not_in_inventory", 0) if is_exact else len(verdicts.good)
        pairings = counts.get("token_not_paired", 0) + imports if is_exact else without_device
        settings = self.installation.settings
        return Numbers(
            tokens=len(verdicts.good),
            ready=len(verdicts.good) - len(verdicts.doubts),
            refused=len(verdicts.refused),
            already_active=len(verdicts.active),
            imports=imports if switches.may_import else 0,
            pairings=min(pairings, without_device) if switches.may_pair else 0,
            hotp_seeds=sum(isinstance(row.otps, Seed) and row.otp_type == "hotp" for row in verdicts.good),
            is_exact=is_exact,
            post_budget=settings.otp_post_budget,
            max_attempts=settings.max_attempts,
        )

    def _tell_timing(self, report: Report) -> Timing:
        hours = self.request.hours
        return Timing(
            requests=round(report.seconds * report.rate),
            seconds=report.seconds,
            rate=report.rate,
            is_rate_bought=report.is_rate_bought,
            share=self.request.share,
            canary=self.request.canary,
            hours=str(hours) if hours else None,
            hours_seconds=measure_hours(hours) if hours else None,
        )


def is_inventory_known(report: Report) -> bool:
    """Whether the rows were compared with PingOne's inventory."""
    is_asked = report.is_complete and report.requests > 0
    return is_asked and not any(text.startswith("the inventory:") for text in report.unknown)


def measure_hours(hours: DailyHours) -> float:
    """Measure how many seconds daily hours last, on a day on which no clock is put forward or back."""
    start, end = (timedelta(hours=each.hour, minutes=each.minute) for each in (hours.start, hours.end))
    return ((end - start) % timedelta(days=1)).total_seconds()


def _tell_preflight(report: Report, accepted: frozenset[str]) -> Preflight:
    """Tell the findings, the gravest first, and what is not known."""
    findings = sorted(report.findings, key=lambda finding: list(Level).index(finding.level))
    lines = tuple(
        FindingLine(
            finding.name,
            str(finding.level),
            finding.text,
            finding.serials,
            finding.level == Level.ASK and finding.name in accepted,
        )
        for finding in findings
    )
    return Preflight(lines, tuple(report.unknown), report.requests > 0 and report.is_complete, report.is_complete)


def _count_columns(rows: Iterable[Row]) -> tuple[Column, ...]:
    """Count the tokens by lot and by the further columns whose few values are shared by many tokens, and by no other:
    what has many values might be something that must not be shown."""
    counts: dict[str, Counter[str]] = {"lot": Counter()}
    for row in rows:
        for column, value in {**(row.extra or {}), "lot": row.lot}.items():
            if value not in (None, ""):
                counts.setdefault(column, Counter())[str(value)] += 1
    return tuple(
        Column(name, tuple(values.most_common())) for name, values in counts.items() if _is_shown(name, values)
    )


def _is_shown(column: str, values: Counter[str]) -> bool:
    most = MOST_LOTS if column == "lot" else MOST_VALUES
    is_short = all(len(value) <= LONGEST_VALUE for value in values)
    return 1 < len(values) <= most and values.total() >= FEWEST_TO_SHARE * len(values) and is_short
