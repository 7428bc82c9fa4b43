"""A user's devices are read, of every type."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from support.data.recorded_answers import names_of, recorded
from support.data.refused_reads import REFUSED_READS

from worker.config.environment import Environment
from worker.pingone.devices import UserDevice, build_user_devices_url, parse_user_devices
from worker.pingone.errors import PingOneError

FIRST, SECOND = (f"0f0b7a52-1c5e-4d0e-8c55-9a0b4d1f7e2{number}" for number in (1, 2))
CREATED_AT = datetime(2026, 3, 2, 13, tzinfo=UTC)
WAITING = UserDevice(FIRST, "OATH_TOKEN", "ACTIVATION_REQUIRED", "2308734700388", CREATED_AT)
PAGES = {
    "two": (WAITING, UserDevice(SECOND, "SMS", "ACTIVE", None, datetime(2024, 1, 1, tzinfo=UTC))),
    "serial_number_inside": (WAITING,),
    "wrong_types": (UserDevice(FIRST),),
    "none": (),
}


@pytest.fixture
def environment(make_environment: Callable[..., Environment]) -> Environment:
    return make_environment("https://api.pingone.eu")


def test_they_have_an_address_unless_the_id_is_empty(environment: Environment) -> None:
    assert build_user_devices_url(environment, "6f1d").endswith("/users/6f1d/devices")
    with pytest.raises(ValueError, match="an id is empty"):
        build_user_devices_url(environment, "")


@pytest.mark.parametrize(("name", "devices"), PAGES.items())
def test_every_recorded_page_is_read(environment: Environment, name: str, devices: tuple[UserDevice, ...]) -> None:
    assert parse_user_devices(*recorded(f"user_devices/{name}"), environment=environment).items == devices


def test_no_recorded_answer_is_left_out() -> None:
    assert names_of("user_devices") == {*PAGES}


@pytest.mark.parametrize(("name", "error"), REFUSED_READS.items())
def test_every_recorded_refusal_becomes_its_error(
    environment: Environment, name: str, error: type[PingOneError]
) -> None:
    with pytest.raises(PingOneError) as caught:
        parse_user_devices(*recorded(name), environment=environment)
    assert type(caught.value) is error
