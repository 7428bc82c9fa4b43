"""The job on arq.

    arq peers.on_arq.WorkerSettings
    python -m peers.on_arq shipment.csv

Gives up promises 1, 3 and 4. OTPs travel in the jobs (1). A call that timed out is made again with the same OTP, and a
job whose worker died begins its row again (3). Redis holds the only list of what is left to do (4).
"""

import asyncio
import os
import sys
from typing import Any, ClassVar

import httpx
from arq import create_pool, func
from arq.connections import RedisSettings
from peers.job import (
    ACTIVE,
    CONCURRENCY,
    Refused,
    TryAgain,
    activate_async,
    async_client,
    async_pool,
    keep_async,
    read_shipment,
)

REDIS = RedisSettings.from_dsn(os.environ["REDIS_URL"])
# Jobs put onto the queue at once.
CHUNK = 200


async def activate(ctx: dict[str, Any], row: dict[str, str]) -> None:
    try:
        await activate_async(ctx["http"], row)
    except (Refused, TryAgain, httpx.TransportError) as error:
        await keep_async(ctx["database"], row["serial"], "FAILED", str(error))
    else:
        await keep_async(ctx["database"], row["serial"], ACTIVE)


async def start(ctx: dict[str, Any]) -> None:
    ctx["http"], ctx["database"] = async_client(), async_pool()
    await ctx["database"].open()


async def stop(ctx: dict[str, Any]) -> None:
    await ctx["http"].aclose()
    await ctx["database"].close()


class WorkerSettings:
    redis_settings = REDIS
    # The result is in PostgreSQL; a job outlives tenacity's patience.
    functions: ClassVar = [func(activate, keep_result=0, timeout=600)]
    on_startup, on_shutdown = start, stop
    max_jobs = CONCURRENCY
    log_results = False
    # After each round of jobs arq sleeps so long: half a second by default, which would be 64 rows a second.
    poll_delay = 0.01
    queue_read_limit = 2 * CONCURRENCY


async def enqueue(path: str) -> None:
    rows = read_shipment(path)
    redis = await create_pool(REDIS)
    for start in range(0, len(rows), CHUNK):
        jobs = [redis.enqueue_job("activate", row) for row in rows[start : start + CHUNK]]
        await asyncio.gather(*jobs)
    await redis.aclose()


if __name__ == "__main__":
    asyncio.run(enqueue(sys.argv[1]))
