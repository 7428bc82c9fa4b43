"""A purge takes finished batches away, keeps how they ended, and may be killed at any step, on both databases."""

from __future__ import annotations

import pytest
from sqlalchemy import insert, update
from support.data.audit_lines import read
from support.data.batches import TESTER, attempts, look_at_batch
from support.data.loading import ACTIVE, REFUSED, PurgeDesk, file_bytes, token

from models.inventory_job import InventoryJob, JobKind
from models.record import Record
from models.record_states import Status
from worker import audit
from worker import purging as module
from worker.batches.commands import Batches
from worker.batches.finding import BatchPurged
from worker.database.engine import Database
from worker.notices import Recorder
from worker.reports.facts import read_statuses, take_environment_for_license
from worker.reports.search import Sought, search
from worker.reports.token_history import UnknownToken, read_histories

PERSON = {"username": "lea.santos", "email": "lea@example.org", "external_id": "E-4711", "Carton": "box of Lea"}


def people(numbers: range) -> list[dict[str, str]]:
    return [token(number, **PERSON) for number in numbers]


def test_a_batch_that_ended_long_ago_leaves_its_counts_and_nothing_about_tokens_or_people(desk: PurgeDesk) -> None:
    tokens = people(range(3))
    loaded = desk.load(tokens, ACTIVE, ACTIVE, ACTIVE)
    Recorder(desk.database, take_environment_for_license).record()
    (before,) = read_statuses(desk.database, "july")
    ids = [record.id for record in desk.desk.records(loaded)]

    desk.purge()

    (after,) = read_statuses(desk.database, "july")
    assert after.purged_at is not None
    told, kept = after.to_json(), before.to_json()
    changing = {"purged_at", "pace", "still_for_seconds"}
    assert {name for name in told if told[name] != kept[name]} <= changing
    assert (after.counts["active"], after.total, after.state) == (3, 3, "finished")
    everything = desk.read_everything()
    for row in tokens:
        for name in ("serial", "user_id", "device_id", "username", "email", "external_id", "Carton"):
            assert row[name] not in everything, name
    assert [attempts(desk.database, record_id) for record_id in ids] == [[], [], []]


def test_a_line_of_the_audit_says_who_purged_what_and_the_others_stay(desk: PurgeDesk) -> None:
    desk.load([token(0), token(1)], ACTIVE, REFUSED)

    desk.purge(gives_up=True)

    load, purge = read(desk.database)
    assert (load.action, purge.action, purge.actor, purge.batch) == ("load", "purge", "tester", "july")
    facts = dict(purge.facts)
    assert facts.pop("ended_at")
    assert facts == {"records": 2, "older_than_days": 90, "active": 1, "dead_letter": 1}
    with desk.database.reading() as connection:
        assert audit.check(connection).broken is None


def test_what_ended_lately_or_has_not_ended_stays_without_a_word(desk: PurgeDesk) -> None:
    desk.load([token(0), token(1)], ACTIVE, name="open")
    desk.load([token(2)], ACTIVE, name="young")

    assert desk.purge(days=101).candidates == []
    (only,) = desk.make(days=99).examine().candidates
    assert only.name == "young"


def test_dead_letters_keep_a_batch_until_a_person_gives_them_up(desk: PurgeDesk) -> None:
    desk.load([token(0), token(1)], ACTIVE, REFUSED)
    desk.database.ahead = 100 * 86400.0

    (kept,) = desk.make().examine().candidates

    assert kept.obstacle is not None
    assert kept.obstacle.startswith("1 dead letter waits for a person: replay or mend it, or give it up")
    assert desk.make(gives_up=True).examine().going
    Batches(desk.database, TESTER).cancel("july")
    assert desk.make().examine().going


def test_dead_letters_that_came_back_wait_for_nobody_and_both_batches_go_together(desk: PurgeDesk) -> None:
    desk.load([token(0), token(1)], ACTIVE, REFUSED)
    desk.load([token(1, otp1="111111", otp2="222222")], ACTIVE, name="again")

    assert [each.name for each in desk.purge().going] == ["july", "again"]
    (status,) = read_statuses(desk.database, "july")
    assert (status.tokens_active, status.tokens_left) == (1, 1)


def test_a_batch_stays_in_which_the_tokens_of_one_that_stays_came_back(desk: PurgeDesk) -> None:
    desk.load([token(0), token(1)], REFUSED, REFUSED)
    desk.load([token(1, otp1="111111", otp2="222222")], ACTIVE, name="again")
    desk.database.ahead = 100 * 86400.0

    july, again = desk.make().examine().candidates

    assert july.obstacle is not None
    assert again.obstacle == "batch july, which stays, has tokens that are not active there and came back in it"


