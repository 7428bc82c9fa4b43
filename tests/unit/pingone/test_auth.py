"""Access tokens: when the token endpoint is asked, what every thread gets then, and how the request proves who asks:
client assertions as the simulator's token endpoint checks them, which shares no code with what signs them."""

import base64
import json
import logging
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from traceback import walk_stack
from typing import Any
from unittest.mock import Mock
from urllib.parse import parse_qs

import pytest
from joserfc.jwk import ECKey, RSAKey
from pydantic import SecretStr
from support.processes.waiting import wait_until
from support.simulator.simulation import WatchedAccessTokens
from unit.pingone.conftest import granted, hang, http, make_environment

from worker.pingone.auth import GOOD_FOR, AccessTokens, build_access_token_request, sign_assertion
from worker.pingone.errors import CredentialsRefused, NotDelivered, OutcomeUnknown
from worker.simulator.calls import Call

REFUSED = http(401, b'{"error": "invalid_client", "error_description": "Invalid client credentials"}')
OLD, NEW = granted(access_token="old", expires_in=100), granted(access_token="new")


class Clock:
    """Monotonic time that stands still until a test moves it."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ask(serve: Any, clock: Clock) -> Callable[..., Any]:
    """Makes access tokens of an endpoint that gives these answers, and that endpoint."""

    def make(*answers: Any, secret: str = "old", **options: Any) -> Any:
        endpoint = serve(*answers)
        return AccessTokens(make_environment(endpoint.url, client_secret=secret), clock=clock, **options), endpoint

    return make


def grants() -> Callable[[Any], bytes]:
    """Grants access-token-1, access-token-2, …"""
    numbers = count(1)
    return lambda _: granted(access_token=f"access-token-{next(numbers)}")


def call_at_once(call: Callable[[], str], name: str, go: threading.Event) -> list[object]:
    """What becomes of four threads that are all inside the call, of this name, before the endpoint may answer."""

    def count_inside() -> int:
        stacks = ([each.f_code.co_name for each, _ in walk_stack(frame)] for frame in sys._current_frames().values())
        return sum(name in stack for stack in stacks)

    with ThreadPoolExecutor(4) as threads:
        calls = [threads.submit(call) for _ in range(4)]
        wait_until(lambda: count_inside() == 4, "all are inside")
        go.set()
        return [each.exception(10) or each.result() for each in calls]


def slowly(go: threading.Event, answer: bytes) -> Callable[[Any], bytes]:
    """Answers when it is told to."""
    return lambda _: answer if go.wait(10) else b""


def test_an_access_token_is_fetched_once_and_kept(ask: Any) -> None:
    access_tokens, endpoint = ask(grants())
    assert [access_tokens.get() for _ in range(3)] == ["access-token-1"] * 3
    (request,) = endpoint.received
    assert request.target == f"/{make_environment().environment_id}/as/token"


@pytest.mark.parametrize(("life", "good_for"), [(3600, 3540), (100, 80)])
def test_it_is_renewed_a_minute_or_a_fifth_of_its_life_before_it_expires(
    ask: Any, clock: Clock, life: float, good_for: float
) -> None:
    access_tokens, _ = ask(granted(access_token="old", expires_in=life), NEW)
    access_tokens.get()
    clock.now += good_for - 1
    assert access_tokens.get() == "old"
    clock.now += 1
    assert access_tokens.get() == "new"


def call_by_many(call: Callable[[], str]) -> set[str]:
    """What sixteen threads get that call at the same moment."""
    start = threading.Barrier(16)

    def run(_: int) -> str:
        start.wait(10)
        return call()

    with ThreadPoolExecutor(16) as threads:
        return set(threads.map(run, range(16)))


def test_a_refused_access_token_is_renewed_once_however_many_threads_had_it(ask: Any) -> None:
    access_tokens, endpoint = ask(grants())
    refused = access_tokens.get()
    assert call_by_many(lambda: access_tokens.renew(refused)) == {"access-token-2"}
    assert access_tokens.renew(refused) == access_tokens.get() == "access-token-2"
    assert len(endpoint.received) == 2


def test_an_endpoint_that_hands_out_the_same_access_token_is_asked_once_all_the_same(ask: Any) -> None:
    go = threading.Event()
    access_tokens, endpoint = ask(granted(), slowly(go, granted()))
    refused = access_tokens.get()
    assert call_at_once(lambda: access_tokens.renew(refused), "renew", go) == [refused] * 4
    assert len(endpoint.received) == 2


def test_threads_that_wait_share_a_failure_instead_of_each_waiting_for_its_own(ask: Any, clock: Clock) -> None:
    go = threading.Event()
    access_tokens, endpoint = ask(OLD, slowly(go, http(503)))
    access_tokens.get()
    clock.now += 100
    results = call_at_once(access_tokens.get, "get", go)
    assert {type(each) for each in results} == {NotDelivered}
    assert len({id(each) for each in results}) == 4
    assert len(endpoint.received) == 2
    # Who comes later asks anew.
    with pytest.raises(NotDelivered):
        access_tokens.get()
    assert len(endpoint.received) == 3


def test_while_the_old_access_token_is_good_nobody_waits_for_the_new_one(ask: Any, clock: Clock) -> None:
    go = threading.Event()
    access_tokens, endpoint = ask(OLD, slowly(go, NEW))
    access_tokens.get()
    clock.now += 90
    with ThreadPoolExecutor(1) as threads:
        asking = threads.submit(access_tokens.get)
        wait_until(lambda: len(endpoint.received) == 2, "the endpoint is asked")
        assert access_tokens.get() == "old"
        go.set()
        assert asking.result(10) == "new"
    assert access_tokens.get() == "new"
    assert len(endpoint.received) == 2


def test_a_failed_early_renewal_stops_nobody_and_is_not_repeated_at_once(ask: Any, clock: Clock) -> None:
    access_tokens, endpoint = ask(OLD, http(500))
    access_tokens.get()
    for later, asked in ((90, 2), (0, 2), (5, 3)):
        clock.now += later
        assert (access_tokens.get(), len(endpoint.received)) == ("old", asked)
    clock.now += 5
    with pytest.raises(NotDelivered):
        access_tokens.get()


def test_a_refused_access_token_is_not_given_out_again_after_its_renewal_failed(ask: Any) -> None:
    access_tokens, _ = ask(OLD, http(500), NEW)
    refused = access_tokens.get()
    with pytest.raises(NotDelivered):
        access_tokens.renew(refused)
    assert access_tokens.get() == "new"


def test_an_answer_that_never_comes_delivers_nothing(ask: Any) -> None:
    access_tokens, _ = ask(hang, deadline=1)
    with pytest.raises(NotDelivered) as caught:
        access_tokens.get()
    assert type(caught.value.__cause__) is OutcomeUnknown


def test_no_token_endpoint_makes_it_wait_longer_than_the_longest_hold(ask: Any, clock: Clock) -> None:
    access_tokens, endpoint = ask(http(503, Retry_After="86400"), NEW, longest_hold=120)
    # It is left alone meanwhile.
    for later, left in ((0, 86400), (119, 1)):
        clock.now += later
        with pytest.raises(NotDelivered) as caught:
            access_tokens.get()
        assert (caught.value.retry_after, len(endpoint.received)) == (left, 1)
    clock.now += 1
    assert access_tokens.get() == "new"


def test_a_person_may_have_the_token_endpoint_asked_at_once(ask: Any) -> None:
    access_tokens, _ = ask(http(429, Retry_After="100"), NEW)
    with pytest.raises(NotDelivered):
        access_tokens.get()
    access_tokens.end_pause()
    assert access_tokens.get() == "new"


def test_nothing_that_is_printed_holds_a_secret_or_an_access_token(ask: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    body = json.dumps({"error": "invalid_client", "error_description": f"not {'a' * 60}"}).encode()
    access_tokens, _ = ask(granted(access_token="made-up-access-token"), http(401, body), secret="s3cret:with%odd")
    refused = access_tokens.get()
    with pytest.raises(CredentialsRefused, match="invalid_client") as caught:
        access_tokens.renew(refused)
    texts = [repr(access_tokens), str(caught.value), repr(caught.value), caplog.text]
    texts += [repr(each) for each in vars(access_tokens).values()]
    assert not any(word in text for text in texts for word in ("s3cret", "made-up-access-token", "a" * 60))


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_the_client_secret_follows_no_redirect(ask: Any, serve: Any, status: int) -> None:
    elsewhere = serve(http(200))
    access_tokens, endpoint = ask(http(status, Location=f"{elsewhere.url}/token"), secret="made-up-secret")
    with pytest.raises(NotDelivered) as failure:
        access_tokens.get()
    assert (len(endpoint.received), elsewhere.received) == (1, [])
    assert "made-up-secret" not in f"{failure.value} {failure.value!r}"


def secrets_of(endpoint: Any) -> list[str]:
    """The client secret of each request."""
    pairs = (base64.b64decode(each.headers["authorization"].split()[1]).decode() for each in endpoint.received)
    return [pair.partition(":")[2] for pair in pairs]


def reread(*secrets: str) -> Mock:
    """Reads each of these client secrets once, one after the other."""
    left = iter(secrets)
    return Mock(side_effect=lambda known: known.model_copy(update={"client_secret": SecretStr(next(left))}))


def test_a_secret_that_was_changed_meanwhile_is_used_at_once_by_all_threads(ask: Any) -> None:
    newer = reread("new")
    access_tokens, endpoint = ask(REFUSED, NEW, reread=newer)
    assert call_by_many(access_tokens.get) == {"new"}
    assert (secrets_of(endpoint), newer.call_count) == (["old", "new"], 1)


def test_a_secret_that_is_refused_is_not_sent_again_and_a_changed_one_once(ask: Any) -> None:
    access_tokens, endpoint = ask(REFUSED, REFUSED, REFUSED, REFUSED, NEW, reread=reread("old", "new", "newest"))
    for sent in (["old"], ["old", "old", "new"]):
        with pytest.raises(CredentialsRefused):
            access_tokens.get()
        assert secrets_of(endpoint) == sent
    # Asked again, as by a worker that takes no work until then: another one has come.
    assert access_tokens.get() == "new"
    assert secrets_of(endpoint)[3:] == ["new", "newest"]


def test_an_outage_is_no_reason_to_read_the_secret_again(ask: Any) -> None:
    access_tokens, _ = ask(http(503), reread=reread())
    with pytest.raises(NotDelivered):
        access_tokens.get()


@pytest.mark.parametrize(
    ("client_auth", "authorization", "form"),
    [
        # Inside it they are form-encoded.
        ("basic", "Basic " + base64.b64encode(b"id%3Awith+colon:%25%2B%C3%BC%3A").decode(), {}),
        ("post", None, {"client_id": ["id:with colon"], "client_secret": ["%+ü:"]}),
    ],
)
def test_client_id_and_secret_go_where_the_application_wants_them(
    client_auth: str, authorization: str | None, form: dict[str, list[str]]
) -> None:
    credentials = {"client_id": "id:with colon", "client_secret": "%+ü:"}
    request = build_access_token_request(make_environment(client_auth=client_auth, **credentials))
    assert request.headers.get("Authorization") == authorization
    assert parse_qs(request.content.decode()) == {"grant_type": ["client_credentials"]} | form
    assert "%25" not in repr(request)


RSA = RSAKey.generate_key(2048)
KEYS: dict[str, RSAKey | ECKey] = {
    "RS256": RSA,
    "ES256": ECKey.generate_key("P-256"),
    "ES384": ECKey.generate_key("P-384"),
    "ES512": ECKey.generate_key("P-521"),
}
JWK = json.dumps(RSA.as_dict(private=True) | {"kid": "of the JWK"})


def pem(key: RSAKey | ECKey) -> str:
    return key.as_pem(private=True).decode()


def read_part(assertion: str, number: int) -> dict[str, Any]:
    part = assertion.split(".")[number]
    read: dict[str, Any] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return read


def admits(environment: Any, *keys: dict[str, Any]) -> bool:
    """Whether a simulated token endpoint that knows these keys grants the request."""
    access = WatchedAccessTokens(lambda: environment.client_auth)
    access.clients["made-up-client"] = environment.secret or "another secret"
    access.keys["made-up-client"] = {"keys": list(keys)}
    request = build_access_token_request(environment)
    host, _, path = request.url.partition("//")[2].partition("/")
    headers = [(name.lower().encode(), value.encode()) for name, value in {**request.headers, "Host": host}.items()]
    call = Call.from_scope({"method": "POST", "path": f"/{path}", "query_string": b"", "headers": headers})
    call.body = request.content
    return access.answer_request(call).status == 200


@pytest.mark.parametrize("algorithm", KEYS)
def test_a_private_key_is_enough(algorithm: str) -> None:
    key = KEYS[algorithm]
    environment = make_environment(client_auth="private_key_jwt", client_secret=None, private_key=pem(key))
    header = read_part(sign_assertion(environment), 0)
    assert header == {"alg": algorithm, "typ": "JWT", "kid": key.thumbprint()}
    assert admits(environment, key.as_dict(private=False) | {"kid": key.thumbprint()})
    other = RSAKey.generate_key(2048).as_dict(private=False)
    assert not admits(environment, other | {"kid": key.thumbprint()})


@pytest.mark.parametrize(
    ("changes", "key_id"),
    [
        ({"private_key": pem(RSA), "key_id": "set"}, "set"),
        ({"private_key": JWK}, "of the JWK"),
        ({"private_key": JWK, "key_id": "set"}, "set"),
    ],
    ids=["set", "of a JWK", "set beside a JWK"],
)
def test_the_key_id_is_what_is_set_or_that_of_the_jwk(changes: dict[str, str], key_id: str) -> None:
    environment = make_environment(client_auth="private_key_jwt", **changes)
    assert read_part(sign_assertion(environment), 0)["kid"] == key_id


def test_the_claims_are_those_of_pingones_pages() -> None:
    environment = make_environment(client_auth="secret_jwt")
    before = int(time.time())
    assertion, another = (sign_assertion(environment) for _ in range(2))
    claims = read_part(assertion, 1)
    soon = pytest.approx(before + 1, abs=1)
    named = {"iss": "made-up-client", "sub": "made-up-client", "aud": environment.token_url}
    assert claims == named | {"iat": soon, "exp": claims["iat"] + GOOD_FOR, "jti": claims["jti"]}
    assert claims["jti"] != read_part(another, 1)["jti"]
    assert read_part(assertion, 0) == {"alg": "HS256", "typ": "JWT"}
    assert admits(environment)


@pytest.mark.parametrize(
    "changes", [{"client_auth": "secret_jwt"}, {"client_auth": "private_key_jwt", "private_key": pem(RSA)}]
)
def test_no_secret_goes_into_the_request(changes: dict[str, str]) -> None:
    environment = make_environment(**changes)
    request = build_access_token_request(environment)
    form = parse_qs(request.content.decode())
    assert form.keys() == {"grant_type", "client_id", "client_assertion_type", "client_assertion"}
    assert form["client_assertion_type"] == ["urn:ietf:params:oauth:client-assertion-type:jwt-bearer"]
    assert ("Authorization" in request.headers, environment.secret in request.content.decode()) == (False, False)
    assert form["client_assertion"][0] not in repr(request)
