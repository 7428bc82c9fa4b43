"""The commands of docs/situations/, typed in the order of their page, against a tenant as the page describes it."""

from __future__ import annotations

import csv
import re
import shlex
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from support.fleets.real_fleet import plain_env
from support.processes.command_desk import CommandDesk
from support.servers.simulator import Simulator

from worker.simulator.box import Box, make_box
from worker.simulator.box_tokens import BoxKind
from worker.simulator.shipment import MadeShipment, make_shipment

pytestmark = pytest.mark.faults

PAGES = Path(__file__).parents[2] / "docs" / "situations"
# What a page types to see the way on, and the code that it says the command ends with.
COMMANDS = re.compile(r"^```sh\n(.*?)^```", re.DOTALL | re.MULTILINE)
ENDS_WITH = re.compile(r"#.*\bends with (\d)")
# What a page shows of what its commands print; how long something took differs.
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
SPAN = re.compile(r"\bafter (?:\d+ (?:s|min|h) ?)+")
# The whole way by hand, as the page of seeds types it.
RUN = "oathbulk run box.pskc --key-file box.key --assign who.csv --import --pair"


@dataclass(frozen=True)
class Place:
    """Where the commands of a page are typed: a desk, the tenant, and what is in its files."""

    desk: CommandDesk
    pingone: Simulator
    made: MadeShipment


Step = Callable[[Place], None]


@dataclass(frozen=True)
class Situation:
    """What is the case when a page begins: the tenant and files; commands typed before, with the codes that they end
    with; and what a person does on the way, before the command that begins so."""

    made: MadeShipment
    before: Mapping[str, int] = field(default_factory=dict)
    on_the_way: Mapping[str, Step] = field(default_factory=dict)


def box(tokens: int = 10, **special: int) -> Box:
    """A box of HOTP tokens, since TOTP may have to wait for its next time step."""
    kinds: dict[BoxKind, int] = dict(special)  # type: ignore[arg-type]
    return make_box(tokens, totp=0.0, special=kinds)


def permit_more_devices(place: Place) -> None:
    place.pingone.change(max_allowed_devices=15)


def correct_the_address(place: Place) -> None:
    """The person is there, and the list had another address: only that row is left in the file."""
    assert isinstance(place.made, Box)
    (lost,) = [token for token in place.made.tokens if token.kind == "user_not_found"]
    user = {"user_id": lost.user_id, "username": lost.username, "email": "right@example.com"}
    place.pingone.seed(users=[user])
    path = place.desk.folder / "failed.csv"
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
        place.pingone.seed(devices=[ids | {"otps": [row["otp1"], row["otp2"]]}])
    write_csv(path, [rows[0], rows[1] | {"otp1": ""}, rows[2] | {"serial": ""}])


def mend_the_refused_rows(place: Place) -> None:
    path = place.desk.folder / "july-fixed.csv"
    with path.open(newline="") as file:
        refused = list(csv.DictReader(file))
    assert [(row["serial"], row["reason"]) for row in refused] == [("JULY2", "otps_unfit"), ("", "serial_unfit")]
    write_csv(path, [row | mended for row, mended in zip(refused, make_pairs()[1:], strict=True)])


def make_pairs() -> list[dict[str, str]]:
    """Three tokens, each paired with a user of its own."""
    ids = [{"user_id": str(uuid.UUID(int=n)), "device_id": str(uuid.UUID(int=1 << 100 | n))} for n in (1, 2, 3)]
    return [{"serial": f"JULY{n}", "otp1": f"11111{n}", "otp2": f"22222{n}"} | ids[n - 1] for n in (1, 2, 3)]


def write_csv(path: Path, rows: list[dict[str, str]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


SITUATIONS = {
    "otp-pairs": Situation(make_shipment(10)),
    "seed-file": Situation(box()),
    "imported-already": Situation(box(imported_before=10)),
    "paired-already": Situation(box(paired_before=8, active_before=2)),
    "some-failed": Situation(
        box(user_not_found=1, too_many_devices=1),
        {f"{RUN} --accept user_not_found --accept too_many_devices": 1},
        {
            "oathbulk replay": permit_more_devices,
            "oathbulk run failed.csv": correct_the_address,
            "oathbulk run july.csv": write_rows_of_which_two_are_refused,
            "oathbulk run july-fixed.csv": mend_the_refused_rows,
        },
    ),
    "wrong-file": Situation(box(), {f"{RUN} --canary 4": 4}),
    "monday-morning": Situation(box(), {RUN: 0}),
}


@pytest.fixture
def set_out(tmp_path: Path) -> Iterator[Callable[[MadeShipment], Place]]:
    """Makes the place of a situation, with its files in the folder."""
    with ExitStack() as stack:

        def make(made: MadeShipment) -> Place:
            outside = tmp_path / "outside"
            outside.mkdir()
            pingone = stack.enter_context(Simulator(outside, made, plain_env()))
            desk = stack.enter_context(CommandDesk(tmp_path / "desk", pingone.variables))
            if isinstance(made, Box):
                made.write(desk.folder)
            else:
                made.write_pairs(desk.folder / "pairs.csv")
            return Place(desk, pingone, made)

        yield make


def read_commands(page: str) -> list[tuple[str, int]]:
    """The commands of a page, and the code that each ends with."""
    text = (PAGES / f"{page}.md").read_text(encoding="utf-8")
    lines = [line for block in COMMANDS.findall(text) for line in block.splitlines() if line.strip()]
    assert lines
    assert not [line for line in lines if not line.startswith("oathbulk ")]
    return [(line, int(found[1]) if (found := ENDS_WITH.search(line)) else 0) for line in lines]


def read_printed(page: str) -> list[str]:
    """The lines that a page shows of what its commands print."""
    text = (PAGES / f"{page}.md").read_text(encoding="utf-8")
    return [line for kind, block in BLOCK.findall(text) if not kind for line in block.splitlines()]


def type_command(desk: CommandDesk, line: str, code: int) -> str:
    """Type a command, and return what it prints."""
    result = desk.oathbulk(*shlex.split(line, comments=True)[1:])
    assert result.code == code, f"{line}\n{result.stdout}{result.stderr}"
    return result.stdout


def test_each_page_has_its_situation() -> None:
    assert SITUATIONS.keys() == {path.stem for path in PAGES.glob("*.md")} - {"README"}


@pytest.mark.parametrize("page", SITUATIONS)
def test_each_command_of_the_page_does_what_it_says(page: str, set_out: Callable[[MadeShipment], Place]) -> None:
    situation = SITUATIONS[page]
    place = set_out(situation.made)
    for line, code in situation.before.items():
        type_command(place.desk, line, code)
    printed = ""
    for line, code in read_commands(page):
        for beginning, act in situation.on_the_way.items():
            if line.startswith(beginning):
                act(place)
        printed += type_command(place.desk, line, code)
    for line in read_printed(page):
        assert SPAN.sub("after …", line) in SPAN.sub("after …", printed)
    assert not place.desk.processes()
