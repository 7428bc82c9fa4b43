"""What the files of a shipment tell, with the sentences that a person reads; pairs of OTPs beside the seed of their
token; and what a run would do."""

import sqlite3
import tracemalloc
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Literal

import pytest

from models.row_fault import RowFault
from worker import intake, preflight
from worker.intake.files import Hints
from worker.intake.formats import OTP_PAIRS
from worker.intake.lists import open_assignment
from worker.intake.rows import Row, RowError
from worker.intake.shipment import Leftovers, Switches, open_scratch, open_shipment
from worker.pingone.devices import User, UserAttribute
from worker.preflight.files import HOTP_WINDOW, TOTP_WINDOW, check_files, is_consecutive, reading_without_records
from worker.preflight.findings import Finding, Level, Report, Verdicts, expect_work
from worker.preflight.tenant import check_devices, check_inventory, check_persons
from worker.rules.hours import DailyHours
from worker.vault.otps import Otp, OtpPair, Secret, Seed

ROOT = Path(__file__).parents[3]
# The secret of the tables of RFC 4226 and 6238.
SECRET = Secret(b"12345678901234567890")
HOTP = Seed(secret=SECRET, counter=3)
TOTP = Seed(secret=SECRET, otp_type="totp", time_step=30)
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)

HEX = "d2f7a4affb163ad95f3593f4c6f9b05b89a8105b"
USER, DEVICE = "6f1d3c1e-0c52-4b8e-9d1f-2a7b6c5d4e3", "0f0b7a52-8d3e-4c19-a6b7-5e4d3c2b1a0"
BOX = "".join(f"MADE{number}, {HEX[:-1]}{number}, hotp, 6, 0\n" for number in (1, 2, 3))


def who(*persons: str) -> str:
    """A list of these persons, each a number with a name such as `1a`."""
    lines = [f"MADE{each[0]},{each[1:]},{USER}{each[0]},{DEVICE}{each[0]}\n" for each in persons]
    return "serial,username,user_id,device_id\n" + "".join(lines)


ALL = who("1a", "2b", "3c")


@pytest.mark.parametrize(
    ("box", "people", "only_assigned", "name", "expected"),
    [
        (
            BOX,
            ALL,
            False,
            "presses_to_discard",
            (Level.NOTE, (), "HOTP tokens with a seed: 3."),
        ),
        (
            BOX,
            who("1a", "2b"),
            False,
            "unassigned",
            (Level.NOTE, (), "Tokens in the box without a person in the list: 1. They fail."),
        ),
        (
            BOX,
            who("1a", "2b"),
            False,
            "rows_refused",
            (Level.NOTE, ("MADE3",), "Refused: 1 row, because the list names no person for this token"),
        ),
        # It stays in the drawer.
        (
            BOX,
            who("1a"),
            True,
            "unassigned",
            (Level.NOTE, (), "Tokens in the box without a person in the list: 2. They are left out."),
        ),
        (
            BOX,
            who("1a", "9z"),
            False,
            "not_in_box",
            (Level.ASK, ("MADE9",), "Serial numbers in the list that are not in the box: 1. Check whether"),
        ),
        # A spreadsheet took the zeros of one; the capitals of the other are no difference.
        (
            BOX.replace("MADE2", "0012").replace("MADE3", "00aB3"),
            who("1a", "2b", "3c", "9z").replace("MADE2", "12").replace("MADE3", "00Ab3"),
            False,
            "not_in_box",
            (
                Level.ASK,
                ("12", "MADE9"),
                "Serial numbers in the list that are not in the box: 2. 1 would fit with leading zeros, which a "
                "spreadsheet may have removed.",
            ),
        ),
        (
            BOX,
            who("1a", "2a"),
            False,
            "person_twice",
            (Level.ASK, ("MADE2",), "Tokens for people who have, or will get, another token of this shipment: 1."),
        ),
        (
            BOX,
            who("1a") + ",b,,\n",
            False,
            "list_lines",
            (Level.ASK, (), "1 line of the list without a usable serial number; line 3: serial is missing"),
        ),
        (
            BOX,
            ALL.replace("user_id", "not_befor,user_id", 1).replace(",6f", ",2026-12-01,6f"),
            False,
            "column_alike",
            (
                Level.ASK,
                (),
                "Columns that oathbulk does not use, with names similar to columns that it does use: "
                "not_befor (for not_before?). Rename",
            ),
        ),
        (
            BOX,
            ALL.replace("username", "username,Site").replace(",6f", ",Basel,6f"),
            False,
            "own_columns",
            (Level.NOTE, (), "Columns of your own, kept as they are: Site."),
        ),
        (
            BOX,
            None,
            False,
            "nothing_to_load",
            (
                Level.STOP,
                (),
                "It cannot be used like this: not one of its 3 rows can be loaded. Correct it first.",
            ),
        ),
        (
            BOX + BOX.splitlines()[0],
            ALL,
            False,
            "rows_refused",
            (Level.NOTE, ("MADE1",), "Refused: 1 row, because the serial number is on row 1 of this file already"),
        ),
    ],
)
def test_what_the_files_say_is_told(
    tmp_path: Path,
    box: str,
    people: str | None,
    only_assigned: bool,
    name: str,
    expected: tuple[Level, tuple[str, ...], str],
) -> None:
    (tmp_path / "box.csv").write_text(box)
    (tmp_path / "who.csv").write_text(people or "")
    assignment = open_assignment(tmp_path / "who.csv") if people else None
    shipment = open_shipment(tmp_path / "box.csv", assignment=assignment, only_assigned=only_assigned)
    with reading_without_records() as reader:
        verdicts, leftovers = reader.read(shipment)
    findings = {finding.name: finding for finding in check_files(shipment, verdicts, leftovers, totp_max_age=120)}
    level, serials, text = expected
    found = findings[name]
    assert (found.level, found.serials, found.text.startswith(text)) == (level, serials, True), found
    # A list that fits its box raises nothing but the first morning; nothing is told that is left out or of no database.
    assert (list(findings) == [name]) == (name == "presses_to_discard")
    assert not (only_assigned and "rows_refused" in findings)
    assert "in_database" not in findings


