"""What a batch made in PingOne is taken away again, devices first and then tokens, and nothing else; whatever fails, is
killed or changes meanwhile. On both databases, against the simulator."""

import threading
from collections.abc import Callable, Iterator
from contextlib import closing, nullcontext, suppress
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import Mock, patch

import pytest
from pydantic import SecretStr
from sqlalchemy import Update, select, true, update
from support.data.batches import TESTER, Made, look, make_batch, note_job, statuses
from support.data.loading import LoadingDesk, token
from support.data.moving_clock import ON_SQLITE, MovingDatabase
from support.data.undo_desk import OPEN, OURS, TOKEN, Desk, PingOne, actions, make, make_tokens

from models.batch import Batch, BatchState
from models.encrypted import Keyring, identify_row
from models.inventory_job import InventoryJob, JobKind, JobState
from models.reason import PauseReason, Reason
from models.record import Record
from models.record_states import UNTIL_LET_GO, OtpState, PairingState, Status
from models.row_fault import RowFault
from worker.batches import removal, undo
from worker.batches.commands import Batches, NotPossible, Replayed
from worker.batches.imports import JobLog
from worker.batches.mending import Mender
from worker.batches.removal import DeviceOutcome, End, Heir, Removal, Revocation
from worker.batches.undo import Kept, TokenCounts, Undo, find_batches_of
from worker.intake.files import Hints
from worker.intake.lists import TokenList
from worker.intake.rows import RowError, UnusableFile
from worker.intake.shipment import open_shipment
from worker.leases.moves import UNDO_LASTS, count_in_hand, note_tokens_gone
from worker.leases.queue import Queue
from worker.leases.replay import NotReplayed, Why, replay
from worker.pace.search import RateGroup
from worker.pingone.client import Call
from worker.pingone.clients import Pairings
from worker.pingone.errors import CredentialsRefused, NotDelivered, NotFound
from worker.reports.token_history import list_facts, read_histories
from worker.vault.otps import Secret, Seed

ACTIVE = OURS | {"status": Status.ACTIVE}
# A record that imported its token and made a device of it.
BOTH = TOKEN | ACTIVE
ANOTHERS = "the device with this id belongs to another token, or to none"
# An import may have made its token.
UNKNOWN = TOKEN | {"is_token_made": False, "is_in_inventory": False, "owner_id": None}


@pytest.fixture
def desk(database: MovingDatabase, pingone: PingOne, valkey_url: str, keyring: Keyring) -> Iterator[Desk]:
    with closing(Desk(database, pingone, valkey_url, keyring)) as desk:
        yield desk


def make_both(database: MovingDatabase, pingone: PingOne, count: int) -> Made:
    """A batch whose every record has made a token and a device."""
    return make(database, pingone, [BOTH | {"device_id": f"made-{place}"} for place in range(count)])


def around(
    where: Any,
    name: str,
    *,
    first: Callable[..., object] = lambda *_: None,
    then: Callable[..., object] = lambda *_: None,
) -> Any:
    """Patch a function, so that something is done before it, or after it, with the same arguments."""
    original = getattr(where, name)

    def do_all(*arguments: Any, **named: Any) -> Any:
        first(*arguments)
        result = original(*arguments, **named)
        then(*arguments)
        return result

    return patch.object(where, name, do_all)


# Who may be undone, and when.


@ON_SQLITE
@pytest.mark.parametrize(
    ("state", "reason", "says"),
    [
        (BatchState.RUNNING, None, "is running: `oathbulk cancel shipment` first"),
        (BatchState.PAUSED, PauseReason.OUTAGE, "continues by itself"),
    ],
)
def test_a_batch_that_somebody_works_on_is_undone_only_once_it_is_finished(
    database: MovingDatabase, pingone: PingOne, desk: Desk, state: BatchState, reason: PauseReason | None, says: str
) -> None:
    made = make(database, pingone, [ACTIVE, {"device_id": ""}], state=state)
    database.change(update(Batch).values(reason=reason))

    for command in (desk.command.undo, desk.command.examine):
        with pytest.raises(NotPossible, match=says):
            command("shipment")
    assert (len(pingone.devices()), statuses(database, made)) == (1, ["active", "pending"])
    assert actions(database) == []

    cancelled = {"status": Status.CANCELLED, "finalized_at": database.now()}
    database.change(update(Record).where(Record.status == Status.PENDING).values(cancelled))
    assert desk.command.undo("shipment").devices.ends == {End.REMOVED: 1}
    assert pingone.devices() == set()


@pytest.mark.parametrize("status", [Status.QUEUED, Status.ACTIVATING])
def test_a_record_in_hand_is_waited_for_and_that_of_a_dead_worker_is_taken_back(
    database: MovingDatabase, pingone: PingOne, desk: Desk, status: Status
) -> None:
    until = database.read_clock().replace(year=2100)
    made = make(database, pingone, [OURS | {"status": status, "lease_until": until}])
    with pytest.raises(NotPossible, match="1 record of batch 'shipment' is in progress"):
        desk.command.undo("shipment")
    database.change(update(Record).values(lease_until=until.replace(year=2001)))

    assert desk.command.undo("shipment").devices.ends == {End.REMOVED: 1}
    assert statuses(database, made) == ["cancelled"]


# What goes, and what stays.


