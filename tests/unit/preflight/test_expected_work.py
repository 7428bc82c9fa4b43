"""What a run would do is counted from what the preflight found."""

from __future__ import annotations

from datetime import time

import pytest

from models.row_fault import RowFault
from worker.intake import Row, RowError, Switches
from worker.preflight.findings import Finding, Level, Report, Verdicts, expect_work
from worker.rules.hours import DailyHours
from worker.vault.otps import Secret, Seed

SEED = Seed(secret=Secret(b"12345678901234567890"))
BOTH = Switches(may_import=True, may_pair=True)
ABSENT = Finding("token_not_in_inventory", Level.NOTE, "They are imported.", 3)
FREE = Finding("token_not_paired", Level.NOTE, "They are paired.", 2)


def make_report(*findings: Finding, requests: int = 9) -> Report:
    """Ten rows of seeds without a device; one more is refused."""
    rows = [Row(row_number=n, serial_number=f"MADE{n}", otps=SEED, user_id="u") for n in range(1, 11)]
    verdicts = Verdicts(good=rows, refused=[RowError(12, "it is bad", None, RowFault.OTPS_UNFIT)])
    return Report(verdicts, list(findings), requests=requests, seconds=2.0, rate=20.0)


def test_what_is_made_is_what_the_inventory_lacks() -> None:
    work = expect_work(make_report(ABSENT, FREE), BOTH, None)
    assert (work.tokens, work.imports, work.devices, work.is_exact) == (10, 3, 5, True)


def test_without_the_inventory_the_numbers_are_limits() -> None:
    work = expect_work(make_report(requests=0), BOTH, None)
    assert (work.imports, work.devices, work.is_exact) == (10, 10, False)
    report = make_report()
    report.unknown.append("the inventory: refused")
    assert not expect_work(report, BOTH, None).is_exact


def test_nothing_is_made_that_is_not_permitted() -> None:
    work = expect_work(make_report(requests=0), Switches(), None)
    assert (work.imports, work.devices) == (0, 0)


def test_requests_are_those_of_the_time_at_the_pace() -> None:
    report = make_report()
    assert expect_work(report, BOTH, None).requests == 40
    # The license has less: it takes longer, and no more requests.
    report.keep_to_license(2.0)
    assert (expect_work(report, BOTH, None).requests, report.seconds) == (40, 20.0)


@pytest.mark.parametrize(("seconds", "days"), [(1.0, 1), (3600.0, 1), (3601.0, 2)])
def test_hours_tell_on_how_many_days_it_works(seconds: float, days: int) -> None:
    report = make_report()
    report.seconds = seconds
    assert expect_work(report, BOTH, DailyHours(time(22), time(23), "UTC")).days == days
    assert expect_work(report, BOTH, None).days is None
