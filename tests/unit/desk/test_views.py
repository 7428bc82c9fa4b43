"""What an address asks for."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

import pytest

from worker.desk.views import link_to, read_sought
from worker.reports.search import Sought

# What is searched for.


def test_what_is_empty_does_not_matter() -> None:
    assert read_sought({}) is None
    assert read_sought({"text": "  ", "batch": "", "status": "", "reason": ""}) is None
    assert read_sought({"text": " ACME ", "batch": ""}) == Sought(text="ACME")


def test_a_status_or_a_reason_that_there_is_none_of_is_left_out() -> None:
    assert read_sought({"status": "broken", "reason": "nothing"}) is None
    found = read_sought({"status": "dead_letter", "reason": "locked", "batch": "july"})
    assert found == Sought(status="dead_letter", reason="locked", batch="july")


# Addresses.


@pytest.mark.parametrize("name", ["a/b", "a?b", "a&name=c", "a#b", "50%", "a b", "a+b", "é", '"', "../x"])
def test_any_name_can_stand_in_an_address(name: str) -> None:
    parts = urlsplit(link_to("/batch", name=name, form=""))
    assert parts.path == "/batch"
    assert parse_qs(parts.query) == {"name": [name]}
