"""A standby: the primary is killed while workers commit, and it is promoted; the URL names both. A URL that leads to a
standby alone is in integration/test_postgresql.py."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest
from support.fleets.real_fleet import PATIENT, Fleet
from support.judges.call_log import sent_after_their_answer
from support.servers.postgres import PostgresServer, Standby, name_both

from worker.simulator.shipment import make_shipment

pytestmark = pytest.mark.faults

RECORDS = 120
# Slow enough for a failover in the middle.
STEADY = {"PINGONE_RATE": "40", "PINGONE_RATE_MAX": "40"}
# A busy machine must not make a call too slow, and the leases of killed workers have to run out.
HURRIED = {
    "_OATHBULK_TUNING__call_deadline": "6",
    "_OATHBULK_TUNING__lease_left_for_post": "7",
    "_OATHBULK_TUNING__lease": "14",
}


@dataclass(frozen=True)
class Pair:
    """A primary, its standby, and the URL that names both."""

    primary: PostgresServer
    standby: Standby
    url: str


@pytest.fixture
def pair(migrate) -> Iterator[Pair]:
    with PostgresServer(durable=False) as primary, Standby(primary) as standby, primary.database() as url:
        standby.wait_until_it_follows()
        migrate(url)
        yield Pair(primary, standby, name_both(primary, standby, url))


def make_fleet(pair: Pair, valkey_url: str, directory: Path, settings: dict[str, str]) -> Fleet:
    shipment = make_shipment(RECORDS, out_of_step=0.3)
    return Fleet(directory, directory / "home", pair.url, valkey_url, shipment, settings=STEADY | settings)


def start_workers(fleet: Fleet, *names: str) -> None:
    for name in names:
        fleet.worker(name)
    fleet.beat(f"beat of {names[0]}")


def test_where_commits_wait_for_the_standby_no_record_is_lost_and_no_otp_wasted(
    pair: Pair, valkey_url: str, tmp_path: Path
) -> None:
    pair.standby.be_waited_for()
    with make_fleet(pair, valkey_url, tmp_path, PATIENT) as fleet:
        start_workers(fleet, "one", "two")
        fleet.wait_until_posted(30)
        pair.primary.kill()
        pair.standby.promote()
        fleet.database.close()
        status = fleet.wait_until_finished()
        assert sent_after_their_answer(fleet.simulator.calls()) == []
        fleet.judge()
        assert fleet.records.wrong_endings() == []
        assert status.counts["active"] == RECORDS


def test_what_a_standby_lacked_is_looked_up_before_anything_goes(pair: Pair, valkey_url: str, tmp_path: Path) -> None:
    with make_fleet(pair, valkey_url, tmp_path, HURRIED) as fleet:
        start_workers(fleet, "one", "two")
        fleet.wait_until_posted(20)
        # What is committed from now on, it never gets.
        pair.standby.kill()
        fleet.wait_until_posted(60)
        pair.primary.kill()
        for program in fleet.programs:
            program.kill()
        fleet.wait_until(lambda: not fleet.simulator.open_calls(), "the calls are over")
        pair.standby.start()
        pair.standby.promote()
        fleet.database.close()
        active, before = fleet.simulator.active(), len(fleet.simulator.calls())

        # Not while the killed workers count as alive.
        tries = count()
        distrust = lambda: fleet.command(f"restored-{next(tries)}", "db", "restored").wait() == 0  # noqa: E731
        fleet.wait_until(distrust, "the database is distrusted")
        start_workers(fleet, "three", "four")
        status = fleet.wait_until_finished()
        calls = fleet.simulator.calls()
        assert active & {call.device_id for call in calls[before:] if call.is_post} == set()
        assert max(Counter((call.device_id, call.otp) for call in calls if call.is_post).values()) <= 2
        assert {device_id for device_id, _ in sent_after_their_answer(calls)} & active == set()
        assert status.counts["active"] == RECORDS == len(fleet.simulator.active())
