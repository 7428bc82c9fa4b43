"""Logs: their form, what they say of the work of their thread, and what they never show. What is set up for a whole
process has one of its own. And the words of a count, and how long work tells how far it is."""

import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from support.processes.scripts import run_on_a_terminal, run_piped

from worker.observability.logs import add_context, begin_work, end_work
from worker.observability.progress import telling
from worker.observability.wording import agree, count_things

EVENTS = """
import logging
import structlog
from worker.observability.logs import begin_work, configure_logs
from worker.vault.otps import Otp

configure_logs("INFO")
log = structlog.get_logger("worker.somewhere")
begin_work(lambda: {"record_id": 7})


def fail(secret):
    local = {"otp": secret}
    raise ValueError("a fault of our own")


log.debug("unheard")
log.info("rescued", records=3, otp=Otp("308714"))
logging.getLogger("celery.somewhere").warning("%s tasks", 7)
logging.getLogger("httpx").info("HTTP Request: POST https://api.pingone.com")
try:
    # In two parts, since a traceback shows the line itself.
    fail("made-up-secret-" + "308" + "714")
except ValueError:
    log.exception("failed")
    logging.getLogger("celery.somewhere").exception("task failed")
"""


def configured(arguments: str) -> str:
    return EVENTS.replace('configure_logs("INFO")', f"configure_logs({arguments})")


def test_where_no_terminal_is_every_event_of_ours_and_of_libraries_is_one_line_of_json_without_a_secret() -> None:
    printed = run_piped(EVENTS)
    rescued, tasks, failed, task_failed = map(json.loads, printed.splitlines())
    assert rescued["timestamp"].endswith("Z")
    assert (rescued["event"], rescued["level"], rescued["records"]) == ("rescued", "info", 3)
    assert rescued["logger"] == "worker.somewhere"
    assert (tasks["event"], tasks["level"], tasks["logger"]) == ("7 tasks", "warning", "celery.somewhere")
    assert {event["record_id"] for event in (rescued, tasks, failed, task_failed)} == {7}
    for event in (failed, task_failed):
        assert event["exception"].startswith("Traceback")
        assert event["exception"].endswith("ValueError: a fault of our own")
    assert "308714" not in printed


def test_no_terminal_shows_a_local_variable_or_an_otp() -> None:
    shown = run_on_a_terminal(EVENTS)
    assert "ValueError: a fault of our own" in shown
    assert shown.count("Traceback (most recent call last)") == 2
    assert all(words in shown for words in ("rescued", "7 tasks"))
    assert not any(words in shown for words in ("308714", '{"', "unheard", "HTTP Request"))


def test_json_can_be_asked_for_on_a_terminal_and_text_elsewhere() -> None:
    on_terminal, piped = run_on_a_terminal(configured('"INFO", "json"')), run_piped(configured('"INFO", "text"'))
    assert json.loads(on_terminal.splitlines()[0])["event"] == "rescued"
    assert "rescued" in piped.splitlines()[0]
    # Colors would only be noise in a file.
    assert not any(words in piped for words in ('{"', "\x1b"))
    assert "308714" not in on_terminal + piped


def test_the_level_holds_for_our_events_and_those_of_libraries() -> None:
    lines = run_piped(configured('"ERROR"')).splitlines()
    assert [json.loads(line)["event"] for line in lines] == ["failed", "task failed"]


@pytest.fixture
def _without_work() -> Iterator[None]:
    yield
    end_work()


def say(**line: Any) -> Any:
    return add_context(None, "info", line)


@pytest.mark.usefixtures("_without_work")
def test_a_line_has_the_work_of_its_thread_as_it_is_when_the_line_is_logged() -> None:
    work: dict[str, Any] = {"record_id": 7, "correlation_id": None}
    thread = threading.Thread(target=begin_work, args=(lambda: {"record_id": 8},))
    thread.start()
    thread.join()
    assert say(event="before") == {"event": "before"}
    begin_work(lambda: work)
    work["correlation_id"] = "later"
    assert say(event="e") == {"event": "e", "record_id": 7, "correlation_id": "later"}
    # What the line says itself stands.
    assert say(record_id=8) == {"record_id": 8, "correlation_id": "later"}
    end_work()
    assert say(event="after") == {"event": "after"}


@pytest.mark.parametrize(("items", "told"), [(0, []), (3, []), (4, [3]), (10, [3, 6, 9])])
def test_it_is_told_after_so_many_items_if_more_are_to_come(items: int, told: list[int]) -> None:
    heard = list[tuple[str, int, int | None]]()
    assert list(telling(range(items), lambda *step: heard.append(step), "Reading rows", 10, each=3)) == [*range(items)]
    assert heard == [("Reading rows", done, 10) for done in told]


def test_one_thing_is_not_written_as_many() -> None:
    assert [count_things(number, "token") for number in (0, 1, 2000)] == ["0 tokens", "1 token", "2,000 tokens"]
    assert [agree(number, "person", "people") for number in (0, 1, 2)] == ["people", "person", "people"]
