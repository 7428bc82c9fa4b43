"""The job on procrastinate, whose queue is a table in PostgreSQL.

    procrastinate --app peers.on_procrastinate.app schema --apply
    procrastinate --app peers.on_procrastinate.app worker --concurrency 8
    python -m peers.on_procrastinate shipment.csv

Gives up promises 1, 3 and 4. OTPs stand unencrypted in the jobs (1). A call that timed out is made again with the same
OTP, and a job whose worker died begins its row again (3). It comes nearest to promise 4, since nothing gets lost with a
broker; but a device that was activated by a worker that died is kept as failed.
"""

from __future__ import annotations

import asyncio
import sys

import httpx
from procrastinate import App, PsycopgConnector
from procrastinate.job_context import JobContext

from peers import results
from peers.pingone import ACTIVE, Refused, TryAgain, activate_async, async_client

app = App(
    connector=PsycopgConnector(conninfo=results.DATABASE_URL, min_size=1, max_size=32),
    import_paths=["peers.on_procrastinate"],
)
http = async_client()
database = results.async_pool()


@app.task(name="activate")
async def activate(row: dict[str, str]) -> None:
    await database.open()
    try:
        await activate_async(http, row)
    except (Refused, TryAgain, httpx.TransportError) as error:
        await results.keep_async(database, row["serial"], "FAILED", str(error))
    else:
        await results.keep_async(database, row["serial"], ACTIVE)


@app.periodic(cron="*/1 * * * *")
@app.task(name="rescue", queueing_lock="rescue", pass_context=True)
async def rescue(context: JobContext, timestamp: int) -> None:
    """Jobs of workers that died go back, as procrastinate's pages advise."""
    for job in await app.job_manager.get_stalled_jobs():
        await app.job_manager.retry_job(job)


async def enqueue(path: str) -> None:
    async with app.open_async():
        jobs = [{"row": row} for row in results.read_shipment(path)]
        if jobs:
            await app.configure_task("activate").batch_defer_async(*jobs)


if __name__ == "__main__":
    asyncio.run(enqueue(sys.argv[1]))
