"""Counts in a sentence."""

from __future__ import annotations

from worker.observability.wording import agree, count_things


def test_one_thing_is_not_written_as_many() -> None:
    assert [count_things(number, "token") for number in (0, 1, 2000)] == ["0 tokens", "1 token", "2,000 tokens"]
    assert [agree(number, "person", "people") for number in (0, 1, 2)] == ["people", "person", "people"]
