"""Tokens are paired, unpaired and looked up over HTTP, by a server that answers as told."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from worker.pace.paces import Paces
from worker.pace.rate_groups import RateGroup
from worker.pace.slots import Slot
from worker.pingone.client import Call
from worker.pingone.clients import Pairings
from worker.pingone.devices import Pairing
from worker.pingone.errors import (
    AlreadyPaired,
    Forbidden,
    LicenseExceeded,
    NotFound,
    OtherDevice,
    OutcomeUnknown,
    PingOneError,
    StatusRefused,
    TooLateToSend,
)

ENVIRONMENT = "/v1/environments/5a5b7c9d-0e1f-4a2b-8c3d-4e5f6a7b8c9d"
DEVICE_ID = "0f0b7a52-1c5e-4d0e-8c55-9a0b4d1f7e21"
USER_ID = "6f1d3c1e-2b7a-4f55-9d0c-3e8a1b6c5d42"
TOKEN_ID = "7a1d3c1e-2b7a-4f55-9d0c-3e8a1b6c5d48"
SERIAL_NUMBER = "2308734700388"
WAITING = "ACTIVATION_REQUIRED"


def new_call(**options: Any) -> Call:
    return Call("batch-1", "record-1", **options)


@pytest.fixture
def token(http: Any) -> Callable[..., bytes]:
    """Answers with the token: in a list, or `alone`; with its device where there is one, and `tells_user`."""

    def make(device_id: str | None = None, *, alone: bool = False, tells_user: bool = True) -> bytes:
        fields: dict[str, Any] = {"id": TOKEN_ID, "serialNumber": SERIAL_NUMBER}
        if device_id is not None:
            fields["devices"] = [{"id": device_id} | ({"user": {"id": USER_ID}} if tells_user else {})]
        return http(200, json.dumps(fields if alone else {"_embedded": {"oathTokens": [fields]}}).encode())

    return make


@pytest.fixture
def devices(http: Any) -> Callable[..., bytes]:
    """Answers with a user's devices."""

    def make(*fields: dict[str, Any]) -> bytes:
        return http(200, json.dumps({"_embedded": {"devices": list(fields)}, "count": len(fields)}).encode())

    return make


@pytest.fixture
def none(http: Any) -> bytes:
    return http(200, b'{"_embedded": {"oathTokens": []}}')