def test_a_batch_whose_import_has_not_ended_stays(desk: PurgeDesk) -> None:
    loaded = desk.load([token(0)], ACTIVE)
    with desk.database.writing() as connection:
        job = {"batch_id": loaded.batch_id, "kind": JobKind.IMPORT, "size": 1, "sent_at": desk.database.now()}
        connection.execute(insert(InventoryJob).values(job))
    desk.database.ahead = 100 * 86400.0

    (kept,) = desk.make().examine().candidates

    assert kept.obstacle is not None
    assert "has not ended" in kept.obstacle


def test_a_batch_that_a_person_puts_to_work_again_after_the_plan_stays(desk: PurgeDesk) -> None:
    desk.load([token(0)], REFUSED)
    desk.database.ahead = 100 * 86400.0
    purging = desk.make(gives_up=True)
    plan = purging.examine()
    with desk.database.writing() as connection:
        connection.execute(update(Record).values(status=Status.PENDING, finalized_at=None))

    assert purging.purge(plan).going == []
    assert look_at_batch(desk.database, 1).purged_at is None


@pytest.mark.parametrize("chunks", [0, 1, 2])
def test_a_purge_that_is_killed_shows_nothing_of_the_batch_and_goes_on(
    desk: PurgeDesk, chunks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHUNK", 2)
    tokens = [token(number) for number in range(5)]
    loaded = desk.load(tokens, *[ACTIVE] * 5)
    record_id = desk.desk.records(loaded)[-1].id
    desk.database.ahead = 100 * 86400.0
    purging, taken = desk.make(), 0

    def die(*_: object) -> None:
        nonlocal taken
        taken += 1
        if taken > chunks:
            raise KeyboardInterrupt

    real = module._remove_chunk

    def remove_or_die(database: Database, batch_id: int) -> int:
        die()
        return real(database, batch_id)

    plan = purging.examine()
    monkeypatch.setattr(module, "_remove_chunk", remove_or_die)
    with pytest.raises(KeyboardInterrupt):
        purging.purge(plan)
    monkeypatch.setattr(module, "_remove_chunk", real)

    assert len(desk.desk.records(loaded)) == 5 - 2 * chunks
    (status,) = read_statuses(desk.database, "july")
    assert (status.counts["active"], status.total, status.purged_at is None) == (5, 5, False)
    assert search(desk.database, Sought(), 10).found == []
    for name in (tokens[-1]["serial"], tokens[-1]["device_id"], f"#{record_id}"):
        with pytest.raises(UnknownToken):
            read_histories(desk.database, name)
    # A token is recognised until its record is gone.
    again = desk.desk.load([*tokens, token(7)], "again")
    assert (again.total, again.rows_refused) == (1 + 2 * chunks, 5 - 2 * chunks)

    plan = desk.make().examine()
    assert [(left.name, left.records) for left in plan.left] == [("july", 5 - 2 * chunks)]
    assert purging.purge(plan).going == []
    assert desk.desk.records(loaded) == []
    assert read(desk.database)[-1].facts == {"records": 5 - 2 * chunks, "is_continued": True}
    assert desk.make().examine().left == []


def test_commands_on_a_purged_batch_say_what_is_left_of_it(desk: PurgeDesk) -> None:
    desk.load([token(0)], ACTIVE)
    desk.purge()
    batches = Batches(desk.database, TESTER)

    for command in (batches.pause, batches.resume, batches.cancel, batches.replay):
        with pytest.raises(BatchPurged, match=r"batch 'july' was purged on .* its records are gone"):
            command("july")
    with pytest.raises(BatchPurged):
        search(desk.database, Sought(batch="july"), 10)
    assert Recorder(desk.database, take_environment_for_license).record() == 0


def test_a_batch_in_a_known_environment_needs_no_trial_after_the_purge(desk: PurgeDesk) -> None:
    desk.load([token(0)], ACTIVE)
    desk.purge()

    loaded = desk.desk.load([token(number) for number in range(1, 9)], "next", first_records=3)

    assert look_at_batch(desk.database, loaded.batch_id).trial_row is None


def test_sqlites_files_hold_nothing_of_what_went(desk: PurgeDesk) -> None:
    if not desk.database.is_sqlite:
        pytest.skip("PostgreSQL's files are its autovacuum's")
    tokens = people(range(50))
    desk.load(tokens, *[ACTIVE] * 50)
    assert tokens[7]["serial"].encode() in file_bytes(desk.desk.directory)

    desk.purge()

    found = file_bytes(desk.desk.directory)
    for name in ("serial", "user_id", "device_id", "username", "email"):
        assert tokens[7][name].encode() not in found, name
