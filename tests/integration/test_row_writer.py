"""Rows arrive as they are on both databases, all of them or none."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from sqlalchemy import ScalarSelect, func, select, update
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError
from support.data.batches import Made, count, make_batch
from support.data.moving_clock import MovingDatabase
from support.servers.postgres import PostgresServer

from models.batch import Batch
from models.encrypted import Keyring, generate_key
from models.record import Record
from models.record_states import Status
from worker.batches.loading import RecordRows
from worker.database.row_writer import RowWriter

TABLE = Record.metadata.tables["record"]
# What a load writes.
COLUMNS = RecordRows(Keyring([generate_key()]), 1, timedelta(0)).columns
# What COPY's text format, CSV or SQL would take for something else, and what is not one byte a character.
ODD = [
    "",
    " ",
    "\\N",
    "\\.",
    "\\",
    "a\\tb",
    "a\tb",
    "a\nb",
    "a\r\nb",
    "\r",
    '"',
    "'; DROP TABLE record; --",
    "%s %(name)s ? :name {0}",
    "NULL",
    "\x01\x08\x0b\x0c\x1b\x7f\x85",
    "\u2028\ufeff\ufffd",
    "Zoë 東京 👩🏽‍🚒 e\u0301",
]


def row(number: int, **columns: Any) -> tuple[Any, ...]:
    values: dict[str, Any] = dict.fromkeys(COLUMNS) | {
        "row_number": number + 2,
        "serial_number": f"S{number}",
        "user_id": "user",
        "device_id": f"device {number}",
        "pairing": "paired",
        "is_in_inventory": True,
        "otp_type": "hotp",
        "has_second_otp": True,
        "otps": b"sealed",
    }
    return tuple((values | columns)[name] for name in COLUMNS)


@pytest.fixture
def batch(database: MovingDatabase) -> Made:
    return make_batch(database, [])


def write(database: MovingDatabase, batch: Made, rows: Iterable[tuple[Any, ...]]) -> None:
    same = {"batch_id": batch.batch_id, "environment_id": "tenant", "scheduled_at": datetime.now(UTC)}
    with database.writing() as connection:
        with RowWriter(connection, TABLE, COLUMNS, same).writing() as write_row:
            for values in rows:
                write_row(values)
        # The judge of totals looks at it.
        connection.execute(update(Batch).values(total=_count()))


def _count() -> ScalarSelect[int]:
    return select(func.count(Record.id)).where(Record.batch_id == Batch.id).scalar_subquery()


def records(database: MovingDatabase) -> list[Any]:
    with database.reading() as connection:
        return list(connection.execute(select(TABLE).order_by(Record.row_number)))


def test_odd_characters_arrive_as_they_are(database: MovingDatabase, batch: Made) -> None:
    rows = [row(n, username=odd, lot=odd, extra={odd: odd}) for n, odd in enumerate(ODD)]

    write(database, batch, rows)

    found = records(database)
    assert [(record.username, record.lot, record.extra) for record in found] == [(odd, odd, {odd: odd}) for odd in ODD]


def test_every_byte_arrives_as_it_is(database: MovingDatabase, batch: Made) -> None:
    sealed = [bytes(range(256)), b"\0", b"\\x00\\N\n", b""]

    write(database, batch, [row(number, otps=otps) for number, otps in enumerate(sealed)])

    assert [record.otps for record in records(database)] == sealed


def test_times_arrive_in_utc_and_what_is_empty_stays_empty(database: MovingDatabase, batch: Made) -> None:
    at = datetime(2026, 3, 1, 9, 30, 0, 123456, tzinfo=timezone(timedelta(hours=5, minutes=30)))

    write(database, batch, [row(0, generated_at=at, has_second_otp=False), row(1)])

    first, second = records(database)
    assert (first.generated_at, first.has_second_otp) == (at.astimezone(UTC), False)
    assert first.generated_at.tzinfo is not None
    assert (second.generated_at, second.username, second.lot, second.extra) == (None, None, None, None)
    with database.reading() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM record WHERE extra IS NULL").scalar() == 2


def test_a_row_is_what_an_insert_makes_of_it(database: MovingDatabase, batch: Made) -> None:
    """The model's defaults too, to the last column."""
    (example,) = make_batch(database, name="example").ids
    write(database, batch, [row(0)])

    differing = {"id", "batch_id", "environment_id", "serial_number", "user_id", "device_id", "otps", "scheduled_at"}
    written, inserted = (
        {name: value for name, value in record._asdict().items() if name not in differing}
        for record in sorted(records(database), key=lambda record: record.id == example)
    )
    assert written == inserted
    assert written["status"] == Status.PENDING


def test_a_row_that_the_database_refuses_leaves_none(database: MovingDatabase, batch: Made) -> None:
    rows = [row(number) for number in range(500)]

    with pytest.raises(IntegrityError):
        write(database, batch, [*rows, row(500, serial_number="S7"), *map(row, range(501, 600))])

    assert records(database) == []
    write(database, batch, rows)
    assert count(database, Record) == 500


def test_a_row_that_the_driver_refuses_leaves_none(database: MovingDatabase, batch: Made) -> None:
    """In the midst: the rows before it are on their way."""
    refused = {"username": object()} if database.is_sqlite else {"username": "a\0b"}

    with pytest.raises(DBAPIError):
        write(database, batch, [*map(row, range(500)), row(500, **refused)])

    assert records(database) == []
    write(database, batch, [row(0)])
    assert count(database, Record) == 1


def test_an_interruption_in_the_midst_leaves_none(database: MovingDatabase, batch: Made) -> None:
    def interrupted() -> Iterator[tuple[Any, ...]]:
        yield from map(row, range(500))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(database, batch, interrupted())

    assert records(database) == []
    write(database, batch, [row(0)])
    assert count(database, Record) == 1


def test_an_error_shows_no_value_but_what_the_database_itself_tells(database: MovingDatabase, batch: Made) -> None:
    with pytest.raises(IntegrityError) as raised:
        write(database, batch, [row(0, username="mallory"), row(0, otps=b"closed")])

    assert "mallory" not in str(raised.value)
    assert "closed" not in str(raised.value)


@pytest.fixture
def own_database(own_postgres: PostgresServer, migrate: Callable[[str], None]) -> Iterator[MovingDatabase]:
    """On a server that a test may kill."""
    with own_postgres.database(own_postgres.template("migrated", migrate)) as url:
        database = MovingDatabase(url)
        yield database
        database.close()


def test_a_server_that_dies_in_the_midst_keeps_none(own_postgres: PostgresServer, own_database: MovingDatabase) -> None:
    batch = make_batch(own_database, [])

    def dying() -> Iterator[tuple[Any, ...]]:
        yield from map(row, range(500))
        own_postgres.kill()
        yield from map(row, range(500, 50_000))

    with pytest.raises(OperationalError):
        write(own_database, batch, dying())
    own_postgres.start()

    assert records(own_database) == []
    write(own_database, batch, map(row, range(500)))
    assert count(own_database, Record) == 500
