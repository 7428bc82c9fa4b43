"""Devices: what keeps them from being activated, and what failures lead to."""

import math

import pytest

from worker.simulator.oath import SequenceOtps
from worker.simulator.settings import Settings
from worker.simulator.token import Token
from worker.simulator.users import User
from worker.simulator.world import Device, Outcome, World

NOW = 1_000_000_000.0
SETTINGS = Settings(failure_count=3, cool_down=120)


def make(*, user=None, **fields):
    token = Token(SequenceOtps(("111111", "222222")), out_of_step=fields.pop("out_of_step", False))
    return Device("device", "MADE1", "env", user or User("user"), token, NOW, NOW, **fields)


def activate(device, otp="111111", *, resync=False, now=NOW, settings=SETTINGS):
    return device.activate(otp, resync=resync, now=now, settings=settings)


def test_the_right_otp_makes_a_device_active():
    device = make()
    assert activate(device) is Outcome.ACTIVE
    assert device.status == "ACTIVE"


def test_a_device_out_of_step_becomes_active_with_the_second_otp():
    device = make(out_of_step=True)
    assert activate(device) is Outcome.EXTRA_OTP_REQUIRED
    assert device.status == "ACTIVATION_REQUIRED"
    assert activate(device, "222222", resync=True) is Outcome.ACTIVE


@pytest.mark.parametrize(
    ("fields", "outcome"),
    [
        ({"locked_until": math.inf}, Outcome.LOCKED),
        ({"blocked_at": NOW}, Outcome.BLOCKED),
        ({"user": User("user", is_usable=False)}, Outcome.ACCOUNT_NOT_USABLE),
        ({"status": "ACTIVE"}, Outcome.ALREADY_ACTIVE),
    ],
)
def test_an_obstacle_is_named_and_the_otp_is_not_looked_at(fields, outcome):
    device = make(**fields)
    assert activate(device) is outcome
    assert not outcome.took_effect
    assert device.token.counter == 0


def sign_on(device, otp="111111", *, now=NOW):
    return device.sign_on(otp, now=now, settings=SETTINGS)


def test_a_sign_on_needs_an_active_device_and_an_otp_that_comes_next():
    device = make()
    assert sign_on(device) is Outcome.NOT_ACTIVE
    activate(device)
    assert sign_on(device) is Outcome.INVALID_OTP
    assert sign_on(device, "222222") is Outcome.SIGNED_ON
    assert device.failures == 0


def test_refused_sign_ons_lock_a_device_for_a_while():
    device = make(status="ACTIVE")
    for _ in range(3):
        assert sign_on(device, "999999") is Outcome.INVALID_OTP
    assert sign_on(device) is Outcome.LOCKED
    assert sign_on(device, now=NOW + 120) is Outcome.SIGNED_ON


def test_so_many_wrong_otps_lock_a_device_for_a_while():
    device = make()
    for _ in range(3):
        assert activate(device, "999999") is Outcome.INVALID_OTP
    assert activate(device) is Outcome.LOCKED
    assert activate(device, now=NOW + 119) is Outcome.LOCKED
    assert activate(device, now=NOW + 120) is Outcome.ACTIVE


def test_failures_start_anew_after_the_cool_down():
    device = make()
    for _ in range(3):
        activate(device, "999999")
    activate(device, "999999", now=NOW + 120)
    assert device.failures == 1
    assert not device.is_locked(NOW + 120)


def test_unlocking_clears_the_failures_too():
    device = make(locked_until=math.inf, failures=3)
    device.unlock(NOW)
    assert (device.is_locked(NOW), device.failures) == (False, 0)


@pytest.mark.parametrize(("counts", "failures"), [(False, 0), (True, 1)])
def test_a_request_for_another_otp_counts_as_a_failure_in_one_reading_only(counts, failures):
    device = make(out_of_step=True)
    activate(device, settings=SETTINGS.with_changes({"extra_otp_counts_as_failure": counts}))
    assert device.failures == failures


def test_failures_on_several_devices_lock_the_account_in_one_reading():
    user = User("user")
    settings = SETTINGS.with_changes({"account_lock_after": 2})
    activate(make(user=user), "999999", settings=settings)
    assert user.is_usable
    activate(make(user=user), "999999", settings=settings)
    assert activate(make(user=user), settings=settings) is Outcome.ACCOUNT_NOT_USABLE


def test_a_device_is_found_under_its_own_user_and_environment_only():
    world = World()
    device = make(user=world.directory.add("env", "user"))
    world.add(device)
    assert world.find("env", "user", "device", NOW) is device
    assert world.find("env", "another", "device", NOW) is None
    assert world.find("another", "user", "device", NOW) is None


def test_a_device_is_found_once_it_has_appeared():
    world = World()
    device = make(user=world.directory.add("env", "user"), appears_at=NOW + 5)
    world.add(device)
    assert world.find("env", "user", "device", NOW + 4) is None
    assert world.find("env", "user", "device", NOW + 5) is device


def test_a_device_added_again_takes_the_place_of_the_former():
    world = World()
    world.add(make(user=world.directory.add("env", "user")))
    world.add(make(user=world.directory.add("env", "another")))
    assert [device.user.id for device in world.devices()] == ["another"]
    assert world.directory.find("env", "user").devices == {}
