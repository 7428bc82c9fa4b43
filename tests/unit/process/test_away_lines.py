"""A task that fails while the database is away: one line, once a minute."""

from __future__ import annotations

import logging
import sys

import psycopg
from sqlalchemy.exc import DBAPIError, OperationalError

from worker.process.worker_parts import AwayLines


def failed(error: Exception) -> logging.LogRecord:
    """What Celery logs of a task that raised this."""
    try:
        raise error
    except Exception:
        return logging.LogRecord("celery.app.trace", logging.ERROR, "", 0, "Task failed", (), sys.exc_info())


def wrapped(error: psycopg.Error) -> DBAPIError:
    return OperationalError("SELECT 1", {}, error)


def test_a_database_that_is_away_is_one_line_with_its_cure() -> None:
    line = failed(wrapped(psycopg.errors.ReadOnlySqlTransaction("cannot execute UPDATE")))
    assert AwayLines().filter(line)
    assert line.getMessage().startswith("database_away: the database takes no writes (cannot execute UPDATE): let")
    assert (line.exc_info, line.levelname) == (None, "WARNING")


def test_it_is_said_again_only_after_a_while() -> None:
    lines = AwayLines()
    said = [lines.filter(failed(wrapped(psycopg.OperationalError("connection refused")))) for _ in range(3)]
    assert said == [True, False, False]


def test_any_other_failure_stays_as_it_is() -> None:
    lines = AwayLines()
    for error in (ZeroDivisionError(), wrapped(psycopg.errors.UndefinedColumn("no such column"))):
        line = failed(error)
        assert lines.filter(line)
        assert line.exc_info is not None
        assert line.getMessage() == "Task failed"
