"""Whatever PingOne answers, a batch stops before many OTPs are spent: streams of answers, drawn from seeds."""

from __future__ import annotations

import pytest
from hunt import streams
from hunt.strands import Broken
from hunt.streams import WORKERS

from worker.batches.upkeep import Upkeep

pytestmark = pytest.mark.usefixtures("hunted_database")

CHUNK = 25
CHUNKS = 7


def test_a_few_streams_spend_no_more_than_they_may() -> None:
    spent, _ = streams.worst(0, CHUNK // 4)
    assert 0 < spent <= 25 + 2 * WORKERS


@pytest.mark.faults
@pytest.mark.parametrize("chunk", range(1, CHUNKS))
def test_no_stream_spends_more_than_it_may(chunk: int) -> None:
    streams.worst(chunk * CHUNK, CHUNK)


def test_a_batch_that_is_not_judged_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Upkeep, "apply_breaker", lambda *_: None)
    with pytest.raises(Broken, match="spent"):
        streams.worst(0, CHUNK)
