"""A judge of status changes: the database itself notes each one, whichever process or statement made it."""

from sqlalchemy import text

from models.record_states import TRANSITIONS, Status
from worker.database.engine import Database

_TABLE = "CREATE TABLE seen_move (record_id BIGINT NOT NULL, source TEXT NOT NULL, target TEXT NOT NULL)"
_POSTGRESQL = (
    _TABLE,
    """CREATE FUNCTION note_move() RETURNS trigger LANGUAGE plpgsql AS
       $$ BEGIN INSERT INTO seen_move VALUES (old.id, old.status, new.status); RETURN NULL; END $$""",
    """CREATE TRIGGER note_move AFTER UPDATE ON record FOR EACH ROW
       WHEN (old.status IS DISTINCT FROM new.status) EXECUTE FUNCTION note_move()""",
)
_SQLITE = (
    _TABLE,
    """CREATE TRIGGER note_move AFTER UPDATE ON record WHEN old.status IS NOT new.status
       BEGIN INSERT INTO seen_move VALUES (old.id, old.status, new.status); END""",
)


def watch_moves(database: Database) -> None:
    """From here on, every change of a record's status is noted in a table of the judge's own."""
    with database.writing() as connection:
        for statement in _SQLITE if database.is_sqlite else _POSTGRESQL:
            connection.exec_driver_sql(statement)


def seen_moves(database: Database, record_id: int | None = None) -> list[tuple[Status, Status]]:
    """The changes so far, of one record or of all."""
    mine = "" if record_id is None else "WHERE record_id = :record_id"
    with database.reading() as connection:
        rows = connection.execute(
            text(f"SELECT source, target FROM seen_move {mine}"), {} if record_id is None else {"record_id": record_id}
        )
        return [(Status(row.source), Status(row.target)) for row in rows]


def judge_moves(database: Database) -> None:
    """Fails if a status took a way that is no arrow of the table of transitions."""
    wrong = set(seen_moves(database)) - TRANSITIONS
    assert not wrong, f"no arrows of TRANSITIONS: {sorted(wrong)}"


def judge_totals(database: Database) -> None:
    """Fails if a batch has other than its total of records, unless it was purged."""
    statement = """SELECT name, total, (SELECT count(*) FROM record WHERE record.batch_id = batch.id) AS records
                   FROM batch WHERE purged_at IS NULL"""
    with database.reading() as connection:
        wrong = [tuple(row) for row in connection.execute(text(statement)) if row.total != row.records]
    assert not wrong, f"(batch, total, records): {wrong}"
