"""PingOne's clock: between which two moments its time lies, by the `Date` of its answers."""

from datetime import datetime
from email.utils import formatdate

import pytest

from worker import clocks as module
from worker.clocks import PingOneClock
from worker.pingone.wire import open_envelope

# Unix time of PingOne's clock when ours stands at 0.
AHEAD = 1_800_000_000.4


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> PingOneClock:
    monkeypatch.setattr(module, "boot_time", lambda: 100.0)
    return PingOneClock(lambda: 100.0 + AHEAD)


def date(at: float, *, ahead: float = AHEAD) -> datetime | None:
    """The date of an answer that PingOne gave when our clock stood at this time."""
    return open_envelope(200, {"Date": formatdate(int(at + ahead), usegmt=True)}, b"").date


def test_an_answer_leaves_a_second_and_the_time_that_it_took_and_several_leave_less(clock: PingOneClock) -> None:
    with pytest.raises(ValueError, match="no answer"):
        clock.now()
    for wrong in ({}, {"date": ""}, {"date": "yesterday"}, {"date": "Thu, 99 Foo 2026"}):
        clock.learn(open_envelope(200, wrong, b"").date, sent=1.0, received=2.0)
    assert not clock.is_known
    clock.learn(date(10.1), sent=10.0, received=10.2)
    earliest, latest = clock.now()
    assert (clock.is_known, latest - earliest) == (True, pytest.approx(1.2))
    assert earliest <= 100.0 + AHEAD <= latest
    for at in (10.0 + hundredth * 1.01 for hundredth in range(100)):
        clock.learn(date(at), sent=at - 0.05, received=at + 0.05)
    earliest, latest = clock.now()
    assert earliest <= 100.0 + AHEAD <= latest < earliest + 0.15


def test_a_clock_that_was_set_is_learned_anew(clock: PingOneClock) -> None:
    clock.learn(date(10.1), sent=10.0, received=10.2)
    for at in (20.1, 21.1):
        clock.learn(date(at, ahead=AHEAD - 3600), sent=at - 0.1, received=at + 0.1)
    earliest, latest = clock.now()
    assert earliest <= 100.0 + AHEAD - 3600 <= latest


YEAR = 365 * 24 * 3600


@pytest.mark.parametrize("before", [0, 3])
def test_one_answer_with_a_time_far_from_all_others_changes_nothing(clock: PingOneClock, before: int) -> None:
    for at in range(10, 10 + before):
        clock.learn(date(at + 0.1), sent=at, received=at + 0.2)
    clock.learn(date(20.1, ahead=AHEAD + YEAR), sent=20.0, received=20.2)
    assert clock.is_known is bool(before)
    clock.learn(date(21.1), sent=21.0, received=21.2)
    earliest, latest = clock.now()
    assert earliest <= 100.0 + AHEAD <= latest


@pytest.mark.parametrize("wrong_by", [-YEAR, YEAR])
def test_a_machine_whose_own_clock_is_wrong_learns_by_two_answers_that_agree(
    monkeypatch: pytest.MonkeyPatch, wrong_by: float
) -> None:
    monkeypatch.setattr(module, "boot_time", lambda: 100.0)
    clock = PingOneClock(lambda: 100.0 + AHEAD + wrong_by)
    clock.learn(date(10.1), sent=10.0, received=10.2)
    assert not clock.is_known
    clock.learn(date(20.1), sent=20.0, received=20.2)
    earliest, latest = clock.now()
    assert earliest <= 100.0 + AHEAD <= latest
