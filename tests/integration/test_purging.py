"""A purge takes finished batches away, keeps how they ended, and may be killed at any step; a person's names are erased
from what is final, and the audit does not name the person."""

import io
import json
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest.mock import Mock, patch

import pytest
from sqlalchemy import text, update
from support.data.audit_lines import read
from support.data.batches import TESTER, Made, attempts, enqueue, look_at_batch, note_job
from support.data.loading import ACTIVE, REFUSED, LoadingDesk, Token, environment, file_bytes, token
from support.data.moving_clock import ON_SQLITE, MovingDatabase

from models.encrypted import Keyring
from models.inventory_job import JobState
from models.person import NAMES, PERSON
from models.record import Record
from models.record_states import Status
from worker import audit
from worker import purging as module
from worker.batches.commands import Batches
from worker.batches.finding import BatchPurged
from worker.leases.lease import Leases
from worker.notices import Notifier
from worker.pingone.devices import UserAttribute
from worker.purging import Erasure, Plan, Purging
from worker.reports.export import write_hand_out
from worker.reports.facts import read_statuses, take_environment_for_license
from worker.reports.search import Sought, name_user, search
from worker.reports.token_history import UnknownToken, read_histories
from worker.rules.decisions import choose_first_step
from worker.rules.steps import Limits, ReadDevice

DAY = 86400.0
LEA = {"username": "lea.santos", "email": "Lea@example.org", "external_id": "E-4711", "Carton": "box of Lea"}
TOM = {"username": "tom", "email": "tom@example.org", "external_id": "E-4712", "Carton": "box of Tom"}


@dataclass
class PurgeDesk(LoadingDesk):
    """Lets time pass, too, and purges."""

    def make(self, days: int = 90, **options: Any) -> Purging:
        return Purging(self.database, TESTER, timedelta(days=days), **options)

    def purge(self, days: int = 90, **options: Any) -> Plan:
        """Purge what ended longer ago than so many days, a hundred days later."""
        self.database.ahead += 100 * DAY
        purging = self.make(days, **options)
        return purging.purge(purging.examine())

    def read_everything(self) -> str:
        """All rows of all tables but the audit, as text."""
        tables = ("batch", "record", "attempt", "inventory_job", "process")
        return str([self.database.rows(text(f"SELECT * FROM {table}")) for table in tables])


@pytest.fixture
def desk(database: MovingDatabase, leases: Leases, keyring: Keyring, tmp_path: Path) -> PurgeDesk:
    return PurgeDesk(database, keyring, tmp_path, leases)


def tokens(count: int) -> list[Token]:
    """Lea's tokens, and one of Tom's at the end."""
    return [*(token(number, **LEA) for number in range(count)), token(99, **TOM)]


# Purge.


@ON_SQLITE
def test_a_batch_that_ended_long_ago_leaves_its_counts_and_nothing_about_tokens_or_people(desk: PurgeDesk) -> None:
    rows = tokens(2)
    loaded = desk.load(rows, "july", ACTIVE, ACTIVE, ACTIVE)
    webhook = Mock()
    Notifier(desk.database, take_environment_for_license, webhook).send_notices()
    (before,) = read_statuses(desk.database, "july")
    ids = [record.id for record in desk.records(loaded)]

    desk.purge()

    (after,) = read_statuses(desk.database, "july")
    told, kept = after.to_json(), before.to_json()
    assert {name for name in told if told[name] != kept[name]} <= {"purged_at", "pace", "still_for_seconds"}
    assert (after.counts["active"], after.total, after.state, bool(after.purged_at)) == (3, 3, "finished", True)
    everything = desk.read_everything()
    columns = ("serial", "user_id", "device_id", "username", "email", "external_id", "Carton")
    assert not [row[name] for row in rows for name in columns if row[name] in everything]
    assert [attempts(desk.database, record_id) for record_id in ids] == [[], [], []]

    # Commands on it say what is left of it.
    batches = Batches(desk.database, TESTER)
    for command in (batches.pause, batches.resume, batches.cancel, batches.replay):
        with pytest.raises(BatchPurged, match=r"batch 'july' was purged on .* its records are gone"):
            command("july")
    with pytest.raises(BatchPurged):
        search(desk.database, Sought(batch="july"), 10)
    Notifier(desk.database, take_environment_for_license, webhook).send_notices()
    assert webhook.post.call_count == 1
    # And the environment is known still: the next batch needs no trial.
    following = desk.load([token(number) for number in range(11, 19)], "next", first_records=3)
    assert look_at_batch(desk.database, following.batch_id).trial is None


