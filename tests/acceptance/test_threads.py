"""The threads that a worker process comes to, as Celery tells of it."""

from __future__ import annotations

from celery import Celery

from worker.simulator.shipment import make_shipment

# Threads that a worker begins with here, and those that it may come to.
FEW, MOST = 2, 16


def test_a_worker_whose_threads_wait_for_pingone_comes_to_more_of_them_and_fetches_more_ahead(
    make_fleet, sqlite_home, valkey_url
):
    threads = {"OATHBULK_CONCURRENCY": str(FEW), "OATHBULK_CONCURRENCY_MAX": str(MOST), "PINGONE_RATE_MAX": "200"}
    fleet = make_fleet(None, valkey_url, make_shipment(250), latency=0.2, settings=threads)
    told = Celery(broker=valkey_url).control.inspect(timeout=5)

    def read_reserve() -> tuple[int, int]:
        (worker,) = (told.stats() or {"none": {"pool": {"max-concurrency": 0}, "prefetch_count": 0}}).values()
        return worker["pool"]["max-concurrency"], worker["prefetch_count"]

    fleet.worker("worker")
    fleet.wait_until(lambda: read_reserve() == (FEW, FEW), "the worker answers")
    fleet.beat()
    fleet.wait_until(lambda: read_reserve() == (MOST, MOST), "it has grown")
    fleet.wait_until_finished()
    fleet.judge()
