"""A plan is filled in from the preflight's report."""

from __future__ import annotations

from datetime import time
from pathlib import Path

import pytest

from models.row_fault import RowFault
from worker.cli.load_request import LoadRequest
from worker.cli.plan_filling import PlanFiller, is_inventory_known, measure_hours
from worker.installation.installation import Installation
from worker.intake import Row, RowError, Switches, open_shipment
from worker.pages.plan_contents import Plan
from worker.preflight.findings import Finding, Level, Verdicts
from worker.preflight.preflight import Report
from worker.rules.hours import DailyHours
from worker.vault.seed import Secret, Seed

VARIABLES = {
    "PINGONE_ENVIRONMENT_ID": "env-1",
    "PINGONE_CLIENT_ID": "client-1",
    "PINGONE_CLIENT_SECRET": "made-up-client-secret",
    "OATHBULK_ACTOR": "anna",
}
AGAIN = "oathbulk plan box.csv --accept clock -o plan.html"
SEED = Seed(secret=Secret(b"12345678901234567890"))
BOTH = Switches(may_import=True, may_pair=True)
ABSENT = Finding("token_not_in_inventory", Level.NOTE, "They will be imported.", 3)
FREE = Finding("token_not_paired", Level.NOTE, "They will be paired.", 2)


def row(number: int, **fields: object) -> Row:
    given = {"row_number": number, "serial_number": f"MADE{number}", "otps": SEED, "user_id": "u"}
    return Row(**given | fields)  # type: ignore[arg-type]


def make_report(*findings: Finding, requests: int = 9) -> Report:
    """Ten rows of seeds without a device; one more is refused."""
    lots = [row(number, lot=f"L-{number > 6}") for number in range(1, 11)]
    verdicts = Verdicts(good=lots, refused=[RowError(12, "it is bad", None, RowFault.OTPS_UNFIT)])
    verdicts.doubt(lots[0], "clock", "it is late")
    return Report(verdicts, list(findings), requests=requests, seconds=2.0, rate=20.0)


def fill(tmp_path: Path, report: Report, *, switches: Switches = BOTH, request: LoadRequest | None = None) -> Plan:
    (tmp_path / "box.csv").write_text("serial,otp1,otp2,user_id,device_id\nACME1,30871455,36729922,u,d\n")
    installation = Installation(VARIABLES | {"OATHBULK_HOME": str(tmp_path / "home")})
    shipment = open_shipment(tmp_path / "box.csv", switches=switches)
    filler = PlanFiller(installation, shipment, request or LoadRequest("july"))
    return filler.fill(report, "oathbulk run box.csv", AGAIN)


def test_rows_are_counted(tmp_path: Path) -> None:
    numbers = fill(tmp_path, make_report()).numbers
    assert (numbers.tokens, numbers.ready, numbers.refused, numbers.hotp_seeds) == (10, 9, 1, 10)


def test_imports_and_pairings_are_those_that_the_inventory_lacks(tmp_path: Path) -> None:
    numbers = fill(tmp_path, make_report(ABSENT, FREE)).numbers
    assert (numbers.imports, numbers.pairings, numbers.is_exact) == (3, 5, True)


def test_without_the_inventory_they_are_limits(tmp_path: Path) -> None:
    numbers = fill(tmp_path, make_report(requests=0)).numbers
    assert (numbers.imports, numbers.pairings, numbers.is_exact) == (10, 10, False)


def test_nothing_is_made_that_is_not_permitted(tmp_path: Path) -> None:
    numbers = fill(tmp_path, make_report(requests=0), switches=Switches()).numbers
    assert (numbers.imports, numbers.pairings) == (0, 0)


def test_the_inventory_is_not_known_if_it_could_not_be_read() -> None:
    report = make_report()
    assert is_inventory_known(report)
    report.unknown.append("the inventory: refused")
    assert not is_inventory_known(report)


def test_columns_with_few_values_are_counted_and_no_others(tmp_path: Path) -> None:
    report = make_report()
    for each in report.verdicts.good:
        each.extra["note"] = each.serial_number
    (column,) = fill(tmp_path, report).columns
    assert (column.name, column.values) == ("lot", (("L-False", 6), ("L-True", 4)))


def test_the_gravest_finding_is_first_and_what_is_accepted_is_told(tmp_path: Path) -> None:
    stop, ask = Finding("license", Level.STOP, "No."), Finding("clock", Level.ASK, "Late.")
    # A person cannot accept what stops it.
    request = LoadRequest("july", accepted=frozenset({"clock", "license"}))
    preflight = fill(tmp_path, make_report(FREE, ask, stop), request=request).preflight
    assert [(each.name, each.is_accepted) for each in preflight.findings] == [
        ("license", False),
        ("clock", True),
        ("token_not_paired", False),
    ]
    assert preflight.blocking == ["license"]


def test_requests_are_counted_at_the_rate_that_it_begins_with(tmp_path: Path) -> None:
    timing = fill(tmp_path, make_report()).timing
    assert (timing.requests, timing.seconds, timing.rate) == (40, 2.0, 20.0)


def test_the_command_ends_with_the_hash(tmp_path: Path) -> None:
    plan = fill(tmp_path, make_report())
    assert plan.command == f"oathbulk run box.csv --plan {plan.hash}"
    assert (plan.made_by, plan.target.api_host, plan.source.format) == ("anna", "api.pingone.com", "otp-pairs")


@pytest.mark.parametrize("level", [Level.STOP, Level.ASK])
def test_where_nothing_would_be_loaded_the_command_makes_a_new_plan(tmp_path: Path, level: Level) -> None:
    report = make_report(Finding("clock", level, "Late."))
    assert fill(tmp_path, report).command == AGAIN


def test_what_is_accepted_is_started(tmp_path: Path) -> None:
    report = make_report(Finding("clock", Level.ASK, "Late."))
    request = LoadRequest("july", accepted=frozenset({"clock"}))
    assert fill(tmp_path, report, request=request).command.startswith("oathbulk run box.csv --plan ")


def test_a_license_that_has_less_is_what_the_time_is_told_of(tmp_path: Path) -> None:
    report = make_report()
    report.keep_to_license(2.0)
    timing = fill(tmp_path, report).timing
    assert (timing.requests, timing.seconds, timing.rate, timing.is_rate_bought) == (40, 20.0, 2.0, True)


@pytest.mark.parametrize(
    ("start", "end", "hours"), [(time(22), time(5, 30), 7.5), (time(9), time(17), 8), (time(22), time(0), 2)]
)
def test_hours_are_measured_over_midnight_too(start: time, end: time, hours: float) -> None:
    assert measure_hours(DailyHours(start, end, "UTC")) == hours * 3600