def test_a_token_of_a_purged_batch_that_comes_in_another_file_is_read_before_its_first_otp(
    desk: PurgeDesk, leases: Leases
) -> None:
    """Its device may be ACTIVE, and nobody knows that any more."""
    desk.load([token(0)], "july", ACTIVE)
    desk.purge()
    again = desk.load([token(0), token(1)], "again")
    (read_first, _), environment_id = desk.records(again), environment().environment_id
    enqueue(desk.database, again)
    claimed = leases.claim(read_first.id, environment_id)
    assert not claimed.is_otp1_marked
    assert choose_first_step(claimed.progress, Limits())[1] == ReadDevice()

    # In an environment of which nothing was purged, OTP 1 goes at once.
    other = environment("other", "tenant-2")
    fresh = desk.load([token(5)], "other", into=other)
    enqueue(desk.database, fresh)
    assert leases.claim(desk.records(fresh)[0].id, other.environment_id).is_otp1_marked


@ON_SQLITE
def test_a_line_of_the_audit_says_who_purged_what_and_the_others_stay(desk: PurgeDesk) -> None:
    desk.load([token(0), token(1)], "july", ACTIVE, REFUSED)

    desk.purge(gives_up=True)

    load, purge = read(desk.database)
    assert (load.action, purge.action, purge.actor, purge.batch) == ("load", "purge", "tester", "july")
    told = {"records": 2, "older_than_days": 90, "active": 1, "dead_letter": 1, "ended_at": purge.facts["ended_at"]}
    assert purge.facts == told
    with desk.database.reading_snapshot() as connection:
        assert audit.check(connection).broken is None


@ON_SQLITE
def test_what_ended_lately_or_has_not_ended_stays_without_a_word(desk: PurgeDesk) -> None:
    desk.load([token(0), token(1)], "open", ACTIVE)
    desk.load([token(2)], "young", ACTIVE)

    assert desk.purge(days=101).candidates == []
    assert [only.name for only in desk.make(days=99).examine().candidates] == ["young"]


@ON_SQLITE
def test_dead_letters_keep_a_batch_until_a_person_gives_them_up(desk: PurgeDesk) -> None:
    desk.load([token(0), token(1)], "july", ACTIVE, REFUSED)
    desk.database.ahead = 100 * DAY

    (kept,) = desk.make().examine().candidates

    assert (kept.obstacle or "").startswith(
        "1 dead letter is waiting for someone: replay or mend it, or close it with --with-dead-letters"
    )
    assert desk.make(gives_up=True).examine().going
    Batches(desk.database, TESTER).cancel("july")
    assert desk.make().examine().going


@ON_SQLITE
def test_dead_letters_that_came_back_wait_for_nobody_and_both_batches_go_together(desk: PurgeDesk) -> None:
    desk.load([token(0), token(1)], "july", ACTIVE, REFUSED)
    desk.load([token(1, otp1="111111", otp2="222222")], "again", ACTIVE)

    assert [each.name for each in desk.purge().going] == ["july", "again"]
    (status,) = read_statuses(desk.database, "july")
    assert (status.active, status.failed + status.closed) == (1, 1)


