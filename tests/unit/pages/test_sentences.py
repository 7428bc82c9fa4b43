"""How a batch came out, and when, in sentences."""

from __future__ import annotations

import pytest
from support.data.overviews import make_timeline, minutes

from worker.pages.sentences import describe_command, describe_outcome, describe_timeline
from worker.reports.audited import Command
from worker.reports.overview import RowCounts


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        (RowCounts(active=3000), "All 3,000 tokens are active."),
        (RowCounts(active=1), "The only token is active."),
        (RowCounts(), "The batch has no tokens."),
        (RowCounts(active=1, dead_letter=1), "1 of 2 tokens is active; the other one was given up."),
        (RowCounts(dead_letter=1), "0 of 1 token is active; it was given up."),
        (RowCounts(open=1), "0 of 1 token is active; it is still to do."),
        (RowCounts(active=5, open=2), "5 of 7 tokens are active; the other 2 are still to do."),
        (
            RowCounts(active=2959, dead_letter=33, refused=5, cancelled=3),
            "2,959 of 3,000 tokens are active; 41 are not: 33 were given up, 5 were refused at loading "
            "and 3 were cancelled.",
        ),
        (
            RowCounts(active=0, dead_letter=1, open=1),
            "0 of 2 tokens are active; 2 are not: 1 was given up and 1 is still to do.",
        ),
    ],
)
def test_the_outcome_is_one_sentence(counts: RowCounts, said: str) -> None:
    assert describe_outcome(counts) == said


def test_the_chart_is_told_in_words() -> None:
    assert describe_timeline(make_timeline((1, 2, 3, 4))) == (
        "The first token became active at 2026-03-01 21:31:00 UTC, half of the 4 were active by 2026-03-01 21:32:00, "
        "and the last became so at 2026-03-01 21:34:00, 3 min 0 s after the first."
    )
    assert describe_timeline(make_timeline((1,))) == "The only active token became so at 2026-03-01 21:31:00 UTC."
    assert describe_timeline(make_timeline(())) == "No token is active."


def test_the_facts_of_a_command_are_written_without_empty_ones() -> None:
    facts = {"records": 3, "reasons": ["locked", "blocked"], "canary": None, "may_import": True, "rows_refused": 0}
    said = describe_command(Command(minutes(0), "alice", "replay", None, facts))
    assert said == "records: 3; reasons: locked, blocked; may import: yes; rows refused: 0"
