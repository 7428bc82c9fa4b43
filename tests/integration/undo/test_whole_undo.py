"""Devices and tokens of a batch go by one command, or those of a list alone: on both databases, against the
simulator."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy import update
from support.data.batches import Made, look, statuses
from support.data.moving_clock import MovingDatabase
from support.data.undo_desk import OPEN, OURS, TOKEN, Desk, PingOne, audit_facts, make

from models.batch import Batch, BatchState
from models.record_states import Status
from worker import audit
from worker.batches import removal, undo
from worker.batches.commands import NotPossible
from worker.batches.removal import DeviceOutcome, End, Removal
from worker.batches.undo import Kept, TokenCounts
from worker.intake import SerialList
from worker.pingone.client import Call
from worker.pingone.errors import CredentialsRefused

# A record that imported its token and made a device of it.
BOTH = TOKEN | OURS | {"status": Status.ACTIVE}


def make_both(database: MovingDatabase, pingone: PingOne, count: int) -> Made:
    """A batch whose every record has made a token and a device."""
    return make(database, pingone, [BOTH | {"device_id": f"made-{place}"} for place in range(count)])


def list_of(*serial_numbers: str) -> SerialList:
    return SerialList(serial_numbers, "digest")


def actions(database: MovingDatabase) -> list[tuple[str, dict[str, Any]]]:
    with database.reading() as connection:
        return [(line.action, line.facts) for line in audit.read(connection)]


def test_the_devices_go_first_and_then_their_tokens_with_a_line_in_the_audit_for_each_chunk(
    database: MovingDatabase, pingone: PingOne, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(undo, "CHUNK", 3)
    made = make_both(database, pingone, 5)

    shown = desk.command.examine("shipment")
    assert (shown.devices.ends, shown.tokens, shown.kept) == ({End.THERE: 5}, TokenCounts(own=5), {})
    assert (len(pingone.devices()), len(pingone.tokens()), audit_facts(database)) == (5, 5, [])

    result = desk.command.undo("shipment")

    assert (result.devices.ends, result.tokens) == ({End.REMOVED: 5}, TokenCounts(own=5, revoked=5))
    assert (pingone.devices(), pingone.tokens(), statuses(database, made)) == (set(), set(), ["cancelled"] * 5)
    assert pingone.calls("unpair", "revoke_tokens") == ["unpair"] * 5 + ["revoke_tokens"] * 2
    none = {"gone": 0, "left": 0}
    assert actions(database) == [
        ("unpair", {"devices": 5, "unknown_pairings": 0}),
        *(("unpair", {"removed": count, "never_made": 0} | none) for count in (3, 2)),
        ("revoke", {"tokens": 5}),
        *(("revoke", {"revoked": count} | none) for count in (4, 1)),
    ]

    # Typed again, it changes nothing, and counts the same.
    again = desk.command.undo("shipment")
    assert (again.devices.earlier, again.devices.ends, again.tokens) == (5, {}, TokenCounts(earlier=5))
    assert (len(actions(database)), len(pingone.calls("unpair", "revoke_tokens"))) == (6, 7)


def test_with_devices_only_the_tokens_stay(database: MovingDatabase, pingone: PingOne, desk: Desk) -> None:
    make_both(database, pingone, 2)

    result = desk.command.undo("shipment", devices_only=True)

    assert (result.tokens, result.is_whole) == (None, True)
    assert (pingone.devices(), len(pingone.tokens())) == (set(), 2)
    assert pingone.calls("revoke_tokens") == []
    assert desk.command.undo("shipment").tokens == TokenCounts(own=2, revoked=2)


def test_a_device_that_stays_keeps_its_token_and_is_named_once(
    database: MovingDatabase, pingone: PingOne, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_both(database, pingone, 2)
    remove = Removal.remove

    def lose_the_first(removal: Removal, row: Any) -> DeviceOutcome:
        return DeviceOutcome(End.LEFT, "lost") if row.id == made.ids[0] else remove(removal, row)

    monkeypatch.setattr(Removal, "remove", lose_the_first)
    result = desk.command.undo("shipment")

    assert result.tokens == TokenCounts(own=1, revoked=1, left=1)
    assert [(each.row_number, each.why) for each in result.kept.values()] == [(2, "lost")]
    assert (len(pingone.devices()), len(pingone.tokens())) == (1, 1)


def test_an_inventory_that_shows_a_removed_device_for_a_while_does_not_keep_its_token(
    database: MovingDatabase, pingone: PingOne, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_both(database, pingone, 2)
    serials = {look(database, record_id).serial_number.lower() for record_id in made.ids}
    before = removal.find_tokens(desk.clients.reads(desk.environment), serials, Call("batch", "record"))
    assert {token.device_id for token in before.values()} == {"made-0", "made-1"}
    monkeypatch.setattr(removal, "find_tokens", lambda *_: before)

    assert desk.command.undo("shipment").tokens == TokenCounts(own=2, revoked=2)


def test_of_a_list_only_its_tokens_go_and_what_is_nothing_to_the_batch_is_named(
    database: MovingDatabase, pingone: PingOne, desk: Desk
) -> None:
    found = {"status": Status.ACTIVE, "is_in_inventory": True, "device_id": "found"}
    made = make(database, pingone, [BOTH | {"device_id": "leaver"}, BOTH | {"device_id": "stays"}, found])
    leaver, stays, theirs = (look(database, record_id).serial_number for record_id in made.ids)
    only = list_of(leaver.lower(), theirs, "UNKNOWN1")

    shown = desk.command.examine("shipment", only)
    result = desk.command.undo("shipment", only)

    assert (shown.devices.made, shown.devices.ends, shown.tokens) == (1, {End.THERE: 1}, TokenCounts(1, not_ours=1))
    assert (result.devices.ends, result.tokens) == ({End.REMOVED: 1}, TokenCounts(1, 1, not_ours=1))
    left_alone = [
        Kept(4, theirs, "this batch has made nothing of it that may be taken away"),
        Kept(None, "UNKNOWN1", "no row of this batch has it"),
    ]
    assert list(result.kept.values()) == list(shown.kept.values()) == left_alone
    assert not result.is_whole
    assert (pingone.devices(), pingone.tokens()) == ({"stays", "found"}, {stays, theirs})
    assert statuses(database, made) == ["cancelled", "active", "active"]
    assert [facts.get("only") for _, facts in actions(database)] == ["digest", None, "digest", None]
    # Typed again, nothing is named that went before.
    assert desk.command.undo("shipment", list_of(leaver)).is_whole


def test_while_the_batch_runs_a_list_needs_a_pause_and_no_cancel(
    database: MovingDatabase, pingone: PingOne, desk: Desk
) -> None:
    made = make(database, pingone, [BOTH | {"device_id": "leaver"}, {"device_id": ""}], state=BatchState.RUNNING)
    only = list_of(look(database, made.ids[0]).serial_number)
    with pytest.raises(NotPossible, match="`oathbulk pause shipment` first"):
        desk.command.undo("shipment", only)
    with database.writing() as connection:
        connection.execute(update(Batch).values(state=BatchState.PAUSED))

    assert desk.command.undo("shipment", only).is_whole

    assert statuses(database, made) == ["cancelled", "pending"]


def test_a_dry_run_leaves_open_what_a_pairing_of_unknown_fate_has_made(
    database: MovingDatabase, pingone: PingOne, desk: Desk
) -> None:
    lost = TOKEN | OPEN | {"status": Status.PENDING, "otp_sent_at": database.read_clock()}
    made = make(database, pingone, [lost])
    record = look(database, made.id)
    pingone.seed(devices=[{"serial": record.serial_number, "user_id": record.user_id, "device_id": "made"}])

    shown = desk.command.examine("shipment")
    assert (shown.devices.unknown_pairings, shown.tokens, shown.kept) == (1, TokenCounts(), {})

    result = desk.command.undo("shipment")
    assert (result.devices.ends, result.tokens) == ({End.REMOVED: 1}, TokenCounts(own=1, revoked=1))
    assert (pingone.devices(), pingone.tokens()) == (set(), set())


def test_wrong_credentials_are_asked_about_once_and_not_for_each_device(
    database: MovingDatabase, pingone: PingOne, desk: Desk
) -> None:
    made = make_both(database, pingone, 5)
    desk.environment = desk.environment.model_copy(update={"client_secret": SecretStr("another")})

    with pytest.raises(CredentialsRefused):
        desk.command.undo("shipment")

    assert pingone.calls("access_token", "list", "unpair") == ["access_token"]
    # Not a thread began.
    assert desk.told == []
    assert statuses(database, made) == ["active"] * 5
