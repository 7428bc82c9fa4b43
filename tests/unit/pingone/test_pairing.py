"""Pairing and unpairing: what is sent, and what is read of the answers, ugly ones included."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from support.data.recorded_answers import REFUSED_READS, names_of, opened

from worker.config.environment import Environment
from worker.pingone.devices import (
    PairedDevice,
    build_pairing_request,
    build_unpair_request,
    parse_pairing,
    parse_unpaired,
)
from worker.pingone.errors import (
    AccountNotUsable,
    AlreadyPaired,
    Forbidden,
    LicenseExceeded,
    MethodOff,
    NotFound,
    OtherDevice,
    OutcomeUnknown,
    PingOneError,
    Rejected,
    StatusRefused,
    TokenNotInInventory,
    TooManyDevices,
)
from worker.pingone.wire import Request

DEVICE_ID = "0f0b7a52-1c5e-4d0e-8c55-9a0b4d1f7e21"
USER_ID = "6f1d3c1e-2b7a-4f55-9d0c-3e8a1b6c5d42"
SERIAL_NUMBER = "2308734700388"

# The status of the device.
PAIRED: dict[str, str | None] = {
    "waiting": "ACTIVATION_REQUIRED",
    "active": "ACTIVE",
    "serial_number_inside": "ACTIVATION_REQUIRED",
    "id_alone": None,
    "of_unknown_status": "PENDING",
    "wrong_types": None,
}
NOT_PAIRED: dict[str, type[PingOneError]] = {
    "without_id": OutcomeUnknown,
    "half_a_body": OutcomeUnknown,
    "id_empty": OutcomeUnknown,
    "id_of_a_wrong_type": OutcomeUnknown,
    "id_leads_elsewhere": OutcomeUnknown,
    "id_is_a_dot": OutcomeUnknown,
    "another_token": OtherDevice,
    "another_token_inside": OtherDevice,
    "another_user": OtherDevice,
    "another_type": OtherDevice,
    "not_in_inventory": TokenNotInInventory,
    "not_in_inventory_inside": TokenNotInInventory,
    "not_in_inventory_as_404": TokenNotInInventory,
    "no_such_user": NotFound,
    "already_paired": AlreadyPaired,
    "already_paired_as_400": AlreadyPaired,
    "already_paired_as_409_alone": AlreadyPaired,
    "conflict_by_proxy": OutcomeUnknown,
    "method_off": MethodOff,
    "method_off_as_403": MethodOff,
    "too_many_devices": TooManyDevices,
    "too_many_waiting": TooManyDevices,
    "too_many_of_a_wrong_type": TooManyDevices,
    "account_not_usable": AccountNotUsable,
    "license_exceeded": LicenseExceeded,
    "license_exceeded_as_400": LicenseExceeded,
    "status_refused": StatusRefused,
    "status_refused_among_others": StatusRefused,
    "another_refusal": Rejected,
    "wrong_types_in_details": Rejected,
}
UNPAIRED = {
    "unpaired/no_content": True,
    "unpaired/no_content_without_headers": True,
    "unpaired/the_device": True,
    "unpaired/accepted": True,
    "unpaired/gone_already": False,
    "activation/not_found_without_a_body": False,
}
# To a DELETE these say that it was done, or that there was nothing to remove.
_SUCCESSES = {"activation/empty_200", "activation/no_content", "activation/a_list", "activation/deep_json"}
_GONE = {"activation/not_found", "activation/not_found_without_a_body"}


@pytest.fixture
def environment(make_environment: Callable[..., Environment]) -> Environment:
    return make_environment("https://api.pingone.eu")


def build(environment: Environment, *, status: str | None, user_id: str = USER_ID) -> Request:
    return build_pairing_request(
        environment,
        user_id,
        SERIAL_NUMBER,
        status=status,
    )


def build_unpair(environment: Environment, user_id: str, device_id: str) -> Request:
    return build_unpair_request(environment, user_id, device_id)


def parse(name: str) -> PairedDevice:
    return parse_pairing(opened(name), serial_number=SERIAL_NUMBER, user_id=USER_ID)


def test_a_pairing_names_token_and_status(environment: Environment) -> None:
    request = build(environment, status="ACTIVATION_REQUIRED")
    assert request.method == "POST"
    assert request.url.endswith(f"/environments/{environment.environment_id}/users/{USER_ID}/devices")
    assert request.headers == {"Content-Type": "application/json"}
    assert json.loads(request.content) == {
        "type": "OATH_TOKEN",
        "serialNumber": SERIAL_NUMBER,
        "status": "ACTIVATION_REQUIRED",
    }


def test_the_status_may_be_left_out(environment: Environment) -> None:
    fields = json.loads(build(environment, status=None).content)
    assert fields == {"type": "OATH_TOKEN", "serialNumber": SERIAL_NUMBER}


def test_no_pairing_is_built_without_a_user_or_a_serial_number(environment: Environment) -> None:
    with pytest.raises(ValueError, match="an id is empty"):
        build(environment, status=None, user_id="")
    with pytest.raises(ValueError, match="empty serial number"):
        build_pairing_request(environment, USER_ID, "", status=None)


def test_a_device_is_removed_by_its_own_address_without_a_body(environment: Environment) -> None:
    request = build_unpair(environment, USER_ID, DEVICE_ID)
    assert (request.method, request.content) == ("DELETE", b"")
    assert request.url.endswith(f"/users/{USER_ID}/devices/{DEVICE_ID}")
    assert "Content-Type" not in request.headers


@pytest.mark.parametrize(
    "wrong",
    [
        *(
            "",
            " ",
            "\t",
            "\n",
            "\0",
            "\u200b",
            ".",
            "..",
            "/",
            "//",
            "a/",
            "/a",
            "a/..",
            "../devices",
            "a/../..",
            "%2e",
        ),
        *(
            "%2F",
            ";",
            ";a=b",
            "a;b",
            "?",
            "?x=1",
            "#",
            "#a",
            "\\",
            "a\\..",
            "\u2024\u2024",
            "\uff0e",
            "é",
            "a b",
            "a\n",
        ),
        "a" * 101,
    ],
)
def test_nothing_is_removed_by_an_id_that_may_lead_to_all_devices(environment: Environment, wrong: str) -> None:
    with pytest.raises(ValueError, match="an id is empty, or would lead to another path"):
        build_unpair(environment, USER_ID, wrong)
    with pytest.raises(ValueError, match="an id is empty, or would lead to another path"):
        build_unpair(environment, wrong, DEVICE_ID)


@pytest.mark.parametrize(("name", "status"), PAIRED.items())
def test_every_recorded_device_is_read(name: str, status: str | None) -> None:
    device = parse(f"pairing/{name}")
    assert (device.id, device.status) == (DEVICE_ID, status)
    assert device.is_active == (name == "active")


@pytest.mark.parametrize(
    ("name", "error"),
    (
        {f"pairing/{name}": error for name, error in NOT_PAIRED.items()}
        | REFUSED_READS
        | {"activation/license_exceeded": LicenseExceeded}
    ).items(),
)
def test_every_recorded_answer_that_paired_nothing_becomes_its_error(name: str, error: type[PingOneError]) -> None:
    with pytest.raises(PingOneError) as caught:
        parse(name)
    assert type(caught.value) is error


def test_a_license_that_permits_no_more_is_a_missing_permission_as_elsewhere() -> None:
    with pytest.raises(Forbidden):
        parse("pairing/license_exceeded")


@pytest.mark.parametrize(("name", "was_there"), UNPAIRED.items())
def test_a_device_that_is_gone_is_unpaired(name: str, was_there: bool) -> None:
    assert parse_unpaired(opened(name)) is was_there


@pytest.mark.parametrize(
    ("name", "error"),
    [
        *((name, error) for name, error in REFUSED_READS.items() if name not in _SUCCESSES | _GONE),
        ("unpaired/success_by_proxy", OutcomeUnknown),
    ],
)
def test_every_other_answer_to_an_unpairing_becomes_its_error(name: str, error: type[PingOneError]) -> None:
    with pytest.raises(PingOneError) as caught:
        parse_unpaired(opened(name))
    assert type(caught.value) is error


def test_no_recorded_answer_is_left_out() -> None:
    assert names_of("pairing") == {*PAIRED, *NOT_PAIRED}
    assert {f"unpaired/{name}" for name in names_of("unpaired")} <= UNPAIRED.keys() | {"unpaired/success_by_proxy"}
