"""Which failures mean that the database is away."""

from __future__ import annotations

import sqlite3

import psycopg
import pytest
from sqlalchemy import exc

from worker.database.errors import AWAY, TOO_MANY_CONNECTIONS, is_away, sqlstate_of


def raised(error: Exception) -> exc.DBAPIError:
    """An error of the driver as SQLAlchemy raises it."""
    drivers = psycopg.Error if isinstance(error, psycopg.Error) else sqlite3.Error
    wrapped = exc.DBAPIError.instance("UPDATE record", None, error, drivers)
    assert isinstance(wrapped, exc.DBAPIError)
    return wrapped


@pytest.mark.parametrize("state", sorted(AWAY))
def test_every_code_of_the_table_means_away_and_is_postgresqls(state: str) -> None:
    error = psycopg.errors.lookup(state)("told by the server")
    assert error.sqlstate == state
    assert is_away(raised(error))


@pytest.mark.parametrize(
    "error",
    [
        psycopg.OperationalError("the connection is closed"),
        psycopg.OperationalError("connection failed: Connection refused"),
        sqlite3.OperationalError("database is locked"),
    ],
    ids=str,
)
def test_a_driver_that_has_lost_or_got_no_connection_means_away(error: Exception) -> None:
    assert is_away(raised(error))


def test_a_connection_that_did_not_come_in_time_means_away() -> None:
    assert is_away(exc.TimeoutError("QueuePool limit reached"))


@pytest.mark.parametrize("state", ["42703", "23505", "22001", "28P01", "26000"])
def test_what_waiting_does_not_mend_does_not(state: str) -> None:
    assert not is_away(raised(psycopg.errors.lookup(state)("told by the server")))


def test_a_failure_that_is_not_the_databases_does_not() -> None:
    assert not is_away(RuntimeError("a fault of our own"))


@pytest.mark.parametrize(
    "told",
    [
        "FATAL:  sorry, too many clients already",
        'FATAL:  too many connections for role "oathbulk"',
        "FATAL:  remaining connection slots are reserved for roles with the SUPERUSER attribute",
        "FATAL:  no more connections allowed (max_client_conn)",
    ],
)
def test_a_server_without_a_connection_left_is_known_by_its_words(told: str) -> None:
    assert sqlstate_of(psycopg.OperationalError(f"connection failed: {told}")) == TOO_MANY_CONNECTIONS
