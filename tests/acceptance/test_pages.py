"""What the pages type is typed, in the order of the page or of its section, on a fresh home beside a simulated tenant;
and what they show of the output is compared with what came. `support/pages/typed.py` says how a page marks both. What
docs/systemd holds systemd reads."""

import csv
import json
import shutil
import sqlite3
import uuid
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from support.pages.reading import PAGES, find_blocks, find_sections, read_page
from support.pages.typed import Place, Situation, box, type_page
from support.processes.systemd_units import NAMES, analyze, copy_units

from worker.simulator.oath import hotp
from worker.simulator.shipment import MENDED_BY_FRESH_OTPS, Box, PairRow, make_shipment

# Of tokens that PingOne gets to know in the course of a page.
SECRET = bytes(range(20))
# The whole way by hand, as the section of seeds types it.
RUN = "oathbulk run box.pskc --key-file box.key --assign who.csv --import --pair"
# From 0 (nothing is open) to 10, as systemd 257 counts: 1.2 at present. Network and a user are what remains.
MOST_EXPOSURE = 1.5

# Pages of which some lines cannot be typed here, and why. What they say to `oathbulk` is read by its parser all the
# same (unit/test_pages.py).
ELSEWHERE = {
    "README.md": "begins with a clone and an installation; quick-start.md and situations.md type the same commands",
    "docs/deployment.md": "pip, docker, sudo, workers that run until they are ended; unit/test_pages.py",
    "docs/desk.md": "serves until Ctrl-C; acceptance/test_desk_command.py opens it",
    "docs/monitoring.md": "serves until Ctrl-C; unit/cli/test_metrics.py reads it",
    "docs/operating.md#upgrade": "git, docker, sudo, and two versions; integration/test_schema.py",
}
HUNDRED_DAYS = """
    UPDATE record SET finalized_at = datetime(finalized_at, '-100 days') || '.000000';
    UPDATE batch SET created_at = datetime(created_at, '-101 days') || '.000000';
"""


def read_rows(place: Place, name: str) -> list[dict[str, str]]:
    return list(csv.DictReader((place.desk.folder / name).read_text().splitlines()))


def save_rows(place: Place, name: str, rows: Sequence[Mapping[str, str]]) -> None:
    with (place.desk.folder / name).open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def write_rows(place: Place, name: str, rows: Iterable[PairRow], **columns: str) -> None:
    save_rows(place, name, [asdict(row) | columns for row in rows])


def correct_rows(place: Place, name: str, rows: Sequence[PairRow], *columns: str) -> None:
    """Write these columns of the rows into a file that was exported, in its order."""
    by_serial = {row.serial: asdict(row) for row in rows}
    exported = read_rows(place, name)
    save_rows(place, name, [row | {column: by_serial[row["serial"]][column] for column in columns} for row in exported])


def write_a_file_whose_devices_are_gone(place: Place) -> None:
    """july.csv has the first tokens; the devices of the last, in august.csv, are none that PingOne knows."""
    write_rows(place, "july.csv", place.made.rows[:4])
    write_rows(place, "august.csv", [replace(row, device_id=str(uuid.uuid4())) for row in place.made.rows[4:]])


def write_fresh_otps(place: Place) -> None:
    fresh = [replace(row, otp1=hotp(SECRET, 0), otp2=hotp(SECRET, 1)) for row in place.made.rows]
    (wrong,) = [row for row in fresh if place.made.expected[row.serial].status == "dead_letter"]
    ids = {"serial": wrong.serial, "user_id": wrong.user_id, "device_id": wrong.device_id}
    place.pingone.seed(devices=[ids | {"secret": SECRET.hex()}])
    correct_rows(place, "july-failed.csv", fresh, "otp1", "otp2")


def write_otps_of_the_simulator(place: Place) -> None:
    """Write the OTPs of the file that the simulator wrote into the export."""
    place.made.write_fresh_pairs(place.desk.folder / "shipment-fresh.csv")
    fresh = [PairRow(**row) for row in read_rows(place, "shipment-fresh.csv")]
    correct_rows(place, "shipment-failed.csv", fresh, "otp1", "otp2")


def write_new_device_ids(place: Place) -> None:
    correct_rows(place, "august-all.csv", place.made.rows, "device_id")


def write_files_with_names(place: Place) -> None:
    """Of the tokens in june.csv one cannot become active."""
    is_well = {row: place.made.expected[row.serial].status == "active" for row in place.made.rows}
    well, hopeless = [row for row in is_well if is_well[row]], [row for row in is_well if not is_well[row]]
    write_rows(place, "july.csv", well[:2], username="lea.santos")
    write_rows(place, "june.csv", [*well[2:], *hopeless], username="ada.lovelace")


def let_a_hundred_days_pass(place: Place) -> None:
    with closing(sqlite3.connect(place.home / "oathbulk.db")) as database:
        database.executescript(HUNDRED_DAYS)


