"""The threads that a worker process comes to, as Celery tells of it."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import redis
from celery import Celery

from worker.simulator.shipment import make_shipment

# Threads that a worker begins with here, and those that it may come to.
FEW, MOST = 2, 16


def test_a_worker_whose_threads_wait_for_pingone_comes_to_more_of_them_and_fetches_more_ahead(
    make_fleet, sqlite_home, valkey_url
):
    threads = {"OATHBULK_CONCURRENCY": str(FEW), "OATHBULK_CONCURRENCY_MAX": str(MOST), "PINGONE_RATE_MAX": "200"}
    fleet = make_fleet(None, valkey_url, make_shipment(600), latency=0.2, settings=threads)

    def read_reserve() -> list[tuple[int, int]]:
        told: dict[str, Any] = {}
        # Ours is cut off with the worker's.
        with suppress(redis.ConnectionError), Celery(broker=valkey_url) as app:
            told = app.control.inspect(timeout=5).stats() or {}
        return [(worker["pool"]["max-concurrency"], worker["prefetch_count"]) for worker in told.values()]

    fleet.worker("worker")
    fleet.wait_until(lambda: read_reserve() == [(FEW, FEW)], "the worker answers")
    fleet.beat()
    fleet.wait_until(lambda: read_reserve() == [(MOST, MOST)], "it has grown")
    with redis.Redis.from_url(valkey_url) as client:
        client.client_kill_filter(_type="normal", skipme=True)
    fleet.wait_until(lambda: read_reserve() == [(MOST, MOST)], "it has connected again, and grown again")
    fleet.wait_until_finished()
    fleet.judge()
