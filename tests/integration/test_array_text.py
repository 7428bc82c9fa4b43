"""PostgreSQL reads the arrays that were written as text, and gives back what was put in."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import BigInteger, Boolean, Connection, Float, String, text
from sqlalchemy.types import TypeEngine

from worker.database.array_text import choose_writer
from worker.database.engine import Database

# PostgreSQL has no NUL in a text, and UTF-8 no half of a surrogate pair.
TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])) | st.text('{}",\\ NUL\n\t')
KINDS = {
    "TEXT": (String(), TEXTS),
    "BIGINT": (BigInteger(), st.integers(-(2**63), 2**63 - 1)),
    "FLOAT": (Float(), st.floats(allow_nan=False)),
    "BOOLEAN": (Boolean(), st.booleans()),
}


@pytest.fixture
def connection(postgres_url: str) -> Iterator[Connection]:
    database = Database(postgres_url)
    with database.reading() as connection:
        yield connection
    database.close()


@pytest.mark.parametrize("sql_type", KINDS)
def test_what_was_written_comes_back(connection: Connection, sql_type: str) -> None:
    kind: TypeEngine[object]
    kind, values = KINDS[sql_type]
    write = choose_writer(kind)
    read = text(f"SELECT unnest(CAST(:written AS {sql_type}[]))")

    @settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.lists(values | st.none()))
    def check(array: list[object]) -> None:
        assert connection.scalars(read, {"written": write(array)}).all() == array

    check()
