from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import Any

import pytest
from celery.worker import state

from worker.process import request_sets

_BOUND_BEFORE = state.active_requests.add, state.active_requests.discard


class Request:
    """As far as a set of them is concerned."""


@pytest.fixture(params=["reserved_requests", "active_requests", "scheduled_requests"])
def requests(request: pytest.FixtureRequest) -> Iterator[Any]:
    """One of Celery's sets, mended, and afterwards as it was."""
    sets = [state.reserved_requests, state.active_requests, state.scheduled_requests]
    request_sets.install()
    yield getattr(state, request.param)
    for each in sets:
        each.clear()
        each.__class__ = weakref.WeakSet


def test_what_threads_do_to_a_set_meanwhile_does_not_stop_who_goes_through_it(requests: Any) -> None:
    first, second, third = Request(), Request(), Request()
    requests.update([first, second])

    going_through = iter(requests)
    seen = [next(going_through)]
    requests.add(third)
    requests.discard(first)
    seen += going_through

    assert {*seen} == {first, second}
    assert {*requests} == {second, third}


def test_a_request_that_is_gone_is_in_no_set(requests: Any) -> None:
    kept, gone = Request(), Request()
    requests.update([kept, gone])

    del gone

    assert [*requests] == [kept]
    assert len(requests) == 1


@pytest.mark.usefixtures("requests")
def test_methods_that_celery_has_bound_before_go_on_working() -> None:
    request = Request()
    add, discard = _BOUND_BEFORE

    add(request)
    assert [*state.active_requests] == [request]
    discard(request)
    assert [*state.active_requests] == []