def restore_the_backup(place: Place) -> None:
    """The batch is finished, and then the database is what it was after the canary."""
    database, backup = place.home / "oathbulk.db", place.desk.folder / "backup.db"
    if backup.exists():
        return
    shutil.copyfile(database, backup)
    assert place.desk.oathbulk("resume", "july").code == 0
    assert place.desk.oathbulk("run", "july.csv").code == 0
    for path in place.home.glob("oathbulk.db-*"):
        path.unlink()
    shutil.copyfile(backup, database)


def write_a_list_with_dates(place: Place) -> None:
    """Porto goes live in a few days, Riga next week."""
    days = {"Oslo": "", "Porto": in_time(days=3), "Riga": in_time(days=7)}
    save_rows(place, "waves.csv", [row | {"not_before": days[row["site"]]} for row in read_rows(place, "who.csv")])


def bring_porto_forward(place: Place) -> None:
    soon = in_time(seconds=15)
    rows = [row for row in read_rows(place, "waves.csv") if row["site"] == "Porto"]
    save_rows(place, "porto.csv", [row | {"not_before": soon} for row in rows])


def in_time(**passing: float) -> str:
    return (datetime.now(UTC) + timedelta(**passing)).isoformat(timespec="seconds")


def write_who_leaves(place: Place) -> None:
    """And who comes in their place, without a token."""
    first, *_ = read_rows(place, "who.csv")
    new = {"user_id": str(uuid.UUID(int=77)), "username": "new", "email": "new@example.com"}
    place.pingone.seed(users=[new])
    save_rows(place, "leavers.csv", [{"name": "Ada", "email": first["email"]}])
    save_rows(place, "new.csv", [{"serial": first["serial"], "email": new["email"]}])


def permit_more_devices(place: Place) -> None:
    place.pingone.change(max_allowed_devices=15)


def correct_the_address(place: Place) -> None:
    """The person is there, and the list had another address: only that row is left in the file."""
    assert isinstance(place.made, Box)
    (lost,) = [token for token in place.made.tokens if token.kind == "user_not_found"]
    user = {"user_id": lost.user_id, "username": lost.username, "email": "right@example.com"}
    place.pingone.seed(users=[user])
    (row,) = [row for row in read_rows(place, "box-failed.csv") if row["serial"] == lost.serial]
    assert row["email"] == lost.email
    save_rows(place, "box-failed.csv", [row | {"email": "right@example.com"}])


def write_rows_of_which_two_are_refused(place: Place) -> None:
    """A file of three more tokens of the tenant: one lacks its first OTP, one its serial number."""
    rows = make_pairs()
    if (place.desk.folder / "july.csv").exists():
        return
    for row in rows:
        ids = {name: row[name] for name in ("serial", "user_id", "device_id")}
        place.pingone.seed(devices=[ids | {"secret": SECRET.hex()}])
    save_rows(place, "july.csv", [rows[0], rows[1] | {"otp1": ""}, rows[2] | {"serial": ""}])


def mend_the_refused_rows(place: Place) -> None:
    refused = read_rows(place, "july-failed.csv")
    assert [(row["serial"], row["reason"]) for row in refused] == [("JULY2", "otps_unfit"), ("", "serial_unfit")]
    save_rows(place, "july-failed.csv", [row | mended for row, mended in zip(refused, make_pairs()[1:], strict=True)])


def make_pairs() -> list[dict[str, str]]:
    """Three tokens, each paired with a user of its own."""
    ids = [{"user_id": str(uuid.UUID(int=n)), "device_id": str(uuid.UUID(int=1 << 100 | n))} for n in (1, 2, 3)]
    otps = {"otp1": hotp(SECRET, 0), "otp2": hotp(SECRET, 1)}
    return [{"serial": f"JULY{n}", **otps} | ids[n - 1] for n in (1, 2, 3)]


