"""Whether a record costs more in a large batch: CPU a record, memory, and the time of the dispatcher's queries, in
batches of 10,000, 100,000 and 1,000,000 records on PostgreSQL.

    python tests/benchmarks/scale.py [--sizes 10000,100000,1000000] [--sample N]

Of each batch the first N records are activated, as its canary, and the last N, when all between them are done (made so
by SQL). CPU is that of worker and beat. A tick is measured beside them: the median time of all its queries, with room
for 2,000 records, in a transaction that is rolled back. Memory is resident; Redis' is its peak.
"""

import argparse
import csv
import random
import statistics
import time
import uuid
from collections.abc import Iterator, Sequence

import redis
from contenders import Ours
from rig import Rig, end_in_good_order, follow, grown, resident, told
from sqlalchemy import text

from worker.database.engine import Database
from worker.leases.queue import Queue
from worker.simulator.shipment import make_shipment

TIMEOUT = 600
ROOM, LEASE = 2000, 60.0
LOOKS = 9
# As a run leaves the records that it has activated.
DONE = """
    UPDATE record SET status = 'active', otps = NULL, otp1_state = 'answered', otp1_posts = 1, attempts = 1,
        finalized_at = now() - interval '1 hour'
    WHERE status = 'pending' AND row_number <= :last_row
"""


def rows_of(rig: Rig, size: int) -> Iterator[list[str]]:
    """The shipment's rows, half of them at either end, and rows that are never sent between them."""
    dice = random.Random("between")
    real = [[row.serial, row.otp1, row.otp2 or "", row.user_id, row.device_id] for row in rig.shipment.rows]
    half = len(real) // 2
    yield from real[:half]
    for number in range(size - len(real)):
        ids = [str(uuid.UUID(int=dice.getrandbits(128), version=4)) for _ in range(2)]
        yield [f"BETWEEN{number:08}", "123456", "654321", *ids]
    yield from real[half:]


def measure(size: int, sample: int) -> tuple[list[str], list[str]]:
    with Rig(make_shipment(2 * sample)) as rig:
        rig.simulate()
        with rig.pairs.open("w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["serial", "otp1", "otp2", "user_id", "device_id"])
            writer.writerows(rows_of(rig, size))
        ours = Ours(rig)
        ours.start(workers=1)
        database = Database(ours.database_url)
        try:
            load = ("load", str(rig.pairs), "--batch", "bench", "--offline", "--canary", str(sample))
            first = figures(rig, ours, database, sample, load)
            finish(database, last_row=size - sample + 1)
            return first, figures(rig, ours, database, sample, ("resume", "bench"))
        finally:
            database.close()


def finish(database: Database, last_row: int) -> None:
    with database.writing() as connection:
        connection.execute(text(DONE), {"last_row": last_row})
    with database.engine.connect() as connection:
        # What PostgreSQL does by itself, sooner or later.
        connection.exec_driver_sql("VACUUM ANALYZE record")


def figures(rig: Rig, ours: Ours, database: Database, sample: int, command: Sequence[str]) -> list[str]:
    """Milliseconds a record and a tick, and MiB, while the records go that this command lets go; of those that are
    settled when it ends, nothing is counted."""
    queue, began = Queue(database), time.monotonic()
    rig.run("worker", *command, timeout=TIMEOUT)

    def settled() -> int:
        with database.reading() as connection:
            return queue.count_settled_lately(connection, [1], time.monotonic() - began)

    before, early = rig.cpu(), settled()
    follow(lambda: settled() >= sample, TIMEOUT, f"{sample} records are settled")
    used = {name: 1000 * seconds / (sample - early) for name, seconds in grown(before, rig.cpu()).items()}
    peak = redis.Redis.from_url(rig.redis_url).info("memory")["used_memory_peak"] / 2**20
    memory = [resident(rig.processes[name].pid) for name in ("worker0", "beat")]
    costs = (sum(used[name] for name in ours.names), used["postgres"])
    return [*(f"{cost:.2f}" for cost in costs), *(f"{figure:.1f}" for figure in (tick(database), *memory, peak))]


def tick(database: Database) -> float:
    """Milliseconds for the queries of one tick, the median of some."""
    queue, times = Queue(database), []
    for _ in range(LOOKS):
        with database.engine.connect().execution_options(isolation_level="READ COMMITTED") as connection:
            began = time.perf_counter()
            queue.rescue(connection)
            queue.sweep_cancelled(connection)
            queue.count_window(connection)
            queue.count_settled_lately(connection, [1], 10.0)
            queue.enqueue(connection, 1, ROOM, LEASE)
            times.append(time.perf_counter() - began)
            connection.rollback()
    return 1000 * statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--sizes", default="10000,100000,1000000")
    parser.add_argument("--sample", type=int, default=4000)
    arguments = parser.parse_args()
    end_in_good_order()
    print("| records | part | CPU ms a record | database | a tick, ms | worker, MiB | beat, MiB | Redis, MiB |")
    print("|---|---|---|---|---|---|---|---|")
    for size in map(int, arguments.sizes.split(",")):
        with told(f"{size} records"):
            parts = measure(size, arguments.sample)
        for part, found in zip(("first", "last"), parts, strict=True):
            print(f"| {size:,} | {part} | {' | '.join(found)} |", flush=True)


if __name__ == "__main__":
    main()
