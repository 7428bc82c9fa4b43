"""Counts what a run of a shipment would do in PingOne, and how long that takes. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from worker.intake import Switches
from worker.preflight.findings import Level
from worker.preflight.preflight import Report
from worker.rules.hours import DailyHours


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
