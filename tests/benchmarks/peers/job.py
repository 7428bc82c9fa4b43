"""What all peers do alike: PingOne as each of them calls it, with one POST an OTP, what its answer means, and when to
try again; and a table in PostgreSQL for each row's result, of which the first stands."""

import csv
import json
import os
import ssl
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
from psycopg_pool import AsyncConnectionPool, ConnectionPool
from tenacity import RetryCallState, retry, retry_if_exception_type, stop_after_attempt, wait_random_exponential

Row = Mapping[str, str]

ENVIRONMENT_ID = os.environ["PINGONE_ENVIRONMENT_ID"]
API_URL = f"{os.environ['PINGONE_API_URL']}/environments/{ENVIRONMENT_ID}"
TOKEN_URL = os.environ["PINGONE_TOKEN_URL"].replace("{env}", ENVIRONMENT_ID)
MEDIA_TYPE = "application/vnd.pingidentity.device.activate+json"
# Read once: a client that makes its own context reads all certificates of the system.
TLS = ssl.create_default_context()
TIMEOUT = 20.0
CONCURRENCY = int(os.environ.get("PEER_CONCURRENCY", "8"))

ACTIVE, EXTRA_OTP_REQUIRED = "ACTIVE", "EXTRA_OTP_REQUIRED"


class TryAgain(Exception):
    """429 or a failure of the service. `retry_after` is what it asked for, in seconds."""

    def __init__(self, status: int, retry_after: float) -> None:
        super().__init__(f"HTTP {status}")
        self.retry_after = retry_after


class Refused(Exception):
    """An answer that another try will not change."""


class AccessToken:
    """Fetched when first needed and a minute before it expires."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._value = ""
        self._renew_at = 0.0

    def get(self) -> str:
        with self._lock:
            if time.monotonic() >= self._renew_at:
                credentials = (os.environ["PINGONE_CLIENT_ID"], os.environ["PINGONE_CLIENT_SECRET"])
                form = {"grant_type": "client_credentials"}
                answer = httpx.post(TOKEN_URL, data=form, auth=credentials, verify=TLS).raise_for_status().json()
                self._value = answer["access_token"]
                self._renew_at = time.monotonic() + answer["expires_in"] - 60
            return self._value


access_token = AccessToken()
_thread = threading.local()


def thread_client() -> httpx.Client:
    """A client a thread: threads that share one wait for each other."""
    if not hasattr(_thread, "client"):
        _thread.client = httpx.Client(verify=TLS, timeout=TIMEOUT)
    return _thread.client


def request(row: Row, otp: str, resync: bool) -> dict[str, Any]:
    body: dict[str, Any] = {"otp": otp} | ({"oathResync": True} if resync else {})
    return {
        "url": f"{API_URL}/users/{row['user_id']}/devices/{row['device_id']}",
        "content": json.dumps(body),
        "headers": {"Authorization": f"Bearer {access_token.get()}", "Content-Type": MEDIA_TYPE},
    }


def read(response: httpx.Response) -> str:
    """ACTIVE or EXTRA_OTP_REQUIRED. Raises TryAgain and Refused."""
    if response.status_code in (408, 429) or response.status_code >= 500:
        asked = response.headers.get("Retry-After", "")
        raise TryAgain(response.status_code, float(asked) if asked.isdigit() else 0.0)
    answer = response.json()
    if answer.get("status") == ACTIVE:
        return ACTIVE
    codes = [detail.get("code") for detail in answer.get("details", [])]
    if EXTRA_OTP_REQUIRED in codes:
        return EXTRA_OTP_REQUIRED
    raise Refused(", ".join([answer.get("code", f"HTTP {response.status_code}"), *filter(None, codes)]))


_backoff = wait_random_exponential(multiplier=0.5, max=30)


def patience(state: RetryCallState) -> float:
    """Seconds: what the service asked for, and a jitter on top, so that not all come back at once."""
    assert state.outcome is not None
    return getattr(state.outcome.exception(), "retry_after", 0.0) + _backoff(state)


patiently = retry(
    retry=retry_if_exception_type((TryAgain, httpx.TransportError)),
    wait=patience,
    stop=stop_after_attempt(10),
    reraise=True,
)


def post_once(client: httpx.Client, row: Row, otp: str, *, resync: bool = False) -> str:
    return read(client.post(**request(row, otp, resync)))


post = patiently(post_once)


@patiently
async def post_async(client: httpx.AsyncClient, row: Row, otp: str, *, resync: bool = False) -> str:
    return read(await client.post(**request(row, otp, resync)))


def activate(client: httpx.Client, row: Row) -> None:
    """Raises Refused, and TryAgain or httpx.TransportError when patience has ended."""
    if post(client, row, row["otp1"]) == EXTRA_OTP_REQUIRED:
        post(client, row, row["otp2"], resync=True)


async def activate_async(client: httpx.AsyncClient, row: Row) -> None:
    """As `activate`."""
    if await post_async(client, row, row["otp1"]) == EXTRA_OTP_REQUIRED:
        await post_async(client, row, row["otp2"], resync=True)


def async_client() -> httpx.AsyncClient:
    limits = httpx.Limits(max_connections=CONCURRENCY, max_keepalive_connections=CONCURRENCY)
    return httpx.AsyncClient(verify=TLS, timeout=TIMEOUT, limits=limits)


DATABASE_URL = os.environ.get("DATABASE_URL", "")
KEEP = "INSERT INTO result (serial, status, detail) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING"

MOST = max(32, CONCURRENCY)
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
