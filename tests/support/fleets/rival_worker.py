"""A worker process for tests: claims and settles the records of one batch, and writes what it got.

Its standard input is JSON, `{"url", "ids", "threads", "seed"}`; its output too, `{"claimed": [ids], "settled": [ids]}`.
"""

import json
import random
import sys
from concurrent.futures import ThreadPoolExecutor

from support.data.batches import ENVIRONMENT_ID
from worker.database.engine import Database
from worker.leases.settlement import CallSummary
from worker.leases.worker import Leases
from worker.rules.steps import Active


def main() -> None:
    order = json.load(sys.stdin)
    database = Database(order["url"], connections=order["threads"])
    json.dump(contend(Leases(database), order["ids"], order["threads"], order["seed"]), sys.stdout)
    database.close()


def contend(leases: Leases, ids: list[int], threads: int, seed: int) -> dict[str, list[int]]:
    """Every thread tries every record, each in an order of its own."""
    claimed: list[int] = []
    settled: list[int] = []

    def work(number: int) -> None:
        for record_id in random.Random(seed + number).sample(ids, len(ids)):
            claim = leases.claim(record_id, ENVIRONMENT_ID)
            if claim is None:
                continue
            claimed.append(record_id)
            if leases.settle(claim, claim.progress.with_otp_answered(1), Active(), CallSummary(1)):
                settled.append(record_id)

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, range(threads)))
    return {"claimed": sorted(claimed), "settled": sorted(settled)}


if __name__ == "__main__":
    main()
