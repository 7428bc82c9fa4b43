"""How fast a fleet works whose database or Valkey is far away: a box of tokens from import to ACTIVE, or tokens that
are paired already, with PostgreSQL, one worker and beat.

    python tests/benchmarks/far.py [--database 0.2] [--valkey 0] [--records 1200] [--pairs] [--seconds 340]

`--database` and `--valkey`: seconds that a round trip to each takes. PingOne's answers take 0.1 s. It prints how many
were active after how many seconds, and what `status` says of it.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from chaos.links import Network
from rig import end_in_good_order
from support.fleets.real_fleet import PRODUCTION, Fleet
from support.servers.postgres import PostgresServer
from support.servers.valkey import ValkeyServer

from models.record_states import Status
from worker.database import schema
from worker.database.engine import Database
from worker.reports.outlook import describe_outlook
from worker.simulator.shipment import make_box, make_shipment

EVERY = 10.0


def measure(arguments: argparse.Namespace, directory: Path) -> None:
    shipment: Any = (make_shipment if arguments.pairs else make_box)(
        arguments.records, out_of_step=arguments.out_of_step
    )
    with PostgresServer(durable=False) as postgres, ValkeyServer() as valkey, postgres.database() as url:
        migrated = Database(url)
        schema.upgrade(migrated)
        migrated.close()
        settings = {
            "OATHBULK_DATABASE_CONNECTIONS": str(arguments.connections),
            "PINGONE_RATE": str(arguments.rate),
            "PINGONE_RATE_MAX": str(max(arguments.rate, 60)),
            "OATHBULK_CONCURRENCY": "64",
        }
        home = directory / "home"
        home.mkdir(mode=0o700)
        with (
            Network() as network,
            Fleet(directory, home, url, valkey.url, shipment, settings=PRODUCTION | settings, latency=0.1) as fleet,
        ):
            # As large as the dispatcher makes it, and not as small as tests have it.
            fleet.variables.pop("_OATHBULK_TUNING__window", None)
            # The simulator answers whether it has to be learned.
            ways = {"PINGONE_RESYNC_ON_FIRST_CALL": arguments.resync}
            for name, server, seconds in (
                ("OATHBULK_DATABASE_URL", postgres, arguments.database),
                ("OATHBULK_REDIS_URL", valkey, arguments.valkey),
            ):
                link = network.link(server.port, seconds)
                ways[name] = fleet.variables[name].replace(f":{server.port}/", f":{link.port}/", 1)
            fleet.worker("worker", level="WARNING", **ways)
            fleet.beat(level="WARNING", **ways)
            follow(fleet, arguments.seconds)
            for program in fleet.programs:
                program.kill()


def follow(fleet: Fleet, seconds: float) -> None:
    began = time.monotonic()
    while True:
        time.sleep(EVERY)
        status, passed = fleet.status(), time.monotonic() - began
        active, queued, in_work = (status.counts[each] for each in (Status.ACTIVE, Status.QUEUED, Status.ACTIVATING))
        stand = f"{active:5} active, {queued:3} queued, {in_work:2} in work, {status.pace:4.1f}/s"
        print(f"{passed:4.0f} s: {stand}; {describe_outlook(status)}", flush=True)
        if not status.to_do or passed > seconds:
            return


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--database", type=float, default=0.0)
    parser.add_argument("--valkey", type=float, default=0.0)
    parser.add_argument("--records", type=int, default=1200)
    parser.add_argument("--out-of-step", type=float, default=0.2)
    parser.add_argument("--rate", type=float, default=30)
    parser.add_argument("--connections", type=int, default=4)
    parser.add_argument("--resync", default="auto")
    parser.add_argument("--pairs", action="store_true")
    parser.add_argument("--seconds", type=float, default=340)
    arguments = parser.parse_args()
    end_in_good_order()
    with tempfile.TemporaryDirectory(prefix="oathbulk-far-") as directory:
        measure(arguments, Path(directory))


if __name__ == "__main__":
    main()
