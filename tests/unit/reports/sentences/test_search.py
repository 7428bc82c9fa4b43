"""What is said where a search has found nothing."""

from __future__ import annotations

import pytest

from worker.reports.search import Sought
from worker.reports.sentences.search import describe_nothing_found

BEGINNING = "No record is like that. What is searched for has to be the beginning of a value."


@pytest.mark.parametrize(
    ("sought", "said"),
    [
        (Sought(text="ACME"), BEGINNING),
        (Sought(user="lea", status="activating"), BEGINNING),
        (Sought(status="activating"), "No record is activating."),
        (Sought(status="dead_letter", batch="july"), "No record of july is a dead letter."),
        (Sought(status="cancelled", reason="locked"), "No record is cancelled and has the reason locked."),
        (Sought(status="refused", batch="july"), "No row of july was refused."),
        (Sought(status="refused", reason="locked"), "No record is refused and has the reason locked."),
        (Sought(reason="locked"), "No record has the reason locked."),
        (Sought(batch="july"), "There is no record of july."),
        (Sought(), "There is no record."),
    ],
)
def test_it_is_said_that_there_is_none_and_how_a_text_is_read_only_where_there_was_one(
    sought: Sought, said: str
) -> None:
    assert describe_nothing_found(sought) == said
