"""In which order shipments are listed, and what an address asks for."""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import parse_qs, urlsplit

import pytest
from unit.cli.test_batch_display import batch

from worker.desk.desk import link_to
from worker.desk.views import order_by_shipment, read_sought
from worker.reports.batch_status import BatchStatus
from worker.reports.search import Sought


def statuses(**parents: str | None) -> list[BatchStatus]:
    """Batches in the order in which they were loaded, each with its parent; the latest comes first."""
    loaded = [replace(batch(pending=1), name=name, parent=parent) for name, parent in parents.items()]
    return loaded[::-1]


def order(**parents: str | None) -> list[tuple[str, int]]:
    return [(status.name, depth) for status, depth in order_by_shipment(statuses(**parents))]


def test_the_latest_shipment_is_first() -> None:
    assert order(june=None, july=None) == [("july", 0), ("june", 0)]
    assert order() == []


def test_a_batch_in_which_failures_came_back_stands_below_its_shipment_the_earliest_first() -> None:
    found = order(june=None, june_again="june", july=None, june_third="june", june_fourth="june_again")
    assert found == [("july", 0), ("june", 0), ("june_again", 1), ("june_fourth", 2), ("june_third", 1)]


def test_shipments_may_come_back_again_and_again() -> None:
    chain = {f"b{number}": f"b{number - 1}" if number else None for number in range(200)}
    assert order(**chain) == [(f"b{number}", number) for number in range(200)]


def test_a_batch_whose_parent_is_not_there_stands_by_itself() -> None:
    assert order(again="purged", other=None) == [("other", 0), ("again", 0)]


def test_each_batch_is_listed_once_whatever_the_order_of_loading() -> None:
    parents = {"a": None, "b": "a", "c": None, "d": "b", "e": "gone", "f": "d", "g": "a"}
    listed = [name for name, _ in order(**parents)]
    assert sorted(listed) == sorted(parents)


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