@ON_SQLITE
def test_a_batch_stays_in_which_the_tokens_of_one_that_stays_came_back_or_whose_import_has_not_ended(
    desk: PurgeDesk,
) -> None:
    desk.load([token(0), token(1)], "july", REFUSED, REFUSED)
    desk.load([token(1, otp1="111111", otp2="222222")], "again", ACTIVE)
    imports = desk.load([token(2)], "imports", ACTIVE)
    note_job(desk.database, Made(imports.batch_id, "imports", []), JobState.SENT, size=1)
    desk.database.ahead = 100 * DAY

    july, again, importing = (each.obstacle or "" for each in desk.make().examine().candidates)

    assert again == "batch july, which stays, has unfinished tokens that were loaded again in this one"
    assert (july != "", "has not ended" in importing) == (True, True)


@ON_SQLITE
def test_a_batch_that_a_person_puts_to_work_again_after_the_plan_stays(desk: PurgeDesk) -> None:
    desk.load([token(0)], "july", REFUSED)
    desk.database.ahead = 100 * DAY
    purging = desk.make(gives_up=True)
    plan = purging.examine()
    desk.database.change(update(Record).values(status=Status.PENDING, finalized_at=None))

    assert (purging.purge(plan).going, look_at_batch(desk.database, 1).purged_at) == ([], None)


