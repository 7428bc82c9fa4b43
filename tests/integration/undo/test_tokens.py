"""Tokens that a batch imported are taken out of the inventory again, and no others: on both databases, against the
simulator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy import Update, insert, select, update
from support.data.batches import ENVIRONMENT_ID, look, make_batch, statuses
from support.data.moving_clock import MovingDatabase
from support.data.undo_desk import OURS, TOKEN, Desk, PingOne, audit_facts, make, make_tokens

from models.batch import Batch, BatchState
from models.inventory_job import InventoryJob, JobKind, JobState
from models.record_states import Status
from worker.batches.commands import NotPossible
from worker.batches.removal import End, Revocation
from worker.batches.tokens import JobLog
from worker.batches.undo import TokenCounts, Undo
from worker.leases.commands import note_tokens_gone
from worker.pace.rate_groups import RateGroup


def test_tokens_that_the_batch_imported_are_revoked_and_no_others(
    database: MovingDatabase, pingone: PingOne, desk: Desk
) -> None:
    before = TOKEN | {"is_token_made": False}
    made = make_tokens(database, pingone, [*([TOKEN] * 9), before, TOKEN | {"status": Status.DEAD_LETTER}])
    other = make_tokens(database, pingone, [TOKEN], name="other")
    left = {look(database, record_id).serial_number for record_id in (made.ids[9], *other.ids)}

    assert desk.command.examine("shipment").tokens == TokenCounts(own=10, not_ours=1)
    assert pingone.calls("revoke_tokens") == []

    assert desk.command.undo("shipment").tokens == TokenCounts(own=10, revoked=10, not_ours=1)

    assert pingone.tokens() == left
    assert pingone.calls("revoke_tokens") == ["revoke_tokens"] * 3
    assert statuses(database, made) == ["cancelled"] * 11
    record = look(database, made.ids[0])
    assert (record.is_token_made, record.is_in_inventory, record.import_job_id) == (True, False, None)
    assert audit_facts(database) == [{"tokens": 10}, *({"revoked": each, "gone": 0, "left": 0} for each in (4, 4, 2))]
    assert desk.command.undo("shipment").tokens == TokenCounts(not_ours=1, earlier=10)


def test_a_paired_token_stays_and_is_named(database: MovingDatabase, pingone: PingOne, desk: Desk) -> None:
    made = make_tokens(database, pingone, [TOKEN, TOKEN])
    paired = look(database, made.ids[0])
    pingone.seed(devices=[{"serial": paired.serial_number, "user_id": paired.user_id, "device_id": "device"}])

    result = desk.command.undo("shipment")

    assert (result.tokens.revoked, [each.serial_number for each in result.kept.values()]) == (1, [paired.serial_number])
    assert "a device that this batch did not make" in next(iter(result.kept.values())).why
    assert pingone.devices() == {"device"}


@pytest.mark.parametrize("status", [Status.PENDING, Status.ACTIVE])
def test_a_token_with_which_another_batch_goes_on_stays(
    database: MovingDatabase, pingone: PingOne, desk: Desk, status: Status
) -> None:
    make_tokens(database, pingone, [TOKEN | {"serial_number": "ABC-1"}])
    make_batch(database, [{"serial_number": "abc-1", "status": status}], name="again")

    (kept,) = desk.command.undo("shipment").kept.values()

    assert "`oathbulk cancel again`" in kept.why
    assert pingone.tokens() == {"ABC-1"}


@pytest.mark.parametrize("kind", ["reset_after", "error_after", "reset_before"])
def test_a_job_whose_answer_is_lost_is_looked_up_in_the_inventory(
    database: MovingDatabase, pingone: PingOne, desk: Desk, kind: str
) -> None:
    made = make_tokens(database, pingone, [TOKEN] * 3)
    pingone.order(kind, "revoke_tokens")

    result = desk.command.undo("shipment")

    if kind == "reset_before":
        assert (result.tokens.revoked, len(result.kept), len(pingone.tokens())) == (0, 3, 3)
        result = desk.command.undo("shipment")
    assert (result.tokens.revoked, result.kept, pingone.tokens()) == (3, {}, set())
    assert [look(database, record_id).is_in_inventory for record_id in made.ids] == [False] * 3


def test_a_revocation_that_was_killed_goes_on(database: MovingDatabase, pingone: PingOne, desk: Desk) -> None:
    made = make_tokens(database, pingone, [TOKEN] * 3)
    pingone.simulation.world.revoke(
        pingone.simulation.world.inventory.find(ENVIRONMENT_ID, look(database, made.ids[1]).serial_number)
    )
    with database.writing() as connection:
        values = {"batch_id": made.batch_id, "kind": JobKind.REVOKE, "state": JobState.SENT, "size": 3}
        connection.execute(insert(InventoryJob).values(values | {"sent_at": database.now()}))

    result = desk.command.undo("shipment")

    assert (result.tokens.revoked, result.tokens.gone, pingone.tokens()) == (2, 1, set())
    columns = (InventoryJob.state, InventoryJob.sent_at, InventoryJob.ended_at)
    with database.reading() as connection:
        lost, done = connection.execute(select(*columns).order_by(InventoryJob.id)).all()
    assert (lost.state, done.state) == (JobState.LOST, JobState.DONE)
    assert (lost.ended_at - lost.sent_at).total_seconds() >= desk.settings.tuning.over_after


def test_runs_that_were_killed_add_up_to_the_tokens_of_the_batch(
    database: MovingDatabase, pingone: PingOne, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Six tokens, four to a job: the first run is killed when PingOne has done its first job, the second when it has
    written down what that did."""
    make_tokens(database, pingone, [TOKEN] * 6)

    def die(*_: Any) -> int:
        raise SystemExit

    for where, what in ((Revocation, "note_revoked"), (Revocation, "list_own")):
        with monkeypatch.context() as patch:
            patch.setattr(where, what, die)
            with pytest.raises(SystemExit):
                desk.command.undo("shipment")

    last = desk.command.undo("shipment").tokens

    assert (last.earlier, last.revoked, last.gone, pingone.tokens()) == (4, 2, 0, set())
    assert desk.command.examine("shipment").tokens == TokenCounts(earlier=6)


