"""A backup of the database is put back in the middle of a batch; `oathbulk reconcile` tells it what went out since."""

from __future__ import annotations

import json
import shutil
import stat

import pytest
from support.judges.call_log import sent_after_their_answer
from support.processes.command_desk import CommandDesk
from support.processes.waiting import wait_until
from support.servers.simulator import Simulator

from worker.simulator.shipment import make_shipment

CANARY, ROWS = 10, 40
HOPELESS = {"wrong_otp": 3, "wrong_second_otp": 2, "second_otp_missing": 1, "account_not_usable": 1}


def finish_and_restore(desk: CommandDesk) -> dict[str, int]:
    """The batch is finished, and the database is then what it was after the canary. How the batch had ended."""
    assert desk.oathbulk("run", "shipment.csv", "--canary", str(CANARY)).code == 4
    database, backup = desk.home / "oathbulk.db", desk.folder / "backup.db"
    shutil.copyfile(database, backup)
    assert desk.oathbulk("resume", "shipment").code == 0
    finished = desk.oathbulk("run", "shipment.csv", "--json")
    assert finished.code == 1, finished.stderr
    for path in desk.home.glob("oathbulk.db-*"):
        path.unlink()
    shutil.copyfile(backup, database)
    return finished.json


def finish_again(desk: CommandDesk) -> dict[str, int]:
    assert desk.oathbulk("resume", "shipment").code == 0
    finished = desk.oathbulk("run", "shipment.csv", "--json")
    assert finished.code == 1, finished.stderr
    return finished.json


@pytest.fixture
def restored(set_out) -> tuple[CommandDesk, Simulator, dict[str, int]]:
    desk, simulator = set_out(make_shipment(ROWS, hopeless=HOPELESS, out_of_step=0.4))
    return desk, simulator, finish_and_restore(desk)


@pytest.mark.faults
def test_no_answered_otp_goes_again_after_a_reconciliation(restored) -> None:
    desk, simulator, before = restored
    assert sent_after_their_answer(simulator.calls()) == []

    shown = desk.oathbulk("reconcile")
    assert shown.code == 0, shown.stderr
    assert "Nothing was changed. To correct 30 records: the same command with --yes" in shown.stdout
    assert "shipment: of 30 records the database does not know an answer" in shown.stdout
    assert desk.status()["counts"]["pending"] == ROWS - CANARY
    written = desk.oathbulk("reconcile", "--yes")
    assert (written.code, "30 records were corrected." in written.stdout) == (0, True), written.stderr
    again = desk.oathbulk("reconcile", "--yes")
    assert (again.code, "knows all that the journal shows" in again.stdout) == (0, True)

    after = finish_again(desk)
    assert sent_after_their_answer(simulator.calls()) == []
    for told in ("counts", "dead_letters", "otp_posts", "resynced"):
        assert after[told] == before[told], told
    assert after["counts"]["active"] == len(simulator.active())


@pytest.mark.faults
def test_without_one_they_do(restored) -> None:
    """Otherwise the test above would show nothing."""
    desk, simulator, _ = restored
    finish_again(desk)
    assert len(sent_after_their_answer(simulator.calls())) >= 10


@pytest.mark.faults
def test_the_journal_is_private_and_tells_no_otp_and_no_person(set_out) -> None:
    shipment = make_shipment(6, out_of_step=0.5)
    desk, _ = set_out(shipment)
    assert desk.oathbulk("run", "shipment.csv").code == 0
    directory = desk.home / "journal"
    files = list(directory.iterdir())
    modes = {stat.S_IMODE(path.stat().st_mode) for path in files}
    assert (stat.S_IMODE(directory.stat().st_mode), modes) == (0o700, {0o600})
    texts = "".join(path.read_text() for path in files)
    told = {json.loads(line)["device"] for line in texts.splitlines()}
    assert told == {row.device_id for row in shipment.rows}
    for row in shipment.rows:
        for secret in (row.otp1, row.otp2, row.user_id):
            assert secret is None or f'"{secret}"' not in texts


@pytest.mark.faults
def test_a_batch_that_runs_is_paused_first(set_out) -> None:
    desk, simulator = set_out(make_shipment(20), {"PINGONE_RATE": "4", "PINGONE_RATE_MAX": "4"})
    running = desk.start("run", "shipment.csv")
    wait_until(lambda: simulator.posts() > 2 or not running.is_alive, 60, "some are posted")
    running.interrupt()
    assert running.wait().code == 130
    (path,) = (desk.home / "journal").iterdir()
    line = json.loads(path.read_text().splitlines()[-1])
    forged = desk.folder / "forged.jsonl"
    forged.write_text(json.dumps(line | {"row": 21, "device": simulator.shipment.rows[-1].device_id}))
    refused = desk.oathbulk("reconcile", "forged.jsonl", "--yes")
    assert refused.code == 2
    assert "batch 'shipment' runs: `oathbulk pause shipment`, then reconcile again" in refused.stderr
    assert desk.oathbulk("pause", "shipment").code == 0
    assert desk.oathbulk("reconcile", "forged.jsonl", "--yes").code == 0


@pytest.mark.faults
def test_a_batch_that_the_backup_does_not_have_is_named_with_the_cure_and_recognized_once_it_is_loaded(set_out) -> None:
    desk, simulator = set_out(make_shipment(8, hopeless={"wrong_otp": 2}))
    assert desk.oathbulk("run", "shipment.csv").code == 1
    for path in desk.home.glob("oathbulk.db*"):
        path.unlink()
    missing = desk.oathbulk("reconcile", "--json")
    assert missing.code == 1
    assert missing.json["missing"] == [{"batch_number": 1, "records": 8}], missing.json
    told = desk.oathbulk("reconcile")
    assert "Batch number 1 is not in the database; the journal has 8 records of it. Load its file again" in told.stdout
    assert desk.oathbulk("load", "shipment.csv").code == 0
    assert desk.oathbulk("pause", "shipment").code == 0
    assert desk.oathbulk("reconcile", "--yes").code == 0
    finish_again(desk)
    assert sent_after_their_answer(simulator.calls()) == []


@pytest.mark.faults
def test_what_is_no_journal_and_no_time_is_refused(desk) -> None:
    missing = desk.oathbulk("reconcile", "nothing.jsonl")
    assert (missing.code, "nothing.jsonl is no journal" in missing.stderr) == (2, True)
    none_yet = desk.oathbulk("reconcile")
    assert (none_yet.code, "is no journal: name a file" in none_yet.stderr) == (2, True)
    wrong = desk.oathbulk("reconcile", "--since", "yesterday")
    assert (wrong.code, "'yesterday' is no time" in " ".join(wrong.stderr.split())) == (2, True)
    own = {"OATHBULK_DATABASE_URL": f"sqlite:///{desk.folder / 'own.db'}"}
    unset = desk.oathbulk("reconcile", **own)
    assert (unset.code, "OATHBULK_JOURNAL is not set" in unset.stderr) == (2, True)
