"""PingOne's clock: between which two moments its time lies, by the `Date` of its answers."""

from __future__ import annotations

from datetime import datetime
from email.utils import formatdate

import pytest

from worker.pingone import client as module
from worker.pingone.client import PingOneClock
from worker.pingone.wire import open_envelope

# Unix time of PingOne's clock when ours stands at 0.
AHEAD = 1_800_000_000.4


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> PingOneClock:
    monkeypatch.setattr(module, "boot_time", lambda: 100.0)
    return PingOneClock()


def answer(at: float, *, ahead: float = AHEAD) -> datetime | None:
    """The date of an answer that PingOne gave when our clock stood at this time."""
    return open_envelope(200, {"Date": formatdate(int(at + ahead), usegmt=True)}, b"").date


def test_before_the_first_answer_nobody_knows(clock: PingOneClock) -> None:
    assert not clock.is_known
    with pytest.raises(ValueError, match="no answer"):
        clock.now()


def test_an_answer_leaves_a_second_and_the_time_that_it_took(clock: PingOneClock) -> None:
    clock.learn(answer(10.1), sent=10.0, received=10.2)
    earliest, latest = clock.now()
    assert clock.is_known
    assert earliest <= 100.0 + AHEAD <= latest
    assert latest - earliest == pytest.approx(1.2)


def test_several_answers_leave_less(clock: PingOneClock) -> None:
    for hundredth in range(100):
        at = 10.0 + hundredth * 1.01
        clock.learn(answer(at), sent=at - 0.05, received=at + 0.05)
    earliest, latest = clock.now()
    assert earliest <= 100.0 + AHEAD <= latest
    assert latest - earliest < 0.15


def test_a_clock_that_was_set_is_learnt_anew(clock: PingOneClock) -> None:
    clock.learn(answer(10.1), sent=10.0, received=10.2)
    clock.learn(answer(20.1, ahead=AHEAD - 3600), sent=20.0, received=20.2)
    earliest, latest = clock.now()
    assert earliest <= 100.0 + AHEAD - 3600 <= latest


@pytest.mark.parametrize("headers", [{}, {"date": ""}, {"date": "yesterday"}, {"date": "Thu, 99 Foo 2026"}])
def test_an_answer_without_a_date_changes_nothing(clock: PingOneClock, headers: dict[str, str]) -> None:
    clock.learn(open_envelope(200, headers, b"").date, sent=1.0, received=2.0)
    assert not clock.is_known
