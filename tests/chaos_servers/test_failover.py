"""PostgreSQL's primary is killed while workers commit, and its standby promoted. The URL names both."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest
from support.fleets.real_fleet import BATCH, PATIENT, Fleet
from support.judges.call_log import sent_after_their_answer
from support.servers.postgres import PostgresServer
from support.servers.standby import Standby, name_both
from worker.journal.reader import Reader, find_files

from models.record_states import OtpState
from worker.simulator.shipment import make_shipment

pytestmark = pytest.mark.faults

RECORDS = 120
# Slow enough for a failover in the middle.
STEADY = {"PINGONE_RATE": "40", "PINGONE_RATE_MAX": "40"}
# A busy machine must not make a call too slow, and the leases of killed workers have to run out.
HURRIED = {"OATHBULK_CALL_DEADLINE": "6", "OATHBULK_LEASE_LEFT_FOR_POST": "7", "OATHBULK_LEASE": "14"}


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
    home = directory / "home"
    home.mkdir(mode=0o700)
    settings = STEADY | settings | {"OATHBULK_JOURNAL": str(directory / "journal")}
    return Fleet(directory, home, pair.url, valkey_url, make_shipment(RECORDS, out_of_step=0.3), settings=settings)


def start_workers(fleet: Fleet, *names: str) -> None:
    for name in names:
        fleet.worker(name)
    fleet.beat(f"beat of {names[0]}")


def count_unwritten_answers(fleet: Fleet, journal: Path) -> int:
    """Answers that were handed to a worker, and of which the journal has no line."""
    handed = Counter(call.device_id for call in fleet.simulator.calls() if call.is_post and call.is_answered)
    lines = Reader(find_files([journal]))
    return (handed - Counter(line.device for line in lines if line.state == OtpState.ANSWERED)).total()


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


def test_what_a_standby_lacked_is_found_by_the_journal(pair: Pair, valkey_url: str, tmp_path: Path) -> None:
    with make_fleet(pair, valkey_url, tmp_path, HURRIED) as fleet:
        start_workers(fleet, "one", "two")
        fleet.wait_until_posted(20)
        # What is committed from now on, it never gets.
        pair.standby.kill()
        fleet.wait_until_posted(60)
        pair.primary.kill()
        # Nothing more goes out. What a killed worker had no time to read would rightly go again.
        is_over = lambda: not fleet.simulator.open_calls() and not count_unwritten_answers(fleet, tmp_path / "journal")  # noqa: E731
        fleet.wait_until(is_over, "the journal has each answer")
        for program in fleet.programs:
            program.kill()
        pair.standby.start()
        pair.standby.promote()
        fleet.database.close()

        fleet.oathbulk("pause", "pause", BATCH)
        assert "Nothing was changed" in fleet.oathbulk("look", "reconcile")
        # Not while the leases of the killed workers last.
        tries = count()
        reconcile = lambda: fleet.command(f"reconcile-{next(tries)}", "reconcile", "--yes").wait() == 0  # noqa: E731
        fleet.wait_until(reconcile, "the database knows what the journal shows")
        fleet.oathbulk("resume", "resume", BATCH)
        start_workers(fleet, "three", "four")
        status = fleet.wait_until_finished()
        assert sent_after_their_answer(fleet.simulator.calls()) == []
        assert status.counts["active"] == RECORDS
