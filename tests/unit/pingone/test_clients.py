"""What may be asked of an environment and done in it, over HTTP, by a server that answers as told: reads before a batch
begins, jobs on the inventory, pairings, and which roles there are."""

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import tenacity
from unit.pingone.conftest import Conversation, answer, hang_up, http, make_environment

from worker.pace.license_paces import Paces
from worker.pace.search import RateGroup
from worker.pace.slots import Slot
from worker.pingone.client import Call
from worker.pingone.clients import Pairings
from worker.pingone.configuration import Capabilities, MfaSettings
from worker.pingone.devices import Pairing, UserAttribute
from worker.pingone.diagnosis import RoleReads
from worker.pingone.errors import (
    AlreadyPaired,
    BadToken,
    Forbidden,
    ForeignLink,
    LicenseExceeded,
    NotFound,
    OtherDevice,
    OutcomeUnknown,
    PingOneError,
    RateLimited,
    StatusRefused,
    TooLateToSend,
    TooManyTerms,
    TooManyTokens,
)
from worker.pingone.inventory import JobStatus, NewToken
from worker.pingone.transport import LARGEST_BODY
from worker.vault.otps import Secret, Seed

ENVIRONMENT = "/v1/environments/5a5b7c9d-0e1f-4a2b-8c3d-4e5f6a7b8c9d"
USER_ID, DEVICE_ID = "6f1d3c1e-2b7a-4f55-9d0c-3e8a1b6c5d42", "0f0b7a52-1c5e-4d0e-8c55-9a0b4d1f7e21"
TOKEN_ID, JOB_ID = "7a1d3c1e-2b7a-4f55-9d0c-3e8a1b6c5d48", "c1d7a2f0-5b9e-4a63-8f24-7e0d9b1c3a58"
SERIAL_NUMBER = "2308734700388"
WAITING = "ACTIVATION_REQUIRED"
NEW_TOKEN = NewToken(
    serial_number=SERIAL_NUMBER,
    seed=Seed(secret=Secret(b"12345678901234567890")),
    row_number=2,
)
FILTER = f"/oathTokens?filter=serialNumber%20eq%20%22{SERIAL_NUMBER}%22"
WITH_DEVICES = f"{FILTER}&expand=devices"
BY_ID = f"/oathTokens/{TOKEN_ID}?expand=devices"
DEVICES = f"/users/{USER_ID}/devices"
LIMITED = http(429, b'{"code": "REQUEST_LIMITED"}', Retry_After="55")
LIMITED_FOR_LONG = http(429, b'{"code": "REQUEST_LIMITED"}', Retry_After="600")
FORBIDDEN = http(403, b'{"code": "ACCESS_FAILED", "details": [{"code": "INSUFFICIENT_PERMISSIONS"}]}')


def new_call(**options: Any) -> Call:
    return Call("batch-1", "record-1", **options)


def as_json(body: object) -> bytes:
    """Make the bytes of an answer with this body."""
    return http(200, json.dumps(body).encode())


def page(name: str, *items: dict[str, Any], then: str | None = None) -> Callable[[Conversation], bytes]:
    """Answers a page of these items, and the address of a next one on the same server."""

    def write(conversation: Conversation) -> bytes:
        host = conversation.request.headers["host"]  # type: ignore[union-attr]
        links = {} if then is None else {"next": {"href": f"http://{host}{ENVIRONMENT}/{then}"}}
        return as_json({"_links": links, "_embedded": {name: list(items)}})

    return write


def tokens(*ids: str, then: str | None = None, **fields: object) -> Callable[[Conversation], bytes]:
    """Answers a page of tokens with these ids and fields."""
    return page("oathTokens", *({"id": each} | fields for each in ids), then=then)


