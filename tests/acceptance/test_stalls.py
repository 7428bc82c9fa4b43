"""Whatever keeps due work from moving, `status` names it and what mends it, and `status --check` ends with 5."""

from __future__ import annotations

import pytest
from sqlalchemy import update
from support.fleets.real_fleet import BATCH

from models.batch import Batch
from models.process import WorkerProcess
from models.record import Record
from worker.fleet import Processes, Sickness
from worker.reports.stall import STILL_AFTER
from worker.simulator.shipment import make_shipment

STALLED = 5


@pytest.fixture
def fleet(make_fleet, postgres_url, valkey_url):
    """Nobody works yet."""
    return make_fleet(postgres_url, valkey_url, make_shipment(20, hopeless={}))


def let_time_pass(fleet) -> None:
    """As if all that is due had waited for long."""
    before = fleet.database.now(-STILL_AFTER - 30)
    with fleet.database.writing() as connection:
        connection.execute(update(Batch).values(running_since=before))
        connection.execute(update(Record).values(scheduled_at=before))


def look(fleet, **variables: str) -> tuple[int, str]:
    """The exit code of `status --check`, and what it says."""
    name = f"status-{len(fleet.programs)}"
    program = fleet._start(name, "worker", "status", BATCH, "--check", **variables)
    code = program.wait()
    return code, " ".join(program.read_log().split())


def test_no_worker(fleet):
    assert look(fleet)[0] == 0
    let_time_pass(fleet)

    code, told = look(fleet)

    assert code == STALLED
    assert "No worker runs." in told
    assert "celery -A worker worker" in told


def test_a_worker_that_has_ended_in_good_order_is_missed_at_once(fleet):
    worker = fleet.worker("worker")
    fleet.wait_until(lambda: fleet.status().fleet.alive, "a worker shows that it lives")
    # Before that, a signal ends it without a word.
    fleet.wait_until(lambda: " ready." in worker.read_log(), "it is ready")
    worker.stop()
    fleet.wait_until(lambda: not fleet.status().fleet.alive, "it is gone", timeout=15)


def test_no_tick(fleet):
    fleet.worker("worker")
    fleet.wait_until(lambda: fleet.status().fleet.alive, "a worker shows that it lives")
    let_time_pass(fleet)

    code, told = look(fleet)

    assert code == STALLED
    assert "No tick ever came." in told
    assert "celery -A worker beat" in told


def test_no_broker(fleet):
    let_time_pass(fleet)

    code, told = look(fleet, OATHBULK_REDIS_URL="redis://:hidden@127.0.0.1:1/0")

    assert code == STALLED
    assert "The broker cannot be used" in told
    assert "oathbulk doctor" in told
    assert "hidden" not in told


def test_no_worker_that_is_well(fleet):
    sick = Processes(fleet.database, "host:1")
    helper = Processes(fleet.database, "host:2")
    sick.show_life()
    helper.show_life()
    assert sick.fall_sick(Sickness("network", "PingOne cannot be reached."))
    helper.leave()
    let_time_pass(fleet)

    code, told = look(fleet)

    assert code == STALLED
    assert "host:1 (network: PingOne cannot be reached.)" in told


def test_a_clock_that_was_set_back(fleet):
    process = Processes(fleet.database, "host:1")
    process.show_life()
    with fleet.database.writing() as connection:
        connection.execute(update(WorkerProcess).values(ticked_at=fleet.database.now(3600)))
    let_time_pass(fleet)

    code, told = look(fleet)

    assert code == STALLED
    assert "clock was set back" in told
    assert "NTP" in told


def test_no_database(fleet):
    code, told = look(fleet, OATHBULK_DATABASE_URL="postgresql+psycopg://nobody:hidden@127.0.0.1:1/none")

    assert code == 3
    assert "the database failed" in told
    assert "OATHBULK_DATABASE_URL" in told
    assert "hidden" not in told


def test_a_batch_that_waits_for_a_person_is_told_by_another_code(fleet):
    fleet.batches.pause(BATCH)
    code, told = look(fleet)
    assert code == 4
    assert f"oathbulk resume {BATCH}" in told


def test_a_resume_that_nobody_carries_out_says_so(fleet):
    fleet.batches.pause(BATCH)
    told = " ".join(fleet.oathbulk("resume", "resume", BATCH).split())
    assert told.startswith(f"{BATCH} may run, but nothing works on it. No worker runs.")
    assert "celery -A worker worker" in told
