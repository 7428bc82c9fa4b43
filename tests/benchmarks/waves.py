"""What dates cost: a batch of 50,000 records in forty sites, on both databases. How long `status --by site` reads, and
the desk's page by site; and a tick of the dispatcher where no record has a date, where half of them wait for one, and
where a person keeps back all but a few, in turn.

    PYTHONPATH=.:tests python tests/benchmarks/waves.py [--records 50000]
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from sqlalchemy import update
from support.data.batches import make_batch
from support.data.moving_clock import MovingDatabase
from support.fleets.scripted_fleet import ScriptedFleet
from support.servers.postgres import PostgresServer
from support.servers.web_desk import WebDesk

from models.batch import Batch
from models.record import Record
from models.record_states import UNTIL_LET_GO
from worker.database import schema
from worker.desk.app import link_to
from worker.installation.installation import Installation
from worker.leases.worker import Leases
from worker.reports.facts import read_parts

SITES = 40
LOOKS = 5
TICKS = 40
# Of the records, what a person keeps back.
PARTS = (0.0, 0.5, 0.98)


def take_times(look: Callable[[], object], times: int) -> list[float]:
    """Milliseconds."""
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        look()
        taken.append(1000 * (time.perf_counter() - began))
    return taken


def make(url: str, records: int, part: float) -> MovingDatabase:
    """A batch of which this part has a date that does not come; the others have none."""
    database = MovingDatabase(url)
    schema.upgrade(database)
    make_batch(database, [{"extra": {"site": f"Site {n % SITES}"}} for n in range(records)], name="large")
    # The last rows of the file, so that those that go stand as close together as without dates.
    dated = Record.id > records * (1 - part)
    with database.writing() as connection:
        connection.execute(update(Batch).values(columns=["serial", "site"]))
        connection.execute(update(Record).where(dated).values(not_before=UNTIL_LET_GO, scheduled_at=UNTIL_LET_GO))
    with database.engine.connect() as connection:
        # What PostgreSQL does by itself, sooner or later.
        if not database.is_sqlite:
            connection.exec_driver_sql("VACUUM record")
        connection.exec_driver_sql("ANALYZE")
    return database


def measure(kind: str, urls: Sequence[str], records: int) -> None:
    made = [make(url, records, part) for url, part in zip(urls, PARTS, strict=True)]
    looks = take_times(lambda: read_parts(made[0], "large", "site"), LOOKS)
    print(f"| {kind}: `status --by site`, once it has started | {statistics.median(looks):.0f} |", flush=True)
    with TemporaryDirectory() as home:
        desk = WebDesk(Installation({"OATHBULK_HOME": home, "OATHBULK_DATABASE_URL": urls[0]}))
        desk.enter()
        page = take_times(partial(desk.read, link_to("/batch", name="large", by="site")), LOOKS)
    print(f"| {kind}: the desk's page by site | {statistics.median(page):.0f} |", flush=True)
    fleets = [ScriptedFleet(database, Leases(database)) for database in made]
    ticks: list[list[float]] = [[] for _ in PARTS]
    for _ in range(TICKS):
        for fleet, taken in zip(fleets, ticks, strict=True):
            taken += take_times(fleet.tick, 1)
            fleet.batches.hand_back()
    for part, taken in zip(PARTS, ticks, strict=True):
        print(f"| {kind}: a tick, {part:.0%} of the records kept back | {statistics.median(taken):.1f} |", flush=True)
    for database in made:
        database.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--records", type=int, default=50_000)
    records = parser.parse_args().records
    print(f"| {records:,} records in {SITES} sites | ms, median |")
    print("|---|---|")
    with PostgresServer(durable=False) as server, TemporaryDirectory() as folder, ExitStack() as stack:
        measure("PostgreSQL", [stack.enter_context(server.database()) for _ in PARTS], records)
        measure("SQLite", [f"sqlite:///{Path(folder) / f'{part}.db'}" for part in PARTS], records)


if __name__ == "__main__":
    main()
