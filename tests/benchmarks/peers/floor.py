"""The floor: what the three parts of one record cost when nothing joins them, each as cheap as Python has it.

    celery -A peers.floor worker --pool threads --concurrency 8 -E
    python -m peers.floor publish 3000          a Celery task that does nothing, with events
    python -m peers.floor http shipment.csv     one bare POST an OTP, with a client a thread
    python -m peers.floor sql 3000              claim, attempt and settle, on records that are loaded

It keeps no promise, for it does no job.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import psycopg
from celery import Celery

CONCURRENCY = int(os.environ.get("PEER_CONCURRENCY", "8"))
T = TypeVar("T")
# Kept, and with them their connections: whoever measures in pieces pays for these once.
_threads, _thread = ThreadPoolExecutor(CONCURRENCY), threading.local()

app = Celery("floor", broker=os.environ["REDIS_URL"])
app.conf.update(
    task_ignore_result=True,
    worker_send_task_events=True,
    task_send_sent_event=True,
    worker_prefetch_multiplier=1,
)

CLAIM = """
UPDATE record SET status = 'activating', lease_id = %s, lease_until = now() + interval '60 s', attempts = attempts + 1,
    otp1_state = 'sent', otp1_posts = 1, otp_sent_at = now()
WHERE id = %s AND status = 'queued' RETURNING user_id, device_id, otps
"""
SETTLE = """
WITH settled AS (
    UPDATE record SET status = 'active', lease_id = NULL, lease_until = NULL, otps = NULL, otp1_state = 'answered',
        requests = requests + 1, finalized_at = now()
    WHERE id = %s AND lease_id = %s RETURNING id, attempts
)
INSERT INTO attempt (record_id, number, outcome, lease_id, worker, requests, ended_at)
SELECT id, attempts, 'active', %s, 'floor', 1, now() FROM settled
"""


@app.task(name="floor.nothing")
def nothing(record_id: int, environment: str) -> None:
    pass


def publish(count: int) -> None:
    with app.producer_pool.acquire(block=True) as producer, producer.batch():
        for record_id in range(count):
            app.tasks["floor.nothing"].apply_async((record_id, "default"), producer=producer)


def http(path: str) -> None:
    from peers.pingone import MEDIA_TYPE, access_token, request, thread_client
    from peers.results import read_shipment

    headers = {"Authorization": f"Bearer {access_token.get()}", "Content-Type": MEDIA_TYPE}

    def post(row: dict[str, str]) -> None:
        url = request(row, "", False)["url"]
        answer = thread_client().post(url, content=json.dumps({"otp": row["otp1"]}), headers=headers)
        if answer.status_code == 400:
            body = json.dumps({"otp": row["otp2"], "oathResync": True})
            answer = thread_client().post(url, content=body, headers=headers)
        answer.raise_for_status()

    share(post, read_shipment(path))


def sql(count: int) -> None:
    url = os.environ["DATABASE_URL"]

    def claim_and_settle(record_id: int) -> None:
        if not hasattr(_thread, "connection"):
            _thread.connection = psycopg.connect(url, autocommit=True)
        lease_id = uuid.uuid4().hex
        assert _thread.connection.execute(CLAIM, (lease_id, record_id)).fetchone()
        assert _thread.connection.execute(SETTLE, (record_id, lease_id, lease_id)).rowcount == 1

    with psycopg.connect(url, autocommit=True) as connection:
        queued = "UPDATE record SET status = 'queued' WHERE id IN (SELECT id FROM record LIMIT %s) RETURNING id"
        ids = [record_id for (record_id,) in connection.execute(queued, (count,))]
    share(claim_and_settle, ids)


def share(work: Callable[[T], None], items: Iterable[T]) -> None:
    """Among as many threads as a worker has, in pieces that cost nothing to hand out."""
    left: Iterator[T] = iter(items)
    lock = threading.Lock()

    def run() -> None:
        while True:
            with lock:
                item = next(left, None)
            if item is None:
                return
            work(item)

    for thread in [_threads.submit(run) for _ in range(CONCURRENCY)]:
        thread.result()


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["publish", count]:
            publish(int(count))
        case ["http", path]:
            http(path)
        case ["sql", count]:
            sql(int(count))
