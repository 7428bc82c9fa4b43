from __future__ import annotations

import base64
import json
import logging
import socket
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import count
from traceback import walk_stack
from typing import Any

import pytest
from pydantic import SecretStr

from worker.pingone.auth import AccessTokens
from worker.pingone.errors import CredentialsRefused, NotDelivered, OutcomeUnknown


class Clock:
    """Monotonic time that stands still until a test moves it."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def grants(http: Any) -> Callable[..., Callable[[Any], bytes]]:
    """Grants access-token-1, access-token-2, …"""

    def make(expires_in: float = 3600) -> Callable[[Any], bytes]:
        numbers = count(1)

        def grant(request: Any) -> bytes:
            fields = {"access_token": f"access-token-{next(numbers)}", "expires_in": expires_in}
            return http(200, json.dumps(fields).encode())

        return grant

    return make


def test_an_access_token_is_fetched_once_and_kept(make_environment: Any, serve: Any, script: Any, grants: Any) -> None:
    talk = script([grants()])
    environment = make_environment(serve(talk).url)
    access_tokens = AccessTokens(environment)
    assert [access_tokens.get() for _ in range(3)] == ["access-token-1"] * 3
    (request,) = talk.received
    assert request.target == f"/{environment.environment_id}/as/token"


@pytest.mark.parametrize(("life", "good_for"), [(3600, 3540), (100, 80)])
def test_it_is_renewed_a_minute_or_a_fifth_of_its_life_before_it_expires(
    make_environment: Any, serve: Any, script: Any, grants: Any, clock: Clock, life: float, good_for: float
) -> None:
    access_tokens = AccessTokens(make_environment(serve(script([grants(life)])).url), clock=clock)
    access_tokens.get()
    clock.now += good_for - 1
    assert access_tokens.get() == "access-token-1"
    clock.now += 1
    assert access_tokens.get() == "access-token-2"


def test_one_of_many_threads_asks_and_the_others_share_its_answer(
    make_environment: Any, serve: Any, script: Any, grants: Any
) -> None:
    talk = script([grants()])
    access_tokens = AccessTokens(make_environment(serve(talk).url))
    start = threading.Barrier(16)

    def get(_: int) -> str:
        start.wait(10)
        return access_tokens.get()

    with ThreadPoolExecutor(16) as threads:
        assert set(threads.map(get, range(16))) == {"access-token-1"}
    assert len(talk.received) == 1


def test_a_refused_access_token_is_renewed_once_however_many_threads_had_it(
    make_environment: Any, serve: Any, script: Any, grants: Any
) -> None:
    talk = script([grants()])
    access_tokens = AccessTokens(make_environment(serve(talk).url))
    refused = access_tokens.get()
    start = threading.Barrier(16)

    def renew(_: int) -> str:
        start.wait(10)
        return access_tokens.renew(refused)

    with ThreadPoolExecutor(16) as threads:
        assert set(threads.map(renew, range(16))) == {"access-token-2"}
    assert access_tokens.renew(refused) == access_tokens.get() == "access-token-2"
    assert len(talk.received) == 2


@dataclass
class SlowEndpoint:
    """A token endpoint that answers its first request at once, and later ones when it is told to."""

    answers: list[bytes]
    requests: int = 0
    go: threading.Event = field(default_factory=threading.Event)

    def __call__(self, conversation: Any) -> None:
        conversation.read_request()
        self.requests += 1
        if self.requests > 1:
            assert self.go.wait(10)
        conversation.write(self.answers.pop(0) if len(self.answers) > 1 else self.answers[0])


def call_at_once(call: Callable[[], str], name: str, go: threading.Event) -> list[str | Exception]:
    """What becomes of four threads that are all inside the call, of this name, before the endpoint may answer."""
    results: list[str | Exception] = []

    def run() -> None:
        try:
            results.append(call())
        except (NotDelivered, CredentialsRefused) as error:
            results.append(error)

    def is_inside(thread: threading.Thread) -> bool:
        frame = sys._current_frames().get(thread.ident or 0)
        return name in {each.f_code.co_name for each, _ in walk_stack(frame)}

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    patience = time.monotonic() + 10
    while not all(is_inside(thread) for thread in threads):
        assert time.monotonic() < patience
    go.set()
    for thread in threads:
        thread.join(10)
    assert len(results) == 4
    return results


def test_an_endpoint_that_hands_out_the_same_access_token_is_asked_once_all_the_same(
    make_environment: Any, serve: Any, http: Any
) -> None:
    endpoint = SlowEndpoint([http(200, b'{"access_token": "always-the-same", "expires_in": 3600}')])
    access_tokens = AccessTokens(make_environment(serve(endpoint).url))
    refused = access_tokens.get()
    assert call_at_once(lambda: access_tokens.renew(refused), "renew", endpoint.go) == [refused] * 4
    assert endpoint.requests == 2


def test_threads_that_wait_share_a_failure_instead_of_each_waiting_for_its_own(
    make_environment: Any, serve: Any, http: Any, clock: Clock
) -> None:
    endpoint = SlowEndpoint([http(200, b'{"access_token": "a", "expires_in": 60}'), http(503)])
    access_tokens = AccessTokens(make_environment(serve(endpoint).url), clock=clock)
    access_tokens.get()
    clock.now += 60
    results = call_at_once(access_tokens.get, "get", endpoint.go)
    assert {type(each) for each in results} == {NotDelivered}
    assert len({id(each) for each in results}) == 4
    assert endpoint.requests == 2
    # Who comes later asks anew.
    with pytest.raises(NotDelivered):
        access_tokens.get()
    assert endpoint.requests == 3


def test_while_the_old_access_token_is_good_nobody_waits_for_the_new_one(
    make_environment: Any, serve: Any, http: Any, clock: Clock
) -> None:
    endpoint = SlowEndpoint(
        [http(200, b'{"access_token": "old", "expires_in": 100}'), http(200, b'{"access_token": "new"}')]
    )
    access_tokens = AccessTokens(make_environment(serve(endpoint).url), clock=clock)
    access_tokens.get()
    clock.now += 90
    with ThreadPoolExecutor(1) as threads:
        asking = threads.submit(access_tokens.get)
        patience = time.monotonic() + 10
        while endpoint.requests < 2:
            assert time.monotonic() < patience
        assert access_tokens.get() == "old"
        endpoint.go.set()
        assert asking.result(10) == "new"
    assert access_tokens.get() == "new"
    assert endpoint.requests == 2


def test_a_failed_early_renewal_stops_nobody_and_is_not_repeated_at_once(
    make_environment: Any, serve: Any, script: Any, http: Any, clock: Clock
) -> None:
    talk = script([http(200, b'{"access_token": "old", "expires_in": 100}'), http(500)])
    access_tokens = AccessTokens(make_environment(serve(talk).url), clock=clock)
    access_tokens.get()
    clock.now += 90
    assert [access_tokens.get() for _ in range(3)] == ["old"] * 3
    assert len(talk.received) == 2
    clock.now += 5
    assert access_tokens.get() == "old"
    assert len(talk.received) == 3
    clock.now += 5
    with pytest.raises(NotDelivered):
        access_tokens.get()


def test_a_refused_access_token_is_not_given_out_again_after_its_renewal_failed(
    make_environment: Any, serve: Any, script: Any, http: Any
) -> None:
    talk = script([http(200, b'{"access_token": "old"}'), http(500), http(200, b'{"access_token": "new"}')])
    access_tokens = AccessTokens(make_environment(serve(talk).url))
    refused = access_tokens.get()
    with pytest.raises(NotDelivered):
        access_tokens.renew(refused)
    assert access_tokens.get() == "new"


def test_refused_credentials_are_told_apart_from_an_outage(
    make_environment: Any, serve: Any, script: Any, http: Any
) -> None:
    body = b'{"error": "invalid_client", "error_description": "Invalid client credentials"}'
    access_tokens = AccessTokens(make_environment(serve(script([http(401, body)])).url))
    with pytest.raises(CredentialsRefused, match="invalid_client"):
        access_tokens.get()


def test_an_endpoint_out_of_reach_delivers_nothing(make_environment: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(NotDelivered):
        AccessTokens(make_environment(f"http://127.0.0.1:{port}")).get()


def test_an_answer_that_never_comes_delivers_nothing(make_environment: Any, serve: Any) -> None:
    def talk(conversation: Any) -> None:
        conversation.read_request()
        conversation.stopped.wait(10)

    with pytest.raises(NotDelivered) as caught:
        AccessTokens(make_environment(serve(talk).url), deadline=1).get()
    assert type(caught.value.__cause__) is OutcomeUnknown


def test_the_endpoint_is_left_alone_as_long_as_it_asks(
    make_environment: Any, serve: Any, script: Any, http: Any, clock: Clock
) -> None:
    talk = script([http(429, Retry_After="30"), http(200, b'{"access_token": "late"}')])
    access_tokens = AccessTokens(make_environment(serve(talk).url), clock=clock)
    for left in (30, 20, 10):
        with pytest.raises(NotDelivered) as caught:
            access_tokens.get()
        assert caught.value.retry_after == left
        clock.now += 10
    assert len(talk.received) == 1
    assert access_tokens.get() == "late"


def test_nothing_that_is_printed_holds_a_secret_or_an_access_token(
    make_environment: Any, serve: Any, script: Any, http: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    environment = make_environment()
    secret = environment.client_secret.get_secret_value()
    body = json.dumps({"error": "invalid_client", "error_description": f"not {'a' * 60}"}).encode()
    talk = script([http(200, b'{"access_token": "made-up-access-token"}'), http(401, body)])
    access_tokens = AccessTokens(make_environment(serve(talk).url))
    refused = access_tokens.get()
    with pytest.raises(CredentialsRefused) as caught:
        access_tokens.renew(refused)
    texts = [repr(access_tokens), str(caught.value), repr(caught.value), caplog.text]
    texts += [repr(each) for each in vars(access_tokens).values()]
    assert not any(word in text for text in texts for word in (secret, "made-up-access-token", "a" * 60))


def test_no_token_endpoint_makes_it_wait_longer_than_the_longest_hold(
    make_environment: Any, serve: Any, script: Any, http: Any, grants: Any, clock: Clock
) -> None:
    talk = script([http(503, Retry_After="86400"), grants()])
    access_tokens = AccessTokens(make_environment(serve(talk).url), longest_hold=120, clock=clock)
    with pytest.raises(NotDelivered) as caught:
        access_tokens.get()
    assert caught.value.retry_after == 86400
    clock.now += 119
    with pytest.raises(NotDelivered) as caught:
        access_tokens.get()
    assert caught.value.retry_after == 1
    assert len(talk.received) == 1
    clock.now += 1
    assert access_tokens.get() == "access-token-1"


def test_a_person_may_have_the_token_endpoint_asked_at_once(
    make_environment: Any, serve: Any, script: Any, http: Any, grants: Any, clock: Clock
) -> None:
    access_tokens = AccessTokens(
        make_environment(serve(script([http(429, Retry_After="100"), grants()])).url), clock=clock
    )
    with pytest.raises(NotDelivered):
        access_tokens.get()
    access_tokens.end_pause()
    assert access_tokens.get() == "access-token-1"


def refuse(http: Any) -> bytes:
    refused: bytes = http(401, b'{"error": "invalid_client", "error_description": "Invalid client credentials"}')
    return refused


def secrets_of(talk: Any) -> list[str]:
    """The client secret of each request."""
    pairs = (base64.b64decode(each.headers["authorization"].split()[1]).decode() for each in talk.received)
    return [pair.partition(":")[2] for pair in pairs]


def test_a_secret_that_was_changed_meanwhile_is_used_at_once_by_all_threads(
    make_environment: Any, serve: Any, script: Any, http: Any, grants: Any
) -> None:
    talk = script([refuse(http), grants()])
    environment = make_environment(serve(talk).url, client_secret="old")
    reads = []

    def reread(known: Any) -> Any:
        reads.append(known.secret)
        return known.model_copy(update={"client_secret": SecretStr("new")})

    access_tokens = AccessTokens(environment, reread=reread)
    start = threading.Barrier(16)

    def get(_: int) -> str:
        start.wait(10)
        return access_tokens.get()

    with ThreadPoolExecutor(16) as threads:
        assert set(threads.map(get, range(16))) == {"access-token-1"}
    assert secrets_of(talk) == ["old", "new"]
    assert reads == ["old"]


def test_a_refused_secret_that_was_not_changed_is_not_sent_again(
    make_environment: Any, serve: Any, script: Any, http: Any
) -> None:
    talk = script([refuse(http)])
    access_tokens = AccessTokens(make_environment(serve(talk).url), reread=lambda known: known)
    with pytest.raises(CredentialsRefused):
        access_tokens.get()
    assert len(talk.received) == 1


def test_a_changed_secret_that_is_refused_too_is_not_sent_a_third_time(
    make_environment: Any, serve: Any, script: Any, http: Any, grants: Any
) -> None:
    talk = script([refuse(http), refuse(http), refuse(http), grants()])
    secrets = iter(["new", "newest"])

    def reread(known: Any) -> Any:
        return known.model_copy(update={"client_secret": SecretStr(next(secrets))})

    access_tokens = AccessTokens(make_environment(serve(talk).url, client_secret="old"), reread=reread)
    with pytest.raises(CredentialsRefused):
        access_tokens.get()
    assert secrets_of(talk) == ["old", "new"]
    # Asked again, as by a worker that takes no work until then: another one has come.
    assert access_tokens.get() == "access-token-1"
    assert secrets_of(talk) == ["old", "new", "new", "newest"]


def test_an_outage_is_no_reason_to_read_the_secret_again(
    make_environment: Any, serve: Any, script: Any, http: Any
) -> None:
    def reread(known: Any) -> Any:
        raise AssertionError

    access_tokens = AccessTokens(make_environment(serve(script([http(503)])).url), reread=reread)
    with pytest.raises(NotDelivered):
        access_tokens.get()
