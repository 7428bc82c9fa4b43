"""The judges of what was made and of our tables: what is made twice, for the wrong person or before a look-up, and a
database that says what PingOne does not, or calls ours what it is not, is convicted; so is it by the stand-in."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import insert, update
from support.data.batches import make_batch
from support.data.moving_clock import MovingDatabase
from support.judges.call_log import (
    FinalDevice,
    FinalToken,
    ImportJob,
    LoggedCall,
    ProvisioningCall,
    Tenant,
    fingerprint,
)
from support.judges.creations import judge_creations
from support.judges.final_tables import find_unwritten, judge_endings, judge_records, judge_tables
from support.judges.otp_calls import Case, KnownSeed, Pair, make_seed_cases
from support.servers import stand_in_box
from support.servers.stand_in_box import BoxTenant, judge_tenant

from models.attempt import AttemptLine, Outcome
from models.batch import Batch
from models.reason import CURES, Reason
from models.record_states import OtpState, Status
from worker.simulator.oath import hotp
from worker.simulator.shipment import Expected

LEASE, DEVICE = "0123456789abcdef0123456789abcdef", "b5c99b49-751f-4e54-a0e7-74869ed9c124"
# The only record's.
ATTEMPT = "oathbulk-record-1-01234567"
POST, LOST, READ = {}, {"status": None, "fault": "reset_before"}, {"operation": "read", "otp": None}
REFUSED = {"status": 400, "detail_code": "INVALID_OTP"}
ACTIVE, DEAD, CANCELLED = ({"status": each} for each in (Status.ACTIVE, Status.DEAD_LETTER, Status.CANCELLED))


@pytest.fixture
def database(sqlite_url: str) -> Iterator[MovingDatabase]:
    database = MovingDatabase(sqlite_url)
    yield database
    database.close()


def keep(database: MovingDatabase, outcome: Outcome, reason: str | None, **columns: Any) -> None:
    """A batch of one record, and its attempt."""
    made = make_batch(database, [{"device_id": DEVICE, "otp1_posts": 1} | columns])
    line = {"number": 1, "outcome": outcome, "reason": reason, "lease_id": LEASE, "ended_at": database.read_clock()}
    with database.writing() as connection:
        connection.execute(insert(AttemptLine).values(record_id=made.id, batch_id=made.batch_id, **line))


def log(*entries: dict[str, Any]) -> list[LoggedCall]:
    usual = {"device_id": DEVICE, "operation": "activate", "otp": "OTP 1", "status": 200, "transaction_id": ATTEMPT}
    return [
        LoggedCall(**(usual | {"number": number, "arrived_at": number, "ended_at": number + 0.5} | entry))
        for number, entry in enumerate(entries, 1)
    ]


def judge(database: MovingDatabase, entries: list[dict[str, Any]], *, is_active: bool) -> str:
    case = Case(DEVICE, Pair("OTP 1", "OTP 2"), log(*entries), find_unwritten(database), budget=3)
    return "; ".join(judge_tables(database, {DEVICE: case} if entries else {}, {DEVICE} if is_active else set()))


UNREAD = "though no read told what became of call 1"


@pytest.mark.parametrize(
    ("charge", "columns", "entries", "is_active"),
    [
        ("", ACTIVE | {"otp1_state": OtpState.SENT}, [POST], True),
        ("active with us, and not at PingOne", ACTIVE, [POST], False),
        ("ACTIVE at PingOne, and not with us", DEAD | {"otp1_state": OtpState.ANSWERED}, [POST], True),
        ("ACTIVE at PingOne, and not with us", CANCELLED | {"otp1_state": OtpState.ANSWERED}, [POST], True),
        ("left pending", {"status": Status.PENDING}, [], False),
        ("left queued", {"status": Status.QUEUED}, [], False),
        ("left activating", {"status": Status.ACTIVATING}, [], False),
        ("2 posts arrived, and 1 are noted", ACTIVE, [POST, POST], True),
        (UNREAD, DEAD, [LOST], False),
        (UNREAD, CANCELLED, [LOST], False),
        (UNREAD, DEAD, [LOST, READ | LOST], False),
        ("", DEAD, [LOST, READ], False),
        ("whose fate it calls open itself", DEAD | {"otp1_state": OtpState.SENT}, [{"status": 400}], False),
        ("a verdict that no read confirmed", CANCELLED | {"verdict": "invalid_otp"}, [], False),
        ("0 attempts are noted", ACTIVE, [POST, READ | {"transaction_id": "oathbulk-record-1-76543210"}], True),
    ],
)
def test_books_that_say_something_else_than_pingone_are_convicted(database, charge, columns, entries, is_active):
    keep(database, Outcome.ACTIVE, None, **columns)
    told = judge(database, entries, is_active=is_active)
    assert charge in told
    assert bool(charge) == bool(told)


def test_a_token_that_is_active_in_a_second_batch_need_not_be_so_in_the_first(database):
    keep(database, Outcome.ACTIVE, None, **CANCELLED)
    make_batch(database, [{"device_id": DEVICE}], name="second", **ACTIVE)
    assert judge(database, [], is_active=True) == ""
    with database.writing() as connection:
        connection.execute(update(Batch).where(Batch.name == "second").values(total=2))
    assert judge(database, [], is_active=True) == "batch second: 1 records, of 2"


def test_a_counter_that_is_noted_as_unused_and_was_used_is_convicted(database):
    keep(database, Outcome.ACTIVE, None, otp1_state=OtpState.SENT, next_counter=7, **ACTIVE)
    seed = KnownSeed(b"12345678901234567890", counter=7, time_step=None, salt="")
    cases = make_seed_cases(log({"otp": fingerprint("", hotp(seed.secret, 7))}), {DEVICE: seed})
    assert "counter 7" in "".join(judge_tables(database, dict(cases), {DEVICE}))


@pytest.mark.parametrize(
    ("outcome", "reason", "is_unwritten"),
    [
        (Outcome.LOST, "lease_ran_out", True),
        (Outcome.RETRY, "outcome_unknown", True),
        (Outcome.HANDED_BACK, "database", True),
        (Outcome.HANDED_BACK, "internal", True),
        (Outcome.HANDED_BACK, "hold", False),
        (Outcome.DEAD_LETTER, "invalid_otp", False),
        (Outcome.ACTIVE, None, False),
    ],
)
def test_only_an_attempt_that_ended_without_an_answer_makes_a_fate_unknown(database, outcome, reason, is_unwritten):
    keep(database, outcome, reason, **DEAD)
    assert find_unwritten(database) == ({ATTEMPT} if is_unwritten else set())
    assert ("though no read told" in judge(database, [REFUSED], is_active=False)) is is_unwritten
    assert judge(database, [REFUSED, READ], is_active=False) == ""


SERIAL, ALICE, BOB = "BOX1", "alice", "bob"
OURS = FinalDevice("device", SERIAL, ALICE, "ACTIVE", made_by=1)
WAITS = replace(OURS, status="ACTIVATION_REQUIRED")
OLD = FinalToken("token", SERIAL, made_by=None)
TENANT = Tenant(devices=[OURS], tokens=[replace(OLD, made_by=1)])
NOTHING = {"devices": [], "tokens": []}
# A record that made its token and its device; and one that was given up before.
BOTH = ACTIVE | {
    **{"serial_number": SERIAL, "device_id": "device", "pairing": "paired", "owner_id": ""},
    **{"is_device_made": True, "is_token_made": True},
}
GIVEN_UP = {"serial_number": SERIAL, "device_id": "", "reason": "method_off", "detail": CURES[Reason.METHOD_OFF]} | DEAD
TOKEN_ONLY = GIVEN_UP | {"is_token_made": True}
NOT_CALLED_OURS = f"{SERIAL}: call 1 made its device, which the record does not call ours"
PAIRED = {
    **{"number": 1, "arrived_at": 1.0, "ended_at": 1.5, "device_id": "", "operation": "pair", "status": 201},
    **{"transaction_id": ATTEMPT, "took_effect": True, "made_device_id": "device"},
}


@pytest.mark.parametrize(
    ("charge", "columns", "tenant", "answer"),
    [
        ("", BOTH, {}, {}),
        ("", GIVEN_UP, NOTHING, {}),
        (f"{SERIAL}: ACTIVE for its person, and dead_letter (method_off) with us", TOKEN_ONLY, {}, {}),
        (f"{SERIAL}: active with us, and not for its person", BOTH, {"devices": [WAITS]}, {}),
        (f"{SERIAL}: active with us, and not for its person", BOTH, {"devices": [replace(OURS, user_id=BOB)]}, {}),
        (
            f"{SERIAL}: it calls a device ours that was there before",
            BOTH,
            {"devices": [replace(OURS, made_by=None)], "devices_before": {"device": ALICE}},
            {},
        ),
        (NOT_CALLED_OURS, BOTH | {"is_device_made": False, "owner_id": None}, {}, {}),
        # Its answer got lost; it is ours if the token was known to be free.
        ("", BOTH | {"is_device_made": False, "owner_id": None}, {}, {"status": None, "fault": "reset_after"}),
        (NOT_CALLED_OURS, BOTH | {"is_device_made": False}, {}, {"status": None, "fault": "reset_after"}),
        (
            f"{SERIAL}: call 1 made its device, of which the record does not know",
            TOKEN_ONLY,
            {"devices": [WAITS]},
            {},
        ),
        (f"{SERIAL}: it calls a token ours that no call imported", BOTH, {"tokens": [OLD]}, {}),
        ("", BOTH | {"is_token_made": False}, {"tokens": [OLD]}, {}),
        (
            f"{SERIAL}: a call imported its token, which the record does not call ours",
            BOTH | {"is_token_made": False},
            {},
            {},
        ),
        ("which is no reason with a cure", GIVEN_UP | {"reason": None}, NOTHING, {}),
        ("without its cure", GIVEN_UP | {"detail": "It failed."}, NOTHING, {}),
    ],
)
def test_what_our_tables_call_ours_or_active_and_pingone_does_not_is_convicted(
    database, charge, columns, tenant, answer
):
    make_batch(database, [columns])
    calls = [ProvisioningCall(**(PAIRED | answer))]
    told = "; ".join(judge_records(database, calls, replace(TENANT, **tenant), {SERIAL: ALICE}))
    assert charge in told
    assert bool(charge) == bool(told)


def test_a_record_that_ends_otherwise_than_it_was_made_to_is_convicted(database):
    make_batch(database, [GIVEN_UP])
    assert judge_endings(database, {SERIAL: Expected("dead_letter", "method_off")}) == []
    (charge,) = judge_endings(database, {SERIAL: Expected("active")})
    assert charge == f"{SERIAL}: dead_letter (method_off), and was made to end active (None)"
    assert judge_endings(database, {SERIAL: Expected("active")}, excused={"method_off"}) == []


# What was made.

# One call after the other, a second each.
MADE = {"operation": "pair", "status": 201, "took_effect": True, "made_device_id": "device"}
REFUSED_PAIRING = {"operation": "pair", "status": 400}
LOST_PAIRING = {"operation": "pair", "fault": "reset_before"}
LOOK_UP = {"operation": "list_tokens", "status": 200, "user_id": None, "serial_number": None}
PREPARING = {"transaction_id": "oathbulk-preparation-1"}
IMPORT = PREPARING | {
    **{"operation": "import_tokens", "serial_numbers": (SERIAL,), "job_id": "job", "status": 201, "took_effect": True}
}
IMPORT_LOST = IMPORT | {"took_effect": False, "fault": "reset_before", "job_id": None, "status": None}
LISTING = LOOK_UP | PREPARING
REMOVED = {"operation": "remove_order", "took_effect": True, "status": 204}
DONE, NOTHING_DONE = ImportJob("job", "DONE", ["token"]), ImportJob("job", "DONE", [])
FAILED = replace(NOTHING_DONE, status="FAILED")
DIED = ("oathbulk-record-7-00000001",)


def judge_made(*entries: dict[str, Any], unwritten: tuple[str, ...] = (), **tenant: Any) -> str:
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
        ([LOST_PAIRING, LOOK_UP, MADE], {}),
        # An answer that was written down says that the first device is gone.
        ([MADE, MADE], {"devices": []}),
        ([MADE | {"made_device_id": "deleted"}, MADE], {}),
        # A refusal is no loss.
        ([REFUSED_PAIRING, MADE], {}),
        ([REFUSED_PAIRING | {"status": 429}, MADE], {}),
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
    assert judge_made(*entries, **tenant) == ""


UNTOLD = f"{SERIAL}: call 2 pairs it, and no look-up told what call 1 did"
UNTOLD_AFTER_LOOK_UP = UNTOLD.replace("call 2", "call 3")


@pytest.mark.parametrize(
    ("charge", "entries", "tenant"),
    [
        (UNTOLD, [LOST_PAIRING, MADE], {}),
        # A look-up that was not answered, for another record, or begun while the lost request might still be done.
        (UNTOLD_AFTER_LOOK_UP, [LOST_PAIRING, LOOK_UP | {"status": None, "fault": "reset_before"}, MADE], {}),
        (UNTOLD_AFTER_LOOK_UP, [LOST_PAIRING, LOOK_UP | {"status": 403}, MADE], {}),
        (UNTOLD_AFTER_LOOK_UP, [LOST_PAIRING, LOOK_UP | {"transaction_id": "oathbulk-record-8-00000002"}, MADE], {}),
        (UNTOLD_AFTER_LOOK_UP, [LOST_PAIRING, LOOK_UP | {"arrived_at": 1.1}, MADE], {}),
        (UNTOLD, [MADE, MADE], {"devices": [], "unwritten": DIED}),
        (f"{SERIAL}: call 2 pairs it again, whose device call 1 had answered", [MADE, REFUSED_PAIRING], {}),
        (f"{SERIAL}: call 1 pairs it with a person who is not to get it", [REFUSED_PAIRING | {"user_id": BOB}], {}),
        (
            f"{SERIAL}: it became the device of a person who is not to get it",
            [],
            {"devices": [replace(OURS, user_id=BOB)]},
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
                "devices": [replace(OURS, status="ACTIVATION_REQUIRED")],
                "devices_before": {"device": ALICE},
                "active_before": frozenset({"device"}),
            },
        ),
        ("call 1 removed the order of a person's devices", [REMOVED], {}),
    ],
)
def test_what_is_made_twice_for_another_or_removed_is_convicted(charge, entries, tenant):
    assert judge_made(*entries, **tenant) == charge


def test_a_token_is_not_paired_twice_while_its_device_lives_nor_for_whom_the_list_gives_none():
    twice = judge_made(MADE, LOOK_UP, MADE | {"made_device_id": "other"})
    assert f"{SERIAL}: paired 2 times while its device lives" in twice
    assert judge_creations([], TENANT, {SERIAL: None}) != []


# The stand-in's own judge.


def pair(tenant: BoxTenant, serial: str, whose: str = "") -> Any:
    """Import a token and pair it, with its own person or that of another token: the device's id."""
    token = tenant.tokens[serial]
    tenant.start_import([{"serialNumber": serial, "secret": token.secret.hex(), "hotp": {"counter": token.counter}}])
    return tenant.pair(tenant.tokens[whose or serial].person.id, serial)[1]["id"]


def test_the_stand_in_convicts_what_is_asked_for_again_for_another_person_or_to_be_removed() -> None:
    tenant = BoxTenant(stand_in_box.make_tokens(2))
    serial, other = tenant.tokens
    person, otp, device_id = (
        tenant.tokens[serial].person.id,
        stand_in_box.hotp(tenant.tokens[serial].secret, 100),
        pair(tenant, serial),
    )
    pair(tenant, serial)
    assert [tenant.activate(person, device_id, otp, resync=False)[0] for _ in range(2)] == [400, 400]
    tenant.refuse_to_remove("/users/u/devices/")
    pair(tenant, other, whose=serial)
    assert list(judge_tenant(tenant)) == [
        f"{serial}: imported again",
        f"{serial}: paired again",
        "DELETE /users/u/devices/",
        f"{other}: paired with a person who is not to get it",
        f"{serial}: one OTP came 2 times",
        f"{serial}: its counters came as [100, 100]",
    ]
