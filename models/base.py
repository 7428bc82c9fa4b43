"""The base of all tables: names of constraints, the type of keys, and the type of times, which are in UTC."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import BigInteger, Computed, DateTime, Dialect, Integer, MetaData, String
from sqlalchemy.orm import DeclarativeBase, MappedColumn, mapped_column
from sqlalchemy.types import TypeDecorator

# Maximum length of `detail` in a batch or record, in characters.
LONGEST_DETAIL = 1000
# Maximum length of a user or device id that is read from PingOne, in characters. PingOne's own have 36.
LONGEST_ID = 100
# Every constraint has a name on every database, so that a migration can address it.
NAMING_CONVENTION = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}

# SQLite numbers rows by itself only in a column of type INTEGER.
BigKey = BigInteger().with_variant(Integer, "sqlite")


class UtcDateTime(TypeDecorator[datetime]):
    """The type of a column with a time, as a datetime with the zone UTC; SQLite stores it as text that sorts by
    time."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a time needs a zone")
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def lower_case_of(column: str, length: int) -> MappedColumn[Any]:
    """A column that the database fills with another column in lowercase. It sorts by character codes, so that an index
    finds values by their start."""
    kind = String(length).with_variant(String(length, collation="C"), "postgresql")
    return mapped_column(kind, Computed(f"lower({column})", persisted=True))


class Base(DeclarativeBase):
    """The base class of every table."""

    metadata = MetaData(naming_convention=NAMING_CONVENTION)


def one_of(column: str, words: type) -> str:
    """SQL for a check constraint: the column holds one of the enumeration's words."""
    return f"{column} IN ({', '.join(repr(str(word)) for word in words)})"  # type: ignore[attr-defined]
