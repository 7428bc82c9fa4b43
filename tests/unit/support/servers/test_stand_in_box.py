"""The tenant of the stand-in, and its judge: what is asked for twice, or for another person, is convicted."""

from __future__ import annotations

from typing import Any

import pytest
from support.servers.stand_in_box import BoxTenant, hotp, judge_tenant, make_tokens


@pytest.fixture
def tenant() -> BoxTenant:
    return BoxTenant(make_tokens(2))


def describe(tenant: BoxTenant, serial: str) -> dict[str, Any]:
    token = tenant.tokens[serial]
    return {"serialNumber": serial, "secret": token.secret.hex(), "hotp": {"counter": token.counter}}


def pair(tenant: BoxTenant, serial: str, user_id: str | None = None) -> str:
    """Import and pair a token: the device's id."""
    tenant.start_import([describe(tenant, serial)])
    _, body = tenant.pair(user_id or tenant.tokens[serial].person.id, serial)
    return str(body["id"])


def activate(tenant: BoxTenant, serial: str, device_id: str, counter: int, *, resync: bool = False) -> int:
    token = tenant.tokens[serial]
    return tenant.activate(token.person.id, device_id, hotp(token.secret, counter), resync=resync)[0]


def test_otps_are_those_of_the_rfc():
    # https://www.rfc-editor.org/rfc/rfc4226#appendix-D
    assert [hotp(b"12345678901234567890", counter) for counter in (0, 1, 9)] == ["755224", "287082", "520489"]


def test_a_token_in_step_takes_one_otp_and_one_out_of_step_two(tenant):
    behind, in_step = tenant.tokens
    assert activate(tenant, in_step, pair(tenant, in_step), 100) == 200
    device_id = pair(tenant, behind)
    assert [activate(tenant, behind, device_id, 100), activate(tenant, behind, device_id, 101, resync=True)] == [
        400,
        200,
    ]
    assert tenant.active == {behind, in_step}
    assert list(judge_tenant(tenant)) == []


def test_what_is_asked_for_again_is_convicted(tenant):
    serial, _ = tenant.tokens
    pair(tenant, serial)
    tenant.start_import([describe(tenant, serial)])
    tenant.pair(tenant.tokens[serial].person.id, serial)
    assert list(judge_tenant(tenant)) == [f"{serial}: imported again", f"{serial}: paired again"]


def test_a_token_of_another_person_is_convicted(tenant):
    serial, other = tenant.tokens
    pair(tenant, serial, tenant.tokens[other].person.id)
    assert list(judge_tenant(tenant)) == [f"{serial}: paired with a person who is not to get it"]


def test_an_otp_that_comes_twice_is_convicted(tenant):
    serial, _ = tenant.tokens
    device_id = pair(tenant, serial)
    assert [activate(tenant, serial, device_id, 100) for _ in range(2)] == [400, 400]
    charges = list(judge_tenant(tenant))
    assert charges == [f"{serial}: one OTP came 2 times", f"{serial}: its counters came as [100, 100]"]


def test_whatever_is_to_be_removed_is_convicted(tenant):
    assert tenant.refuse_to_remove("/users/u/devices/")[0] == 405
    assert list(judge_tenant(tenant)) == ["DELETE /users/u/devices/"]
