"""How a command ends at a signal."""

import os
import signal
import sys
import weakref
from collections.abc import Iterator

import pytest

from worker.cli.signals import ENDING_SIGNALS, turning_signals_into_interrupts


def send(number: int) -> None:
    os.kill(os.getpid(), number)


@pytest.fixture
def handlers() -> Iterator[None]:
    """Those from before stand again afterwards."""
    before = [signal.getsignal(number) for number in ENDING_SIGNALS]
    yield
    assert [signal.getsignal(number) for number in ENDING_SIGNALS] == before


@pytest.mark.usefixtures("handlers")
@pytest.mark.parametrize("number", ENDING_SIGNALS)
def test_each_signal_interrupts_and_a_further_one_changes_nothing_of_an_end_in_good_order(number: int) -> None:
    steps = []

    def work() -> None:
        try:
            send(number)
        finally:
            send(number)
            try:
                raise OSError
            except OSError:
                send(number)
            steps.append("in good order")

    with pytest.raises(KeyboardInterrupt), turning_signals_into_interrupts():
        work()
    assert steps == ["in good order"]


@pytest.mark.usefixtures("handlers")
def test_a_signal_that_was_lost_is_made_good_by_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    lost = []
    monkeypatch.setattr(sys, "unraisablehook", lambda told: lost.append(told.exc_type))

    def work() -> None:
        watched = set[int]()
        watching = weakref.ref(watched, lambda _: send(signal.SIGTERM))
        del watched
        assert watching() is None
        assert lost == [KeyboardInterrupt]
        send(signal.SIGTERM)

    with pytest.raises(KeyboardInterrupt), turning_signals_into_interrupts():
        work()


@pytest.mark.usefixtures("handlers")
def test_a_signal_that_was_ignored_stays_so() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with turning_signals_into_interrupts():
            send(signal.SIGHUP)
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
