"""Signals that end a run, the desk or metrics in the same good order as Ctrl-C."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

# Ctrl-C, a service manager, a terminal that was closed.
ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def turning_signals_into_interrupts() -> Iterator[None]:
    """Raise KeyboardInterrupt at the first SIGTERM or SIGHUP too, so that they end a run in the same good order as
    Ctrl-C. Further signals are ignored, since what is in hand must be settled, however impatient somebody is. Signals
    that are ignored already, as under nohup, stay ignored."""
    numbers = [number for number in ENDING_SIGNALS if signal.getsignal(number) != signal.SIG_IGN]

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        for number in numbers:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    former = {number: signal.signal(number, interrupt) for number in numbers}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
