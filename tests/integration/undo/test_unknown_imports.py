"""Undoing where it is not known whether the batch imported a token: on both databases, against the simulator."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import insert, update
from support.data.batches import Made, look, make_batch
from support.data.moving_clock import MovingDatabase
from support.data.undo_desk import TOKEN, Desk, PingOne, make_tokens

from models.batch import Batch, BatchState
from models.encrypted import identify_row
from models.inventory_job import InventoryJob, JobKind, JobState
from models.record import Record
from worker.batches import removal
from worker.batches.commands import NotPossible
from worker.batches.undo import TokenCounts
from worker.vault.otps import Secret, Seed


def import_by(database: MovingDatabase, made: Made, state: JobState, *record_ids: int, sent_ago: float = 0.0) -> int:
    """Write down that a job imported the tokens of these records, and was sent so many seconds ago. Returns the id of
    its row."""
    values = {"batch_id": made.batch_id, "kind": JobKind.IMPORT, "state": state, "size": len(record_ids)}
    with database.writing() as connection:
        written = insert(InventoryJob).values(values | {"sent_at": database.now(-sent_ago)}).returning(InventoryJob.id)
        job = connection.scalars(written).one()
        connection.execute(update(Record).where(Record.id.in_(record_ids)).values(import_job_id=job))
    return job


UNKNOWN = TOKEN | {"is_token_made": False, "is_in_inventory": False, "owner_id": None}


def test_what_the_list_does_not_have_yet_is_looked_up_by_itself(
    database: MovingDatabase, pingone: PingOne, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_tokens(database, pingone, [TOKEN, UNKNOWN])
    job = import_by(database, made, JobState.LOST, made.ids[1])
    monkeypatch.setattr(removal, "find_tokens", lambda *_: {})

    result = desk.command.undo("shipment")

    assert (result.tokens.gone, [each.row_number for each in result.kept.values()]) == (0, [2, 3])
    assert {each.why for each in result.kept.values()} == {
        "PingOne shows its token in one place and not in another: give the command again"
    }
    assert look(database, made.ids[0]).is_token_made
    assert look(database, made.ids[1]).import_job_id == job


def test_a_token_that_the_list_does_not_have_after_a_lost_revocation_is_looked_up_by_itself(
    database: MovingDatabase, pingone: PingOne, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_tokens(database, pingone, [TOKEN] * 2)
    pingone.order("reset_before", "revoke_tokens")
    lists, read_list = list[int](), removal.find_tokens
    monkeypatch.setattr(
        removal, "find_tokens", lambda *arguments: {} if lists else lists.append(1) or read_list(*arguments)
    )

    result = desk.command.undo("shipment")

    assert (result.tokens.revoked, len(result.kept), len(pingone.tokens())) == (0, 2, 2)
    assert [look(database, record_id).is_token_made for record_id in made.ids] == [True] * 2


def test_an_import_of_unknown_fate_that_made_nothing_is_written_down(
    database: MovingDatabase, pingone: PingOne, desk: Desk
) -> None:
    made = make_batch(database, [UNKNOWN], state=BatchState.CANCELLED)
    import_by(database, made, JobState.LOST, made.id)

    assert desk.command.undo("shipment").tokens == TokenCounts()

    assert look(database, made.id).import_job_id is None


@pytest.mark.parametrize(
    ("sent_ago", "is_ours"),
    [
        (60.0, True),
        # Ten minutes of the job, and two that two clocks may differ by.
        (700.0, True),
        # Somebody else made it since, or before: PingOne's is of this moment.
        (750.0, False),
        (-150.0, False),
    ],
)
def test_a_token_of_an_import_of_unknown_fate_is_revoked_if_it_was_made_then(
    database: MovingDatabase, pingone: PingOne, desk: Desk, sent_ago: float, is_ours: bool
) -> None:
    made = make_batch(database, [UNKNOWN], state=BatchState.CANCELLED)
    record = look(database, made.id)
    seed = Seed(secret=Secret(b"12345678901234567890"))
    job = import_by(database, made, JobState.LOST, made.id, sent_ago=sent_ago)
    with database.writing() as connection:
        sealed = desk.keyring.seal(seed.to_plaintext(), identify_row(made.batch_id, record.row_number))
        connection.execute(update(Record).values(otps=sealed))
    pingone.seed(tokens=[{"serial": record.serial_number, "secret": b"12345678901234567890".hex()}])

    result = desk.command.undo("shipment")

    assert (result.tokens.revoked, pingone.tokens()) == ((1, set()) if is_ours else (0, {record.serial_number}))
    if not is_ours:
        assert "was not made then" in next(iter(result.kept.values())).why
        assert look(database, made.id).import_job_id == job


@pytest.mark.parametrize("state", [JobState.SENT, JobState.RUNNING])
def test_imports_that_have_not_ended_are_counted_where_nothing_is_followed(
    database: MovingDatabase, pingone: PingOne, desk: Desk, state: JobState
) -> None:
    made = make_batch(database, [UNKNOWN] * 3, state=BatchState.CANCELLED)
    import_by(database, made, JobState.DONE, made.ids[0])
    import_by(database, made, state, *made.ids[1:])
    assert desk.command.examine("shipment").tokens == TokenCounts(open_imports=1)


def test_what_was_found_is_not_written_down_if_the_batch_goes_on_meanwhile(
    database: MovingDatabase, pingone: PingOne, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_batch(database, [TOKEN, UNKNOWN, {}], state=BatchState.PAUSED)
    job = import_by(database, made, JobState.LOST, made.ids[1])
    read_list = removal.find_tokens

    def resume_meanwhile(*arguments: Any) -> Any:
        with database.writing() as connection:
            connection.execute(update(Batch).values(state=BatchState.RUNNING))
        return read_list(*arguments)

    monkeypatch.setattr(removal, "find_tokens", resume_meanwhile)
    with pytest.raises(NotPossible, match="runs"):
        desk.command.undo("shipment")

    assert look(database, made.ids[0]).is_token_made
    assert look(database, made.ids[1]).import_job_id == job


def test_the_fate_of_a_token_that_is_imported_again_is_left_to_that_import(
    database: MovingDatabase, desk: Desk
) -> None:
    made = make_batch(database, [UNKNOWN] * 4, state=BatchState.PAUSED)
    lost, again = made.ids[:2], made.ids[2:]
    import_by(database, made, JobState.LOST, *lost)
    job = import_by(database, made, JobState.SENT, *again)

    with database.changing_many() as connection:
        made_now, never_made = [lost[0], again[0]], [lost[1], again[1]]
        desk.command._revocation.note_fates(connection, made.batch_id, made=made_now, never_made=never_made)

    assert [look(database, record_id).is_token_made for record_id in made.ids] == [True, False, False, False]
    assert [look(database, record_id).import_job_id for record_id in (lost[1], *again)] == [None, job, job]