@pytest.mark.parametrize("chunks", [0, 1, 2])
def test_a_purge_that_is_killed_shows_nothing_of_the_batch_and_goes_on(
    desk: PurgeDesk, chunks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHUNK", 2)
    rows = [token(number) for number in range(5)]
    loaded = desk.load(rows, "july", *[ACTIVE] * 5)
    record_id = desk.records(loaded)[-1].id
    desk.database.ahead = 100 * DAY
    purging = desk.make()
    plan = purging.examine()
    turns = iter([module._remove_chunk] * chunks + [Mock(side_effect=KeyboardInterrupt)])
    with patch.object(module, "_remove_chunk", lambda *what: next(turns)(*what)), pytest.raises(KeyboardInterrupt):
        purging.purge(plan)

    left = 5 - 2 * chunks
    (status,) = read_statuses(desk.database, "july")
    assert (status.counts["active"], status.total, status.purged_at is None) == (5, 5, False)
    assert (len(desk.records(loaded)), search(desk.database, Sought(), 10).found) == (left, [])
    for name in (rows[-1]["serial"], rows[-1]["device_id"], f"#{record_id}"):
        with pytest.raises(UnknownToken):
            read_histories(desk.database, name)
    # A token is recognized until its record is gone.
    again = desk.load([*rows, token(7)], "again")
    assert (again.total, again.rows_refused) == (6 - left, left)

    plan = desk.make().examine()
    assert [(each.name, each.records) for each in plan.left] == [("july", left)]
    assert (purging.purge(plan).going, desk.records(loaded)) == ([], [])
    assert read(desk.database)[-1].facts == {"records": left, "is_continued": True}
    assert desk.make().examine().left == []


# Erasure.


@ON_SQLITE
@pytest.mark.parametrize("name", ["lea.santos", "LEA.Santos", "lea@example.org", "E-4711", token(0)["user_id"]])
def test_a_person_is_found_by_each_name_and_erased_from_what_is_final(desk: PurgeDesk, name: str) -> None:
    erasure, loaded = Erasure(desk.database, TESTER), desk.load(tokens(1), "july", ACTIVE, ACTIVE)
    # Nobody is erased whose name only begins so.
    assert (erasure.erase(name[:3]).batches, erasure.examine(name).batches) == ({}, {"july": 1})
    assert "lea.santos" in desk.read_everything()

    erased = erasure.erase(name)

    assert (erased.batches, erased.in_progress) == ({"july": 1}, [])
    everything = desk.read_everything()
    assert [each for each in (*LEA.values(), *TOM.values()) if each in everything] == list(TOM.values())
    record = desk.records(loaded)[0]
    # What an unpairing and a verification need stays.
    assert (record.status, record.user_id) == ("active", token(0)["user_id"])
    assert [line.action for line in read(desk.database)] == ["load", "purge --person"]


@ON_SQLITE
@pytest.mark.parametrize("name", PERSON)
def test_whatever_names_a_person_is_loaded_looked_up_searched_handed_out_and_erased(desk: PurgeDesk, name: str) -> None:
    row = token(0, **{each: f"lea.{each}" for each in NAMES})
    desk.load([row], "july", ACTIVE)
    assert {attribute.column for attribute in UserAttribute} == set(NAMES)
    assert [name_user(found) for found in search(desk.database, Sought(user=row[name]), 10).found] == ["lea.username"]
    hand_out = io.StringIO()
    write_hand_out(desk.database, "july", hand_out)
    assert row[name] in hand_out.getvalue()

    Erasure(desk.database, TESTER).erase(row[name])

    assert "lea." not in desk.read_everything()


@pytest.mark.parametrize(
    ("stored", "given"),
    [
        ("Änne.Öz", "änne.öz"),
        ("Änne.Öz", "ÄNNE.ÖZ"),
        ("ГАЛЯ%_", "галя%_"),
        ("STRASSE", "straße"),
        # In small letters it is an English i and a dot.
        ("İbrahim", "İbrahim"),
        # Written as a letter and its accent, as some systems do.
        ("A\u0308nne", "änne"),
        ("änne", "A\u0308nne"),
    ],
)
def test_a_name_with_other_letters_than_english_ones_is_found_in_large_and_small(
    desk: PurgeDesk, stored: str, given: str
) -> None:
    desk.load(
        [token(0, username=stored), token(1, username="Ännä.Öz"), token(2, username="галя%__")], "july", *[ACTIVE] * 3
    )

    assert Erasure(desk.database, TESTER).erase(given).batches == {"july": 1}

    everything = desk.read_everything()
    assert (stored in everything, "Ännä.Öz" in everything) == (False, True)


@ON_SQLITE
def test_the_audit_says_what_was_erased_and_never_whom(desk: PurgeDesk) -> None:
    desk.load(tokens(1), "july", ACTIVE, ACTIVE)
    desk.load([token(7, **LEA)], "august", ACTIVE)
    Erasure(desk.database, TESTER).erase("lea.santos")
    desk.load([token(8, **LEA)], "september", ACTIVE)

    Erasure(desk.database, TESTER).erase("Lea.Santos")

    facts = [line.facts for line in read(desk.database) if line.action == "purge --person"]
    assert [(each["records"], each["batches"]) for each in facts] == [(2, ["august", "july"]), (1, ["september"])]
    assert "lea" not in json.dumps(facts).lower()


@ON_SQLITE
def test_what_is_in_progress_keeps_its_names_and_what_was_given_up_does_not_go_again_for_an_erased_person(
    desk: PurgeDesk,
) -> None:
    loaded, batches = desk.load(tokens(3), "july", ACTIVE, REFUSED), Batches(desk.database, TESTER)
    desk.load([token(7, **LEA)], "august")
    batches.cancel("august")
    assert [bool(record.otps) for record in desk.records(loaded)] == [False, True, True, True]

    erased = Erasure(desk.database, TESTER).erase("lea.santos")

    assert (erased.batches, erased.in_progress) == ({"august": 1, "july": 2}, [(token(2)["serial"], "july")])
    records = desk.records(loaded)
    assert [record.username for record in records] == [None, None, "lea.santos", "tom"]
    assert [bool(record.otps) for record in records] == [False, False, True, True]
    assert batches.replay("august").records == 0


@ON_SQLITE
def test_sqlites_files_hold_no_name_that_was_erased_and_nothing_of_what_was_purged(desk: PurgeDesk) -> None:
    rows = tokens(49)
    desk.load(rows, "july", *[ACTIVE] * 50)
    assert b"lea.santos" in file_bytes(desk.directory)

    Erasure(desk.database, TESTER).erase("lea.santos")

    found, toms = file_bytes(desk.directory), [*TOM.values(), rows[-1]["serial"], rows[-1]["user_id"]]
    assert [name for name in (*LEA.values(), *toms) if name.encode() in found] == toms
    desk.purge()
    found, columns = file_bytes(desk.directory), ("serial", "user_id", "device_id", "username", "email")
    assert [row[name] for row in (rows[7], rows[-1]) for name in columns if row[name].encode() in found] == []
