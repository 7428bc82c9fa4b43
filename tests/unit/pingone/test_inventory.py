"""The inventory of tokens is read whichever way PingOne shows a token's device."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from urllib.parse import parse_qs, urlsplit

import pytest
from support.data.recorded_answers import names_of, recorded
from support.data.refused_reads import REFUSED_READS

from worker.config.environment import Environment
from worker.pingone.errors import ExpandRefused, OtherDevice, OutcomeUnknown, PingOneError, Rejected
from worker.pingone.inventory import (
    InventoryToken,
    build_serial_number_url,
    build_token_url,
    build_tokens_url,
    parse_token,
    parse_tokens,
)
from worker.pingone.pages import Page

HOTP_ID, TOTP_ID = (f"7a1d3c1e-2b7a-4f55-9d0c-3e8a1b6c5d4{number}" for number in (8, 9))
HOTP = InventoryToken(HOTP_ID, "2308734700388", "HOTP", 6, "sha1")
TOTP = InventoryToken(TOTP_ID, "2308734700389", "TOTP", 8, "sha256", time_step=60)
PAIRING = {
    "device_id": "0f0b7a52-1c5e-4d0e-8c55-9a0b4d1f7e21",
    "user_id": "6f1d3c1e-2b7a-4f55-9d0c-3e8a1b6c5d42",
}
PAIRED = replace(HOTP, **PAIRING)
PAGES: dict[str, list[InventoryToken]] = {
    "one": [HOTP],
    "first_page": [HOTP],
    "paired": [PAIRED, TOTP],
    "paired_embedded": [PAIRED, TOTP],
    "paired_with_user_id": [PAIRED, TOTP],
    "under_another_name": [HOTP],
    "ids_alone": [InventoryToken(HOTP_ID)],
    "unknown_words": [replace(HOTP, type="OCRA", hash_name="HmacSHA3")],
    "wrong_types": [InventoryToken(HOTP_ID)],
    "none": [],
}
REFUSALS: dict[str, type[PingOneError]] = {
    "without_id": OutcomeUnknown,
    "two_lists": OutcomeUnknown,
    "filter_and_expand_refused": Rejected,
    "invalid_filter": Rejected,
}


@pytest.fixture
def environment(make_environment: Callable[..., Environment]) -> Environment:
    return make_environment("https://api.pingone.eu")


def read(name: str, environment: Environment, **options: bool) -> Page[InventoryToken]:
    return parse_tokens(*recorded(name), environment=environment, **options)


def query(url: str) -> dict[str, list[str]]:
    return parse_qs(urlsplit(url).query)


def test_the_inventory_is_asked_for_with_devices(environment: Environment) -> None:
    assert build_tokens_url(environment).endswith(
        f"/environments/{environment.environment_id}/oathTokens?expand=devices"
    )
    assert build_token_url(environment, HOTP_ID).endswith(f"/oathTokens/{HOTP_ID}?expand=devices")


def test_a_serial_number_is_asked_for_with_or_without_devices(environment: Environment) -> None:
    url = build_serial_number_url(environment, "2308734700388", with_devices=True)
    assert query(url) == {"filter": ['serialNumber eq "2308734700388"'], "expand": ["devices"]}
    url = build_serial_number_url(environment, 'a"b', with_devices=False)
    assert query(url) == {"filter": ['serialNumber eq "a\\"b"']}


def test_an_empty_id_or_serial_number_makes_no_address(environment: Environment) -> None:
    with pytest.raises(ValueError, match="empty"):
        build_token_url(environment, "")
    with pytest.raises(ValueError, match="empty"):
        build_serial_number_url(environment, "", with_devices=True)


@pytest.mark.parametrize(("name", "tokens"), PAGES.items())
def test_every_recorded_page_is_read(environment: Environment, name: str, tokens: list[InventoryToken]) -> None:
    page = read(f"inventory/{name}", environment)
    assert list(page.items) == tokens
    assert (page.next_url is not None) == (name == "first_page")


@pytest.mark.parametrize(
    ("name", "error"), ({f"inventory/{name}": error for name, error in REFUSALS.items()} | REFUSED_READS).items()
)
def test_every_recorded_refusal_becomes_its_error(
    environment: Environment, name: str, error: type[PingOneError]
) -> None:
    with pytest.raises(PingOneError) as caught:
        read(name, environment)
    assert type(caught.value) is error


def test_no_recorded_answer_is_left_out() -> None:
    assert names_of("inventory") == {*PAGES, *REFUSALS, "token"}


@pytest.mark.parametrize("name", ["filter_and_expand_refused", "invalid_filter"])
def test_a_refused_filter_with_expand_is_told_apart(environment: Environment, name: str) -> None:
    with pytest.raises(ExpandRefused):
        read(f"inventory/{name}", environment, is_filtered_with_devices=True)


@pytest.mark.parametrize(("name", "error"), REFUSED_READS.items())
def test_what_has_another_cause_stays_what_it_is_with_expand(
    environment: Environment, name: str, error: type[PingOneError]
) -> None:
    with pytest.raises(PingOneError) as caught:
        read(name, environment, is_filtered_with_devices=True)
    assert type(caught.value) is error


def test_one_token_is_read_by_its_id() -> None:
    assert parse_token(*recorded("inventory/token"), token_id=TOTP_ID.upper()) == replace(TOTP, **PAIRING)


def test_another_token_than_the_one_asked_for_is_not_believed() -> None:
    with pytest.raises(OtherDevice, match="another token"):
        parse_token(*recorded("inventory/token"), token_id=HOTP_ID)


@pytest.mark.parametrize(("name", "error"), (REFUSED_READS | {"inventory/none": OutcomeUnknown}).items())
def test_what_is_no_token_becomes_its_error(name: str, error: type[PingOneError]) -> None:
    with pytest.raises(PingOneError) as caught:
        parse_token(*recorded(name), token_id=TOTP_ID)
    assert type(caught.value) is error
