"""PingOne's place taken by somebody hostile: whatever comes back, the worker keeps memory, time and secrets.

More of it stands in unit/pingone/test_transport.py and test_wire.py.
"""

from __future__ import annotations

import gzip
import itertools
import time
import tracemalloc
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from support.servers.raw_server import RawServer

from worker.config.environment import Environment
from worker.pingone.auth import AccessTokens
from worker.pingone.devices import parse_activation
from worker.pingone.diagnosis import measure_drift
from worker.pingone.errors import NotDelivered, OutcomeUnknown
from worker.pingone.transport import LARGEST_BODY, Transport
from worker.pingone.wire import Request, open_envelope

SECRET = "made-up-client-secret"
ACCESS_TOKEN = "made-up-access-token"
OTP = b'{"otp": "30871467"}'
DEADLINE = 2.0
MEGABYTE = 2**20
# A busy machine is no fault of the client.
UNHURRIED = settings(
    max_examples=100,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[RawServer]:
    for name in ("HTTP_PROXY", "ALL_PROXY", "http_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    with RawServer(lambda: []) as server:
        yield server


def environment(url: str) -> Environment:
    return Environment.model_validate(
        {
            "name": "default",
            "environment_id": "environment",
            "client_id": "client",
            "client_secret": SECRET,
            "api_url": url,
            "token_url": f"{url}/token",
        }
    )


def post(url: str) -> Request:
    return Request("POST", f"{url}/device", {"Authorization": f"Bearer {ACCESS_TOKEN}"}, OTP)


def exchange(server: RawServer, deadline: float = DEADLINE) -> tuple[int, bytes]:
    """Status and body. Raises PingOneError."""
    transport = Transport(server.url, deadline=deadline)
    try:
        status, _, body = transport.exchange(post(server.url))
    finally:
        transport.close()
    return status, body


def ok(*headers: bytes) -> bytes:
    return b"\r\n".join([b"HTTP/1.1 200 OK", *headers, b"", b""])


def test_a_compressed_body_is_not_unpacked(server: RawServer) -> None:
    """Nobody asked for one. A kilobyte that unfolds into a megabyte would be the harmless kind."""
    bomb = gzip.compress(b'{"status": "ACTIVE", "note": "' + b" " * 50 * MEGABYTE + b'"}')
    head = ok(b"Content-Encoding: gzip", b"Content-Length: %d" % len(bomb))
    server.answer = lambda: [head, bomb]
    tracemalloc.start()
    try:
        status, body = exchange(server)
        with pytest.raises(OutcomeUnknown):
            parse_activation(
                open_envelope(status, {"content-encoding": "gzip"}, body), user_id="user", device_id="device"
            )
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert body == bomb
    assert peak < 10 * MEGABYTE


FLOODS = {
    "headers": [ok(b"X-First: 1")[:-2], itertools.repeat(b"X-Flood: 1\r\n" * 1000)],
    "one header": [b"HTTP/1.1 200 OK\r\nX-Flood: ", itertools.repeat(b"a" * 65536)],
    "status line": [b"HTTP/1.1 200 ", itertools.repeat(b"a" * 65536)],
    "informational answers": [b"", itertools.repeat(b"HTTP/1.1 102 Processing\r\n\r\n" * 100)],
    "chunks of nothing but extensions": [
        ok(b"Transfer-Encoding: chunked"),
        itertools.repeat(b"1;" + b"a" * 10_000 + b"\r\nx\r\n"),
    ],
    "an endless size of a chunk": [ok(b"Transfer-Encoding: chunked"), itertools.repeat(b"0" * 65536)],
    "trailers": [ok(b"Transfer-Encoding: chunked") + b"0\r\n", itertools.repeat(b"X-Flood: 1\r\n" * 1000)],
}


@pytest.mark.parametrize("flood", FLOODS)
def test_a_flood_ends_at_a_bound_of_size_or_at_the_deadline(flood: str, server: RawServer) -> None:
    head, rest = FLOODS[flood]
    server.answer = lambda: itertools.chain([head], rest)
    began = time.monotonic()
    tracemalloc.start()
    try:
        with pytest.raises(OutcomeUnknown) as failure:
            exchange(server)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(str(failure.value)) < 1000
    assert peak < 10 * LARGEST_BODY
    # The deadline, and all the patience that a busy machine asks for.
    assert time.monotonic() - began < DEADLINE + 15


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_the_client_secret_follows_no_redirect(status: int, server: RawServer) -> None:
    with RawServer(lambda: [ok(b"Content-Length: 0")]) as elsewhere:
        location = b"Location: %s/token" % elsewhere.url.encode()
        server.answer = lambda: [b"HTTP/1.1 %d Moved\r\n%s\r\nContent-Length: 0\r\n\r\n" % (status, location)]
        with pytest.raises(NotDelivered) as failure:
            AccessTokens(environment(server.url), deadline=DEADLINE).get()
        assert len(server.requests) == 1
        assert elsewhere.requests == []
    assert SECRET not in f"{failure.value} {failure.value!r}"


PIECES = st.sampled_from(
    [
        *(
            b"HTTP/1.1 200 OK\r\n",
            b"HTTP/1.1 429 \r\n",
            b"HTTP/0.9 200 OK\r\n",
            b"HTTP/1.1 999999 OK\r\n",
            b"\r\n",
            b"\n",
        ),
        *(b"Content-Length: 5\r\n", b"Content-Length: -1\r\n", b"Content-Length: 5, 6\r\n", b"content-length: 9" * 2),
        *(b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: gzip\r\n", b"Date: Mon, 01 Jan 0000 0:0:0 GMT\r\n"),
        *(b"Date: Tue, 03 Mar 2026 09:00:00 GMT\r\n", b"Date: Mon, 1 Jan 99999999999999999999 00:00:00\r\n"),
        *(b"X: \xff\xfe\x00\r\n", b": nameless\r\n", b" folded\r\n", b"Location: http://127.0.0.1:1/\r\n", b"X: \r\n"),
        *(b"5\r\nhello\r\n", b"0\r\n\r\n", b"fffffffffffffff\r\n", b'{"status": "ACTIVE"}', b"HTTP/1.1 100 \r\n\r\n"),
    ]
)
ANSWERS = st.lists(PIECES | st.binary(max_size=30), max_size=12).map(b"".join)


@UNHURRIED
@given(ANSWERS)
@example(ok(b"Date: Mon, 1 Jan 99999999999999999999 00:00:00 GMT", b"Content-Length: 0"))
@example(ok(b"Date: Mon, 1 Jan 2026 00:00:00 -0000", b"Content-Length: 0"))
def test_any_bytes_for_an_answer_are_one_or_leave_the_outcome_unknown(server: RawServer, answer: bytes) -> None:
    server.answer = lambda: [answer]
    # No machine is so busy that a deadline ends what the answer should.
    for ask in (lambda: exchange(server, 60.0), lambda: measure_drift(environment(server.url), deadline=60.0)):
        try:
            ask()
        except OutcomeUnknown as error:
            told = f"{error} {error!r}"
        else:
            told = ""
        assert ACCESS_TOKEN not in told
        assert "30871467" not in told
