"""A batch where an administrator has set PostgreSQL's limits of time very low."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.fleets.real_fleet import PATIENT, Fleet
from support.servers.postgres import PostgresServer

from worker.simulator.shipment import make_shipment

pytestmark = pytest.mark.faults

LIMITS = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout", "idle_session_timeout")
RECORDS = 60


def test_a_batch_finishes_whatever_these_end(
    postgres_server: PostgresServer, postgres_url: str, valkey_url: str, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    shipment = make_shipment(RECORDS, out_of_step=0.3)
    with Fleet(tmp_path, home, postgres_url, valkey_url, shipment, settings=PATIENT) as fleet:
        # Of sessions that begin from now on: those of workers and commands.
        for limit in LIMITS:
            postgres_server.execute(f"ALTER DATABASE {postgres_url.rpartition('/')[2]} SET {limit} = '150ms'")
        fleet.worker("one")
        fleet.beat()
        fleet.wait_until_finished()
        fleet.judge()
        assert fleet.records.wrong_endings() == []
        with fleet.database.reading() as connection:
            ended = "SELECT sessions_fatal FROM pg_stat_database WHERE datname = current_database()"
            assert connection.exec_driver_sql(ended).scalar_one() > 0
