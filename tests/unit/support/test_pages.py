"""How what a page shows is compared with what was printed."""

import pytest
from support.pages.typed import is_shown, mask

PRINTED = "Home: /tmp/x/.local/state/oathbulk\njuly  paused  4 of 10\nFinished after 3 s.\n3.5 records/s · 12 OTPs\n"


@pytest.mark.parametrize(
    "shown",
    [
        PRINTED,
        "…\njuly  paused  4 of 10\n…",
        "…\nFinished after 1 min 12 s.\n3.5 records/s · 12 OTPs",
        "Home: ~/.local/state/oathbulk\n…\n0.1 records/s · …",
        "…",
    ],
)
def test_what_differs_each_time_and_what_is_left_out_counts_for_nothing(shown: str) -> None:
    assert is_shown(shown, PRINTED)


@pytest.mark.parametrize(
    "shown",
    [
        "july  paused  4 of 10",
        "…\njuly  paused  5 of 10\n…",
        "…\nFinished after 3 s.\njuly  paused  4 of 10\n…",
        "…\njuly  paused\n…",
        PRINTED + "and more",
        "",
    ],
)
def test_another_count_order_or_end_is_noticed(shown: str) -> None:
    assert not is_shown(shown, PRINTED)


def test_counts_and_names_are_no_masks() -> None:
    text = "10 of 12 tokens of july-2 are active; 400 requests, MADE0000001, exit code 3"
    assert mask(text) == text
    assert mask("until 2026-11-28 05:10 UTC, plan 62631e3be7bb") == "until TIME, plan HASH"
    assert mask("at 127.0.0.1:8900, 3.5 records/s for 1 min 2 s") == "at ADDRESS, RATE for SPAN"
