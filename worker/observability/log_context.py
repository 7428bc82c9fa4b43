"""What a thread works on, so that each line that it logs names it.

A thread of a worker takes up a hundred records for each line that it logs. So it only notes who can describe its work,
and the description is made when a line is logged."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from structlog.typing import EventDict

# Describes the work of a thread, as names and values of a line in the log. It must neither fail nor hold secrets.
Describe: TypeAlias = Callable[[], Mapping[str, Any]]


class _Current(threading.local):
    """The work of the calling thread; None while it has none."""

    describe: Describe | None = None


_current = _Current()


def begin_work(describe: Describe) -> None:
    """Let the lines that this thread logs from now on have what `describe` returns when they are logged."""
    _current.describe = describe


def end_work() -> None:
    """Let the lines that this thread logs from now on say nothing of the work that it had."""
    _current.describe = None


def add_context(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Add the description of the thread's work to an event, as a processor of structlog; what the event says itself
    stands."""
    return event if _current.describe is None else {**_current.describe(), **event}