def after_begin(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Do this when a revocation job is written down, and its request has not gone out."""
    original, send_really, acts = JobLog.begin, JobLog.send, list[Callable[[], object]]()

    def begin(*arguments: Any) -> int:
        job = original(*arguments)
        acts.append(act)
        return job

    def send(self: JobLog, *arguments: Any) -> None:
        acts.pop()()
        send_really(self, *arguments)

    monkeypatch.setattr(JobLog, "begin", begin)
    monkeypatch.setattr(JobLog, "send", send)


def test_a_job_that_waits_for_the_end_of_a_hold_is_marked_as_sent_when_it_goes_out(
    database: MovingDatabase, pingone: PingOne, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_tokens(database, pingone, [TOKEN])
    begun, pace = [], desk.paces.of(desk.environment, RateGroup.INVENTORY)
    after_begin(monkeypatch, lambda: (begun.append(database.read_clock()), pace.hold(0.6)))

    assert desk.command.undo("shipment").tokens.revoked == 1

    with database.reading() as connection:
        job = connection.execute(select(InventoryJob.sent_at).where(InventoryJob.batch_id == made.batch_id)).one()
    assert (job.sent_at - begun[0]).total_seconds() > 0.5


@pytest.mark.parametrize(
    ("meanwhile", "says", "state"),
    [
        (update(Batch).values(state=BatchState.RUNNING), "runs", JobState.LOST),
        (update(InventoryJob).values(state=JobState.LOST), "another command", JobState.LOST),
    ],
)
def test_a_job_does_not_go_out_once_the_batch_goes_on_or_another_command_has_ended_it(
    database: MovingDatabase,
    pingone: PingOne,
    desk: Desk,
    monkeypatch: pytest.MonkeyPatch,
    meanwhile: Update,
    says: str,
    state: JobState,
) -> None:
    make_tokens(database, pingone, [TOKEN, {}], state=BatchState.PAUSED)

    def change() -> None:
        with database.writing() as connection:
            connection.execute(meanwhile)

    after_begin(monkeypatch, change)
    with pytest.raises(NotPossible, match=says):
        desk.command.undo("shipment")

    assert (pingone.calls("revoke_tokens"), len(pingone.tokens())) == ([], 2)
    with database.reading() as connection:
        assert connection.scalars(select(InventoryJob.state)).all() == [state]


def test_more_tokens_than_one_statement_may_name_are_noted(database: MovingDatabase) -> None:
    made = make_batch(database, [TOKEN] * 2, state=BatchState.CANCELLED)
    others = range(max(made.ids) + 1, max(made.ids) + 66_000)
    with database.changing_many() as connection:
        assert note_tokens_gone(database, connection, [made.ids[0], *others, made.ids[1]]) == 2
    assert [look(database, record_id).is_in_inventory for record_id in made.ids] == [False] * 2


@pytest.mark.parametrize("revoke_paired", ["failed", "skipped"])
def test_one_that_is_paired_at_the_last_moment_does_not_keep_the_others(
    database: MovingDatabase, pingone: PingOne, desk: Desk, monkeypatch: pytest.MonkeyPatch, revoke_paired: str
) -> None:
    made = make_tokens(database, pingone, [TOKEN] * 4)
    pingone.simulation.change({"revoke_paired": revoke_paired})
    late = look(database, made.ids[2])
    original = Undo._require_rest_within

    def pair_it(*arguments: Any, **named: Any) -> None:
        original(*arguments, **named)
        pingone.seed(devices=[{"serial": late.serial_number, "user_id": late.user_id, "device_id": "late"}])

    monkeypatch.setattr(Undo, "_require_rest_within", pair_it)
    result = desk.command.undo("shipment")

    assert (result.tokens.revoked, len(result.kept), pingone.tokens()) == (3, 1, {late.serial_number})
    assert pingone.devices() == {"late"}


def test_who_may_not_revoke_has_the_devices_removed_all_the_same_and_is_told(
    database: MovingDatabase, pingone: PingOne, desk: Desk
) -> None:
    both = TOKEN | OURS | {"device_id": "made", "status": Status.ACTIVE}
    made = make(database, pingone, [both])
    pingone.simulation.change({"device_shows_serial_number": True, "forbidden_groups": ["inventory"]})

    shown = desk.command.examine("shipment")
    assert "PINGONE_IMPORT_CLIENT_ID" in shown.tokens.obstacle
    result = desk.command.undo("shipment")

    assert (result.devices.ends, pingone.devices()) == ({End.REMOVED: 1}, set())
    assert "give it the role that imports them" in result.tokens.obstacle
    assert not result.is_whole
    assert (result.tokens.revoked, len(pingone.tokens())) == (0, 1)
    pingone.simulation.change({"forbidden_groups": []})
    again = desk.command.undo("shipment")
    assert (again.devices.earlier, again.tokens.revoked, again.is_whole) == (1, 1, True)
    assert (pingone.tokens(), statuses(database, made)) == (set(), ["cancelled"])


def test_wrong_credentials_of_the_application_that_imports_are_an_obstacle_to_tokens_alone(
    database: MovingDatabase, pingone: PingOne, desk: Desk
) -> None:
    make(database, pingone, [TOKEN | OURS | {"device_id": "made", "status": Status.ACTIVE}])
    wrong = {"import_client_id": "another", "import_client_secret": SecretStr("another")}
    desk.environment = desk.environment.model_copy(update=wrong)

    result = desk.command.undo("shipment")

    assert (pingone.devices(), len(pingone.tokens())) == (set(), 1)
    assert "check PINGONE_IMPORT_CLIENT_ID and PINGONE_IMPORT_CLIENT_SECRET" in result.tokens.obstacle


def test_it_is_told_how_far_a_revocation_is(database: MovingDatabase, pingone: PingOne, desk: Desk) -> None:
    make_tokens(database, pingone, [TOKEN] * 10)

    desk.command.undo("shipment")

    assert [step for step in desk.told if step[0] == "Revoking tokens"] == [
        ("Revoking tokens", done, 10) for done in (0, 4, 8, 10)
    ]