def verdicts_of(good: Sequence[Row] = (), refused: Sequence[RowError] = ()) -> Verdicts:
    verdicts = Verdicts()
    verdicts.take(good)
    verdicts.refuse(refused, {})
    return verdicts


NO_LIST = SimpleNamespace(assignment=None, hints=Hints(), format=OTP_PAIRS, columns=[])


def test_a_mend_counts_broken_rows_of_the_box_whose_tokens_its_list_does_not_name(tmp_path: Path) -> None:
    (tmp_path / "box.csv").write_text(BOX + f"MADE9, {HEX[:-1]}, hotp\nMADE8, {HEX[:-1]}, hotp\n")
    (tmp_path / "who.csv").write_text(who("1a", "9z"))
    assignment = open_assignment(tmp_path / "who.csv")
    shipment = open_shipment(tmp_path / "box.csv", assignment=assignment, only_assigned=True, hints=Hints(mends=True))
    with reading_without_records() as reader:
        verdicts, leftovers = reader.read(shipment)
    findings = {each.name: each for each in check_files(shipment, verdicts, leftovers, totp_max_age=120)}
    assert [error.serial_number for error in verdicts.refused.first] == ["MADE9"]
    assert findings["broken_rows"].text == "Left out, because the list does not name them: 1 broken row of the box."


def test_refused_rows_are_told_with_their_reason_and_how_many_have_it() -> None:
    reasons = ["it has no person"] * 2 + ["it is bad"]
    rows = [RowError(number, reason, None, RowFault.PERSON_UNFIT) for number, reason in enumerate(reasons)]
    for number, told in enumerate(("1 row", "2 rows", "3 rows, 2 of them"), 1):
        findings = check_files(NO_LIST, verdicts_of(refused=rows[:number]), Leftovers(), totp_max_age=60.0)  # type: ignore[arg-type]
        assert f"Refused: {told}{'' if number == 3 else ','} because it has no person" == findings[0].text


def test_a_pair_that_aged_is_asked_about() -> None:
    pair = OtpPair(Otp("308714"), Otp("367299"))
    rows = [
        Row(
            row_number=age, serial_number=f"MADE{age}", otps=pair, otp_type="totp", generated_at=NOW - timedelta(0, age)
        )
        for age in (119, 121)
    ]
    (found,) = check_files(NO_LIST, verdicts_of(rows), Leftovers(), totp_max_age=120, now=NOW)  # type: ignore[arg-type]
    assert (found.name, found.serials) == ("stale_otp", ("MADE121",))


@pytest.mark.parametrize(
    ("header", "cells", "asked"),
    [
        ("otp_type,generated_at", ",2026-03-01T11:59:30Z", ("MADE1",)),
        ("generated_at", "2026-03-01T11:59:30Z", ("MADE1",)),
        ("otp_type,generated_at", "hotp,2026-03-01T11:59:30Z", ()),
        ("otp_type,generated_at", ",", ()),
    ],
)
def test_a_pair_with_a_time_and_without_a_type_is_asked_about(
    tmp_path: Path, header: str, cells: str, asked: tuple[str, ...]
) -> None:
    file = tmp_path / "pairs.csv"
    file.write_text(f"serial,otp1,otp2,user_id,device_id,{header}\nMADE1,308714,367299,{USER}1,{DEVICE}1,{cells}\n")
    shipment = open_shipment(file)
    with reading_without_records() as reader:
        verdicts, leftovers = reader.read(shipment)
    found = check_files(shipment, verdicts, leftovers, totp_max_age=120, now=NOW)
    assert [(each.name, each.level, each.serials) for each in found] == [("otp_type_missing", Level.ASK, asked)] * bool(
        asked
    )
    assert [row.otp_type for row in verdicts.list_good()] == ["hotp"]


