"""Where the peers keep each row's result: a table in PostgreSQL. The first result of a row stands."""

import csv
import os
from pathlib import Path

from psycopg_pool import AsyncConnectionPool, ConnectionPool

DATABASE_URL = os.environ.get("DATABASE_URL", "")
TABLE = """
CREATE TABLE IF NOT EXISTS result (
    serial text PRIMARY KEY, status text NOT NULL, detail text, finished_at timestamptz NOT NULL DEFAULT now()
)
"""
KEEP = "INSERT INTO result (serial, status, detail) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING"

MOST = max(32, int(os.environ.get("PEER_CONCURRENCY", "8")))
# Opened by whoever works: whoever only enqueues needs none.
pool = ConnectionPool(DATABASE_URL, min_size=1, max_size=MOST, kwargs={"autocommit": True}, open=False)


def keep(serial: str, status: str, detail: str | None = None) -> None:
    pool.open()
    with pool.connection() as connection:
        connection.execute(KEEP, (serial, status, detail))


async def keep_async(pool: AsyncConnectionPool, serial: str, status: str, detail: str | None = None) -> None:
    async with pool.connection() as connection:
        await connection.execute(KEEP, (serial, status, detail))


def async_pool() -> AsyncConnectionPool:
    return AsyncConnectionPool(DATABASE_URL, min_size=1, max_size=MOST, kwargs={"autocommit": True}, open=False)


def read_shipment(path: str) -> list[dict[str, str]]:
    with Path(path).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
