"""Logs: one line for each event, with the record that its thread works on; `key=value` on a terminal and JSON
elsewhere, unless a setting says which. A worker's thread handles a hundred records for each line that it logs. So it
only notes a function that describes its work, which is called when a line is logged."""

import io
import logging
import sys
import threading
from collections.abc import Callable, Mapping
from typing import Any, Literal, TextIO, TypeAlias

import structlog
from structlog.typing import EventDict, ExcInfo, Processor

from worker.observability.wording import escape, escape_line

# The form of a line; `auto`: text on a terminal, JSON elsewhere.
LogFormat: TypeAlias = Literal["auto", "json", "text"]


def configure_logs(level: int | str, log_format: LogFormat = "auto") -> None:
    """Send our events and the libraries' to stderr, in one form, each with the record of its thread. Tracebacks never
    show the values of variables, which may be secrets."""
    timestamp = structlog.processors.TimeStamper(fmt="iso", utc=True)
    shared: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        timestamp,
        add_context,
    ]
    render = _choose_renderers(log_format)
    handler = logging.StreamHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render],
        )
    )
    logging.basicConfig(level=level, handlers=[handler], force=True)
    # A line for every request would be noise at a hundred a second.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


def _choose_renderers(log_format: LogFormat) -> list[Processor]:
    """Choose what turns an event into a line; colors are only for a terminal."""
    is_terminal = sys.stderr.isatty()
    if log_format == "json" or (log_format == "auto" and not is_terminal):
        return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    renderer = structlog.dev.ConsoleRenderer(colors=is_terminal, exception_formatter=_show_traceback)
    return [_escape_words, renderer]


def _escape_words(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Make names and values safe for a terminal; JSON escapes them by itself."""
    return {escape_line(name): escape_line(value) if isinstance(value, str) else value for name, value in event.items()}


def _show_traceback(terminal: TextIO, failure: ExcInfo) -> None:
    """Write a traceback without the values of variables, which may be secrets."""
    shown = io.StringIO()
    structlog.dev.plain_traceback(shown, failure)
    terminal.write(escape(shown.getvalue()))


# Describes a thread's work, as names and values for a log line. It must neither fail nor contain secrets.
Describe: TypeAlias = Callable[[], Mapping[str, Any]]


class _Current(threading.local):
    """The calling thread's work; None if it has none."""

    describe: Describe | None = None


_current = _Current()


def begin_work(describe: Describe) -> None:
    """Add what `describe` returns to the lines that this thread logs from now on."""
    _current.describe = describe


def end_work() -> None:
    """Stop adding a description of the work, which is finished, to the lines that this thread logs."""
    _current.describe = None


def add_context(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Add the description of the thread's work to an event, as a structlog processor; the event's own values take
    precedence."""
    return event if _current.describe is None else {**_current.describe(), **event}
