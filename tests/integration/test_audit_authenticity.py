"""Whoever owns the tables can write hashes that fit; without the audit key, no HMACs. And what was noted outside shows
what even the key's owner rewrote."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import text, update
from support.data.audit_lines import hash_of, read, refuse_lines
from support.data.batches import TESTER, make_batch, statuses
from support.data.moving_clock import MovingDatabase

from models.audit import AuditLine
from models.authenticated import AuditKeys
from models.encrypted import generate_key
from models.record_states import Status
from worker import audit
from worker.audit import FIELDS, GENESIS, Actor, CheckResult, Head, NotedHead, encode_content, the_schedule, this_person
from worker.batches.commands import Batches, PaceCommands
from worker.config.settings import ConfigError, Settings
from worker.config.sources import load_settings

KEY, OTHER = generate_key(), generate_key()
KEYS = AuditKeys([KEY])


def person(key: str | None = KEY, head: Path | None = None) -> Actor:
    """Somebody at a machine with this audit key, and this place for heads."""
    variables = {"OATHBULK_DATABASE_URL": "postgresql+psycopg://db/oathbulk", "OATHBULK_ACTOR": "alice"}
    variables |= {"OATHBULK_AUDIT_KEY": key} if key else {}
    variables |= {"OATHBULK_AUDIT_HEAD": str(head)} if head else {}
    return this_person(load_settings(variables))


def write_lines(database: MovingDatabase, count: int, actor: Actor) -> None:
    """One a command."""
    batches = Batches(database, actor)
    for _ in range(count):
        batches.note_export("shipment", "export.csv")


@pytest.fixture(autouse=True)
def shipment(database: MovingDatabase) -> None:
    make_batch(database)


def check(database: MovingDatabase, keys: AuditKeys | None = KEYS) -> CheckResult:
    with database.reading() as connection:
        return audit.check(connection, keys)


def why(database: MovingDatabase, keys: AuditKeys | None = KEYS) -> str:
    broken = check(database, keys).broken
    assert broken is not None
    return f"{broken.line}: {broken.why}"


def take_triggers_away(database: MovingDatabase) -> None:
    """As who owns the tables may."""
    with database.writing() as connection:
        if not database.is_sqlite:
            connection.exec_driver_sql("DROP TRIGGER audit_append_only ON audit")
            return
        for name in ("audit_no_update", "audit_no_delete", "audit_no_replace"):
            connection.exec_driver_sql(f"DROP TRIGGER {name}")


def rewrite(
    database: MovingDatabase, first: int, sign: Callable[[bytes], str | None] | None = None, **changed: str
) -> None:
    """Line `first`, with hashes that fit there and in all lines after it. `sign` makes new HMACs; by default the old
    ones stay."""
    take_triggers_away(database)
    former = GENESIS
    lines = read(database)
    with database.writing() as connection:
        for line in lines:
            fields = {name: getattr(line, name) for name in FIELDS} | (changed if line.id == first else {})
            fitting = hash_of(fields, former)
            values = changed if line.id == first else {}
            values = values | ({"mac": sign(encode_content(former, fields))} if sign and line.id >= first else {})
            rewritten = update(AuditLine).where(AuditLine.id == line.id).values(values | {"hash": fitting})
            connection.execute(rewritten)
            former = fitting


# HMACs.


def test_a_line_is_authenticated_under_the_key_over_the_line_before_and_its_fields(database: MovingDatabase) -> None:
    write_lines(database, 2, person())

    first, second = read(database)

    fields = {name: getattr(second, name) for name in FIELDS}
    assert second.mac == AuditKeys([KEY]).sign(encode_content(first.hash, fields))
    assert second.hash == hash_of(second._mapping, first.hash)
    assert check(database) == CheckResult(2, 1, None, has_keys=True)


def test_who_rewrites_the_chain_with_fitting_hashes_and_without_the_key_is_found(database: MovingDatabase) -> None:
    write_lines(database, 4, person())

    rewrite(database, 2, actor="somebody else")

    # Without HMACs nobody would know.
    assert check(database, None).broken is None
    assert why(database) == "2: it was not written under the audit key"


def test_who_takes_the_hmacs_away_or_makes_them_under_a_key_of_their_own_is_found(database: MovingDatabase) -> None:
    write_lines(database, 4, person())

    rewrite(database, 2, AuditKeys([OTHER]).sign, actor="somebody else")
    assert why(database).startswith("2: it was authenticated under a key that is not among the audit keys")

    with database.writing() as connection:
        connection.execute(update(AuditLine).where(AuditLine.id >= 2).values(mac=None))
    assert why(database) == "2: it is not authenticated, although an earlier line is"
    assert why(database, None) == "2: it is not authenticated, although an earlier line is"


def test_lines_from_before_the_key_stay_and_are_told_apart_and_the_first_with_it_covers_them(
    database: MovingDatabase,
) -> None:
    write_lines(database, 3, TESTER)
    assert check(database) == CheckResult(3, None, None, has_keys=True)
    write_lines(database, 2, person())

    assert check(database) == CheckResult(5, 4, None, has_keys=True)
    assert [line.mac is None for line in read(database)] == [True] * 3 + [False] * 2

    rewrite(database, 1, actor="somebody else")
    assert why(database) == "4: it was not written under the audit key"


def test_the_key_can_be_changed(database: MovingDatabase) -> None:
    write_lines(database, 1, person(OTHER))
    write_lines(database, 1, person(f"{KEY},{OTHER}"))

    assert check(database, AuditKeys([KEY, OTHER])).broken is None
    assert "add that key to OATHBULK_AUDIT_KEY behind the first" in why(database, KEYS)
    assert check(database, None) == CheckResult(2, 1, None, has_keys=False)


def test_without_a_key_commands_work_and_their_lines_are_chained(database: MovingDatabase) -> None:
    write_lines(database, 2, person(None))

    assert [line.mac for line in read(database)] == [None, None]
    assert check(database, None) == CheckResult(2, None, None, has_keys=False)


def test_a_command_without_the_key_does_not_break_an_authenticated_audit(database: MovingDatabase) -> None:
    """It would be broken for good, since no line can be taken back."""
    made = make_batch(database, [{"status": Status.DEAD_LETTER, "reason": "forbidden"}], name="other")
    write_lines(database, 1, person())

    with pytest.raises(ConfigError, match=r"^OATHBULK_AUDIT_KEY is not set, but line 1 of the audit is authenticated"):
        Batches(database, person(None)).replay("other")

    assert statuses(database, made) == [Status.DEAD_LETTER]
    assert len(read(database)) == 1


def test_a_setting_that_is_no_key_is_refused_before_anything_is_done() -> None:
    with pytest.raises(ConfigError, match=r"^OATHBULK_AUDIT_KEY: "):
        this_person(load_settings({"OATHBULK_AUDIT_KEY": "made-up-key"}))


def test_the_schedules_lines_are_authenticated_too(database: MovingDatabase) -> None:
    make_batch(database, [{"status": Status.DEAD_LETTER, "reason": "attempts_spent"}], name="other")
    settings = Settings(database_url="postgresql+psycopg://db/oathbulk", audit_key=KEY)  # type: ignore[arg-type]

    assert Batches(database, the_schedule(settings)).replay_transient() == 1

    assert check(database) == CheckResult(1, 1, None, has_keys=True)


# Heads outside.


def noted(path: Path) -> list[NotedHead]:
    return audit.read_heads(str(path))


def find_missing(database: MovingDatabase, heads: list[NotedHead]) -> list[tuple[int | None, str]]:
    with database.reading() as connection:
        return [(missing.head.line, missing.why) for missing in audit.find_missing(connection, heads)]


def test_each_lines_head_is_noted_outside(database: MovingDatabase, tmp_path: Path) -> None:
    path = tmp_path / "heads"
    write_lines(database, 3, person(head=path))
    PaceCommands(database, person(head=path)).set_share("license", 0.5)

    lines = read(database)
    assert noted(path) == [NotedHead(line.hash, line.id) for line in lines]
    assert find_missing(database, noted(path)) == []
    assert find_missing(database, [NotedHead(lines[1].hash)]) == []


def test_a_head_is_noted_after_the_commit_and_not_without_it(
    database: MovingDatabase, database_url: str, tmp_path: Path
) -> None:
    """What is noted must be in the database: another connection sees it."""
    seen = []

    def look(head: Head) -> None:
        other = MovingDatabase(database_url)
        seen.append((head.hash, [line.hash for line in read(other)]))
        other.close()

    actor = person()
    actor = replace(actor, note_head=look)
    write_lines(database, 1, actor)
    refuse_lines(database)
    with pytest.raises(Exception, match="no room"):
        write_lines(database, 1, actor)

    ((noted_hash, hashes),) = seen
    assert [noted_hash] == hashes


def test_each_line_of_a_transaction_is_noted(database: MovingDatabase, tmp_path: Path) -> None:
    for name in ("second", "third"):
        make_batch(database, [{"status": Status.DEAD_LETTER, "reason": "attempts_spent"}], name=name)

    Batches(database, person(head=tmp_path / "heads")).replay_transient()

    assert [head.line for head in noted(tmp_path / "heads")] == [1, 2]


def test_a_place_that_takes_no_head_undoes_nothing_and_the_next_line_goes_on(
    database: MovingDatabase, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "later" / "heads"
    with caplog.at_level(logging.WARNING):
        write_lines(database, 1, person(head=path))
    assert "(line 1) could not be noted" in caplog.text
    path.parent.mkdir()

    write_lines(database, 1, person(head=path))

    assert len(read(database)) == 2
    assert [head.line for head in noted(path)] == [2]


def test_heads_show_what_who_has_the_key_too_cut_off_or_rewrote(database: MovingDatabase, tmp_path: Path) -> None:
    path = tmp_path / "heads"
    write_lines(database, 4, person(head=path))

    rewrite(database, 3, KEYS.sign, actor="somebody else")
    with database.writing() as connection:
        connection.execute(text("DELETE FROM audit WHERE id > 3"))

    assert check(database).broken is None
    assert find_missing(database, noted(path)) == [
        (3, "line 3 was rewritten after its head was noted"),
        (4, "line 4 was cut off: the audit ends with line 3"),
    ]
    assert find_missing(database, [NotedHead("0" * 64)]) == [
        (None, "no line has this hash: the line was cut off or rewritten")
    ]


def test_after_a_commit_each_call_is_made_once(database: MovingDatabase) -> None:
    got = list[int]()

    with database.writing() as connection:
        database.after_commit(connection, lambda: got.append(1))
        database.after_commit(connection, lambda: got.append(2))
        assert got == []
    with database.writing():
        pass

    assert got == [1, 2]
