"""The judge of what was made: what is made twice, for the wrong person, or before a look-up is convicted."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from support.judges.call_log import ProvisioningCall
from support.judges.creations import judge_creations
from support.judges.tenant import FinalDevice, FinalToken, ImportJob, Tenant

SERIAL, ALICE, BOB = "BOX1", "alice", "bob"
ASSIGNED = {SERIAL: ALICE}
# One call after the other, a second each.
MADE = {"operation": "pair", "status": 201, "took_effect": True, "made_device_id": "device"}
LOST = MADE | {"status": None, "fault": "reset_after"}
NOTHING = {"operation": "pair", "fault": "reset_before"}
LOOK_UP = {"operation": "list_tokens", "status": 200, "user_id": None, "serial_number": None}
IMPORT = {"operation": "import_tokens", "serial_numbers": (SERIAL,), "job_id": "job", "status": 201}
IMPORT |= {"took_effect": True, "transaction_id": "oathbulk-preparation-1"}
LISTING = LOOK_UP | {"transaction_id": "oathbulk-preparation-1"}
TENANT = Tenant(
    devices=[FinalDevice("device", SERIAL, ALICE, "ACTIVE", made_by=1)], tokens=[FinalToken("token", SERIAL, made_by=1)]
)
DONE, NOTHING_DONE = ImportJob("job", "DONE", ["token"]), ImportJob("job", "DONE", [])


def log(*entries: dict[str, Any]) -> list[ProvisioningCall]:
    """Calls for one record, each in an attempt of its own."""
    calls = []
    for number, entry in enumerate(entries, start=1):
        named = {"number": number, "device_id": "", "transaction_id": f"oathbulk-record-7-{number:08}"}
        named |= {"arrived_at": float(number), "ended_at": number + 0.5, "user_id": ALICE, "serial_number": SERIAL}
        calls.append(ProvisioningCall(**(named | entry)))
    return calls


def judge(*entries: dict[str, Any], tenant: Tenant = TENANT, unwritten: tuple[str, ...] = ()) -> str:
    return "; ".join(judge_creations(log(*entries), tenant, ASSIGNED, unwritten))


def test_what_is_made_once_for_its_person_is_acquitted():
    assert judge(LISTING, IMPORT, MADE, tenant=replace(TENANT, jobs=[DONE])) == ""


def test_a_pairing_is_repeated_after_a_look_up_only():
    assert judge(NOTHING, LOOK_UP, MADE) == ""
    assert judge(NOTHING, MADE) == f"{SERIAL}: call 2 pairs it, and no look-up told what call 1 did"


@pytest.mark.parametrize(
    "useless",
    [
        {"status": None, "fault": "reset_before"},
        {"status": 403},
        # For another record; and begun while the lost request might still be done.
        {"transaction_id": "oathbulk-record-8-00000002"},
        {"arrived_at": 1.1},
    ],
)
def test_a_look_up_that_tells_nothing_permits_nothing(useless):
    assert "no look-up told what call 1 did" in judge(NOTHING, LOOK_UP | useless, MADE)


def test_an_answer_that_died_with_its_worker_is_looked_up_too():
    gone = replace(TENANT, devices=[])
    assert judge(MADE, MADE, tenant=gone) == ""
    assert "no look-up told" in judge(MADE, MADE, tenant=gone, unwritten=("oathbulk-record-7-00000001",))


def test_a_token_whose_device_lives_is_not_paired_again():
    again = f"{SERIAL}: call 2 pairs it again, whose device call 1 had answered"
    assert judge(MADE, NOTHING | {"fault": None, "status": 400}) == again
    assert f"{SERIAL}: paired 2 times while its device lives" in judge(
        MADE, LOOK_UP, MADE | {"made_device_id": "other"}
    )


def test_a_token_whose_device_was_deleted_may_be_paired_again():
    assert judge(MADE | {"made_device_id": "deleted"}, MADE) == ""


def test_a_refusal_is_no_loss():
    assert judge({"operation": "pair", "status": 400}, MADE) == ""
    assert judge({"operation": "pair", "status": 429}, MADE) == ""


def test_nobody_gets_what_the_assignment_gives_to_another():
    refused = {"operation": "pair", "status": 400, "user_id": BOB}
    assert judge(refused) == f"{SERIAL}: call 1 pairs it with a person who is not to get it"
    devices = [FinalDevice("device", SERIAL, BOB, "ACTIVE", made_by=1)]
    assert "became the device of a person who is not to get it" in judge(tenant=replace(TENANT, devices=devices))
    assert judge_creations([], TENANT, {SERIAL: None}) != []


def test_a_pairing_whose_body_never_came_asks_for_nothing():
    assert judge({"operation": "pair", "status": None, "client_gone": True, "serial_number": None}, MADE) == ""


def test_a_token_is_imported_once():
    twice = replace(TENANT, jobs=[DONE, replace(DONE, id="second")])
    assert judge(tenant=twice) == f"{SERIAL}: imported 2 times, by the jobs job, second"
    asked = judge(IMPORT, LISTING, IMPORT | {"job_id": "second"}, tenant=replace(TENANT, jobs=[DONE]))
    assert asked == f"{SERIAL}: call 3 imports it again, which call 1 had imported"


def test_an_import_is_repeated_after_a_look_up_only():
    lost = IMPORT | {"took_effect": False, "fault": "reset_before", "job_id": None, "status": None}
    assert judge(lost, LISTING, IMPORT) == ""
    assert judge(lost, IMPORT) == f"{SERIAL}: call 2 imports it, and no look-up told what call 1 did"


def test_an_import_that_was_refused_or_failed_may_be_repeated_at_once():
    assert judge(IMPORT | {"status": 413, "took_effect": False, "job_id": None}, IMPORT) == ""
    assert judge(IMPORT, IMPORT, tenant=replace(TENANT, jobs=[replace(NOTHING_DONE, status="FAILED")])) == ""
    assert "no look-up told" in judge(IMPORT, IMPORT, tenant=replace(TENANT, jobs=[NOTHING_DONE]))


@pytest.mark.parametrize(
    ("before", "charge"),
    [
        ({"devices_before": {"old": BOB}}, "old: it was there before, and is not any more"),
        ({"devices_before": {"device": BOB}}, "device: it was there before, and is not any more"),
        ({"tokens_before": frozenset({"OLD1"})}, "OLD1: the inventory had it before, and has not any more"),
    ],
)
def test_what_was_there_before_stays(before, charge):
    assert charge in judge(tenant=replace(TENANT, **before))


def test_what_was_active_before_stays_so():
    waits = [replace(TENANT.devices[0], status="ACTIVATION_REQUIRED")]
    before = {"devices_before": {"device": ALICE}, "active_before": frozenset({"device"})}
    assert judge(tenant=replace(TENANT, **before)) == ""
    assert (
        judge(tenant=replace(TENANT, devices=waits, **before))
        == "device: it was ACTIVE before, and is ACTIVATION_REQUIRED"
    )


def test_the_order_of_a_persons_devices_is_not_removed():
    removed = {"operation": "remove_order", "took_effect": True, "status": 204}
    assert judge(removed) == "call 1 removed the order of a person's devices"