def test_a_device_that_is_gone_on_its_date_is_asked_about() -> None:
    rows = [
        Row(
            row_number=hours,
            serial_number=f"MADE{hours}",
            otps=None,
            device_id=device,
            not_before=NOW + timedelta(hours=hours),
        )
        for hours, device in ((23, DEVICE), (25, DEVICE), (26, None))
    ]
    (found,) = check_files(NO_LIST, verdicts_of(rows), Leftovers(), totp_max_age=120, now=NOW)  # type: ignore[arg-type]
    assert (found.name, found.level, found.serials) == ("devices_expire", Level.ASK, ("MADE25",))


# What stays of a row.


def check_large(folder: Path, rows: int) -> int:
    """Make a whole preflight of so many rows that are all doubted. Returns the peak of the memory, in bytes."""
    header = "serial,otp1,otp2,username,otp_type,generated_at,Site"
    lines = (f"MADE{n:06},308714,367299,user{n},totp,2026-03-01T11:59:30Z,site {n}" for n in range(rows))
    (folder / "pairs.csv").write_text("\n".join([header, *lines, ""]))

    def find(_: UserAttribute, names: Sequence[str]) -> list[User]:
        return [User(id=f"id-{name}", username=name) for name in names]

    tracemalloc.start()
    try:
        shipment = open_shipment(folder / "pairs.csv", switches=Switches(may_pair=True))
        with reading_without_records() as reader:
            verdicts, leftovers = reader.read(shipment)
        findings = check_files(shipment, verdicts, leftovers, totp_max_age=120)
        findings += check_persons(verdicts, find, 1)
        findings += check_inventory(verdicts, [])
        findings += check_devices(verdicts, lambda _: (), max_devices=1)
        assert [each.tokens for each in findings if each.name == "stale_otp"] == [rows]
        assert sum(line[4] == "stale_otp" for line in verdicts.lines({})) == rows
        assert expect_work(Report(verdicts, findings, rate=1.0), shipment.switches, None, {"stale_otp"}).tokens == rows
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_does_not_grow_with_the_file_and_no_file_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("SQLITE_TMPDIR", str(temporary))
    check_large(tmp_path, 10)
    assert check_large(tmp_path, 6_000) < 1.2 * check_large(tmp_path, 2_000)
    assert [*temporary.iterdir()] == []


def test_nothing_secret_and_no_column_of_the_files_own_is_kept_of_a_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    statements: list[str] = []

    def open_watched(tables: str) -> sqlite3.Connection:
        scratch = open_scratch(tables)
        scratch.set_trace_callback(statements.append)
        return scratch

    for module in (intake.shipment, preflight.findings):
        monkeypatch.setattr(module, "open_scratch", open_watched)
    (tmp_path / "seeds.csv").write_text(BOX)
    (tmp_path / "pairs.csv").write_text(f"serial,otp1,otp2,username,Site\nMADE7,308714,367299,{USER}7,Basel\n")
    (tmp_path / "who.csv").write_text("serial,username,Site\nMADE1,ada,Basel\n")
    for shipment in (
        open_shipment(tmp_path / "seeds.csv", assignment=open_assignment(tmp_path / "who.csv"), switches=BOTH),
        open_shipment(tmp_path / "pairs.csv", switches=BOTH),
    ):
        with reading_without_records() as reader:
            verdicts, leftovers = reader.read(shipment)
        check_files(shipment, verdicts, leftovers, totp_max_age=120)
    written = "".join(statements).lower()
    assert all(name in written for name in ("made1", "made7"))
    assert [
        value for value in ("308714", "367299", HEX[:-1], bytes.fromhex(HEX).hex(), "basel") if value in written
    ] == []


# Pairs of OTPs beside the seed of their token.


def follows(seed: Seed, first: int, second: int, *, reached: int | None = None, at: datetime | None = None) -> bool:
    """Whether the OTPs of these two counters or time steps are taken for a pair."""
    otps = OtpPair(seed.mint(first), seed.mint(second))
    row = Row(row_number=1, serial_number="MADE1", otps=otps, otp_type=seed.otp_type, generated_at=at)
    return is_consecutive(row, seed, reached)


