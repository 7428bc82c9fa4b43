"""The commands of docs/situations.md, typed in the order of their section, against a tenant as it describes it."""

from __future__ import annotations

import csv
import uuid
from pathlib import Path

import pytest
from support.pages.reading import find_blocks, find_sections, read_page
from support.pages.typed import Place, Situation, box, type_page

from worker.simulator.oath import hotp
from worker.simulator.shipment import Box, make_shipment

# Of tokens that PingOne gets to know in the course of a page.
SECRET = bytes(range(20))

pytestmark = pytest.mark.faults

# The whole way by hand, as the section of seeds types it.
RUN = "oathbulk run box.pskc --key-file box.key --assign who.csv --import --pair"


def permit_more_devices(place: Place) -> None:
    place.pingone.change(max_allowed_devices=15)


def correct_the_address(place: Place) -> None:
    """The person is there, and the list had another address: only that row is left in the file."""
    assert isinstance(place.made, Box)
    (lost,) = [token for token in place.made.tokens if token.kind == "user_not_found"]
    user = {"user_id": lost.user_id, "username": lost.username, "email": "right@example.com"}
    place.pingone.seed(users=[user])
    path = place.desk.folder / "box-left.csv"
    with path.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["serial"] == lost.serial]
    assert [row["email"] for row in rows] == [lost.email]
    write_csv(path, [rows[0] | {"email": "right@example.com"}])


def write_rows_of_which_two_are_refused(place: Place) -> None:
    """A file of three more tokens of the tenant: one lacks its first OTP, one its serial number."""
    path, rows = place.desk.folder / "july.csv", make_pairs()
    if path.exists():
        return
    for row in rows:
        ids = {name: row[name] for name in ("serial", "user_id", "device_id")}
        place.pingone.seed(devices=[ids | {"secret": SECRET.hex()}])
    write_csv(path, [rows[0], rows[1] | {"otp1": ""}, rows[2] | {"serial": ""}])


def mend_the_refused_rows(place: Place) -> None:
    path = place.desk.folder / "july-left.csv"
    with path.open(newline="") as file:
        refused = list(csv.DictReader(file))
    assert [(row["serial"], row["reason"]) for row in refused] == [("JULY2", "otps_unfit"), ("", "serial_unfit")]
    write_csv(path, [row | mended for row, mended in zip(refused, make_pairs()[1:], strict=True)])


def make_pairs() -> list[dict[str, str]]:
    """Three tokens, each paired with a user of its own."""
    ids = [{"user_id": str(uuid.UUID(int=n)), "device_id": str(uuid.UUID(int=1 << 100 | n))} for n in (1, 2, 3)]
    otps = {"otp1": hotp(SECRET, 0), "otp2": hotp(SECRET, 1)}
    return [{"serial": f"JULY{n}", **otps} | ids[n - 1] for n in (1, 2, 3)]


def write_csv(path: Path, rows: list[dict[str, str]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


SITUATIONS = {
    "i-have-otp-pairs": Situation(make_shipment(10)),
    "i-have-a-file-of-seeds-and-its-key": Situation(box()),
    "they-are-imported-or-paired-already": Situation(box(imported_before=5, paired_before=4, active_before=1)),
    "some-failed-what-now": Situation(
        box(user_not_found=1, too_many_devices=1),
        {f"{RUN} --accept user_not_found --accept too_many_devices": 1},
        {
            "oathbulk replay": permit_more_devices,
            "oathbulk mend box": correct_the_address,
            "oathbulk run july.csv": write_rows_of_which_two_are_refused,
            "oathbulk mend july": mend_the_refused_rows,
        },
    ),
    "i-loaded-the-wrong-file": Situation(box(), {f"{RUN} --canary 4": 4}),
    "monday-morning": Situation(box(), {RUN: 0}),
}


def test_each_section_that_types_something_has_its_situation() -> None:
    sections = find_sections(read_page("docs/situations.md"))
    assert SITUATIONS.keys() == {
        anchor for anchor, text in sections.items() if any(block.typed for block in find_blocks(text))
    }


@pytest.mark.parametrize("section", SITUATIONS)
def test_each_command_of_the_section_does_what_it_says(section: str, tmp_path: Path) -> None:
    type_page(f"docs/situations.md#{section}", SITUATIONS[section], tmp_path)
