"""A database that is far away: threads stop being added where they would wait for its connections alone."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from chaos.links import Network
from sqlalchemy import make_url, text
from structlog.testing import capture_logs

from worker.database.engine import Database
from worker.process.threads import Threads

# Seconds that a message takes each way, that PingOne takes to answer, and between two looks at the threads.
DELAY, ANSWER, LOOK = 0.02, 0.02, 0.25
CONNECTIONS, BEGUN, MOST = 4, 8, 128
STATEMENT = text("SELECT 1")


class Slots:
    """A pace for which nobody waits."""

    slots_taken = 0
    seconds_waited = 0.0


@pytest.fixture
def far_database(postgres_url: str) -> Iterator[Database]:
    url = make_url(postgres_url)
    assert url.port is not None
    with Network() as network:
        link = network.link(url.port)
        link.delay = DELAY
        database = Database(url.set(port=link.port).render_as_string(hide_password=False), connections=CONNECTIONS)
        yield database
        database.close()


def test_no_more_threads_are_added_than_the_connections_serve(far_database: Database) -> None:
    pace, is_over = Slots(), threading.Event()

    def activate() -> None:
        """Claim, call and settle."""
        for _ in range(2):
            with far_database.writing_one() as connection:
                connection.execute(STATEMENT)
            is_over.wait(ANSWER)
        pace.slots_taken += 1

    with ThreadPoolExecutor(BEGUN) as pool, capture_logs() as told:
        calls = [pool.submit(activate) for _ in range(2000)]
        watched = Threads(
            pool, lambda: [pace], lambda _: MOST, lambda: far_database.waiting.seconds, processor=lambda: 0.0
        )
        for _ in range(12):
            is_over.wait(LOOK)
            watched.adjust()
        threads = pool._max_workers
        is_over.set()
        for call in calls:
            call.cancel()
    # Each connection serves two or three threads, of which each calls PingOne for a third of its time.
    assert threads <= 8 * CONNECTIONS
    assert "too_few_connections" in [line["event"] for line in told]
