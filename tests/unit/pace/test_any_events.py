"""Whatever happens, in whatever order and with whatever clock: the search stays one that Redis can keep and others can
read, and its rate stays between its bounds."""

from __future__ import annotations

from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from worker.pace.search import (
    LOWEST_RATE,
    SPRINT,
    Search,
    fix_rate,
    free_rate,
    learn_from_answers,
    learn_from_refusal,
    set_share,
)
from worker.pace.state import parse_search, write_fields

HIGHEST = 500.0

# Seconds between two events: hardly any, usual ones, hours in which nobody sends, and a clock that is set back.
SECONDS = st.one_of(
    st.floats(0.0, 2.0), st.floats(0.0, 90.0), st.sampled_from([-3600.0, -5.0, 600.0, 3600.0, 90_000.0])
)
ANSWER = st.tuples(st.just("answer"), SECONDS, st.integers(0, 60_000))
# With how long ago its slot was, and for how long the fleet holds.
REFUSAL = st.tuples(st.just("refusal"), SECONDS, st.floats(-1.0, 4000.0), st.floats(0.0, 4000.0), st.booleans())
PERSON = st.tuples(st.sampled_from(["share", "fix", "free"]), st.floats(0.01, 1.0))
EVENTS = st.lists(st.one_of(ANSWER, REFUSAL, REFUSAL, PERSON), max_size=40)


def follow(search: Search, event: tuple[Any, ...], now: float) -> tuple[Search, float]:
    match event:
        case ("answer", seconds, slots):
            now = max(now + seconds, 1.0)
            return learn_from_answers(search, slots, now, now + 0.05, HIGHEST, now + 0.1), now
        case ("refusal", seconds, ago, hold, is_first):
            now = max(now + seconds, 1.0)
            count = 0 if is_first else 5
            return learn_from_refusal(search, search.rate, now - ago, count, now + hold), now
        case ("share", share):
            return set_share(search, share, now), now
        case ("fix", share):
            return fix_rate(search, share * HIGHEST, now), now
        case _:
            return free_rate(search, now), now


@given(st.floats(5.0, HIGHEST), EVENTS)
@example(50.0, [("answer", 1.0, 60), ("refusal", 600.0, 0.0, 1.0, False), *[("refusal", 2.0, 0.0, 1.0, False)] * 6])
@example(100.0, [*[("refusal", 0.5, 0.0, 1.0, False)] * 30])
@example(200.0, [("refusal", 10.0, 2500.0, 1.0, False), ("refusal", 10.0, 2500.0, 1.0, False)] * 3)
@example(200.0, [("refusal", 10.0, 0.0, 1.0, False), ("refusal", -3600.0, -1.0, 1.0, False)] * 3)
def test_the_search_can_be_kept_and_read(rate: float, events: list[tuple[Any, ...]]) -> None:
    search, now = Search(rate, begun_at=1000.0, since=1000.0), 1000.0
    for event in events:
        before = search
        search, now = follow(search, event, now)
        kept = {name: str(value) for name, value in write_fields(search).items()}
        assert parse_search(kept) is not None, (event, before, search)
        if search.is_fixed or search.is_shared or before.is_fixed:
            continue
        assert search.rate > 0.999 * min(LOWEST_RATE, before.rate)
        assert event[0] != "answer" or search.rate <= max(SPRINT * HIGHEST, before.rate)
