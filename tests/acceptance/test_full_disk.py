"""`oathbulk run` on a disk that is full: it says so, loses nothing, and goes on when there is room again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from chaos.disk import SmallDisk
from chaos.stack import SETTINGS, SPENT
from support.data.shipments import Records
from support.fleets.real_fleet import plain_env
from support.judges.status_moves import watch_moves
from support.judges.verdict import deliver_verdict
from support.processes.command_desk import OATHBULK, CommandDesk
from support.processes.waiting import wait_until
from support.servers.simulator import Simulator

from worker.config.settings import Settings
from worker.database.engine import Database
from worker.simulator.shipment import MadeShipment, make_shipment

PATIENCE = 60
CURE = "nothing is lost, and the same command goes on where it was"
# Bytes that a file may have: the log of changes of the database comes to it soon.
FILE_LIMIT = 400 * 1024


@contextmanager
def set_out(folder: Path, home: Path, shipment: MadeShipment) -> Iterator[tuple[CommandDesk, Simulator, Database]]:
    """The shipment is loaded into the home."""
    outside = folder / "outside"
    outside.mkdir()
    with (
        Simulator(outside, shipment, plain_env(), latency=0.02) as simulator,
        CommandDesk(folder / "desk", SETTINGS, simulator.variables, {"OATHBULK_HOME": str(home)}) as desk,
    ):
        desk.home = home
        shipment.write_pairs(desk.folder / "shipment.csv")
        assert desk.oathbulk("load", "shipment.csv").code == 0
        with closing(Database(f"sqlite:///{home / 'oathbulk.db'}")) as database:
            watch_moves(database)
            yield desk, simulator, database


def judge(simulator: Simulator, database: Database, shipment: MadeShipment) -> None:
    tenant = simulator.tenant()
    simulator.stop()
    deliver_verdict(database, simulator, tenant, budget=Settings().otp_post_budget)
    assert Records(database, shipment).wrong_endings(excused=SPENT) == []


if SmallDisk.can_be_had():

    @pytest.mark.faults
    def test_a_disk_that_is_full_ends_a_run_which_goes_on_when_there_is_room(tmp_path: Path) -> None:
        shipment = make_shipment(200)
        with (
            SmallDisk(megabytes=16) as disk,
            set_out(tmp_path, disk.directory / "home", shipment) as (desk, simulator, database),
        ):
            run = desk.start("run", "shipment.csv")
            wait_until(lambda: simulator.posts() >= 40, PATIENCE, "a part of the tokens went")
            disk.fill()
            result = run.wait()
            assert result.code == 3
            assert f"the disk of {desk.home} is full" in result.stderr or "the disk of the database" in result.stderr
            assert CURE in result.stderr
            assert "Traceback" not in result.stderr
            assert not desk.processes()
            # Still full: whoever is in a hurry is told the same.
            again = desk.oathbulk("run", "shipment.csv")
            assert (again.code, CURE in again.stderr) == (3, True), again.stderr

            disk.free()
            assert desk.oathbulk("run", "shipment.csv").code == 0
            judge(simulator, database, shipment)


@pytest.mark.faults
def test_files_that_may_not_grow_end_a_run_which_goes_on_when_they_may(tmp_path: Path) -> None:
    """As a quota has it; and any user can set this one."""
    shipment, home = make_shipment(200), tmp_path / "home"
    with set_out(tmp_path, home, shipment) as (desk, simulator, database):
        limited = ("prlimit", f"--fsize={FILE_LIMIT}", *OATHBULK)
        result = desk.start_program(*limited, "run", "shipment.csv").wait()
        assert result.code == 3
        assert CURE in result.stderr
        assert "Traceback" not in result.stderr
        assert not desk.processes()
        assert simulator.posts() > 0

        assert desk.oathbulk("run", "shipment.csv").code == 0
        judge(simulator, database, shipment)
