"""Chaos, in short: each disturbance once, in a random order that its seed repeats. `python -m chaos` goes on.

On PostgreSQL two workers and beat share the work, on a single machine they are of one run; among the disturbances are a
worker that is killed and a queue that is wiped. And a run on a disk that is full: it says so, loses nothing, and goes
on when there is room again."""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest
from chaos.disturbances import DISTURBANCES, STACKS, disturb, make_stack
from chaos.stacks import SETTINGS, SPENT
from support.data.shipments import Records
from support.fleets.real_fleet import plain_env
from support.judges.status_moves import watch_moves
from support.judges.verdict import deliver_verdict
from support.processes.command_desk import OATHBULK, CommandDesk
from support.processes.waiting import wait_until
from support.servers.simulator import Simulator

from worker.config.settings import Settings
from worker.database.engine import Database
from worker.simulator.shipment import make_shipment

pytestmark = pytest.mark.faults

SEED = 1
CURE = "then run the same command again to continue; nothing is lost"
# Bytes that a file may have, as a quota has it: the log of changes of the database comes to it soon.
FILE_LIMIT = 400 * 1024


# A token of a box takes two requests and more.
@pytest.mark.parametrize(("is_box", "records"), [(False, 480), (True, 230)], ids=["pairs", "box"])
@pytest.mark.parametrize("kind", STACKS)
def test_whatever_is_done_to_it_the_batch_finishes_by_itself_and_keeps_the_promises(kind, is_box, records, tmp_path):
    told = []
    with make_stack(kind, tmp_path, records=records, rate=12, is_box=is_box) as stack:
        stack.begin()
        happened = disturb(stack, SEED, told.append, once=True)
        assert set(happened) == {name for name, disturbance in DISTURBANCES.items() if disturbance.fits(stack)}, told
        status = stack.wait_until_finished()
        stack.judge()
    assert status.counts["active"] > 0.83 * records
    # The simulator's own faults were among it.
    assert stack.counts["faults"]


@contextmanager
def small_disk() -> Iterator[Path]:
    """A file system of its own, of 16 MB in memory. Only root may mount one."""
    directory = tempfile.mkdtemp(prefix="oathbulk-test-disk-")
    command = ["mount", "-t", "tmpfs", "-o", "size=16m,mode=0700", "tmpfs", directory]
    try:
        subprocess.run(command, check=True, capture_output=True)
        yield Path(directory)
        subprocess.run(["umount", "--lazy", directory], check=True, capture_output=True)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def fill(ballast: Path) -> None:
    """Fill the disk of a file to its last byte."""
    with ballast.open("wb", buffering=0) as file:
        try:
            while file.write(b"x" * 65536):
                pass
        except OSError:
            return


@pytest.mark.parametrize("is_disk", [False, True], ids=["files that may not grow", "a disk"])
def test_where_no_room_is_left_a_run_says_so_and_goes_on_when_there_is_room(tmp_path, is_disk):
    shipment, outside = make_shipment(200), tmp_path / "outside"
    outside.mkdir()
    with ExitStack() as stack:
        if is_disk:
            try:
                disk = stack.enter_context(small_disk())
            except (OSError, subprocess.CalledProcessError):
                pytest.skip("only root may mount a disk")
        home = {"OATHBULK_HOME": str((disk if is_disk else tmp_path) / "home")}
        simulator = stack.enter_context(Simulator(outside, shipment, plain_env(), latency=0.02))
        desk = stack.enter_context(CommandDesk(tmp_path / "desk", SETTINGS, simulator.variables, home))
        desk.home = Path(home["OATHBULK_HOME"])
        shipment.write_pairs(desk.folder / "shipment.csv")
        assert desk.oathbulk("load", "shipment.csv").code == 0
        database = stack.enter_context(closing(Database(f"sqlite:///{desk.home / 'oathbulk.db'}")))
        watch_moves(database)

        limit = () if is_disk else ("prlimit", f"--fsize={FILE_LIMIT}")
        run = desk.start_program(*limit, *OATHBULK, "run", "shipment.csv")
        if is_disk:
            wait_until(lambda: simulator.posts() >= 40, "a part of the tokens went")
            fill(disk / "ballast")
        result = run.wait()
        assert (result.code, CURE in result.stderr, "Traceback" in result.stderr) == (3, True, False), result.stderr
        assert not desk.processes()
        assert simulator.posts() > 0
        if is_disk:
            # Still full: whoever is in a hurry is told the same.
            again = desk.oathbulk("run", "shipment.csv")
            assert (again.code, CURE in again.stderr) == (3, True), again.stderr
            (disk / "ballast").unlink()

        assert desk.oathbulk("run", "shipment.csv").code == 0
        tenant = simulator.tenant()
        simulator.stop()
        deliver_verdict(database, simulator, tenant, budget=Settings().otp_post_budget)
        assert Records(database, shipment).wrong_endings(excused=SPENT) == []
