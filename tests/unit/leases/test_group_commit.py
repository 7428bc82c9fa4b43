"""A statement for many records as it goes to PostgreSQL: with arrays whose values belong together, by record."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Integer, update

from models.record import Record
from worker.database.engine import Database
from worker.leases.group_commit import GroupCommit


class Rows(list[tuple[str, str]]):
    def one_or_none(self) -> tuple[str, str] | None:
        return self[0] if self else None


class Driver:
    """Stands for a connection. Each of its rows is a lease that a statement found."""

    def __init__(self, *found: str) -> None:
        self._rows = [(lease, f"row of {lease}") for lease in found]
        self.given: dict[str, Any] = {}

    def execute(self, _: object, given: dict[str, Any]) -> Rows:
        self.given = given
        return Rows(self._rows)


def execute(driver: Driver, numbers: tuple[int, ...] = (3, 1, 2)) -> Any:
    """A statement for records with these ids."""
    statement = GroupCommit(
        Database("postgresql+psycopg://nowhere/oathbulk"),
        {"posts": Integer()},
        lambda given: (
            update(Record)
            .where(Record.id == given["this_id"])
            .values(otp1_posts=given["posts"])
            .returning(given["this_lease"])
        ),
    )
    connection: Any = driver
    asked = [{"this_id": number, "this_lease": f"lease {number}", "posts": 10 * number} for number in numbers]
    return statement._run(connection, asked)


def test_records_go_by_their_ids_so_that_two_processes_lock_them_in_one_order() -> None:
    driver = Driver()
    assert execute(driver) == [None, None, None]
    assert driver.given == {
        "this_id": [1, 2, 3],
        "this_lease": ["lease 1", "lease 2", "lease 3"],
        "posts": [10, 20, 30],
    }


def test_each_gets_what_was_found_by_its_own_lease() -> None:
    found = execute(Driver("lease 2", "lease 3"))
    assert found == [("lease 3", "row of lease 3"), None, ("lease 2", "row of lease 2")]


def test_one_that_is_alone_goes_without_arrays() -> None:
    driver = Driver("lease 7")
    assert execute(driver, (7,)) == [("lease 7", "row of lease 7")]
    assert driver.given == {"this_id": 7, "this_lease": "lease 7", "posts": 70}
    assert execute(Driver(), (7,)) == [None]
