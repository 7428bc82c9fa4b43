"""The judge of our tables after a box: what they call ours or active, and PingOne does not, is convicted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import update
from support.data.batches import make_batch
from support.data.moving_clock import MovingDatabase
from support.judges.call_log import ProvisioningCall
from support.judges.final_records import judge_endings, judge_records
from support.judges.tenant import FinalDevice, FinalToken, Tenant

from models.reason import CURES, Reason
from models.record import Record
from models.record_states import Status
from worker.simulator.shipment import Expected

SERIAL, ALICE, BOB = "BOX1", "alice", "bob"
OURS = FinalDevice("device", SERIAL, ALICE, "ACTIVE", made_by=1)
TENANT = Tenant(devices=[OURS], tokens=[FinalToken("token", SERIAL, made_by=1)])
NOTHING = Tenant()
# A record that made its token and its device.
ACTIVE = {"status": Status.ACTIVE, "serial_number": SERIAL, "device_id": "device", "pairing": "paired"}
ACTIVE |= {"is_device_made": True, "is_token_made": True, "owner_id": ""}
DEAD = {"status": Status.DEAD_LETTER, "serial_number": SERIAL, "device_id": "", "reason": "method_off"}
DEAD |= {"detail": CURES[Reason.METHOD_OFF]}
PAIRED = ProvisioningCall(
    number=1,
    arrived_at=1.0,
    ended_at=1.5,
    device_id="",
    operation="pair",
    transaction_id="oathbulk-record-1-01234567",
    status=201,
    took_effect=True,
    made_device_id="device",
)


@pytest.fixture
def database(sqlite_url: str) -> Iterator[MovingDatabase]:
    database = MovingDatabase(sqlite_url)
    yield database
    database.close()


def judge(database: MovingDatabase, tenant: Tenant, *calls: ProvisioningCall, **columns: Any) -> str:
    make_batch(database, [columns])
    return "; ".join(judge_records(database, calls or [PAIRED], tenant, {SERIAL: ALICE}))


def test_tables_that_say_what_pingone_has_are_acquitted(database):
    assert judge(database, TENANT, **ACTIVE) == ""


def test_a_dead_letter_without_a_device_is_acquitted(database):
    assert judge(database, NOTHING, **DEAD) == ""


def test_what_is_active_for_its_person_is_so_here(database):
    charge = judge(database, TENANT, **DEAD | {"is_token_made": True})
    assert f"{SERIAL}: ACTIVE for its person, and dead_letter (method_off) with us" in charge


@pytest.mark.parametrize("other", [{"status": "ACTIVATION_REQUIRED"}, {"user_id": BOB}])
def test_what_is_active_here_is_so_for_its_person(database, other):
    charge = judge(database, replace(TENANT, devices=[replace(OURS, **other)]), **ACTIVE)
    assert charge == f"{SERIAL}: active with us, and not for its person"


def test_a_device_that_was_there_before_is_not_ours(database):
    old = replace(TENANT, devices=[replace(OURS, made_by=None)], devices_before={"device": ALICE})
    assert judge(database, old, **ACTIVE) == f"{SERIAL}: it calls a device ours that was there before"


def test_a_device_that_we_made_is_ours(database):
    charge = judge(database, TENANT, **ACTIVE | {"is_device_made": False, "owner_id": None})
    assert charge == f"{SERIAL}: call 1 made its device, which the record does not call ours"


@pytest.mark.parametrize(("owner", "is_excused"), [(None, True), ("", False)])
def test_a_device_whose_answer_got_lost_is_ours_if_the_token_was_known_to_be_free(database, owner, is_excused):
    lost = replace(PAIRED, status=None, fault="reset_after")
    charge = judge(database, TENANT, lost, **ACTIVE | {"is_device_made": False, "owner_id": owner})
    assert (charge == "") is is_excused


def test_a_device_that_we_made_is_known(database):
    waits = replace(TENANT, devices=[replace(OURS, status="ACTIVATION_REQUIRED")])
    charge = judge(database, waits, **DEAD | {"is_token_made": True})
    assert charge == f"{SERIAL}: call 1 made its device, of which the record does not know"


def test_a_token_is_ours_if_we_imported_it(database):
    old = replace(TENANT, tokens=[FinalToken("token", SERIAL, made_by=None)])
    assert judge(database, old, **ACTIVE) == f"{SERIAL}: it calls a token ours that no call imported"
    with database.writing() as connection:
        connection.execute(update(Record).values(is_token_made=False))
    assert judge_records(database, [PAIRED], old, {SERIAL: ALICE}) == []
    (charge,) = judge_records(database, [PAIRED], TENANT, {SERIAL: ALICE})
    assert charge == f"{SERIAL}: a call imported its token, which the record does not call ours"


@pytest.mark.parametrize(
    ("column", "charge"),
    [({"reason": None}, "which is no reason with a cure"), ({"detail": "It failed."}, "without its cure")],
)
def test_a_dead_letter_says_why_and_what_to_do(database, column, charge):
    assert charge in judge(database, NOTHING, **DEAD | column)


def test_a_record_that_ends_otherwise_than_it_was_made_to_is_convicted(database):
    make_batch(database, [DEAD])
    assert judge_endings(database, {SERIAL: Expected("dead_letter", "method_off")}) == []
    (charge,) = judge_endings(database, {SERIAL: Expected("active")})
    assert charge == f"{SERIAL}: dead_letter (method_off), and was made to end active (None)"
    assert judge_endings(database, {SERIAL: Expected("active")}, excused={"method_off"}) == []
