"""A box goes live in three waves, by a clock that is put back from summer time in between: each begins by itself and
none before its date, although a site is kept back meanwhile and all that runs is killed."""

import csv
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from support.data.shipments import OPTIONS
from support.fleets.real_fleet import plain_env
from support.judges.call_log import ProvisioningCall
from support.processes.command_desk import OATHBULK, CommandDesk
from support.processes.waiting import wait_until
from support.servers.simulator import Simulator
from support.servers.unsteady_clock import find_libfaketime

from worker.simulator.shipment import LIST, SEEDS, make_box

pytestmark = pytest.mark.faults

# In Zürich clocks are put back at 01:00 UTC.
BEGIN = datetime(2026, 10, 25, 0, 59, 50, tzinfo=UTC).timestamp()
# As the list says it, and in seconds after the beginning: before the clocks are put back, and in the hour that comes
# twice.
DATES = {"Oslo": ("", 0), "Porto": ("2026-10-25T02:59:55+02:00", 5), "Riga": ("2026-10-25T02:00:12+01:00", 22)}


def test_each_wave_begins_at_its_date_or_when_it_is_let_go(tmp_path: Path) -> None:
    box = make_box(30, totp=0.0)
    ahead = round(BEGIN - time.time())
    settings = {
        "LD_PRELOAD": str(find_libfaketime()),
        "FAKETIME": f"{ahead:+d}",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "TZ": "Europe/Zurich",
        # No call is held back here, and what a killed worker had in hand comes back after the product's own lease.
        "_OATHBULK_TUNING__call_deadline": "20",
        "_OATHBULK_TUNING__lease_left_for_post": "25",
        "_OATHBULK_TUNING__lease": "60",
    }
    (tmp_path / "outside").mkdir()
    with (
        Simulator(tmp_path / "outside", box, plain_env(), clock_skew=ahead) as pingone,
        CommandDesk(tmp_path / "desk", pingone.variables, settings, command=OATHBULK) as desk,
    ):
        box.write(desk.folder)
        sites = write_dates(desk.folder / LIST)
        assert desk.oathbulk("load", SEEDS, "--batch", "box", *OPTIONS, "--offline").code == 0
        assert desk.oathbulk("pause", "box", "--where", "site=Porto").code == 0

        first = desk.start("run", "box")
        wait_until(lambda: count_active(desk)["Oslo"] == 10, "Oslo is live")
        first.kill()
        # One that was starting while the others were killed has to be killed, too.
        wait_until(lambda: desk.kill(*desk.processes()) or not desk.processes(), "nothing of the first run is left")
        second = desk.start("run", "box")
        wait_until(lambda: count_active(desk)["Riga"] == 10, "Riga is live")
        assert count_active(desk) == {"Oslo": 10, "Porto": 0, "Riga": 10}
        let_go_at = time.time() + ahead - BEGIN
        assert desk.oathbulk("resume", "box", "--where", "site=Porto").code == 0
        assert second.wait().code == 0
        assert desk.oathbulk("verify", "box").code == 0
        log = pingone.whole_log()

    began = {site: find_beginnings(log, [each for each in sites if sites[each] == site], ahead) for site in DATES}
    assert {site: len(moments) for site, moments in began.items()} == dict.fromkeys(DATES, 10)
    assert min(began["Porto"]) >= let_go_at
    assert min(began["Riga"]) >= DATES["Riga"][1]


def count_active(desk: CommandDesk) -> dict[str, int]:
    """Active tokens by site."""
    parts = desk.oathbulk("status", "box", "--by", "site", "--json").json["parts"]
    return {part["value"]: part["active"] for part in parts}


def write_dates(path: Path) -> dict[str, str]:
    """Write the dates of the sites into the list; the sites by serial number."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, [*rows[0], "not_before"])
        writer.writeheader()
        writer.writerows(row | {"not_before": DATES[row["site"]][0]} for row in rows)
    return {row["serial"]: row["site"] for row in rows}


def find_beginnings(log: list[ProvisioningCall], serials: list[str], ahead: int) -> list[float]:
    """When PingOne was asked first to make a device of each token, in seconds after the beginning."""
    pairings = [call for call in log if call.operation == "pair"]
    times = ([call.time + ahead - BEGIN for call in pairings if call.serial_number == serial] for serial in serials)
    return [min(each) for each in times if each]
