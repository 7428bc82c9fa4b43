"""Whatever PingOne answers, a batch stops before many OTPs are spent: streams of answers, drawn from seeds."""

from __future__ import annotations

import pytest
from hunt import streams
from hunt.strands import Broken
from hunt.streams import WORKERS

from worker.batches.upkeep import Upkeep

pytestmark = [pytest.mark.faults, pytest.mark.usefixtures("hunted_database")]

CHUNK = 20
CHUNKS = 2


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_no_stream_spends_more_than_it_may(chunk: int) -> None:
    spent, _ = streams.worst(chunk * CHUNK, CHUNK)
    assert spent <= 25 + 2 * WORKERS


def test_a_batch_that_is_not_judged_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Upkeep, "apply_breaker", lambda *_: None)
    with pytest.raises(Broken, match="spent"):
        streams.worst(0, CHUNK)