@pytest.mark.parametrize(
    ("first", "second", "reached", "expected"),
    [
        (3, 4, None, True),
        (4, 3, None, False),
        (3, 5, None, False),
        (2, 3, None, False),
        (3 + HOTP_WINDOW - 2, 3 + HOTP_WINDOW - 1, None, True),
        (3 + HOTP_WINDOW - 1, 3 + HOTP_WINDOW, None, False),
        (3 + HOTP_WINDOW - 1, 3 + HOTP_WINDOW, 10, True),
    ],
)
def test_a_hotp_pair_is_looked_for_from_where_the_token_stands(
    first: int, second: int, reached: int | None, expected: bool
) -> None:
    assert follows(HOTP, first, second, reached=reached) is expected


@pytest.mark.parametrize(
    ("ahead", "gap", "expected"),
    [(0, 1, True), (0, 2, False), (TOTP_WINDOW - 1, 1, True), (TOTP_WINDOW, 1, False), (-TOTP_WINDOW, 1, True)],
)
def test_a_totp_pair_is_looked_for_around_the_time_at_which_it_was_made(ahead: int, gap: int, expected: bool) -> None:
    step = int(NOW.timestamp() // 30) + ahead
    assert follows(TOTP, step, step + gap, at=NOW) is expected
    # Without its time it is left alone.
    assert follows(TOTP, step, step + gap)


# What a run would do.

BOTH = Switches(may_import=True, may_pair=True)
# Of ten rows, the inventory lacks three.
INVENTORY: dict[int, Literal["free", "paired"]] = dict.fromkeys((1, 2), "free") | dict.fromkeys(range(3, 8), "paired")


def make_report(
    inventory: Mapping[int, Literal["free", "paired"]] = MappingProxyType({}), *, requests: int = 9
) -> Report:
    """Ten rows of seeds without a device; one more is refused, and one is asked about if there is an inventory."""
    rows = [Row(row_number=n, serial_number=f"MADE{n}", otps=HOTP, user_id="u") for n in range(1, 11)]
    refused = [RowError(12, "it is bad", None, RowFault.OTPS_UNFIT)]
    report = Report(verdicts_of(rows, refused), requests=requests, rate=20.0)
    for number, state in inventory.items():
        report.verdicts.note_in_inventory(f"MADE{number}", state)
        report.verdicts.doubt("MADE10", "user_not_found", "")
    return report


@pytest.mark.parametrize(
    ("report", "switches", "expected"),
    [
        # What the inventory lacks, but for the row that is asked about.
        (make_report(INVENTORY), BOTH, (9, 2, 4, True)),
        # Without the inventory the numbers are limits.
        (make_report(requests=0), BOTH, (10, 10, 10, False)),
        # Nothing is made that is not permitted.
        (make_report(requests=0), Switches(), (10, 0, 0, False)),
    ],
)
def test_what_is_made_is_counted(report: Report, switches: Switches, expected: tuple[object, ...]) -> None:
    work = expect_work(report, switches, None)
    assert (work.tokens, work.imports, work.devices, work.is_exact) == expected
    report.unknown.append("the inventory: refused")
    assert not expect_work(report, switches, None).is_exact


def test_requests_are_those_of_the_tokens_that_would_be_activated() -> None:
    report = make_report(requests=0)
    assert (expect_work(report, BOTH, None).requests, expect_work(report, BOTH, None).seconds) == (22, 1.1)
    # The license has less: it takes longer, and no more requests.
    report.keep_to_license(2.0)
    assert (expect_work(report, BOTH, None).requests, expect_work(report, BOTH, None).seconds) == (22, 11.0)
    for number in range(1, 6):
        report.verdicts.doubt(f"MADE{number}", "devices_old", "")
    asked, accepted = expect_work(report, BOTH, None), expect_work(report, BOTH, None, {"devices_old"})
    assert [(work.tokens, work.devices, work.requests) for work in (asked, accepted)] == [(5, 5, 11), (10, 10, 22)]


@pytest.mark.parametrize(("seconds", "days"), [(1.0, 1), (3600.0, 1), (3601.0, 2)])
def test_hours_tell_on_how_many_days_it_works(seconds: float, days: int) -> None:
    report = make_report()
    report.rate = 22 / seconds
    hours = (DailyHours(time(22), time(23), "UTC"), None)
    assert [expect_work(report, BOTH, each).days for each in hours] == [days, None]


def test_what_is_asked_blocks_until_it_is_accepted_and_what_stops_always() -> None:
    findings = [Finding("a", Level.STOP, ""), Finding("b", Level.ASK, ""), Finding("c", Level.NOTE, "")]
    report = Report(Verdicts(), findings)
    blocking = [[finding.name for finding in report.blocking(frozenset(accepted))] for accepted in ("", "ab")]
    assert blocking == [["a", "b"], ["a"]]
    # A person who accepts what nobody asks about has accepted nothing.
    assert report.choose_accepted(frozenset({"a", "b", "c", "d"})) == ["b"]
