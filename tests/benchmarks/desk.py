"""What a page of `oathbulk desk` takes while a batch of 1,000,000 records runs on PostgreSQL, and `oathbulk status`
beside it: the time from a request to its whole answer.

    PYTHONPATH=.:tests python tests/benchmarks/desk.py [--records 1000000]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from tempfile import TemporaryDirectory

from scrape import fill
from support.data.moving_clock import MovingDatabase
from support.servers.postgres import PostgresServer
from support.servers.web_desk import WebDesk

from worker.database import schema
from worker.desk.views import link_to
from worker.installation.installation import Installation
from worker.installation.lookups import read_statuses

LOOKS = 5
# Of the batch that `fill` makes: a token that is active, and one that was given up.
PAGES = {
    "shipments": "/",
    "the batch": link_to("/batch", name="large"),
    "a token": link_to("/token", of="LARGE1001"),
    "a search for a serial number": link_to("/search", text="LARGE1006"),
    "a search for its beginning": link_to("/search", text="LARGE5"),
    "dead letters of a reason": link_to("/search", batch="large", status="dead_letter", reason="locked"),
    "audit": "/audit",
    "the form of a replay": link_to("/batch/replay", name="large"),
}


def measure(look: Callable[[], object]) -> str:
    """Look once, and again: the milliseconds of the first time, and of the others the median and the most."""
    times = []
    for _ in range(LOOKS + 1):
        began = time.perf_counter()
        look()
        times.append(1000 * (time.perf_counter() - began))
    return f"{times[0]:.0f} | {statistics.median(times[1:]):.0f} | {max(times[1:]):.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--records", type=int, default=1_000_000)
    records = parser.parse_args().records
    with PostgresServer(durable=False) as server, server.database() as url, TemporaryDirectory() as home:
        database = MovingDatabase(url)
        schema.upgrade(database)
        fill(database, records)
        database.close()
        installation = Installation({"OATHBULK_HOME": home, "OATHBULK_DATABASE_URL": url})
        desk = WebDesk(installation)
        desk.enter()
        print(f"| {records:,} records | ms, first | median of {LOOKS} | at most |")
        print("|---|---|---|---|")
        for what, path in PAGES.items():
            print(f"| {what} | {measure(lambda path=path: desk.read(path))} |", flush=True)
        print(f"| `status` | {measure(lambda: read_statuses(installation))} |", flush=True)
        installation.database.close()


if __name__ == "__main__":
    main()
