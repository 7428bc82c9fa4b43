"""Whatever PingOne answers, a batch stops before many OTPs are spent: streams of answers, drawn from seeds."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hunt import stock, streams
from hunt.strands import Broken
from hunt.streams import WORKERS

from worker.tending import Tending

CHUNK = 25
CHUNKS = 7


@pytest.fixture(scope="module", autouse=True)
def _close_database() -> Iterator[None]:
    """The one that all worlds of a process share."""
    yield
    stock.database().close()
    stock.database.cache_clear()
    stock.forget_statements()


def test_a_few_streams_spend_no_more_than_they_may() -> None:
    spent, _ = streams.worst(0, CHUNK // 2)
    assert 0 < spent <= 25 + 2 * WORKERS


@pytest.mark.faults
@pytest.mark.parametrize("chunk", range(1, CHUNKS))
def test_no_stream_spends_more_than_it_may(chunk: int) -> None:
    streams.worst(chunk * CHUNK, CHUNK)


def test_a_batch_that_is_not_judged_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Tending, "judge", lambda *_: None)
    with pytest.raises(Broken, match="spent"):
        streams.worst(0, CHUNK)
