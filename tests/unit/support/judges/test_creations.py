"""The judge of what was made: what is made twice, for the wrong person, or before a look-up is convicted."""

from dataclasses import replace
from typing import Any

import pytest
from support.judges.call_log import FinalDevice, FinalToken, ImportJob, ProvisioningCall, Tenant
from support.judges.creations import judge_creations

SERIAL, ALICE, BOB = "BOX1", "alice", "bob"
# One call after the other, a second each.
MADE = {"operation": "pair", "status": 201, "took_effect": True, "made_device_id": "device"}
REFUSED = {"operation": "pair", "status": 400}
NOTHING = {"operation": "pair", "fault": "reset_before"}
LOOK_UP = {"operation": "list_tokens", "status": 200, "user_id": None, "serial_number": None}
PREPARING = {"transaction_id": "oathbulk-preparation-1"}
IMPORT = {"operation": "import_tokens", "serial_numbers": (SERIAL,), "job_id": "job", "status": 201}
IMPORT |= {"took_effect": True} | PREPARING
IMPORT_LOST = IMPORT | {"took_effect": False, "fault": "reset_before", "job_id": None, "status": None}
LISTING = LOOK_UP | PREPARING
REMOVED = {"operation": "remove_order", "took_effect": True, "status": 204}
DEVICE = FinalDevice("device", SERIAL, ALICE, "ACTIVE", made_by=1)
TENANT = Tenant(devices=[DEVICE], tokens=[FinalToken("token", SERIAL, made_by=1)])
DONE, NOTHING_DONE = ImportJob("job", "DONE", ["token"]), ImportJob("job", "DONE", [])
FAILED = replace(NOTHING_DONE, status="FAILED")
DIED = ("oathbulk-record-7-00000001",)


def judge(*entries: dict[str, Any], unwritten: tuple[str, ...] = (), **tenant: Any) -> str:
    """Judge calls for one record, each in an attempt of its own; `tenant`: in what it differs."""
    calls = []
    for number, entry in enumerate(entries, start=1):
        named = {"number": number, "device_id": "", "transaction_id": f"oathbulk-record-7-{number:08}"}
        named |= {"arrived_at": float(number), "ended_at": number + 0.5, "user_id": ALICE, "serial_number": SERIAL}
        calls.append(ProvisioningCall(**(named | entry)))
    return "; ".join(judge_creations(calls, replace(TENANT, **tenant), {SERIAL: ALICE}, unwritten))


@pytest.mark.parametrize(
    ("entries", "tenant"),
    [
        ([LISTING, IMPORT, MADE], {"jobs": [DONE]}),
        ([NOTHING, LOOK_UP, MADE], {}),
        # An answer that was written down says that the first device is gone.
        ([MADE, MADE], {"devices": []}),
        ([MADE | {"made_device_id": "deleted"}, MADE], {}),
        # A refusal is no loss.
        ([REFUSED, MADE], {}),
        ([REFUSED | {"status": 429}, MADE], {}),
        # The body of the first never came.
        ([{"operation": "pair", "status": None, "client_gone": True, "serial_number": None}, MADE], {}),
        ([IMPORT_LOST, LISTING, IMPORT], {}),
        ([IMPORT | {"status": 413, "took_effect": False, "job_id": None}, IMPORT], {}),
        ([IMPORT, IMPORT], {"jobs": [FAILED]}),
        # It waits, as it did before.
        ([], {"devices_before": {"device": ALICE}, "active_before": frozenset({"device"})}),
    ],
)
def test_what_is_made_once_for_its_person_is_acquitted(entries, tenant):
    assert judge(*entries, **tenant) == ""


UNTOLD = f"{SERIAL}: call 2 pairs it, and no look-up told what call 1 did"
UNTOLD_AFTER_LOOK_UP = UNTOLD.replace("call 2", "call 3")


@pytest.mark.parametrize(
    ("charge", "entries", "tenant"),
    [
        (UNTOLD, [NOTHING, MADE], {}),
        # A look-up that was not answered, for another record, or begun while the lost request might still be done.
        (UNTOLD_AFTER_LOOK_UP, [NOTHING, LOOK_UP | {"status": None, "fault": "reset_before"}, MADE], {}),
        (UNTOLD_AFTER_LOOK_UP, [NOTHING, LOOK_UP | {"status": 403}, MADE], {}),
        (UNTOLD_AFTER_LOOK_UP, [NOTHING, LOOK_UP | {"transaction_id": "oathbulk-record-8-00000002"}, MADE], {}),
        (UNTOLD_AFTER_LOOK_UP, [NOTHING, LOOK_UP | {"arrived_at": 1.1}, MADE], {}),
        (UNTOLD, [MADE, MADE], {"devices": [], "unwritten": DIED}),
        (f"{SERIAL}: call 2 pairs it again, whose device call 1 had answered", [MADE, REFUSED], {}),
        (f"{SERIAL}: call 1 pairs it with a person who is not to get it", [REFUSED | {"user_id": BOB}], {}),
        (
            f"{SERIAL}: it became the device of a person who is not to get it",
            [],
            {"devices": [replace(DEVICE, user_id=BOB)]},
        ),
        (f"{SERIAL}: imported 2 times, by the jobs job, second", [], {"jobs": [DONE, replace(DONE, id="second")]}),
        (
            f"{SERIAL}: call 3 imports it again, which call 1 had imported",
            [IMPORT, LISTING, IMPORT | {"job_id": "second"}],
            {"jobs": [DONE]},
        ),
        (f"{SERIAL}: call 2 imports it, and no look-up told what call 1 did", [IMPORT_LOST, IMPORT], {}),
        (
            f"{SERIAL}: call 2 imports it, and no look-up told what call 1 did",
            [IMPORT, IMPORT],
            {"jobs": [NOTHING_DONE]},
        ),
        ("old: it was there before, and is not any more", [], {"devices_before": {"old": BOB}}),
        ("device: it was there before, and is not any more", [], {"devices_before": {"device": BOB}}),
        ("OLD1: the inventory had it before, and has not any more", [], {"tokens_before": frozenset({"OLD1"})}),
        (
            "device: it was ACTIVE before, and is ACTIVATION_REQUIRED",
            [],
            {
                "devices": [replace(DEVICE, status="ACTIVATION_REQUIRED")],
                "devices_before": {"device": ALICE},
                "active_before": frozenset({"device"}),
            },
        ),
        ("call 1 removed the order of a person's devices", [REMOVED], {}),
    ],
)
def test_what_is_made_twice_for_another_or_removed_is_convicted(charge, entries, tenant):
    assert judge(*entries, **tenant) == charge


def test_a_token_is_not_paired_twice_while_its_device_lives_nor_for_whom_the_list_gives_none():
    twice = judge(MADE, LOOK_UP, MADE | {"made_device_id": "other"})
    assert f"{SERIAL}: paired 2 times while its device lives" in twice
    assert judge_creations([], TENANT, {SERIAL: None}) != []