@pytest.fixture
def forbidden(http: Any, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """A refusal that comes again for as long as it is asked."""
    monkeypatch.setattr("worker.pingone.client.BACKOFF", lambda _: 0.0)
    return http(403, b'{"code": "ACCESS_FAILED", "details": [{"code": "INSUFFICIENT_PERMISSIONS"}]}')


@pytest.fixture
def connect(connect_clients: Any) -> Any:
    """Makes the pairings of an environment whose API answers as told; returns them and the API."""

    def make(*answers: Any, status: str | None = WAITING) -> tuple[Pairings, Any]:
        clients, environment, api = connect_clients(*answers)
        chosen = environment.model_copy(update={"pairing_status": status or "omit"})
        return clients.pairings(chosen), api

    return make


def pair(pairings: Pairings, call: Call | None = None) -> Any:
    return pairings.pair(USER_ID, SERIAL_NUMBER, call=call or new_call())


def find(pairings: Pairings, call: Call | None = None) -> Pairing | None:
    return pairings.find_pairing(SERIAL_NUMBER, USER_ID, call=call or new_call())


def targets(api: Any) -> list[str]:
    return [request.target.removeprefix(ENVIRONMENT) for request in api.received]


FILTER = f"/oathTokens?filter=serialNumber%20eq%20%22{SERIAL_NUMBER}%22"
WITH_DEVICES = f"{FILTER}&expand=devices"
BY_ID = f"/oathTokens/{TOKEN_ID}?expand=devices"
DEVICES = f"/users/{USER_ID}/devices"


def test_a_token_is_paired(connect: Any, answer: Any) -> None:
    pairings, api = connect(answer("pairing/waiting"))
    call = new_call()
    device = pair(pairings, call)
    assert (device.id, device.status, device.is_active) == (DEVICE_ID, WAITING, False)
    (request,) = api.received
    assert (request.method, targets(api)) == ("POST", [DEVICES])
    assert json.loads(request.body) == {"type": "OATH_TOKEN", "serialNumber": SERIAL_NUMBER, "status": WAITING}
    assert request.headers["x-ping-external-transaction-id"] == "record-1"
    assert call.requests == 1


def test_a_device_may_be_active_already(connect: Any, answer: Any) -> None:
    pairings, api = connect(answer("pairing/active"), status=None)
    assert pair(pairings).is_active
    assert "status" not in json.loads(api.received[0].body)


def test_a_refused_status_is_left_out_from_then_on_by_every_thread(connect_clients: Any, answer: Any) -> None:
    clients, environment, api = connect_clients(answer("pairing/status_refused"), answer("pairing/waiting"))
    permits: list[str] = []
    call = new_call(permit=lambda: permits.append("asked"))
    assert pair(clients.pairings(environment), call).id == DEVICE_ID
    assert call.requests == 2
    # Once for each slot that was waited for.
    assert len(permits) == 2
    pair(clients.pairings(environment.model_copy(update={"pairing_status": "ACTIVE"})))
    assert ["status" in json.loads(request.body) for request in api.received] == [True, False, False]


def test_a_status_that_is_refused_though_none_was_sent_is_told(connect: Any, answer: Any) -> None:
    pairings, api = connect(answer("pairing/status_refused"))
    with pytest.raises(StatusRefused):
        pair(pairings)
    with pytest.raises(StatusRefused):
        pair(pairings)
    assert ["status" in json.loads(request.body) for request in api.received] == [True, False, False]


@pytest.mark.parametrize("lost", ["activation/bad_gateway", "activation/captive_portal", "pairing/without_id"])
def test_a_pairing_of_unknown_fate_is_not_made_again(connect: Any, answer: Any, lost: str) -> None:
    pairings, api = connect(answer(lost))
    with pytest.raises(OutcomeUnknown):
        pair(pairings)
    assert len(api.received) == 1


def test_after_a_lost_answer_to_a_pairing_without_status_nothing_is_sent_either(connect: Any, answer: Any) -> None:
    pairings, api = connect(answer("pairing/status_refused"), answer("activation/unexpected_error"))
    with pytest.raises(OutcomeUnknown):
        pair(pairings)
    assert len(api.received) == 2


@pytest.mark.parametrize(
    ("refusal", "error"),
    [("pairing/already_paired", AlreadyPaired), ("pairing/license_exceeded", LicenseExceeded)],
)
def test_a_refused_pairing_is_asked_for_once(
    connect: Any, answer: Any, refusal: str, error: type[PingOneError]
) -> None:
    pairings, api = connect(answer(refusal))
    with pytest.raises(error):
        pair(pairings)
    assert len(api.received) == 1


def test_what_made_nothing_is_asked_for_again(connect: Any, http: Any, answer: Any, forbidden: bytes) -> None:
    pairings, api = connect(http(401), http(429, Retry_After="0.01"), forbidden, answer("pairing/waiting"))
    assert pair(pairings).id == DEVICE_ID
    assert len({request.body for request in api.received}) == 1


def test_an_answer_about_another_token_is_not_believed_and_its_connection_not_used_again(
    connect: Any, answer: Any
) -> None:
    pairings, api = connect(answer("pairing/another_token"), answer("pairing/waiting"))
    with pytest.raises(OtherDevice):
        pair(pairings)
    assert pair(pairings).id == DEVICE_ID
    assert [request.connection for request in api.received] == [1, 2]


def test_a_pairing_whose_time_to_send_is_over_does_not_go_out(connect: Any, answer: Any) -> None:
    pairings, api = connect(answer("pairing/waiting"))
    with pytest.raises(TooLateToSend):
        pair(pairings, new_call(send_before=0.0))
    assert not api.received


def test_a_device_is_removed_once(connect: Any, answer: Any) -> None:
    pairings, api = connect(answer("unpaired/no_content"), answer("unpaired/gone_already"))
    assert pairings.unpair(USER_ID, DEVICE_ID, call=new_call())
    assert not pairings.unpair(USER_ID, DEVICE_ID, call=new_call())
    assert {(request.method, request.body) for request in api.received} == {("DELETE", b"")}
    assert targets(api) == [f"{DEVICES}/{DEVICE_ID}"] * 2


def test_a_removal_of_unknown_fate_is_not_made_again(connect: Any, answer: Any) -> None:
    pairings, api = connect(answer("activation/unexpected_error"))
    with pytest.raises(OutcomeUnknown):
        pairings.unpair(USER_ID, DEVICE_ID, call=new_call())
    assert len(api.received) == 1


@pytest.mark.parametrize("wrong", ["", ".", "..", " ", "/", ";", "a/.."])
def test_an_id_that_leads_elsewhere_removes_nothing(connect: Any, answer: Any, wrong: str) -> None:
    pairings, api = connect(answer("unpaired/no_content"))
    for ids in ((USER_ID, wrong), (wrong, DEVICE_ID)):
        with pytest.raises(ValueError, match="an id is empty"):
            pairings.unpair(*ids, call=new_call())
    assert not api.received


def test_a_paired_token_is_found_with_one_read(connect: Any, token: Any) -> None:
    pairings, api = connect(token(DEVICE_ID))
    assert find(pairings) == Pairing(DEVICE_ID, USER_ID, TOKEN_ID)
    assert targets(api) == [WITH_DEVICES]


def test_a_token_that_the_inventory_lacks_is_paired_with_nobody(connect: Any, none: bytes) -> None:
    pairings, api = connect(none)
    assert find(pairings) is None
    assert targets(api) == [WITH_DEVICES]


def test_no_device_is_believed_only_when_the_tokens_own_page_says_so(connect: Any, token: Any) -> None:
    pairings, api = connect(token(), token(alone=True), token(), token(alone=True))
    assert find(pairings) is None
    assert find(pairings) is None
    assert targets(api) == [WITH_DEVICES, BY_ID] * 2


def test_where_the_filter_hides_devices_it_is_asked_without_them_from_then_on(connect: Any, token: Any) -> None:
    pairings, api = connect(token(), token(DEVICE_ID, alone=True), token(), token(DEVICE_ID, alone=True))
    assert find(pairings) == find(pairings) == Pairing(DEVICE_ID, USER_ID, TOKEN_ID)
    assert targets(api) == [WITH_DEVICES, BY_ID, FILTER, BY_ID]


def test_where_filter_and_devices_do_not_go_together_that_is_remembered(
    connect_clients: Any, answer: Any, token: Any, none: bytes
) -> None:
    clients, environment, api = connect_clients(
        answer("inventory/filter_and_expand_refused"), token(), token(alone=True), none
    )
    assert find(clients.pairings(environment)) is None
    assert find(clients.pairings(environment)) is None
    assert targets(api) == [WITH_DEVICES, FILTER, BY_ID, FILTER]


def test_a_device_without_its_user_is_looked_at_closer(connect: Any, token: Any) -> None:
    pairings, _ = connect(token(DEVICE_ID, tells_user=False), token(DEVICE_ID, alone=True, tells_user=False))
    assert find(pairings) == Pairing(DEVICE_ID, None, TOKEN_ID)


def test_a_token_whose_own_page_is_not_found_may_be_paired_with_anybody(connect: Any, token: Any, answer: Any) -> None:
    """It may not be seen everywhere yet; "free" would let it be paired again."""
    pairings, _ = connect(token(), answer("activation/not_found"))
    with pytest.raises(NotFound):
        find(pairings)


def test_an_inventory_that_is_not_there_says_nothing_of_the_token(connect: Any, answer: Any) -> None:
    pairings, _ = connect(answer("activation/not_found"))
    with pytest.raises(NotFound):
        find(pairings)


def test_where_the_inventory_may_not_be_read_the_users_devices_are(
    connect: Any, forbidden: bytes, devices: Any, paces: Paces
) -> None:
    of_user = devices(
        {"id": "1", "type": "SMS"},
        {"id": "2", "type": "TOTP", "serialNumber": SERIAL_NUMBER},
        {"id": "3", "type": "OATH_TOKEN", "serialNumber": "2308734700389"},
        {"id": DEVICE_ID, "type": "OATH_TOKEN", "oathToken": {"serialNumber": SERIAL_NUMBER}},
        {"id": "4", "type": "OATH_TOKEN"},
    )
    pairings, api = connect(forbidden, of_user)
    assert find(pairings) == Pairing(DEVICE_ID, USER_ID, None)
    assert targets(api) == [WITH_DEVICES, DEVICES]


def test_devices_of_other_serial_numbers_say_that_this_user_has_no_such_token(
    connect: Any, forbidden: bytes, devices: Any
) -> None:
    other = {"id": "3", "type": "OATH_TOKEN", "serialNumber": "2308734700389"}
    pairings, _ = connect(forbidden, devices(other, {"id": "1", "type": "SMS"}))
    assert find(pairings) is None


def test_a_device_whose_serial_number_is_not_told_may_be_the_token(
    connect: Any, forbidden: bytes, devices: Any
) -> None:
    pairings, _ = connect(forbidden, devices({"id": "4", "type": "OATH_TOKEN"}))
    with pytest.raises(Forbidden):
        find(pairings)


def test_a_slot_in_hand_is_kept_for_a_call_of_its_own_group(
    connect_clients: Any, token: Any, devices: Any, forbidden: bytes, paces: Paces
) -> None:
    clients, environment, _ = connect_clients(token(), token(DEVICE_ID, alone=True), forbidden, devices())
    pairings = clients.pairings(environment)
    slot = Slot(0, 1.0)
    call = new_call(slot=slot)
    assert find(pairings, call) is not None
    assert call.slot is slot
    # Only with it: no other slot of the group is to be had.
    paces.of(environment, RateGroup.MFA).hold(60)
    assert find(pairings, call) is None
    assert call.slot is None


def test_a_429_to_a_look_up_does_not_hold_activations(
    connect: Any, http: Any, paces: Paces, make_environment: Any
) -> None:
    pairings, _ = connect(http(429, b'{"code": "REQUEST_LIMITED"}', Retry_After="600"))
    with pytest.raises(PingOneError):
        find(pairings)
    held = {group for group in RateGroup if paces.of(make_environment(), group).read_hold_left() > 0}
    assert held == {RateGroup.INVENTORY}


def test_a_429_to_a_pairing_holds_activations_too(connect: Any, http: Any, paces: Paces, make_environment: Any) -> None:
    pairings, _ = connect(http(429, b'{"code": "REQUEST_LIMITED"}', Retry_After="600"))
    with pytest.raises(PingOneError):
        pair(pairings)
    held = {group for group in RateGroup if paces.of(make_environment(), group).read_hold_left() > 0}
    assert held == {RateGroup.MFA}