def test_the_devices_go_first_and_then_their_tokens_with_a_line_in_the_audit_for_each_chunk(
    database: MovingDatabase, pingone: PingOne, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(undo, "CHUNK", 3)
    made = make_both(database, pingone, 5)

    shown = desk.command.examine("shipment")
    assert (shown.devices.ends, shown.tokens, shown.kept) == ({End.THERE: 5}, TokenCounts(own=5), {})
    assert (len(pingone.devices()), len(pingone.tokens()), actions(database)) == (5, 5, [])
    assert desk.told == [("Reading devices", done, 5) for done in (0, 1, 2, 3, 4, 5)]

    desk.told.clear()
    result = desk.command.undo("shipment")

    assert (result.devices.ends, result.tokens) == ({End.REMOVED: 5}, TokenCounts(own=5, revoked=5))
    assert (pingone.devices(), pingone.tokens(), statuses(database, made)) == (set(), set(), ["cancelled"] * 5)
    assert pingone.calls("unpair", "revoke_tokens") == ["unpair"] * 5 + ["revoke_tokens"] * 2
    none = {"gone": 0, "left": 0}
    assert actions(database) == [
        ("undo", {"records": 5, "persons": 5, "devices": 5, "unknown_pairings": 0}),
        *(("undo", {"removed": count, "never_made": 0} | none) for count in (3, 2)),
        ("undo", {"tokens": 5}),
        *(("undo", {"revoked": count} | none) for count in (4, 1)),
    ]
    assert [step for step in desk.told if step[0] == "Removing devices"] == [
        ("Removing devices", done, 5) for done in (0, 1, 2, 3, 4, 5)
    ]
    assert [done for what, done, _ in desk.told if what == "Revoking tokens"] == [0, 4, 5]

    # Typed again, it changes nothing, and counts the same.
    again = desk.command.undo("shipment")
    assert (again.devices.earlier, again.devices.ends, again.tokens) == (5, {}, TokenCounts(earlier=5))
    assert (len(actions(database)), len(pingone.calls("unpair", "revoke_tokens"))) == (6, 7)


def test_devices_and_tokens_that_the_batch_made_go_and_no_others(
    database: MovingDatabase, pingone: PingOne, desk: Desk
) -> None:
    ours = [
        OURS | {"status": status} for status in (Status.ACTIVE, Status.DEAD_LETTER, Status.PENDING, Status.CANCELLED)
    ]
    tokens = [TOKEN, TOKEN | {"status": Status.DEAD_LETTER}, TOKEN | {"is_token_made": False}]
    made = make(database, pingone, [*ours, {"status": Status.ACTIVE}, {"status": Status.PENDING}, *tokens])
    other = make(database, pingone, [ACTIVE, TOKEN], name="other")
    serials = [look(database, each).serial_number for each in (*made.ids[6:], other.ids[1])]
    pingone.seed(tokens=[{"serial": each} for each in serials])
    left = {look(database, record_id).device_id for record_id in (*made.ids[4:6], other.ids[0])}

    result = desk.command.undo("shipment")

    assert (result.devices.made, result.devices.ends) == (4, {End.REMOVED: 4})
    assert result.tokens == TokenCounts(own=2, revoked=2, not_ours=7)
    assert (pingone.devices(), set(serials) & pingone.tokens()) == (left, set(serials[2:]))
    assert statuses(database, made) == ["cancelled"] * 4 + ["active", "pending"] + ["cancelled"] * 3
    assert statuses(database, other) == ["active", "cancelled"]
    columns = (Record.device_id, Record.is_device_made, Record.pairing, Record.lease_id, Record.finalized_at)
    for *of_device, finalized_at in database.rows(select(*columns).where(Record.id.in_(made.ids[:4]))):
        assert (of_device, finalized_at is not None) == (["", True, PairingState.UNSENT, None], True)
    record = look(database, made.ids[6])
    assert (record.is_token_made, record.is_in_inventory, record.import_job_id) == (True, False, None)


@ON_SQLITE
def test_with_devices_only_the_tokens_stay(database: MovingDatabase, pingone: PingOne, desk: Desk) -> None:
    make_both(database, pingone, 2)

    result = desk.command.undo("shipment", devices_only=True)

    assert (result.tokens, result.is_whole) == (None, True)
    assert (pingone.devices(), len(pingone.tokens())) == (set(), 2)
    assert desk.command.undo("shipment").tokens == TokenCounts(own=2, revoked=2)


def test_of_a_list_only_its_tokens_go_after_a_pause_and_what_is_nothing_to_the_batch_is_named(
    database: MovingDatabase, pingone: PingOne, desk: Desk
) -> None:
    found = {"status": Status.ACTIVE, "is_in_inventory": True, "device_id": "found"}
    records = [BOTH | {"device_id": "leaver"}, BOTH | {"device_id": "stays"}, found, {"device_id": ""}]
    made = make(database, pingone, records, state=BatchState.RUNNING)
    leaver, stays, theirs, _ = (look(database, record_id).serial_number for record_id in made.ids)
    only = TokenList((leaver.lower(), theirs, "UNKNOWN1"), "digest")
    with pytest.raises(NotPossible, match="`oathbulk pause shipment` first"):
        desk.command.undo("shipment", only)
    database.change(update(Batch).values(state=BatchState.PAUSED))

    shown = desk.command.examine("shipment", only)
    result = desk.command.undo("shipment", only)

    assert (shown.devices.made, shown.devices.ends, shown.tokens) == (1, {End.THERE: 1}, TokenCounts(1, not_ours=1))
    assert (result.devices.ends, result.tokens) == ({End.REMOVED: 1}, TokenCounts(1, 1, not_ours=1))
    left_alone = [
        Kept(4, theirs, "this batch made nothing for it that can be removed"),
        Kept(None, "UNKNOWN1", "no row of this batch has it"),
    ]
    assert list(result.kept.values()) == list(shown.kept.values()) == left_alone
    assert not result.is_whole
    assert (pingone.devices(), pingone.tokens()) == ({"stays", "found"}, {stays, theirs})
    assert statuses(database, made) == ["cancelled", "active", "active", "pending"]
    assert [facts.get("only") for _, facts in actions(database)] == ["digest", None, "digest", None]
    # Typed again, nothing is named that went before.
    assert desk.command.undo("shipment", TokenList((leaver,), "digest")).is_whole


def test_who_leaves_is_found_in_every_batch_and_gets_nothing_at_a_later_date(
    database: MovingDatabase, pingone: PingOne, desk: Desk
) -> None:
    later = {"not_before": UNTIL_LET_GO, "scheduled_at": UNTIL_LET_GO}
    given_up = {"status": Status.DEAD_LETTER, "reason": Reason.ACCOUNT_NOT_USABLE, "email": "dora@x.test"}
    records = [BOTH | {"device_id": "made", "email": "ÄNNE@x.test"}, later | {"email": "bob@x.test"}, given_up]
    made = make(database, pingone, records, state=BatchState.PAUSED)
    make_batch(database, [{"email": "änne@x.test", "status": Status.ACTIVE}, {}], name="earlier")
    only = TokenList(("änne@x.test", "BOB@x.test", "eve@x.test", "Dora@x.test"), "digest", "email")
    found = find_batches_of(database, only)
    assert {name: each.names for name, each in found.items()} == {
        "shipment": ("änne@x.test", "BOB@x.test", "Dora@x.test"),
        "earlier": ("änne@x.test",),
    }
    assert len(desk.command.examine("shipment", only).cancelled) == 2
    # No list names persons so: whether they have a token is not known.
    others = TokenList(("E0001",), "digest", "external_id")
    for ask in (partial(find_batches_of, database), partial(desk.command.examine, "shipment")):
        with pytest.raises(NotPossible, match="has a value in external_id"):
            ask(others)
    # What is about to be done stands in the audit before.
    with patch.object(undo, "take_back", side_effect=KeyboardInterrupt), pytest.raises(KeyboardInterrupt):
        desk.command.undo("shipment", only)
    assert actions(database)[-1][1]["cancelled"] == 2
    result = desk.command.undo("shipment", only)
    assert (len(result.cancelled), list(result.kept)) == (2, ["eve@x.test"])
    assert statuses(database, made) == ["cancelled"] * 3
    (history,) = read_histories(database, f"#{made.ids[2]}")
    assert dict(list_facts(history.latest))["meaning"].startswith("An undo closed it.")
    # Nothing is left of it, which is no failure; and a replay takes none of them unless it is chosen.
    again = desk.command.undo("shipment", found["shipment"], ["email=bob@x.test"])
    assert (again.cancelled, list(again.kept)) == ([], ["änne@x.test", "Dora@x.test"])
    commands = Batches(database, TESTER)
    assert commands.replay("shipment") == Replayed(0, (NotReplayed(3, Status.CANCELLED, Why.TAKEN_BACK),))
    assert commands.replay("shipment", where=["email=bob@x.test"]).records == 1


def test_who_leaves_a_cancelled_batch_does_not_come_back_with_it(
    database: MovingDatabase, pingone: PingOne, desk: Desk
) -> None:
    waiting = [{"email": "bob@x.test"}, {"email": "eve@x.test"}, {"email": "dora@x.test"}]
    make(database, pingone, waiting, state=BatchState.PAUSED)
    commands = Batches(database, TESTER)
    desk.command.undo("shipment", TokenList(("bob@x.test",), "digest", "email"))
    commands.cancel("shipment")
    # Also who leaves only then.
    assert len(desk.command.undo("shipment", TokenList(("eve@x.test",), "digest", "email")).cancelled) == 1
    assert commands.replay("shipment") == Replayed(1, (NotReplayed(2, Status.CANCELLED, Why.TAKEN_BACK),))


@ON_SQLITE
@pytest.mark.parametrize(
    ("columns", "there", "settings", "end", "says"),
    [
        # The inventory names it, or the list does.
        (ACTIVE, {}, {"device_shows_serial_number": False}, End.REMOVED, ""),
        (ACTIVE, {"serial": "OTHER1"}, {"device_shows_serial_number": True}, End.LEFT, ANOTHERS),
        (ACTIVE, {"serial": "OTHER1"}, {"device_shows_serial_number": False}, End.LEFT, ANOTHERS),
        # Nothing names it.
        (
            ACTIVE,
            {},
            {"device_shows_serial_number": False, "forbidden_groups": ["inventory"]},
            End.LEFT,
            "let the worker application read the inventory",
        ),
        # PingOne deletes what waits for its activation longer than 24 hours, and a user's devices with the user: then
        # the inventory need not be read.
        (ACTIVE, None, {}, End.GONE, ""),
        (OURS, None, {"forbidden_groups": ["inventory"]}, End.GONE, ""),
        (OPEN, None, {"forbidden_groups": ["inventory"]}, End.NEVER_MADE, ""),
    ],
)
def test_a_device_is_removed_only_if_its_token_is_named_and_what_is_gone_is_written_down_by_the_real_command_alone(
    database: MovingDatabase,
    pingone: PingOne,
    desk: Desk,
    columns: dict[str, Any],
    there: dict[str, str] | None,
    settings: dict[str, Any],
    end: End,
    says: str,
) -> None:
    made = make_batch(database, [columns], state=BatchState.CANCELLED)
    if there is not None:
        pingone.give(look(database, made.id), **there)
    pingone.simulation.change(settings)
    before, devices = statuses(database, made), len(pingone.devices())
    desk.command.examine("shipment")
    assert (statuses(database, made), len(pingone.devices())) == (before, devices)

    result = desk.command.undo("shipment")

    assert (result.devices.ends, len(pingone.devices())) == ({end: 1}, int(end == End.LEFT))
    assert says in "".join(each.why for each in result.kept.values())
    assert statuses(database, made) == ["active" if end == End.LEFT else "cancelled"]
    assert pingone.calls("unpair", "remove_order") == ["unpair"] * (end == End.REMOVED)


@pytest.mark.parametrize(
    "other",
    [
        {"status": Status.PENDING},
        {"status": Status.PENDING, "device_id": "another"},
        {"status": Status.ACTIVE},
        {"status": Status.PENDING, "serial_number": "abc-1", "device_id": ""},
    ],
    ids=["it is not done with the device", "it is not done with the token", "it is active", "in small letters"],
)
@pytest.mark.parametrize("what", ["device", "token"])
def test_what_another_batch_goes_on_with_stays(
    database: MovingDatabase, pingone: PingOne, desk: Desk, other: dict[str, Any], what: str
) -> None:
    given_up = OURS | {"status": Status.DEAD_LETTER, "device_id": "mine"} if what == "device" else TOKEN
    make(database, pingone, [given_up | {"serial_number": "ABC-1"}])
    pingone.seed(tokens=[{"serial": "ABC-1"}] if what == "token" else [])
    make_batch(database, [{"serial_number": "ABC-1", "device_id": "MINE"} | other], name="again")

    (kept,) = desk.command.undo("shipment").kept.values()

    assert kept.why == (
        "batch again still has this token, so it stays: run `oathbulk cancel again`; or, if the token is active there, "
        "run `oathbulk undo again`, or remove it in PingOne"
    )
    assert pingone.devices() if what == "device" else pingone.tokens() == {"ABC-1"}


@ON_SQLITE
@pytest.mark.parametrize(("columns", "end"), [(ACTIVE, End.GONE), (OPEN, End.LEFT)])
def test_a_device_that_a_later_batch_made_of_the_token_stays_and_what_this_one_knows_to_have_made_is_gone(
    database: MovingDatabase, pingone: PingOne, desk: Desk, columns: dict[str, Any], end: End
) -> None:
    made = make_batch(database, [columns], state=BatchState.CANCELLED)
    serial_number = look(database, made.id).serial_number
    later = make(database, pingone, [ACTIVE | {"serial_number": serial_number}], name="later")

    assert desk.command.undo("shipment").devices.ends == {end: 1}

    assert (len(pingone.devices()), statuses(database, later)) == (1, ["active"])


@ON_SQLITE
def test_it_says_for_whom_the_default_device_changes(database: MovingDatabase, pingone: PingOne, desk: Desk) -> None:
    made = make(database, pingone, [ACTIVE] * 2)
    alone, other = (look(database, record_id).user_id for record_id in made.ids)
    pingone.give(look(database, made.ids[1]), device_id="phone", serial="PHONE", status="ACTIVE")

    changes = desk.command.examine("shipment").defaults

    assert {user_id: change.heir for user_id, change in changes.items()} == {alone: Heir.NONE, other: Heir.NEXT}


@ON_SQLITE
def test_a_dry_run_over_batches_says_who_loses_the_last_device_with_the_last_of_them(
    database: MovingDatabase, pingone: PingOne, desk: Desk
) -> None:
    user = look(database, make(database, pingone, [ACTIVE]).id).user_id
    make(database, pingone, [ACTIVE | {"user_id": user}], name="later")
    first = desk.command.examine("shipment")
    later = desk.command.examine("later", gone=first.going)
    assert [each.defaults[user].heir for each in (first, later)] == [Heir.NEXT, Heir.NONE]


def test_otps_that_a_new_device_would_refuse_go_by_no_replay_and_a_seed_begins_another_pair(
    database: MovingDatabase, pingone: PingOne, desk: Desk
) -> None:
    answered, sent = ({"otp1_state": state, "otp1_posts": 1} for state in (OtpState.ANSWERED, OtpState.SENT))
    pending = OURS | {"status": Status.PENDING} | sent
    records = [OURS | {"status": Status.DEAD_LETTER} | answered, pending, pending | {"next_counter": 8}]
    made = make(database, pingone, records)

    desk.command.undo("shipment")

    left = [look(database, record_id) for record_id in made.ids]
    # They stay, so that they are known if a file brings them again.
    assert [(record.otps is None, record.otp1_state) for record in left] == [
        (False, "answered"),
        (False, "unsent"),
        (False, "unsent"),
    ]
    replayed = Batches(database, TESTER).replay("shipment", where=[f"serial={left[0].serial_number}"])
    assert replayed == Replayed(0, (NotReplayed(1, Status.CANCELLED, Why.FRESH_OTPS),))
    # One counter is left out: PingOne may have asked for the second OTP.
    assert left[2].next_counter == 9


# Pairings and imports of unknown fate.


@ON_SQLITE
@pytest.mark.parametrize(
    ("columns", "there", "end", "why"),
    [
        ({}, {}, End.REMOVED, ""),
        ({}, {"user_id": "somebody-else"}, End.LEFT, ""),
        ({"owner_id": None}, {}, End.LEFT, ""),
        ({"otp_sent_at": -2 * 86400.0, "pairing_began_at": -2 * 86400.0}, {}, End.LEFT, "it is somebody else's"),
    ],
    ids=["made at another time", "somebody else's", "maybe there before", "made since"],
)
def test_what_came_of_a_pairing_of_unknown_outcome_is_removed_if_it_can_only_be_ours(
    database: MovingDatabase,
    pingone: PingOne,
    desk: Desk,
    columns: dict[str, Any],
    there: dict[str, str],
    end: End,
    why: str,
) -> None:
    now = database.read_clock()
    moments = {name: now + timedelta(seconds=ago) for name, ago in columns.items() if ago}
    record = OPEN | {"otp_sent_at": now} | columns | moments
    made = make_batch(database, [record, OPEN], state=BatchState.CANCELLED)
    pingone.give(look(database, made.ids[0]), device_id="there", **there)

    result = desk.command.undo("shipment")

    assert (result.devices.unknown_pairings, result.devices.ends) == (2, {end: 1} | {End.NEVER_MADE: 1})
    assert why in "".join(each.why for each in result.kept.values())
    left = ({"there"}, ["pending", "cancelled"]) if end == End.LEFT else (set(), ["cancelled"] * 2)
    assert (pingone.devices(), statuses(database, made)) == left
    if end == End.LEFT:
        return
    # Not before the request to pair can have done what it does; that the other made nothing is believed after a second
    # look.
    gone = look(database, made.ids[0])
    assert (gone.finalized_at - gone.otp_sent_at).total_seconds() >= desk.settings.tuning.over_after
    assert 5.0 in desk.waits
    assert ("Waiting for the last pairing requests", 0, None) in desk.told
    assert desk.command.examine("shipment").devices.earlier == 1


@pytest.mark.parametrize("jump", [timedelta(hours=1), timedelta(hours=-1)])
def test_after_a_jump_of_the_clock_a_lost_pairing_is_looked_up_when_workers_would(
    database: MovingDatabase, pingone: PingOne, desk: Desk, jump: timedelta
) -> None:
    """By the clock as it is now the request went out an hour ago, or will in an hour; that was a moment ago."""
    made = make_batch(database, [OPEN | {"otp_sent_at": database.read_clock() - jump}])
    with database.writing() as connection:
        connection.execute(update(Batch).values(state=BatchState.CANCELLED))
        Queue(database, over_after=desk.settings.tuning.over_after).restart_times(connection, queue_lease=60.0)
    began = database.read_clock()
    pingone.seed(tokens=[{"serial": look(database, made.id).serial_number}])

    assert desk.command.undo("shipment").devices.ends == {End.NEVER_MADE: 1}
    over_after = desk.settings.tuning.over_after
    assert over_after - 1 <= (look(database, made.id).finalized_at - began).total_seconds() < 2 * over_after


def test_a_device_that_a_worker_finds_while_pairings_are_waited_for_goes_too_and_a_dry_run_leaves_that_open(
    database: MovingDatabase, pingone: PingOne, desk: Desk
) -> None:
    """In a cancelled batch, too, workers read what is owed."""
    lost = TOKEN | OPEN | {"status": Status.PENDING, "otp_sent_at": database.read_clock()}
    made = make(database, pingone, [lost])
    pingone.give(look(database, made.id), device_id="made")
    shown, found = desk.command.examine("shipment"), OURS | {"device_id": "made"}
    assert (shown.devices.unknown_pairings, shown.tokens, shown.kept) == (1, TokenCounts(), {})

    with around(desk, "wait", first=lambda _: database.change(update(Record).values(found))):
        assert desk.command.undo("shipment").tokens == TokenCounts(own=1, revoked=1)
    assert (pingone.devices(), pingone.tokens(), statuses(database, made)) == (set(), set(), ["cancelled"])


@ON_SQLITE
def test_a_token_that_the_inventory_shows_by_half_is_not_taken_for_free(
    database: MovingDatabase, pingone: PingOne, desk: Desk
) -> None:
    """Its user is there."""
    pingone.simulation.change({"device_shows_serial_number": True})
    made = make(database, pingone, [ACTIVE, OPEN])
    there = look(database, made.ids[0])
    database.change(update(Record).where(Record.id == made.ids[1]).values(user_id=there.user_id))
    with patch.object(Pairings, "find_pairing", side_effect=NotFound):
        assert desk.command.undo("shipment").devices.ends == {End.REMOVED: 1, End.LEFT: 1}
    assert statuses(database, made) == ["cancelled", "pending"]


@ON_SQLITE
@pytest.mark.parametrize("is_resumed", [True, False])
def test_what_the_list_does_not_have_yet_is_looked_up_and_nothing_written_down_if_the_batch_goes_on_meanwhile(
    database: MovingDatabase, pingone: PingOne, desk: Desk, monkeypatch: pytest.MonkeyPatch, is_resumed: bool
) -> None:
    made = make_tokens(database, pingone, [TOKEN, UNKNOWN, {"device_id": ""}], state=BatchState.PAUSED)
    job = note_job(database, made, JobState.LOST, made.ids[1])

    def find_none(*_: Any) -> Any:
        if is_resumed:
            database.change(update(Batch).values(state=BatchState.RUNNING))
        return {}

    monkeypatch.setattr(removal, "find_tokens", find_none)
    told = list[Kept]()
    with pytest.raises(NotPossible, match="is running") if is_resumed else nullcontext():
        told += desk.command.undo("shipment").kept.values()

    shown_in_part = "PingOne shows its token in one place but not in another: run the command again"
    assert [(each.row_number, each.why) for each in told] == (
        [] if is_resumed else [(2, shown_in_part), (3, shown_in_part)]
    )

    records = [look(database, record_id) for record_id in made.ids[:2]]
    assert (records[0].is_token_made, records[1].import_job_id) == (True, job)


@pytest.mark.parametrize(
    ("sent_ago", "is_ours"),
    [
        # Ten minutes of the job, and two that two clocks may differ by.
        (700.0, True),
        # Somebody else made it since, or before: PingOne's is of this moment.
        (750.0, False),
        (-150.0, False),
    ],
)
def test_a_token_of_an_import_of_unknown_outcome_is_revoked_if_it_was_made_then(
    database: MovingDatabase, pingone: PingOne, desk: Desk, sent_ago: float, is_ours: bool
) -> None:
    seed = Seed(secret=Secret(b"12345678901234567890"))
    sealed = [desk.keyring.seal(seed.to_plaintext(), identify_row(1, row_number)) for row_number in (2, 3)]
    made = make_batch(database, [UNKNOWN | {"otps": each} for each in sealed], state=BatchState.CANCELLED)
    job = note_job(database, made, JobState.LOST, *made.ids, sent_ago=sent_ago)
    serial = look(database, made.ids[0]).serial_number
    pingone.seed(tokens=[{"serial": serial, "secret": seed.secret.reveal().hex()}])

    result = desk.command.undo("shipment")

    assert (result.tokens.revoked, pingone.tokens()) == ((1, set()) if is_ours else (0, {serial}))
    assert is_ours or "was made at another time" in next(iter(result.kept.values())).why
    # The other's import made nothing.
    assert [look(database, record_id).import_job_id for record_id in made.ids] == [None if is_ours else job, None]


def test_a_token_that_somebody_revoked_and_imported_anew_is_theirs(
    database: MovingDatabase, pingone: PingOne, desk: Desk
) -> None:
    made = make_tokens(database, pingone, [TOKEN])
    note_job(database, made, JobState.DONE, made.id, sent_ago=86_400.0)
    result = desk.command.undo("shipment")
    assert (result.tokens.revoked, pingone.tokens()) == (0, {look(database, made.id).serial_number})
    assert "was made at another time" in next(iter(result.kept.values())).why


@pytest.mark.parametrize("state", [JobState.SENT, JobState.RUNNING])
def test_imports_that_have_not_ended_are_counted_where_nothing_is_followed(
    database: MovingDatabase, desk: Desk, state: JobState
) -> None:
    made = make_batch(database, [UNKNOWN] * 3, state=BatchState.CANCELLED)
    note_job(database, made, JobState.DONE, made.ids[0])
    note_job(database, made, state, *made.ids[1:])
    assert desk.command.examine("shipment").tokens == TokenCounts(open_imports=1)


def test_the_fate_of_a_token_that_is_imported_again_is_left_to_that_import(
    database: MovingDatabase, desk: Desk
) -> None:
    made = make_batch(database, [UNKNOWN] * 4, state=BatchState.PAUSED)
    lost, again = made.ids[:2], made.ids[2:]
    note_job(database, made, JobState.LOST, *lost)
    job = note_job(database, made, JobState.SENT, *again)

    with database.changing_many() as connection:
        made_now, never_made = [lost[0], again[0]], [lost[1], again[1]]
        desk.command._revocation.note_outcomes(connection, made.batch_id, made=made_now, never_made=never_made)

    assert [look(database, record_id).is_token_made for record_id in made.ids] == [True, False, False, False]
    assert [look(database, record_id).import_job_id for record_id in (lost[1], *again)] == [None, job, job]


# Calls that fail.


@ON_SQLITE
@pytest.mark.parametrize(
    ("kind", "operation", "calls"),
    [
        ("reset_after", "unpair", ["list", "unpair", "list"]),
        ("error_after", "unpair", ["list", "unpair", "list"]),
        ("reset_before", "unpair", ["list", "unpair", "list", "unpair"]),
        ("reset_after", "list", ["list", "list", "unpair"]),
    ],
)
def test_a_lost_read_is_made_again_and_a_lost_answer_looked_up_before_the_device_is_deleted_again(
    database: MovingDatabase, pingone: PingOne, desk: Desk, kind: str, operation: str, calls: list[str]
) -> None:
    made = make(database, pingone, [ACTIVE])
    pingone.order(kind, operation)

    assert desk.command.undo("shipment").devices.ends == {End.REMOVED: 1}

    assert (statuses(database, made), pingone.calls("unpair", "list", "remove_order")) == (["cancelled"], calls)


@ON_SQLITE
@pytest.mark.parametrize(
    ("kinds", "end", "calls"),
    [
        (["error_before"], End.REMOVED, ["list", "unpair", "list", "unpair"]),
        (["error_after"], End.GONE, ["list", "unpair", "list"]),
        # It is listed to the end, as a removed device may be.
        (["error_before"] * 3, End.GONE, ["list", "unpair"] * 3),
    ],
)
def test_a_device_that_pingone_does_not_find_is_gone_only_if_it_is_not_listed_either(
    database: MovingDatabase, pingone: PingOne, desk: Desk, kinds: list[str], end: End, calls: list[str]
) -> None:
    make(database, pingone, [ACTIVE])
    pingone.simulation.change({"error_statuses": [404], "error_html_share": 0.0})
    for kind in kinds:
        pingone.order(kind, "unpair")
    assert desk.command.undo("shipment").devices.ends == {end: 1}
    assert pingone.calls("unpair", "list") == calls


@ON_SQLITE
@pytest.mark.parametrize("kind", ["reset_after", "error_after", "reset_before"])
def test_a_job_whose_answer_is_lost_is_looked_up_in_the_inventory(
    database: MovingDatabase, pingone: PingOne, desk: Desk, kind: str
) -> None:
    made = make_tokens(database, pingone, [TOKEN] * 3)
    pingone.order(kind, "revoke_tokens")
    if kind == "reset_before":
        # The list does not have them, and each is looked up by itself.
        lists, read_list = list[int](), removal.find_tokens
        hide = lambda *arguments: {} if lists else lists.append(1) or read_list(*arguments)  # noqa: E731
        with patch.object(removal, "find_tokens", hide):
            result = desk.command.undo("shipment")
        assert (result.tokens.revoked, len(result.kept), len(pingone.tokens())) == (0, 3, 3)
        assert look(database, made.ids[0]).is_token_made

    result = desk.command.undo("shipment")

    assert (result.tokens.revoked, result.kept, pingone.tokens()) == (3, {}, set())
    assert [look(database, record_id).is_in_inventory for record_id in made.ids] == [False] * 3


@ON_SQLITE
def test_what_is_under_way_when_a_call_fails_is_written_down_and_audited_when_it_ends(
    database: MovingDatabase, pingone: PingOne, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make(database, pingone, [ACTIVE] * 4)
    all_have_begun, original = threading.Barrier(4), Removal.remove

    def fail_first(removal: Removal, row: Any) -> DeviceOutcome:
        all_have_begun.wait(30)
        if row.id == made.ids[0]:
            raise NotDelivered
        return original(removal, row)

    monkeypatch.setattr(Removal, "remove", fail_first)
    with pytest.raises(NotDelivered):
        desk.command.undo("shipment")

    assert statuses(database, made) == ["active", *["cancelled"] * 3]
    assert actions(database)[-1][1]["removed"] == 3


@ON_SQLITE
def test_a_device_that_stays_keeps_its_token_and_is_named_once(
    database: MovingDatabase, pingone: PingOne, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_both(database, pingone, 2)
    monkeypatch.setattr(Removal, "remove", lose_a_device(2))

    result = desk.command.undo("shipment")

    assert result.tokens == TokenCounts(own=1, revoked=1, left=1)
    assert [(each.row_number, each.why) for each in result.kept.values()] == [(2, "lost")]
    assert (len(pingone.devices()), len(pingone.tokens())) == (1, 1)


def lose_a_device(row_number: int) -> Callable[[Removal, Any], DeviceOutcome]:
    """Remove devices, but for that of a row, which cannot be read."""
    remove = Removal.remove
    lost = DeviceOutcome(End.LEFT, "lost")
    return lambda removal, row: lost if row.row_number == row_number else remove(removal, row)


@ON_SQLITE
def test_an_inventory_that_shows_a_removed_device_for_a_while_does_not_keep_its_token(
    database: MovingDatabase, pingone: PingOne, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_both(database, pingone, 2)
    serials = {look(database, record_id).serial_number.lower() for record_id in made.ids}
    before = removal.find_tokens(desk.clients.reads(desk.environment), serials, Call("batch", "record"))
    assert {token.device_id for token in before.values()} == {"made-0", "made-1"}
    monkeypatch.setattr(removal, "find_tokens", lambda *_: before)

    assert desk.command.undo("shipment").tokens == TokenCounts(own=2, revoked=2)


@ON_SQLITE
@pytest.mark.parametrize("revoke_paired", ["failed", "skipped"])
def test_a_token_that_is_paired_stays_and_one_that_is_so_at_the_last_moment_does_not_keep_the_others(
    database: MovingDatabase, pingone: PingOne, desk: Desk, revoke_paired: str
) -> None:
    made = make_tokens(database, pingone, [TOKEN] * 5)
    pingone.simulation.change({"revoke_paired": revoke_paired})
    pingone.give(look(database, made.ids[0]), device_id="device")
    pingone.give(look(database, made.ids[1]), device_id="hers", user_id="somebody-else")
    late = look(database, made.ids[3])
    with around(Undo, "_require_rest_within", then=lambda *_: pingone.give(late, device_id="late")):
        result = desk.command.undo("shipment")

    stay = [look(database, made.ids[place]).serial_number for place in (0, 1, 3)]
    assert (result.tokens.revoked, pingone.tokens(), pingone.devices()) == (2, set(stay), {"device", "hers", "late"})
    assert [each.serial_number for each in result.kept.values()] == stay
    ours, hers, _ = (each.why for each in result.kept.values())
    assert ("a device that this batch did not make" in ours, "paired with somebody else" in hers) == (True, True)


@ON_SQLITE
def test_who_may_not_revoke_has_the_devices_removed_all_the_same_and_is_told(
    database: MovingDatabase, pingone: PingOne, desk: Desk
) -> None:
    make_both(database, pingone, 1)
    pingone.simulation.change({"device_shows_serial_number": True, "forbidden_groups": ["inventory"]})

    assert "PINGONE_IMPORT_CLIENT_ID" in desk.command.examine("shipment").tokens.obstacle
    result = desk.command.undo("shipment")

    assert (result.devices.ends, pingone.devices()) == ({End.REMOVED: 1}, set())
    assert "give it the role that imports them" in result.tokens.obstacle
    assert (result.is_whole, result.tokens.revoked, len(pingone.tokens())) == (False, 0, 1)
    pingone.simulation.change({"forbidden_groups": []})
    again = desk.command.undo("shipment")
    assert (again.devices.earlier, again.tokens.revoked, again.is_whole) == (1, 1, True)


@ON_SQLITE
def test_wrong_credentials_are_asked_about_once_and_those_of_the_application_that_imports_hinder_tokens_alone(
    database: MovingDatabase, pingone: PingOne, desk: Desk
) -> None:
    made, right = make_both(database, pingone, 5), desk.environment
    desk.environment = right.model_copy(update={"client_secret": SecretStr("another")})
    with pytest.raises(CredentialsRefused):
        desk.command.undo("shipment")
    assert pingone.calls("access_token", "list", "unpair") == ["access_token"]
    # Not a thread began.
    assert (desk.told, statuses(database, made)) == ([], ["active"] * 5)

    wrong = {"import_client_id": "another", "import_client_secret": SecretStr("another")}
    desk.environment = right.model_copy(update=wrong)
    result = desk.command.undo("shipment")
    assert (pingone.devices(), len(pingone.tokens())) == (set(), 5)
    assert "check PINGONE_IMPORT_CLIENT_ID and PINGONE_IMPORT_CLIENT_SECRET" in result.tokens.obstacle


# Interrupted, and killed.


def test_runs_that_were_killed_or_lost_answers_add_up_to_what_the_batch_had(
    database: MovingDatabase, pingone: PingOne, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed with calls on their way; then one device cannot be read; then all is well."""
    monkeypatch.setattr(undo, "CHUNK", 2)
    make(database, pingone, [ACTIVE] * 6)
    command, die_at_the_third = desk.command, Mock(side_effect=[None, None, *[SystemExit] * 4])
    # A process that is killed writes no line after it.
    write_down = command._write_down
    monkeypatch.setattr(command, "_write_down", lambda *line: "removed" in line[-1] or write_down(*line))
    with around(undo, "note_device_gone", first=die_at_the_third), pytest.raises(SystemExit):
        command.undo("shipment")
    with patch.object(Removal, "remove", lose_a_device(6)):
        shown, second = desk.command.examine("shipment"), desk.command.undo("shipment")
    third = desk.command.undo("shipment")

    assert (shown.devices.made, shown.devices.earlier) == (4, 2)
    assert (second.devices.earlier, len(second.kept), second.devices.ends[End.GONE] > 0) == (2, 1, True)
    assert (third.devices.earlier, third.devices.ends) == (5, {End.REMOVED: 1})
    assert desk.command.examine("shipment").devices.earlier == 6


def test_runs_that_were_killed_add_up_to_the_tokens_of_the_batch(
    database: MovingDatabase, pingone: PingOne, desk: Desk
) -> None:
    """Six tokens, four to a job: the first run is killed when PingOne has done its first job, the second when it has
    written down what that did."""
    make_tokens(database, pingone, [TOKEN] * 6)
    for what in ("note_revoked", "list_own"):
        with patch.object(Revocation, what, side_effect=SystemExit), pytest.raises(SystemExit):
            desk.command.undo("shipment")

    last = desk.command.undo("shipment").tokens

    assert (last.earlier, last.revoked, last.gone, pingone.tokens()) == (4, 2, 0, set())
    assert desk.command.examine("shipment").tokens == TokenCounts(earlier=6)


def test_a_revocation_that_was_killed_goes_on(database: MovingDatabase, pingone: PingOne, desk: Desk) -> None:
    """It had done its work on the second token."""
    made = make_batch(database, [TOKEN] * 3, state=BatchState.CANCELLED)
    pingone.seed(tokens=[{"serial": look(database, made.ids[place]).serial_number} for place in (0, 2)])
    note_job(database, made, JobState.SENT, kind=JobKind.REVOKE, size=3)

    shown = desk.command.examine("shipment").tokens
    assert (shown.own, shown.gone) == (2, 1)
    tokens = desk.command.undo("shipment").tokens

    assert (tokens.revoked, tokens.gone, pingone.tokens()) == (2, 1, set())
    lost, done = database.rows(select(InventoryJob.__table__).order_by(InventoryJob.id))
    assert (lost.state, done.state) == (JobState.LOST, JobState.DONE)
    assert (lost.ended_at - lost.sent_at).total_seconds() >= desk.settings.tuning.over_after


def test_a_replay_begins_the_count_anew(database: MovingDatabase, pingone: PingOne, desk: Desk) -> None:
    pair = {"otps": b"sealed", "next_counter": 1, "status": Status.DEAD_LETTER}
    made = make(database, pingone, [OURS | pair, ACTIVE])
    desk.command.undo("shipment")
    assert desk.command.examine("shipment").devices.earlier == 2

    with database.writing() as connection:
        # Whoever leaves gets no token by a replay of all.
        assert replay(database, connection, made.batch_id) == 0
        # An active record's OTPs are erased, so that it stays.
        assert replay(database, connection, made.batch_id, chosen=true()) == 1

    assert [look(database, record_id).is_device_made for record_id in made.ids] == [False, True]


# What changes meanwhile.


def test_a_batch_that_is_resumed_meanwhile_is_left_at_once(
    database: MovingDatabase, pingone: PingOne, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(undo, "CHUNK", 1)
    made = make(database, pingone, [ACTIVE, ACTIVE, {"device_id": ""}], state=BatchState.PAUSED)
    resume = update(Batch).values(state=BatchState.RUNNING)
    after_it = around(undo, "note_device_gone", then=lambda _, connection, *__: connection.execute(resume))
    with after_it, pytest.raises(NotPossible, match="is running"):
        desk.command.undo("shipment")

    assert (len(pingone.devices()), statuses(database, made)) == (1, ["cancelled", "active", "pending"])
    assert actions(database)[-1][1]["removed"] == 1


@pytest.mark.parametrize("what", ["it stays", "it fails", "it is killed", "another undo takes it"])
def test_workers_are_kept_from_what_is_worked_on_and_no_longer(
    database: MovingDatabase, pingone: PingOne, desk: Desk, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """A record to which a read is owed is due in a cancelled batch, too."""
    made = make_batch(database, [OPEN | {"owner_id": None}], state=BatchState.CANCELLED)
    queue, later = Queue(database), database.read_clock().replace(year=2100, microsecond=0)

    def enqueue_read() -> list[int]:
        with database.writing() as connection:
            return queue.enqueue_reads(connection, made.batch_id, 9, 60.0)

    def look_at_it(*_: object) -> DeviceOutcome:
        assert enqueue_read() == []
        if what == "it fails":
            raise NotDelivered
        if what == "another undo takes it":
            database.change(update(Record).values(undone_until=later))
        return DeviceOutcome(End.LEFT)

    monkeypatch.setattr(Removal, "remove", look_at_it)
    if what == "it is killed":
        monkeypatch.setattr(undo, "let_go", lambda *_: None)
    with pytest.raises(NotDelivered) if what == "it fails" else nullcontext():
        desk.command.undo("shipment")

    if what == "it is killed":
        database.ahead += UNDO_LASTS - 10
        assert enqueue_read() == []
        database.ahead += 20
    elif what == "another undo takes it":
        assert (look(database, made.id).undone_until, enqueue_read()) == (later, [])
        return
    else:
        assert look(database, made.id).undone_until is None
    assert enqueue_read() == made.ids


def test_nobody_loads_or_mends_what_an_undo_has_in_hand(
    database: MovingDatabase, pingone: PingOne, desk: Desk, tmp_path: Path
) -> None:
    """The device of an active token and that of a dead letter: neither gets an OTP while it is taken away."""
    dead = OURS | {"status": Status.DEAD_LETTER, "reason": Reason.INVALID_OTP}
    made = make(database, pingone, [ACTIVE, dead], keyring=desk.keyring)
    serial = look(database, made.ids[1]).serial_number
    make_batch(database, [dead | {"serial_number": serial, "next_counter": 3, "is_device_made": False}], name="before")
    loads = LoadingDesk(database, desk.keyring, tmp_path)
    rows = [
        token(number, serial=record.serial_number, user_id=record.user_id, device_id=record.device_id)
        for number, record in enumerate([look(database, record_id) for record_id in made.ids], 40)
    ]
    path, refused = loads.write(rows), list[RowError]()

    def load_and_mend(*_: object) -> None:
        with suppress(UnusableFile):
            loads.load_file(path, "second", into=desk.environment)
        refused.extend(loads.refused)
        mender = Mender(database, desk.keyring, TESTER, on_refused=refused.append)
        mended = mender.mend(open_shipment(path, hints=Hints(mends=True)), "shipment")
        assert (mended.again, mended.added) == (0, 0)
        # Nor does a dead letter of the same token go again, here or in another batch.
        for name in ("shipment", "before"):
            replayed = Batches(database, TESTER).replay(name)
            assert (replayed.records, [each.why for each in replayed.not_replayed]) == (0, [Why.IN_PROGRESS])

    with around(undo.Undo, "_take", then=load_and_mend):
        ends = desk.command.undo("shipment", devices_only=True).devices.ends

    assert (ends, pingone.devices(), statuses(database, made)) == ({End.REMOVED: 2}, set(), ["cancelled"] * 2)
    assert {error.fault for error in refused} == {RowFault.IN_PROGRESS}
    assert "an undo of batch 'shipment' is working on the serial number" in refused[0].reason


def test_a_token_that_was_loaded_after_the_inventory_was_read_is_not_revoked(
    database: MovingDatabase, pingone: PingOne, desk: Desk
) -> None:
    made = make_tokens(database, pingone, [TOKEN, TOKEN])
    serials = [look(database, record_id).serial_number for record_id in made.ids]

    def load(*_: object) -> None:
        make_batch(database, [{"serial_number": serials[0], "device_id": ""}], name="second")

    with around(Revocation, "look_up", then=load):
        undone = desk.command.undo("shipment")

    assert (pingone.tokens(), undone.tokens and undone.tokens.revoked) == ({serials[0]}, 1)
    assert "batch second still has this token" in undone.kept[serials[0]].why


def test_a_record_that_was_changed_meanwhile_is_left_and_told_as_such(
    database: MovingDatabase, pingone: PingOne, desk: Desk
) -> None:
    made = make(database, pingone, [OURS | {"status": Status.PENDING}])
    change = update(Record).values(device_id="another")
    with around(Removal, "remove", first=lambda *_: database.change(change)):
        (kept,) = desk.command.undo("shipment").kept.values()

    assert kept.why == "its record was changed meanwhile, or a worker has it: run the command again"
    assert (look(database, made.id).device_id, statuses(database, made)) == ("another", ["pending"])


@ON_SQLITE
def test_a_job_that_waits_for_the_end_of_a_hold_is_marked_as_sent_when_it_goes_out(
    database: MovingDatabase, pingone: PingOne, desk: Desk
) -> None:
    make_tokens(database, pingone, [TOKEN])
    begun, pace = [], desk.paces.of(desk.environment, RateGroup.INVENTORY)
    with around(JobLog, "send", first=lambda *_: (begun.append(database.read_clock()), pace.hold(0.6))):
        assert desk.command.undo("shipment").tokens.revoked == 1

    (sent_at,) = database.values(select(InventoryJob.sent_at))
    assert (sent_at - begun[0]).total_seconds() > 0.5


@pytest.mark.parametrize(
    ("meanwhile", "says"),
    [
        (update(Batch).values(state=BatchState.RUNNING), "is running"),
        (update(InventoryJob).values(state=JobState.LOST), "another command"),
    ],
)
def test_a_job_does_not_go_out_once_the_batch_goes_on_or_another_command_has_ended_it(
    database: MovingDatabase,
    pingone: PingOne,
    desk: Desk,
    meanwhile: Update,
    says: str,
) -> None:
    make_tokens(database, pingone, [TOKEN, {}], state=BatchState.PAUSED)
    as_it_goes_out = around(JobLog, "send", first=lambda *_: database.change(meanwhile))
    with as_it_goes_out, pytest.raises(NotPossible, match=says):
        desk.command.undo("shipment")

    assert (pingone.calls("revoke_tokens"), len(pingone.tokens())) == ([], 2)
    assert database.values(select(InventoryJob.state)) == [JobState.LOST]


def test_a_record_is_in_hand_as_long_as_its_lease_and_no_longer(database: MovingDatabase) -> None:
    lease = {
        "status": Status.ACTIVATING,
        "lease_id": "lease-1",
        "lease_until": database.read_clock() + timedelta(seconds=60),
    }
    made = make_batch(database, [lease, {"status": Status.QUEUED}])
    for ahead, in_hand in ((0.0, 2), (59.0, 2), (61.0, 1)):
        database.ahead = ahead
        with database.reading() as connection:
            assert count_in_hand(database, connection, made.batch_id) == in_hand


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_more_tokens_than_one_statement_may_name_are_noted(database: MovingDatabase) -> None:
    made = make_batch(database, [TOKEN] * 2, state=BatchState.CANCELLED)
    others = range(max(made.ids) + 1, max(made.ids) + 66_000)
    with database.changing_many() as connection:
        assert note_tokens_gone(database, connection, [made.ids[0], *others, made.ids[1]], line=1) == 2
    assert [look(database, record_id).is_in_inventory for record_id in made.ids] == [False] * 2
