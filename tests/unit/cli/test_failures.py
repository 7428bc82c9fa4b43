"""What a command says when it fails in a way that a person can mend, and how a signal ends it."""

from __future__ import annotations

import errno
import os
import signal
import sys
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest

from worker.cli.exit_codes import WRONG_USAGE
from worker.cli.failures import ENDING_SIGNALS, exit_for, turning_signals_into_interrupts


def test_a_path_in_a_directory_that_is_closed_to_us_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "out.csv"
    with pytest.raises(SystemExit) as ended:
        exit_for(PermissionError(errno.EACCES, "Permission denied", path))
    assert ended.value.code == WRONG_USAGE
    assert f"{path} is out of reach (Permission denied): see whether" in capsys.readouterr().err


def test_a_failure_without_a_file_is_not_explained_by_one() -> None:
    with pytest.raises(PermissionError):
        exit_for(PermissionError(errno.EACCES, "Permission denied"))


def send(number: int) -> None:
    os.kill(os.getpid(), number)


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Those from before stand again afterwards."""
    before = [signal.getsignal(number) for number in ENDING_SIGNALS]
    yield
    assert [signal.getsignal(number) for number in ENDING_SIGNALS] == before


@pytest.mark.parametrize("number", ENDING_SIGNALS)
def test_each_of_the_signals_interrupts(number: int) -> None:
    with pytest.raises(KeyboardInterrupt), turning_signals_into_interrupts():
        send(number)


@pytest.mark.parametrize("second", ENDING_SIGNALS)
def test_a_further_signal_changes_nothing_of_an_end_in_good_order(second: int) -> None:
    steps = []

    def work() -> None:
        try:
            send(signal.SIGINT)
        finally:
            send(second)
            try:
                raise OSError
            except OSError:
                send(second)
            steps.append("in good order")

    with pytest.raises(KeyboardInterrupt), turning_signals_into_interrupts():
        work()
    assert steps == ["in good order"]


def test_a_signal_that_was_lost_is_made_good_by_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    lost = []
    monkeypatch.setattr(sys, "unraisablehook", lambda told: lost.append(told.exc_type))

    class Watched:
        pass

    def work() -> None:
        watched = Watched()
        watching = weakref.ref(watched, lambda _: send(signal.SIGTERM))
        del watched
        assert watching() is None
        assert lost == [KeyboardInterrupt]
        send(signal.SIGTERM)

    with pytest.raises(KeyboardInterrupt), turning_signals_into_interrupts():
        work()


def test_a_signal_that_was_ignored_stays_so() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with turning_signals_into_interrupts():
            send(signal.SIGHUP)
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
