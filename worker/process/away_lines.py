"""Makes one line, once a minute, of the tasks that fail while the database is away. Celery would write a traceback for
each tick."""

from __future__ import annotations

import logging

from sqlalchemy.exc import DBAPIError

from worker.database.away import is_away
from worker.database.explanations import explain
from worker.observability.log_interval import LogInterval

# Where Celery writes that a task has failed.
_LOGGER = "celery.app.trace"


class AwayLines(logging.Filter):
    """Lets through what is no error of a database that is away, and of those one a minute, as a line with the cure."""

    def __init__(self) -> None:
        super().__init__()
        self._interval = LogInterval()

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if not isinstance(error, DBAPIError) or not is_away(error):
            return True
        record.msg, record.args = "database_away: %s", (str(explain(error)),)
        record.exc_info = record.exc_text = None
        record.levelno, record.levelname = logging.WARNING, "WARNING"
        return self._interval.begin_if_over()


def install() -> None:
    """Write such lines in this process."""
    logging.getLogger(_LOGGER).addFilter(AwayLines())
