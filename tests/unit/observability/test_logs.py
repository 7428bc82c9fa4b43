"""Logs: their form, and what they never show. Each test has a process of its own, since logging is set up for all."""

from __future__ import annotations

import json
from typing import Any

import pytest
from support.processes.scripts import run_on_a_terminal, run_piped

EVENTS = """
import logging
import structlog
from worker.observability.logs import configure_logs
from worker.vault.otps import Otp

configure_logs("INFO")
log = structlog.get_logger("worker.somewhere")


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


def read_events(script: str = EVENTS) -> list[dict[str, Any]]:
    """The lines on stderr, each a JSON object."""
    return [json.loads(line) for line in run_piped(script).splitlines()]


@pytest.fixture(scope="module")
def lines() -> list[dict[str, Any]]:
    return read_events()


@pytest.fixture(scope="module")
def shown() -> str:
    return run_on_a_terminal(EVENTS)


def test_where_no_terminal_is_every_event_is_one_line_of_json(lines):
    rescued, tasks, failed, task_failed = lines
    assert rescued["timestamp"].endswith("Z")
    assert (rescued["event"], rescued["level"], rescued["records"]) == ("rescued", "info", 3)
    assert rescued["logger"] == "worker.somewhere"
    assert (tasks["event"], tasks["level"], tasks["logger"]) == ("7 tasks", "warning", "celery.somewhere")
    for event in (failed, task_failed):
        assert event["exception"].startswith("Traceback")
        assert event["exception"].endswith("ValueError: a fault of our own")


def test_no_line_shows_a_local_variable_or_an_otp(lines):
    assert "308714" not in json.dumps(lines)


def test_no_terminal_shows_a_local_variable_or_an_otp(shown):
    assert "ValueError: a fault of our own" in shown
    assert shown.count("Traceback (most recent call last)") == 2
    assert "308714" not in shown


def test_a_terminal_shows_words_and_no_json(shown):
    assert "rescued" in shown
    assert "7 tasks" in shown
    assert '{"' not in shown
    assert "unheard" not in shown


def test_json_can_be_asked_for_on_a_terminal_and_text_elsewhere():
    on_terminal = run_on_a_terminal(EVENTS.replace('"INFO")', '"INFO", "json")'))
    assert json.loads(on_terminal.splitlines()[0])["event"] == "rescued"
    piped = run_piped(EVENTS.replace('"INFO")', '"INFO", "text")'))
    assert "rescued" in piped.splitlines()[0]
    assert '{"' not in piped
    # Colours would only be noise in a file.
    assert "\x1b" not in piped
    assert "308714" not in on_terminal + piped


def test_requests_of_the_http_library_are_no_events(lines, shown):
    assert "httpx" not in [event["logger"] for event in lines]
    assert "HTTP Request" not in shown


def test_the_level_holds_for_our_events_and_those_of_libraries():
    events = read_events(EVENTS.replace('configure_logs("INFO")', 'configure_logs("ERROR")'))
    assert [event["event"] for event in events] == ["failed", "task failed"]
