"""The script that people write today: a thread pool, httpx and tenacity; results go into a CSV.

    python -m peers.thread_pool shipment.csv results.csv

Gives up promises 3 and 4. A call that timed out is made again with the same OTP, whatever became of the first (3).
Killed, it forgets which calls were under way, and does not go on by itself (4).
"""

import csv
import sys
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import httpx
from peers.job import ACTIVE, CONCURRENCY, Refused, Row, TryAgain, activate, thread_client


def work(row: Row) -> tuple[str, str, str]:
    try:
        activate(thread_client(), row)
    except (Refused, TryAgain, httpx.TransportError) as error:
        return row["serial"], "FAILED", str(error)
    return row["serial"], ACTIVE, ""


def main(shipment: str, results: str) -> None:
    with (
        Path(shipment).open(newline="", encoding="utf-8") as rows,
        Path(results).open("w", newline="", encoding="utf-8") as file,
        ThreadPoolExecutor(CONCURRENCY) as pool,
    ):
        writer = csv.writer(file)
        writer.writerow(["serial", "status", "detail"])
        for done in as_completed([pool.submit(work, row) for row in csv.DictReader(rows)]):
            writer.writerow(done.result())
            file.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
