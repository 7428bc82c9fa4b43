"""Celery as its tutorial does it: a task a row from a group, autoretry with backoff, and `rate_limit`.

    celery -A peers.celery_tutorial worker --pool threads --concurrency 8
    python -m peers.celery_tutorial shipment.csv

Gives up promises 1, 3 and 4. OTPs travel in the messages (1). A retry begins the row again, with an OTP 1 that was
answered already, and whatever became of a call that timed out (3). Redis holds the only list of what is left to do, and
a killed worker loses what it had in hand (4). `rate_limit` counts tasks of one worker: not requests, not the fleet's.

Under `rate_limit="100/s"` Celery 5.7 with kombu 5.7 fell to about one task a second after a second or two, in the
threads pool and in prefork, in seven of eight runs; under 500/s, in one run, it did not. So RATE_LIMIT may be left out.
"""

import os
import sys
from typing import Any

import httpx
from celery import Celery, Task, group
from peers.job import ACTIVE, EXTRA_OTP_REQUIRED, Refused, Row, TryAgain, keep, post_once, read_shipment, thread_client

app = Celery("tutorial", broker=os.environ["REDIS_URL"])
app.conf.update(task_ignore_result=True)


class Kept(Task):
    """A task whose row has a result in the end, when all retries have failed too."""

    def on_failure(self, exc: Exception, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        keep(args[0]["serial"], "FAILED", str(exc))


@app.task(
    base=Kept,
    autoretry_for=(TryAgain, httpx.TransportError),
    retry_backoff=True,
    retry_jitter=True,
    max_retries=10,
    rate_limit=os.environ.get("RATE_LIMIT"),
)
def activate(row: Row) -> None:
    client = thread_client()
    try:
        if post_once(client, row, row["otp1"]) == EXTRA_OTP_REQUIRED:
            post_once(client, row, row["otp2"], resync=True)
    except Refused as error:
        keep(row["serial"], "FAILED", str(error))
    else:
        keep(row["serial"], ACTIVE)


if __name__ == "__main__":
    from peers.celery_tutorial import activate as task

    group(task.s(row) for row in read_shipment(sys.argv[1])).apply_async()
