"""What a line of the log says of the work of its thread."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator

import pytest
from support.processes.scripts import run_piped

from worker.observability.logs import add_context, begin_work, end_work

LIBRARY = """
import logging
from worker.observability.logs import begin_work
from worker.observability.logs import configure_logs

configure_logs("INFO")
begin_work(lambda: {"record_id": 7})
logging.getLogger("celery.somewhere").warning("of a library")
"""


@pytest.fixture(autouse=True)
def _without_work() -> Iterator[None]:
    yield
    end_work()


def test_a_line_has_the_work_as_it_is_when_the_line_is_logged() -> None:
    work = {"record_id": 7, "correlation_id": None}
    begin_work(lambda: work)
    work["correlation_id"] = "later"
    assert add_context(None, "info", {"event": "e"}) == {"event": "e", "record_id": 7, "correlation_id": "later"}


def test_what_the_line_says_itself_stands() -> None:
    begin_work(lambda: {"record_id": 7})
    assert add_context(None, "info", {"record_id": 8}) == {"record_id": 8}


def test_after_the_work_a_line_says_nothing_of_it() -> None:
    begin_work(lambda: {"record_id": 7})
    end_work()
    assert add_context(None, "info", {"event": "e"}) == {"event": "e"}


def test_the_work_of_another_thread_is_not_told() -> None:
    thread = threading.Thread(target=begin_work, args=(lambda: {"record_id": 7},))
    thread.start()
    thread.join()
    assert add_context(None, "info", {"event": "e"}) == {"event": "e"}


def test_nothing_is_described_before_a_line_is_logged() -> None:
    described: list[str] = []

    def describe() -> dict[str, str]:
        described.append("it")
        return {"record": "7"}

    begin_work(describe)
    assert described == []
    add_context(None, "info", {"event": "e"})
    assert described == ["it"]


def test_the_lines_of_libraries_have_it_too() -> None:
    (line,) = map(json.loads, run_piped(LIBRARY).splitlines())
    assert (line["event"], line["record_id"]) == ("of a library", 7)
