"""PingOne's recorded answers to reads: each becomes what it tells, or the error that it stands for.

What is missing is PingOne's default where it has one, else not known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest
from support.data.recorded_answers import REFUSED_READS, names_of, opened

from worker.config.environment import Environment
from worker.pace.rate_groups import RateGroup
from worker.pingone.configuration import (
    Capabilities,
    MfaSettings,
    Policy,
    parse_capabilities,
    parse_mfa_settings,
    parse_policies,
)
from worker.pingone.devices import UserDevice, parse_user_devices
from worker.pingone.errors import ExpandRefused, OtherDevice, OutcomeUnknown, PingOneError, Rejected
from worker.pingone.inventory import InventoryToken, parse_token, parse_tokens
from worker.pingone.wire import Page

FIRST, SECOND = (f"8a1d3c1e-2b7a-4f55-9d0c-3e8a1b6c5d4{number}" for number in (1, 2))
DEFAULT = Policy(FIRST, "Default MFA Policy", True, True, failure_count=3, new_device_notification="NONE")
NEW = Policy(SECOND, "New", False, False, failure_count=5)
UNKNOWN = Policy(FIRST, "Default MFA Policy", True, failure_count=3, new_device_notification="PIGEON")

HOTP_ID, TOTP_ID = (f"7a1d3c1e-2b7a-4f55-9d0c-3e8a1b6c5d4{number}" for number in (8, 9))
HOTP = InventoryToken(HOTP_ID, "2308734700388", "HOTP", 6, "sha1")
TOTP = InventoryToken(TOTP_ID, "2308734700389", "TOTP", 8, "sha256", time_step=60)
PAIRING = {
    "device_id": "0f0b7a52-1c5e-4d0e-8c55-9a0b4d1f7e21",
    "user_id": "6f1d3c1e-2b7a-4f55-9d0c-3e8a1b6c5d42",
}
PAIRED = replace(HOTP, **PAIRING)

DEVICE, OTHER = (f"0f0b7a52-1c5e-4d0e-8c55-9a0b4d1f7e2{number}" for number in (1, 2))
WAITING = UserDevice(DEVICE, "OATH_TOKEN", "ACTIVATION_REQUIRED", "2308734700388")

# By the kind of sample: what each of them tells; of a page its items.
READ: dict[str, dict[str, object]] = {
    "policies": {
        "two": (DEFAULT, NEW),
        "hal": (DEFAULT,),
        "ids_alone": (Policy(FIRST),),
        "unknown_words": (UNKNOWN,),
        "wrong_types": (Policy(FIRST),),
        "none": (),
    },
    "mfa_settings": {
        "all": MfaSettings(10, True, 6, 900),
        "without_lockout": MfaSettings(5, False, None, None),
        "lockout_without_an_end": MfaSettings(5, True, 6, None),
        "links_alone": MfaSettings(5, False),
        "wrong_types": MfaSettings(None, True),
    },
    "capabilities": {
        "filled": Capabilities(True, {RateGroup.MFA: 100, RateGroup.DIRECTORY: 200, RateGroup.CONFIGURATION: 10}),
        "without_quantities": Capabilities(False),
        "empty": Capabilities(),
        "wrong_types": Capabilities(),
    },
    "user_devices": {
        "two": (WAITING, UserDevice(OTHER, "SMS", "ACTIVE")),
        "serial_number_inside": (WAITING,),
        "wrong_types": (UserDevice(DEVICE),),
        "none": (),
    },
    "inventory": {
        "one": (HOTP,),
        "first_page": (HOTP,),
        "paired": (PAIRED, TOTP),
        "paired_embedded": (PAIRED, TOTP),
        "paired_with_user_id": (PAIRED, TOTP),
        "under_another_name": (HOTP,),
        "ids_alone": (InventoryToken(HOTP_ID),),
        "unknown_words": (replace(HOTP, type="OCRA", hash_name="HmacSHA3"),),
        "wrong_types": (InventoryToken(HOTP_ID),),
        "none": (),
    },
}
# By how an answer is read: the samples that stand for an error.
FILTERS = ("inventory/filter_and_expand_refused", "inventory/invalid_filter")
NO_TOKENS: dict[str, type[PingOneError]] = dict.fromkeys(
    ("inventory/without_id", "inventory/two_lists"), OutcomeUnknown
)
NO_SETTINGS = REFUSED_READS | {"users/error_in_a_200": OutcomeUnknown}
REFUSED: dict[str, dict[str, type[PingOneError]]] = {
    "policies": NO_SETTINGS,
    "mfa_settings": NO_SETTINGS,
    "capabilities": NO_SETTINGS,
    "user_devices": REFUSED_READS,
    "inventory": REFUSED_READS | NO_TOKENS | dict.fromkeys(FILTERS, Rejected),
    "inventory, with a filter and expand": REFUSED_READS | NO_TOKENS | dict.fromkeys(FILTERS, ExpandRefused),
    "a token": REFUSED_READS | {"inventory/none": OutcomeUnknown},
    "another token": {"inventory/token": OtherDevice},
}


@pytest.fixture
def readers(make_environment: Callable[..., Environment]) -> dict[str, Callable[..., Any]]:
    environment = make_environment("https://api.pingone.eu")
    filtered = {"environment": environment, "is_filtered_with_devices": True}
    return {
        "policies": partial(parse_policies, environment=environment),
        "mfa_settings": parse_mfa_settings,
        "capabilities": parse_capabilities,
        "user_devices": partial(parse_user_devices, environment=environment),
        "inventory": partial(parse_tokens, environment=environment),
        "inventory, with a filter and expand": partial(parse_tokens, **filtered),
        "a token": partial(parse_token, token_id=TOTP_ID),
        "another token": partial(parse_token, token_id=HOTP_ID),
    }


@pytest.mark.parametrize(
    ("kind", "name", "told"), [(kind, name, told) for kind, all_ in READ.items() for name, told in all_.items()]
)
def test_every_recorded_answer_tells_what_it_says(
    readers: dict[str, Callable[..., Any]], kind: str, name: str, told: object
) -> None:
    found = readers[kind](opened(f"{kind}/{name}"))
    assert (found.items if isinstance(found, Page) else found) == told
    if isinstance(found, Page):
        assert (found.next_url is not None) == (name == "first_page")


@pytest.mark.parametrize(
    ("reader", "name", "error"), [(how, name, error) for how, all_ in REFUSED.items() for name, error in all_.items()]
)
def test_every_recorded_refusal_becomes_its_error(
    readers: dict[str, Callable[..., Any]], reader: str, name: str, error: type[PingOneError]
) -> None:
    with pytest.raises(PingOneError) as caught:
        readers[reader](opened(name))
    assert type(caught.value) is error


@pytest.mark.parametrize("kind", READ)
def test_no_recorded_answer_is_left_out(kind: str) -> None:
    refused = {name.removeprefix("inventory/") for name in (*NO_TOKENS, *FILTERS, "inventory/token")}
    assert names_of(kind) == {*READ[kind], *(refused if kind == "inventory" else ())}


def test_one_token_is_read_by_its_id_in_either_case() -> None:
    assert parse_token(opened("inventory/token"), token_id=TOTP_ID.upper()) == replace(TOTP, **PAIRING)


def test_how_old_a_device_is_is_told_by_the_answers_own_date(readers: dict[str, Callable[..., Any]]) -> None:
    waiting, other = readers["user_devices"](opened("user_devices/two")).items
    assert waiting.age is not None
    assert other.age - waiting.age == datetime(2026, 3, 2, 13, tzinfo=UTC) - datetime(2024, 1, 1, tzinfo=UTC)
