"""Refuses a PostgreSQL database that keeps its text in another encoding than UTF-8: not every name of a person, and no
search for one, would fit into it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    # Not loaded where the database is SQLite.
    import psycopg


class OtherEncoding(Exception):
    """The database's encoding is not UTF8; the message names the cure."""

    def __init__(self, found: str) -> None:
        super().__init__(
            f"the encoding of the database is {found}, not UTF8: make another one with CREATE DATABASE oathbulk "
            "ENCODING 'UTF8' TEMPLATE template0, and let OATHBULK_DATABASE_URL name it"
        )


def check_encoding(connection: psycopg.Connection[Any]) -> None:
    """Check the encoding of a new connection's database, which the server has told by itself. Raises OtherEncoding."""
    found = connection.info.parameter_status("server_encoding")
    if found not in (None, "UTF8"):
        # Nobody else would: SQLAlchemy has not got it yet.
        connection.close()
        raise OtherEncoding(found)