def token(device_id: str | None = None, *, alone: bool = False, tells_user: bool = True) -> Any:
    """Answers with the token: in a list, or `alone`; with its device where there is one, and `tells_user`."""
    fields: dict[str, Any] = {"serialNumber": SERIAL_NUMBER}
    if device_id is not None:
        fields["devices"] = [{"id": device_id} | ({"user": {"id": USER_ID}} if tells_user else {})]
    return as_json({"id": TOKEN_ID} | fields) if alone else tokens(TOKEN_ID, **fields)


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two tries."""
    monkeypatch.setattr("worker.pingone.retry_policy.BACKOFF", tenacity.wait_none())


@pytest.fixture
def pairings(connect_clients: Any) -> Any:
    """Makes the pairings (and reads) of an environment whose API answers as told; returns them and the API."""

    def make(*answers: Any) -> tuple[Pairings, Any]:
        clients, environment, api = connect_clients(*answers)
        return clients.pairings(environment), api

    return make


@pytest.fixture
def jobs(connect_clients: Any) -> Any:
    """Makes the jobs of an environment whose API answers as told; returns them and the API."""

    def make(*answers: Any) -> Any:
        clients, environment, api = connect_clients(*answers)
        return clients.jobs(environment), api

    return make


def targets(api: Any) -> list[str]:
    return [request.target.removeprefix(ENVIRONMENT) for request in api.received]


def pair(pairings: Pairings, call: Call | None = None) -> Any:
    return pairings.pair(USER_ID, SERIAL_NUMBER, call=call or new_call())


def unpair(pairings: Pairings) -> bool:
    return pairings.unpair(USER_ID, DEVICE_ID, call=new_call())


def find(pairings: Pairings, call: Call | None = None) -> Pairing | None:
    return pairings.find_pairing(SERIAL_NUMBER, USER_ID, call=call or new_call())


def find_users(reads: Any, *names: str) -> Any:
    return reads.find_users(UserAttribute.USERNAME, names or ["ada"], call=new_call())


def start_import(jobs: Any, **options: Any) -> str:
    started: str = jobs.start_import([NEW_TOKEN], call=new_call(**options))
    return started


def start_revocation(jobs: Any) -> str:
    started: str = jobs.start_revocation(["7a1d", "7a1e"], call=new_call())
    return started


# Reads.


def test_a_list_is_read_to_its_end_by_the_addresses_that_it_gives(pairings: Any) -> None:
    pages = [page("users", {"id": "1"}, then="users?cursor=a%2Bb"), page("users", {"id": "2"}, then="users?cursor=c")]
    reads, api = pairings(*pages, page("users", {"id": "3"}))
    assert [user.id for user in find_users(reads, "ada", "bob")] == ["1", "2", "3"]
    first, *later = targets(api)
    assert first == "/users?limit=200&filter=(username%20eq%20%22ada%22)%20or%20(username%20eq%20%22bob%22)"
    assert later == ["/users?cursor=a%2Bb", "/users?cursor=c"]
    sent = {"authorization": "Bearer access-token-1", "x-ping-external-session-id": "batch-1"}
    for request in api.received:
        assert (request.method, request.body, sent.items() <= request.headers.items()) == ("GET", b"", True)


@pytest.mark.parametrize(
    ("read", "names", "sample", "target", "told"),
    [
        (
            "read_policies",
            [],
            "policies/hal",
            "/deviceAuthenticationPolicies",
            ["8a1d3c1e-2b7a-4f55-9d0c-3e8a1b6c5d41"],
        ),
        ("read_mfa_settings", [], "mfa_settings/all", "/mfaSettings", MfaSettings(10, True, 6, 900)),
        ("read_capabilities", [], "capabilities/without_quantities", "/capabilities", Capabilities(False)),
        ("list_devices", [USER_ID], "user_devices/serial_number_inside", DEVICES, [DEVICE_ID]),
    ],
)
def test_each_read_asks_for_what_it_is_called(
    pairings: Any, read: str, names: list[str], sample: str, target: str, told: object
) -> None:
    reads, api = pairings(answer(sample))
    found = getattr(reads, read)(*names, call=new_call())
    assert ([each.id for each in found] if isinstance(found, list) else found) == told
    assert targets(api) == [target]


def test_a_page_is_read_when_it_is_asked_for_and_alone_again_where_its_answer_got_lost(pairings: Any) -> None:
    reads, api = pairings(tokens("1", "2", then="oathTokens?cursor=a"), http(503), tokens("3"))
    pages = reads.list_tokens(call=new_call())
    assert [each.id for each in next(pages).items] == ["1", "2"]
    assert len(api.received) == 1
    assert [each.id for rest in pages for each in rest.items] == ["3"]
    assert targets(api) == ["/oathTokens?expand=devices", *["/oathTokens?cursor=a"] * 2]


def test_a_page_on_another_host_is_not_asked_for(pairings: Any, serve: Any) -> None:
    elsewhere = serve(http(200))
    links = {"next": {"href": f"{elsewhere.url}{ENVIRONMENT}/users"}}
    reads, _ = pairings(as_json({"_embedded": {"users": [{"id": "1"}]}, "_links": links}))
    with pytest.raises(ForeignLink):
        find_users(reads)
    assert not elsewhere.received


@pytest.mark.parametrize(
    "pages",
    [
        # The same one under another address; the same address.
        [tokens("1", then=f"oathTokens?cursor={each}") for each in "abc"],
        [tokens(each, then="oathTokens?cursor=a") for each in "12"],
    ],
)
def test_pages_that_lead_back_come_to_an_end(pairings: Any, pages: list[Any]) -> None:
    reads, api = pairings(*pages)
    with pytest.raises(OutcomeUnknown, match="lead back"):
        list(reads.list_tokens(call=new_call()))
    assert len(api.received) == 2


def test_an_empty_page_that_leads_on_to_another_does_not_say_that_there_is_no_token(pairings: Any) -> None:
    reads, api = pairings(tokens(then="oathTokens?cursor=2"), token())
    assert reads.find_token(SERIAL_NUMBER, call=new_call()).id == TOKEN_ID
    assert targets(api)[1] == "/oathTokens?cursor=2"


def test_other_tokens_than_the_one_asked_for_do_not_say_that_there_is_none(pairings: Any) -> None:
    reads, _ = pairings(tokens("7a1d", serialNumber="2309"))
    with pytest.raises(OutcomeUnknown, match="about other tokens"):
        reads.find_token("2308", call=new_call())


def test_an_empty_id_sends_nothing(pairings: Any, jobs: Any) -> None:
    reads, api = pairings(http(200))
    inventory, _ = jobs(http(200))
    for ask in (
        partial(reads.find_users, UserAttribute.USERNAME, [""]),
        partial(reads.find_token, ""),
        partial(reads.read_token, ""),
        partial(reads.list_devices, ""),
        partial(reads.unpair, USER_ID, ""),
        partial(reads.unpair, USER_ID, "a/.."),
        partial(reads.unpair, "..", DEVICE_ID),
        partial(inventory.start_import, []),
        partial(inventory.start_revocation, [""]),
        partial(inventory.read_job, ""),
    ):
        with pytest.raises(ValueError, match=r"no token|empty"):
            ask(call=new_call())
    assert not api.received


def test_a_missing_role_is_told_by_one_request_and_holds_nobody(connect_clients: Any, paces: Paces) -> None:
    clients, environment, _ = connect_clients(FORBIDDEN)
    reads, call = clients.reads(environment), new_call()
    for ask in (reads.read_policies, reads.read_mfa_settings, reads.read_capabilities):
        with pytest.raises(Forbidden):
            ask(call=call)
    assert call.requests == 3
    assert all(paces.of(environment, group).read_hold_left() == 0 for group in RateGroup)


def test_a_page_may_be_longer_than_an_answer_about_one_device(pairings: Any) -> None:
    reads, _ = pairings(tokens(*(f"{number:090d}" for number in range(LARGEST_BODY // 80))))
    assert sum(len(each.items) for each in reads.list_tokens(call=new_call())) == LARGEST_BODY // 80


# What a call is limited by.


@pytest.mark.parametrize(
    ("ask", "group"),
    [
        (lambda clients, environment: clients.reads(environment).read_mfa_settings(call=new_call()), "configuration"),
        (lambda clients, environment: find_users(clients.reads(environment)), "directory"),
        (lambda clients, environment: find(clients.pairings(environment)), "inventory"),
        (lambda clients, environment: start_import(clients.jobs(environment)), "inventory"),
        (lambda clients, environment: pair(clients.pairings(environment)), "mfa"),
    ],
)
def test_a_429_holds_its_own_group_alone(connect_clients: Any, paces: Paces, ask: Any, group: str) -> None:
    clients, environment, _ = connect_clients(LIMITED_FOR_LONG)
    with pytest.raises(RateLimited):
        ask(clients, environment)
    held = {each for each in RateGroup if paces.of(environment, each).read_hold_left() > 0}
    assert held == {RateGroup(group)}


def test_calls_but_for_activations_wait_for_a_limit_by_the_minute(connect_clients: Any, paces: Paces) -> None:
    clients, environment, api = connect_clients(LIMITED, tokens("1"), LIMITED, answer("started_job/created"))
    waits: list[float] = []

    def end_hold(seconds: float) -> None:
        waits.append(seconds)
        paces.of(environment, RateGroup.INVENTORY).lift()

    client = clients.client(environment, RateGroup.INVENTORY)
    client._policy = replace(client._policy, sleep=end_hold)
    (only,) = clients.reads(environment).list_tokens(call=new_call())
    assert [each.id for each in only.items] == ["1"]
    assert start_import(clients.jobs(environment)) == JOB_ID
    assert waits == [55, 55]
    assert api.received[2].body == api.received[3].body


# What may have been made is not made again.


@pytest.mark.parametrize(
    ("change", "refusal", "error"),
    [
        *((pair, answer(name), OutcomeUnknown) for name in ("activation/captive_portal", "pairing/without_id")),
        (pair, answer("pairing/already_paired"), AlreadyPaired),
        (pair, answer("pairing/license_exceeded"), LicenseExceeded),
        (unpair, answer("activation/unexpected_error"), OutcomeUnknown),
        (start_import, answer("activation/unavailable"), OutcomeUnknown),
        (start_import, answer("started_job/id_empty"), OutcomeUnknown),
        (start_import, hang_up, OutcomeUnknown),
        (start_import, answer("started_job/content_too_large_by_proxy"), TooManyTokens),
        (start_revocation, answer("activation/unexpected_error"), OutcomeUnknown),
        (start_revocation, answer("started_job/token_is_paired"), BadToken),
        (find_users, http(431), TooManyTerms),
    ],
)
def test_what_may_have_been_made_or_is_refused_for_good_is_asked_for_once(
    connect_clients: Any, change: Any, refusal: Any, error: type[PingOneError]
) -> None:
    clients, environment, api = connect_clients(refusal)
    with pytest.raises(error):
        change((clients.jobs if change in (start_import, start_revocation) else clients.pairings)(environment))
    assert len(api.received) == 1


def test_what_made_nothing_is_asked_for_again(pairings: Any) -> None:
    kept, api = pairings(http(401), http(429, Retry_After="0.01"), FORBIDDEN, answer("pairing/waiting"))
    assert pair(kept).id == DEVICE_ID
    assert len({request.body for request in api.received}) == 1


def test_what_changes_something_does_not_go_out_after_its_time_to_send(pairings: Any, jobs: Any) -> None:
    kept, api = pairings(answer("pairing/waiting"))
    with pytest.raises(TooLateToSend):
        pair(kept, new_call(send_before=0.0))
    inventory, jobs_api = jobs(answer("started_job/created"))
    with pytest.raises(TooLateToSend):
        start_import(inventory, send_before=0.0)
    assert api.received == jobs_api.received == []


# Jobs.


def test_a_place_beyond_the_list_names_no_token(jobs: Any) -> None:
    inventory, _ = jobs(answer("started_job/bad_secret"))
    with pytest.raises(BadToken) as caught:
        start_import(inventory)
    assert (caught.value.index, caught.value.field) == (None, "secret")


def test_a_job_that_is_gone_is_told_and_one_that_is_another_is_not_believed(jobs: Any) -> None:
    inventory, api = jobs(answer("job/cleaned_up"), answer("job/another_job"), answer("job/done"))
    with pytest.raises(NotFound):
        inventory.read_job(JOB_ID, call=new_call())
    # What comes next by the connection of another's answer may be another's as well.
    assert inventory.read_job(JOB_ID, call=new_call()).state == JobStatus.DONE
    assert [request.connection for request in api.received] == [1, 1, 2]


# Pairings.


def test_a_refused_status_is_left_out_from_then_on_by_every_thread(connect_clients: Any) -> None:
    clients, environment, api = connect_clients(answer("pairing/status_refused"), answer("pairing/waiting"))
    permits: list[str] = []
    call = new_call(permit=lambda: permits.append("asked"))
    assert pair(clients.pairings(environment), call).id == DEVICE_ID
    assert call.requests == 2
    # Once for each slot that was waited for.
    assert len(permits) == 2
    pair(clients.pairings(environment.model_copy(update={"pairing_status": "ACTIVE"})))
    bodies = [json.loads(request.body) for request in api.received]
    assert [body.get("status") for body in bodies] == [WAITING, None, None]


@pytest.mark.parametrize(
    ("second", "error"),
    [("pairing/status_refused", StatusRefused), ("activation/unexpected_error", OutcomeUnknown)],
)
def test_what_becomes_of_a_pairing_without_status_is_told(
    pairings: Any, second: str, error: type[PingOneError]
) -> None:
    kept, api = pairings(answer("pairing/status_refused"), answer(second))
    for count in (2, 3):
        with pytest.raises(error):
            pair(kept)
        assert len(api.received) == count


def test_an_answer_about_another_token_is_not_believed_and_its_connection_not_used_again(pairings: Any) -> None:
    kept, api = pairings(answer("pairing/another_token"), answer("pairing/waiting"))
    with pytest.raises(OtherDevice):
        pair(kept)
    assert pair(kept).id == DEVICE_ID
    assert [request.connection for request in api.received] == [1, 2]


def test_a_device_is_removed_once(pairings: Any) -> None:
    kept, api = pairings(answer("unpaired/no_content"), answer("unpaired/gone_already"))
    assert [unpair(kept), unpair(kept)] == [True, False]
    assert {(request.method, request.body) for request in api.received} == {("DELETE", b"")}
    assert targets(api) == [f"{DEVICES}/{DEVICE_ID}"] * 2


PAIRED = Pairing(DEVICE_ID, USER_ID, TOKEN_ID)
OTHERS = ({"id": "1", "type": "SMS"}, {"id": "3", "type": "OATH_TOKEN", "serialNumber": "2308734700389"})
UNTOLD = {"id": "4", "type": "OATH_TOKEN"}
APP = {"id": "2", "type": "TOTP", "serialNumber": SERIAL_NUMBER}
INSIDE = {"id": DEVICE_ID, "type": "OATH_TOKEN", "oathToken": {"serialNumber": SERIAL_NUMBER}}


@pytest.mark.parametrize(
    ("answers", "found", "asked"),
    [
        # With one read.
        ([token(DEVICE_ID)], [PAIRED], [WITH_DEVICES]),
        ([tokens()], [None], [WITH_DEVICES]),
        # No device is believed only when the token's own page says so.
        ([token(), token(alone=True)] * 2, [None, None], [WITH_DEVICES, BY_ID] * 2),
        # Where the filter hides devices it is asked without them from then on.
        ([token(), token(DEVICE_ID, alone=True)] * 2, [PAIRED, PAIRED], [WITH_DEVICES, BY_ID, FILTER, BY_ID]),
        # Where they do not go together that is remembered.
        (
            [answer("inventory/filter_and_expand_refused"), token(), token(alone=True), tokens()],
            [None, None],
            [WITH_DEVICES, FILTER, BY_ID, FILTER],
        ),
        # A device without its user is looked at closer.
        (
            [token(DEVICE_ID, tells_user=False), token(DEVICE_ID, alone=True, tells_user=False)],
            [Pairing(DEVICE_ID, None, TOKEN_ID)],
            [WITH_DEVICES, BY_ID],
        ),
        # It may not be seen everywhere yet; "free" would let it be paired again.
        ([token(), answer("activation/not_found")], [NotFound], [WITH_DEVICES, BY_ID]),
        # An inventory that is not there says nothing of the token.
        ([answer("activation/not_found")], [NotFound], [WITH_DEVICES]),
        # Where the inventory may not be read the user's devices are.
        (
            [FORBIDDEN, page("devices", *OTHERS, APP, INSIDE, UNTOLD)],
            [Pairing(DEVICE_ID, USER_ID, None)],
            [WITH_DEVICES, DEVICES],
        ),
        ([FORBIDDEN, page("devices", *OTHERS)], [None], [WITH_DEVICES, DEVICES]),
        # Who is not there any more has no device.
        ([FORBIDDEN, answer("activation/not_found")], [None], [WITH_DEVICES, DEVICES]),
        # A device whose serial number is not told may be the token.
        ([FORBIDDEN, page("devices", UNTOLD)], [Forbidden], [WITH_DEVICES, DEVICES]),
    ],
)
def test_whom_a_token_is_paired_with_is_looked_up(
    pairings: Any, answers: list[Any], found: list[Any], asked: list[str]
) -> None:
    kept, api = pairings(*answers)
    for expected in found:
        if isinstance(expected, type):
            with pytest.raises(expected):
                find(kept)
        else:
            assert find(kept) == expected
    assert targets(api) == asked


def test_a_slot_in_hand_is_kept_for_a_call_of_its_own_group(connect_clients: Any, paces: Paces) -> None:
    clients, environment, _ = connect_clients(token(), token(DEVICE_ID, alone=True), FORBIDDEN, page("devices"))
    kept = clients.pairings(environment)
    slot = Slot(0, 1.0)
    call = new_call(slot=slot)
    assert find(kept, call) is not None
    assert call.slot is slot
    # Only with it: no other slot of the group is to be had.
    paces.of(environment, RateGroup.MFA).hold(60)
    assert find(kept, call) is None
    assert call.slot is None


# Reads that tell which roles a worker application has.

ROLES = [
    {"name": "Environment Admin", "permissions": [{"id": "mfa:read:oathToken"}, {"id": "mfa:create:oathtokens"}]},
    {"name": "Another Admin", "permissions": [{"id": "mfa:delete:OATHTokens"}]},
    {"name": "Identity Data Admin", "permissions": [{"id": "dir:read:user"}, {}, "oathToken"]},
    {"name": "Without permissions"},
    {"permissions": [{"id": "mfa:read:oathToken"}]},
    "no role",
]


@pytest.fixture
def roles(serve: Any, request: pytest.FixtureRequest) -> Any:
    """Makes reads that get these answers, and the server that gives them."""

    def make(*answers: Any) -> Any:
        api = serve(*answers)
        reads = RoleReads(make_environment(api.url), "made-up-access-token", deadline=5)
        request.addfinalizer(reads.close)
        return reads, api

    return make


def test_one_user_is_asked_for_and_its_devices(roles: Any) -> None:
    reads, api = roles(as_json({"_embedded": {"users": [{"id": "u-1"}]}}), as_json({"_embedded": {"devices": []}}))
    assert reads.read_user() == "u-1"
    reads.read_devices("u-1")
    assert targets(api) == ["/users?limit=1", "/users/u-1/devices"]
    assert {request.headers["authorization"] for request in api.received} == {"Bearer made-up-access-token"}


@pytest.mark.parametrize(
    "body", [{}, {"_embedded": []}, *({"_embedded": {"users": users}} for users in ([], ["u"], {}, [{"id": 1}]))]
)
def test_a_tenant_without_users_shows_none(roles: Any, body: Any) -> None:
    assert roles(as_json(body))[0].read_user() is None


@pytest.mark.parametrize(
    ("answer", "names"),
    [
        (as_json({"_embedded": {"roles": ROLES}}), ["Another Admin", "Environment Admin"]),
        # Where PingOne does not tell its roles there are none.
        *((each, []) for each in (FORBIDDEN, http(500), as_json({"_embedded": {"roles": None}}), as_json([]))),
    ],
)
def test_roles_are_found_by_a_word_in_the_ids_of_their_permissions(roles: Any, answer: bytes, names: list[str]) -> None:
    reads, api = roles(answer)
    assert reads.find_roles("oathToken") == names
    assert api.received[0].target == "/v1/roles"
