"""Devices and settings that are read from a seed, which is JSON."""

import pytest
from pydantic import ValidationError

from worker.simulator.seeding import DeviceSeed, WorldSeed, add_to_world
from worker.simulator.world import World

NOW = 1_000_000_000.0
DEVICE = {"serial": "MADE1", "user_id": "user", "device_id": "device"}


def seeded(**fields):
    world = World()
    add_to_world(world, WorldSeed.model_validate({"devices": [DEVICE | fields]}), NOW)
    return world.find_by_id("device")


def test_a_token_may_be_known_by_its_secret():
    device = seeded(secret="31323334353637383930" * 2, counter=3, digits=8)
    assert (device.token.otps.at(0), device.token.counter) == ("84755224", 3)


def test_a_totp_token_has_a_time_step():
    device = seeded(secret="00", type="totp", time_step=60, drift=2)
    assert (device.token.time_step, device.token.drift) == (60, 2)


def test_a_token_may_be_known_by_its_otps():
    device = seeded(otps=["111111", "222222"], type="totp", out_of_step=True)
    assert (device.token.otps.at(1), device.token.time_step, device.token.out_of_step) == ("222222", None, True)


def test_a_device_may_begin_locked_blocked_forbidden_late_and_active():
    device = seeded(locked=True, blocked=True, forbidden=True, appears_after=5, status="ACTIVE", account_usable=False)
    assert device.is_locked(NOW + 1e9)
    assert device.blocked_at == NOW
    assert device.forbidden
    assert device.appears_at == NOW + 5
    assert device.status == "ACTIVE"
    assert not device.user.is_usable


@pytest.mark.parametrize(
    "fields",
    [
        {"secret": "no hexadecimal"},
        {"secret": "00", "otps": ["111111"]},
        {"device_id": ""},
        {"out_of_stepp": True},
        {"digits": 7},
    ],
)
def test_a_wrong_device_is_refused_without_showing_what_it_holds(fields):
    with pytest.raises(ValidationError) as refused:
        DeviceSeed.model_validate(DEVICE | fields)
    assert "111111" not in str(refused.value)
    assert "no hexadecimal" not in str(refused.value)


def test_a_repr_shows_no_secret():
    text = repr(WorldSeed.model_validate({"client_secret": "hush", "devices": [DEVICE | {"secret": "c0ffee"}]}))
    assert "hush" not in text
    assert "c0ffee" not in text
