"""The clock of the database or of a worker goes wrong for a while: no OTP is wasted, and it is felt while it lasts and
no longer. Redis' clock is in unit/pace/test_holds.py, beat's in unit/process/test_celery.py. Needs libfaketime (apt-get
install libfaketime)."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from support.fleets.real_fleet import Fleet
from support.servers.unsteady_clock import UnsteadyPostgres, find_libfaketime

from worker.simulator.shipment import make_shipment

pytestmark = pytest.mark.faults

RECORDS, RATE = 600, 30
HOUR = 3600
# Lost answers leave fates open, which is where a clock could do harm.
FAULTS = {"reset_after": 0.03, "reset_before": 0.03, "error_after": 0.02}


@pytest.fixture
def postgres() -> Iterator[UnsteadyPostgres]:
    with UnsteadyPostgres(durable=False) as server:
        yield server


@pytest.fixture
def fleet(
    postgres: UnsteadyPostgres, migrate: Callable[[str], None], valkey_url: str, tmp_path: Path
) -> Iterator[Fleet]:
    shipment = make_shipment(RECORDS, hopeless={})
    settings = {"PINGONE_RATE": str(RATE), "PINGONE_RATE_MAX": str(RATE), "_OATHBULK_TUNING__window": "64"}
    with ExitStack() as stack:
        url = stack.enter_context(postgres.database())
        migrate(url)
        yield stack.enter_context(
            Fleet(
                tmp_path,
                tmp_path / "home",
                url,
                valkey_url,
                shipment,
                settings=settings,
                faults=FAULTS,
                faults_per_device=1,
            )
        )


def settled_in(fleet: Fleet, seconds: float) -> int:
    """Records that become active within so many seconds."""
    before = fleet.status().counts["active"]
    time.sleep(seconds)
    return fleet.status().counts["active"] - before


@pytest.mark.parametrize("steps", [(HOUR, -90), (-HOUR, 90)], ids=str)
def test_no_otp_is_wasted_when_the_databases_clock_is_set_and_set_right(
    postgres: UnsteadyPostgres, fleet: Fleet, steps: tuple[int, int]
) -> None:
    for name in ("one", "two"):
        fleet.worker(name)
    fleet.beat()
    fleet.wait_until_posted(60)
    for step in steps:
        postgres.set_ahead(step)
        time.sleep(3)
        postgres.set_ahead(0)
        fleet.wait_until(lambda: settled_in(fleet, 2) >= RATE, "half of the pace again", timeout=60)
    assert fleet.wait_until_finished().counts["active"] == RECORDS
    fleet.judge()


def test_no_otp_is_wasted_where_one_workers_clock_is_an_hour_off(fleet: Fleet) -> None:
    wrong = {"LD_PRELOAD": str(find_libfaketime()), "FAKETIME": "+1h", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    fleet.worker("right")
    fleet.celery("wrong", "worker", "-n", "wrong@%h", "-l", "INFO", **wrong)
    fleet.beat()
    assert fleet.wait_until_finished().counts["active"] == RECORDS
    fleet.judge()