# As `oathbulk simulator --tokens 12 --pairs FILE --troubles 1` makes it.
MENDABLE = make_shipment(12, hopeless=dict.fromkeys(MENDED_BY_FRESH_OTPS, 1))
LOADED = {"oathbulk load july.csv --offline": 0}
QUICK = {
    "docs/commands.md#doctor": Situation(
        make_shipment(2), LOADED, {"oathbulk doctor": lambda place: place.home.chmod(0o755)}, pairs="july.csv"
    ),
    "docs/operating.md#keys": Situation(make_shipment(2), LOADED, pairs="july.csv"),
    "docs/commands.md#check": Situation(
        make_shipment(12),
        on_the_way={"oathbulk load": lambda place: place.pingone.make_older(hours=21)},
        pairs="pallet-7.csv",
        simulated={"account_lock_after": 5},
    ),
    "docs/first-contact.md": Situation(box()),
    "docs/quick-start.md": Situation(
        MENDABLE,
        on_the_way={"oathbulk mend shipment": write_otps_of_the_simulator},
        pairs="shipment.csv",
    ),
}
THOROUGH = {
    "docs/commands.md#mend": Situation(
        make_shipment(6, hopeless={"wrong_otp": 1}, seed=3),
        {"oathbulk run july.csv": 1, "oathbulk load august.csv --offline": 0},
        {
            "oathbulk run july.csv": write_a_file_whose_devices_are_gone,
            "oathbulk mend july": write_fresh_otps,
            "oathbulk mend august": write_new_device_ids,
        },
    ),
    "docs/operating.md#purge": Situation(
        make_shipment(6, hopeless={"locked": 1}),
        {
            "oathbulk run july.csv --accept user_not_found --accept person_twice": 0,
            "oathbulk run june.csv --accept user_not_found --accept person_twice": 1,
        },
        {"oathbulk run july.csv": write_files_with_names, "oathbulk purge --older-than": let_a_hundred_days_pass},
    ),
    "docs/security.md#what-is-kept-about-people": Situation(
        make_shipment(4),
        {"oathbulk run july.csv --accept user_not_found --accept person_twice": 0},
        {"oathbulk run july.csv": write_files_with_names},
    ),
    "docs/operating.md#after-a-restore": Situation(
        make_shipment(6),
        {"oathbulk run july.csv --canary 2": 4},
        {"oathbulk db restored": restore_the_backup},
        pairs="july.csv",
    ),
    "docs/commands.md#undo": Situation(
        box(),
        {"oathbulk run box.pskc --key-file box.key --assign who.csv --import --pair --batch july --canary 4": 4},
    ),
    "docs/situations.md#i-have-otp-pairs": Situation(make_shipment(10)),
    "docs/situations.md#i-have-a-file-of-seeds-and-its-key": Situation(box()),
    "docs/situations.md#they-are-imported-or-paired-already": Situation(
        box(imported_before=5, paired_before=4, active_before=1)
    ),
    "docs/situations.md#a-rollout-in-waves": Situation(
        box(), on_the_way={"oathbulk check": write_a_list_with_dates, "oathbulk mend": bring_porto_forward}
    ),
    "docs/situations.md#somebody-leaves": Situation(
        box(), {RUN: 0}, {"oathbulk undo --all --only leavers.csv": write_who_leaves}
    ),
    "docs/situations.md#some-failed-what-now": Situation(
        box(user_not_found=1, too_many_devices=1),
        {f"{RUN} --accept user_not_found --accept too_many_devices": 1},
        {
            "oathbulk replay": permit_more_devices,
            "oathbulk mend box": correct_the_address,
            "oathbulk run july.csv": write_rows_of_which_two_are_refused,
            "oathbulk mend july": mend_the_refused_rows,
        },
    ),
    "docs/situations.md#i-loaded-the-wrong-file": Situation(box(), {f"{RUN} --canary 4": 4}),
    "docs/situations.md#tokens-given-out-at-a-table": Situation(box()),
    "docs/situations.md#monday-morning": Situation(box(), {RUN: 0}),
}


def list_typing(page: str) -> set[str]:
    """List what is typed at one time: a whole page; or each of its sections, where one of them has a situation of its
    own."""
    text = read_page(page)
    sections = {f"{page}#{anchor}": section for anchor, section in find_sections(text).items() if anchor}
    has_own = sections.keys() & (QUICK | THOROUGH).keys()
    parts = sections if has_own else {page: text}
    return {name for name, part in parts.items() if any(block.typed for block in find_blocks(part))}


def test_every_page_that_types_something_is_typed_or_says_why_not() -> None:
    typing = set[str]().union(*(list_typing(page) for page in PAGES))
    assert typing == QUICK.keys() | THOROUGH.keys() | ELSEWHERE.keys()


@pytest.mark.parametrize("page", QUICK)
def test_each_command_of_a_page_does_what_it_shows(page: str, tmp_path: Path) -> None:
    type_page(page, QUICK[page], tmp_path)


@pytest.mark.faults
@pytest.mark.parametrize("page", THOROUGH)
def test_each_command_of_a_longer_page_does_what_it_shows(page: str, tmp_path: Path) -> None:
    type_page(page, THOROUGH[page], tmp_path)


@pytest.mark.faults
@pytest.mark.parametrize("name", NAMES)
def test_systemd_understands_every_line_of_a_unit_and_finds_hardly_anything_open(name: str, tmp_path: Path) -> None:
    unit = copy_units(tmp_path) / name
    if "@." in name:
        # Of a template the unit that a person starts.
        unit = unit.with_name(name.replace("@.", "@1."))
        unit.symlink_to(name)
    verified = analyze("verify", "--man=no", "--recursive-errors=no", unit)
    ours = [line for line in verified.stderr.splitlines() if str(tmp_path) in line or unit.name in line]
    assert (verified.returncode, ours) == (0, [])
    done = analyze("security", "--offline=true", "--no-pager", f"--threshold={MOST_EXPOSURE * 10:.0f}", unit)
    assert done.returncode == 0, done.stdout
    report = analyze("security", "--offline=true", "--json=short", unit)
    # Without the drop-in for all of them it would be 9.
    open_doors = {line["name"] for line in json.loads(report.stdout) if float(line["exposure"] or 0) > 0.2}
    assert open_doors <= {"PrivateNetwork=", "RestrictAddressFamilies=~AF_(INET|INET6)"}
