"""How a command ends at a signal: in the same orderly way as at Ctrl-C."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

# Ctrl-C, a service manager, a terminal that was closed.
ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def turning_signals_into_interrupts() -> Iterator[None]:
    """Raise KeyboardInterrupt at SIGTERM or SIGHUP too, so that they end a run in the same orderly way as Ctrl-C. While
    that happens, further signals are ignored, since work in hand must be settled. Signals that are already ignored, as
    under nohup, stay ignored."""
    numbers = [number for number in ENDING_SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
    former = {number: signal.signal(number, _interrupt) for number in numbers}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    """Raise KeyboardInterrupt, unless one is being handled. If Python has lost the first one, as it does in the
    callback of a weak reference, the next one is not ignored."""
    error = sys.exception()
    while error is not None:
        if isinstance(error, KeyboardInterrupt):
            return
        error = error.__context__
    raise KeyboardInterrupt
