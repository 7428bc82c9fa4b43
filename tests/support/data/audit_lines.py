"""Lines of the audit for tests: read, computed as an auditor would, and refused by the database."""

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC
from typing import Any

from sqlalchemy import Row
from support.data.moving_clock import MovingDatabase

from worker import audit

Line = Row[*tuple[Any, ...]]

REFUSE_LINES_ON_POSTGRESQL = (
    "CREATE FUNCTION no_line() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no room'; END $$",
    "CREATE TRIGGER no_line BEFORE INSERT ON audit FOR EACH ROW EXECUTE FUNCTION no_line()",
)
REFUSE_LINES_ON_SQLITE = ("CREATE TRIGGER no_line BEFORE INSERT ON audit BEGIN SELECT RAISE(ABORT, 'no room'); END",)


def read(database: MovingDatabase, batch: str | None = None) -> list[Line]:
    with database.reading_snapshot() as connection:
        return list(audit.read(connection, batch))


def hash_of(line: Mapping[Any, Any], former: str) -> str:
    """Compute the hash of a line as an auditor would, with nothing of ours. `former`: the hash of the line before."""
    fields = {
        "action": line["action"],
        "actor": line["actor"],
        "at": line["at"].astimezone(UTC).isoformat(timespec="microseconds"),
        "batch": line["batch"],
        "facts": line["facts"],
        "id": line["id"],
        "ticket": line["ticket"],
    }
    text = json.dumps(fields, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(f"{former}\n{text}".encode()).hexdigest()


def refuse_lines(database: MovingDatabase) -> None:
    with database.writing() as connection:
        for statement in REFUSE_LINES_ON_SQLITE if database.is_sqlite else REFUSE_LINES_ON_POSTGRESQL:
            connection.exec_driver_sql(statement)
