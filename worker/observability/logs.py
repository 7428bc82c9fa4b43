"""Logs: one line an event, `key=value` on a terminal and JSON elsewhere."""

from __future__ import annotations

import io
import logging
import sys
from typing import TextIO

import structlog
from structlog.typing import EventDict, ExcInfo, Processor

from worker.observability.escaping import escape, escape_line


def configure_logs(level: int | str) -> None:
    """Send our events and those of the libraries to stderr, in one form. The values of variables are
    never shown in a traceback: they hold secrets."""
    timestamp = structlog.processors.TimeStamper(fmt="iso", utc=True)
    shared: list[Processor] = [structlog.stdlib.add_log_level, structlog.stdlib.add_logger_name, timestamp]
    render: list[Processor] = (
        [_escape_words, structlog.dev.ConsoleRenderer(exception_formatter=_show_traceback)]
        if sys.stderr.isatty()
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    )
    handler = logging.StreamHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render],
        )
    )
    logging.basicConfig(level=level, handlers=[handler], force=True)
    # Every request as a line would be noise at a hundred a second.
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


def _escape_words(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Make names and values safe for a terminal; JSON needs no such step, for it escapes them by itself."""
    return {escape_line(name): escape_line(value) if isinstance(value, str) else value for name, value in event.items()}


def _show_traceback(terminal: TextIO, failure: ExcInfo) -> None:
    """Write a traceback without the values of variables: they hold secrets."""
    shown = io.StringIO()
    structlog.dev.plain_traceback(shown, failure)
    terminal.write(escape(shown.getvalue()))
