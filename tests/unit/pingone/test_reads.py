"""What PingOne knows before a batch begins, read over HTTP from a server that answers as told."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import tenacity

from worker.pace.paces import Paces
from worker.pace.rate_groups import RateGroup
from worker.pingone.client import Call
from worker.pingone.clients import Reads
from worker.pingone.errors import (
    ExpandRefused,
    Forbidden,
    ForeignLink,
    OutcomeUnknown,
    RateLimited,
    TooManyTerms,
)
from worker.pingone.transport import LARGEST_BODY
from worker.pingone.users import UserAttribute

ENVIRONMENT = "/v1/environments/5a5b7c9d-0e1f-4a2b-8c3d-4e5f6a7b8c9d"


def new_call() -> Call:
    return Call("check-1", "users")


def page(name: str, *ids: str, then: str | None = None, **fields: object) -> Callable[[Any], bytes]:
    """Answers a page of items with these ids and fields, and the address of a next one on the same server."""

    def body(request: Any) -> bytes:
        links = {} if then is None else {"next": {"href": f"http://{request.headers['host']}{ENVIRONMENT}/{then}"}}
        return json.dumps({"_links": links, "_embedded": {name: [{"id": each} | fields for each in ids]}}).encode()

    return body


@pytest.fixture
def connect(connect_clients: Any, http: Any) -> Any:
    """Makes the reads of an environment whose API answers as told; returns them and the API."""

    def make(*bodies: Any) -> tuple[Reads, Any]:
        def answer(body: Any) -> Any:
            return body if isinstance(body, bytes) else lambda request: http(200, body(request))

        clients, environment, api = connect_clients(*map(answer, bodies))
        return clients.reads(environment), api

    return make


def test_users_are_found_by_their_names(connect: Any) -> None:
    reads, api = connect(page("users", "6f1d", username="ada"))
    call = new_call()
    (user,) = reads.find_users(UserAttribute.USERNAME, ["ada", "bob"], call=call)
    assert (user.id, user.username) == ("6f1d", "ada")
    (request,) = api.received
    assert (request.method, request.body) == ("GET", b"")
    filter_ = "(username%20eq%20%22ada%22)%20or%20(username%20eq%20%22bob%22)"
    assert request.target == f"{ENVIRONMENT}/users?limit=200&filter={filter_}"
    assert request.headers["authorization"] == "Bearer access-token-1"
    assert request.headers["accept"] == "application/json"
    assert request.headers["x-ping-external-session-id"] == "check-1"
    assert call.requests == 1


def test_a_list_is_read_to_its_end_by_the_addresses_that_it_gives(connect: Any) -> None:
    reads, api = connect(
        page("users", "1", then="users?cursor=a%2Bb"), page("users", "2", then="users?cursor=c"), page("users", "3")
    )
    users = reads.find_users(UserAttribute.EMAIL, ["ada@example.com"], call=new_call())
    assert [user.id for user in users] == ["1", "2", "3"]
    targets = [request.target for request in api.received]
    assert targets[1:] == [f"{ENVIRONMENT}/users?cursor=a%2Bb", f"{ENVIRONMENT}/users?cursor=c"]
    assert {request.headers["authorization"] for request in api.received} == {"Bearer access-token-1"}


def test_the_inventory_is_read_a_page_at_a_time(connect: Any) -> None:
    reads, api = connect(page("oathTokens", "1", "2", then="oathTokens?cursor=a"), page("oathTokens", "3"))
    pages = reads.list_tokens(call=new_call())
    assert [token.id for token in next(pages).items] == ["1", "2"]
    assert len(api.received) == 1
    assert [token.id for each in pages for token in each.items] == ["3"]


def test_a_page_whose_answer_got_lost_is_read_again_and_not_the_whole_list(
    connect: Any, http: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.pingone.client.BACKOFF", tenacity.wait_none())
    reads, api = connect(page("oathTokens", "1", then="oathTokens?cursor=a"), http(503), page("oathTokens", "2"))
    assert [token.id for each in reads.list_tokens(call=new_call()) for token in each.items] == ["1", "2"]
    assert api.received[1].target == api.received[2].target


def test_a_page_on_another_host_is_not_asked_for(connect: Any, http: Any, serve: Any, script: Any) -> None:
    elsewhere = script([http(200)])
    url = f"{serve(elsewhere).url}{ENVIRONMENT}/users"
    body = {"_embedded": {"users": [{"id": "1"}]}, "_links": {"next": {"href": url}}}
    reads, _ = connect(http(200, json.dumps(body).encode()))
    with pytest.raises(ForeignLink):
        reads.find_users(UserAttribute.USERNAME, ["ada"], call=new_call())
    assert not elsewhere.received


def test_a_page_that_comes_again_under_another_address_ends_the_list(connect: Any) -> None:
    reads, api = connect(*[page("users", "6f1d", username="ada", then=f"users?cursor={each}") for each in "abc"])
    with pytest.raises(OutcomeUnknown, match="lead back"):
        reads.find_users(UserAttribute.USERNAME, ["ada"], call=new_call())
    assert len(api.received) == 2


def test_pages_that_lead_in_a_circle_come_to_an_end(connect: Any) -> None:
    reads, api = connect(
        page("oathTokens", "1", then="oathTokens?cursor=a"), page("oathTokens", "2", then="oathTokens?cursor=a")
    )
    with pytest.raises(OutcomeUnknown, match="lead back"):
        list(reads.list_tokens(call=new_call()))
    assert len(api.received) == 2


def test_a_token_is_found_by_its_serial_number(connect: Any) -> None:
    paired = [{"id": "0f0b", "user": {"id": "6f1d"}}]
    reads, api = connect(page("oathTokens", "7a1d", serialNumber="2308", devices=paired), page("oathTokens"))
    token = reads.find_token("2308", call=new_call())
    assert (token.id, token.device_id, token.user_id) == ("7a1d", "0f0b", "6f1d")
    assert reads.find_token("2308", with_devices=False, call=new_call()) is None
    first, second = (request.target for request in api.received)
    assert first.endswith("oathTokens?filter=serialNumber%20eq%20%222308%22&expand=devices")
    assert second.endswith("oathTokens?filter=serialNumber%20eq%20%222308%22")


def test_an_empty_page_that_leads_on_to_another_does_not_say_that_there_is_no_token(connect: Any) -> None:
    reads, api = connect(
        page("oathTokens", then="oathTokens?cursor=2"), page("oathTokens", "7a1d", serialNumber="2308")
    )
    token = reads.find_token("2308", call=new_call())
    assert token.id == "7a1d"
    assert api.received[1].target == f"{ENVIRONMENT}/oathTokens?cursor=2"


def test_other_tokens_than_the_one_asked_for_do_not_say_that_there_is_none(connect: Any) -> None:
    reads, _ = connect(page("oathTokens", "7a1d", serialNumber="2309"))
    with pytest.raises(OutcomeUnknown, match="about other tokens"):
        reads.find_token("2308", call=new_call())


def test_a_filter_that_is_refused_with_expand_can_be_asked_without(connect: Any, http: Any) -> None:
    refused = http(400, b'{"code": "INVALID_REQUEST", "details": [{"code": "INVALID_PARAMETER"}]}')
    device = [{"id": "0f0b", "user": {"id": "6f1d"}}]
    whole = http(200, json.dumps({"id": "7a1d", "serialNumber": "2308", "devices": device}).encode())
    reads, api = connect(refused, page("oathTokens", "7a1d", serialNumber="2308"), whole)
    with pytest.raises(ExpandRefused):
        reads.find_token("2308", call=new_call())
    token = reads.find_token("2308", with_devices=False, call=new_call())
    assert reads.read_token(token.id, call=new_call()).device_id == "0f0b"
    assert api.received[2].target == f"{ENVIRONMENT}/oathTokens/7a1d?expand=devices"


def test_a_filter_of_too_many_terms_is_asked_for_once(connect: Any, http: Any) -> None:
    reads, api = connect(http(431))
    with pytest.raises(TooManyTerms):
        reads.find_users(UserAttribute.USERNAME, ["ada", "bob"], call=new_call())
    assert len(api.received) == 1


def test_policies_settings_and_capabilities_are_read(connect: Any, http: Any) -> None:
    reads, api = connect(
        page("deviceAuthenticationPolicies", "8a1d", default=True),
        http(200, b'{"pairing": {"maxAllowedDevices": 7}}', Content_Type="application/hal+json"),
        http(200, b'{"canUseOATHToken": true, "licenseQuantities": {"rlgConfigRpm": {"limit": 600}}}'),
        page("devices", "0f0b", type="OATH_TOKEN"),
    )
    (policy,) = reads.read_policies(call=new_call())
    assert (policy.is_default, policy.new_device_notification) == (True, None)
    assert reads.read_mfa_settings(call=new_call()).max_devices == 7
    capabilities = reads.read_capabilities(call=new_call())
    assert (capabilities.can_use_oath_token, capabilities.rates) == (True, {RateGroup.CONFIGURATION: 10})
    assert [device.id for device in reads.list_devices("6f1d", call=new_call())] == ["0f0b"]
    assert [request.target.removeprefix(ENVIRONMENT) for request in api.received] == [
        "/deviceAuthenticationPolicies",
        "/mfaSettings",
        "/capabilities",
        "/users/6f1d/devices",
    ]


def test_an_empty_id_sends_nothing(connect: Any, http: Any) -> None:
    reads, api = connect(http(200))
    for read in (
        lambda: reads.find_users(UserAttribute.USERNAME, [""], call=new_call()),
        lambda: reads.find_token("", call=new_call()),
        lambda: reads.read_token("", call=new_call()),
        lambda: reads.list_devices("", call=new_call()),
    ):
        with pytest.raises(ValueError, match="empty"):
            read()
    assert not api.received


def test_a_missing_role_is_told_by_one_request_and_holds_nobody(
    connect: Any, http: Any, paces: Paces, make_environment: Any
) -> None:
    forbidden = b'{"code": "ACCESS_FAILED", "details": [{"code": "INSUFFICIENT_PERMISSIONS"}]}'
    reads, _ = connect(http(403, forbidden, Correlation_Id="3f0c"))
    call = new_call()
    with pytest.raises(Forbidden):
        reads.read_policies(call=call)
    with pytest.raises(Forbidden):
        reads.list_devices("user-1", call=call)
    assert call.requests == 2
    assert all(paces.of(make_environment(), group).read_hold_left() == 0 for group in RateGroup)


def test_a_429_holds_its_own_group_alone(connect: Any, http: Any, paces: Paces, make_environment: Any) -> None:
    reads, _ = connect(http(429, b'{"code": "REQUEST_LIMITED"}', Retry_After="600"))
    call = new_call()
    with pytest.raises(RateLimited):
        reads.read_mfa_settings(call=call)
    assert (call.requests, call.rate_limited) == (1, 1)
    held = {group: paces.of(make_environment(), group).read_hold_left() > 0 for group in RateGroup}
    assert held == {group: group is RateGroup.CONFIGURATION for group in RateGroup}


def test_a_read_waits_for_a_limit_by_the_minute(connect: Any, http: Any, paces: Paces, make_environment: Any) -> None:
    waits: list[float] = []

    def end_hold(seconds: float) -> None:
        waits.append(seconds)
        paces.of(make_environment(), RateGroup.INVENTORY).lift()

    limited = http(429, b'{"code": "REQUEST_LIMITED"}', Retry_After="55")
    reads, _ = connect(limited, page("oathTokens", "1"))
    client = reads._client_of(RateGroup.INVENTORY)
    client._policy = replace(client._policy, sleep=end_hold)
    (only,) = reads.list_tokens(call=new_call())
    assert [token.id for token in only.items] == ["1"]
    assert waits == [55]


def test_a_page_may_be_longer_than_an_answer_about_one_device(connect: Any) -> None:
    ids = [f"{number:090d}" for number in range(LARGEST_BODY // 80)]
    reads, _ = connect(page("oathTokens", *ids))
    assert sum(len(each.items) for each in reads.list_tokens(call=new_call())) == len(ids)
