"""How a check is made: what it returns, what it raises, and what becomes of one that never ends."""

from __future__ import annotations

import threading

import pytest

from worker.cli.doctor.finding import Finding, State, examine, fault, not_known
from worker.config.settings import ConfigError


def test_a_detail_is_a_good_finding_and_a_finding_is_itself() -> None:
    assert examine("disk", lambda: "9 GB") == Finding("disk", "9 GB")
    found = fault("disk", "full", "free some space")
    assert examine("disk", lambda: found) is found


def test_a_failure_is_told_by_its_first_line_with_the_cure() -> None:
    def look() -> str:
        raise ConfigError("the key is missing\nBackground on this error at https://example.com")

    assert examine("keys", look, "put it back") == fault("keys", "the key is missing", "put it back")


def test_a_check_that_hangs_is_left_alone() -> None:
    never = threading.Event()
    found = examine("broker", lambda: str(never.wait(60)), "see to the server", longest=0.1)
    assert found == fault("broker", "no answer within 0.1 s", "see to the server")
    never.set()


def test_a_fault_of_our_own_is_not_hidden() -> None:
    def look() -> str:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        examine("home", look)


def test_only_a_fault_is_not_well() -> None:
    unknown = not_known("clock", "nobody tells")
    assert [each.is_well for each in (Finding("clock", "0 s"), unknown, fault("clock", "90 s", "NTP"))] == [1, 1, 0]
    assert unknown.to_json() == {
        "check": "clock",
        "is_well": True,
        "state": State.NOT_KNOWN,
        "detail": "not known: nobody tells",
        "cure": None,
    }
