"""A notice on its way to the webhook, against servers that answer in every way."""

from __future__ import annotations

import hashlib
import hmac
import json
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import closing

import pytest
from pydantic import SecretStr
from support.servers.raw_server import RawServer

from worker.notices.webhook import Webhook, redact_url

AT = 1_790_000_000
SECRET = "a secret that nobody guesses"
FACTS = {"text": "july is finished", "event": "finished", "batch": "jüly"}


def answer(status: str, *headers: str, body: bytes = b"") -> Iterator[bytes]:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
    yield "\r\n".join([*lines, "", ""]).encode() + body


@pytest.fixture
def server() -> Iterator[RawServer]:
    with RawServer(lambda: answer("204 No Content")) as server:
        yield server


def make_webhook(url: str, secret: str | None = SECRET, deadline: float = 10.0) -> Webhook:
    return Webhook(SecretStr(url), secret and SecretStr(secret), deadline=deadline, clock=lambda: AT + 0.9)  # type: ignore[arg-type]


def part(request: bytes) -> tuple[str, dict[str, str], bytes]:
    head, _, body = request.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    return first, {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}, body


def test_a_2xx_is_delivery(server: RawServer) -> None:
    reply = make_webhook(f"{server.url}/hook?to=people").post(7, FACTS)

    assert (reply.status, reply.error) == (204, None)
    (request,) = server.requests
    first, headers, body = part(request)
    assert first == "POST /hook?to=people HTTP/1.1"
    assert headers["content-type"] == "application/json"
    assert headers["x-oathbulk-notice"] == "7"
    assert json.loads(body) == FACTS | {"id": 7}


def test_the_signature_is_what_a_receiver_computes(server: RawServer) -> None:
    make_webhook(server.url).post(7, FACTS)

    _, headers, body = part(server.requests[0])
    given = dict(part.split("=", 1) for part in headers["x-oathbulk-signature"].split(","))
    expected = hmac.digest(SECRET.encode(), given["t"].encode() + b"." + body, "sha256").hex()
    assert given == {"t": str(AT), "v1": expected}
    other = hashlib.sha256(SECRET.encode() + body).hexdigest()
    assert given["v1"] != other


def test_without_a_secret_nothing_is_signed_and_with_one_it_is_not_told(server: RawServer) -> None:
    make_webhook(server.url, None).post(7, FACTS)
    make_webhook(server.url).post(8, FACTS)

    assert b"signature" not in server.requests[0].lower()
    assert SECRET.encode() not in server.requests[1]
    assert SECRET not in repr(make_webhook(server.url).__dict__)


@pytest.mark.parametrize("status", ["500 Oops", "410 Gone", "404 Not Found", "302 Found"])
def test_any_other_status_is_no_delivery(server: RawServer, status: str) -> None:
    server.answer = lambda: answer(status, f"Location: {server.url}/elsewhere")

    reply = make_webhook(server.url).post(7, FACTS)

    code = int(status[:3])
    assert (reply.status, reply.error, reply.retry_after) == (code, f"HTTP {code}", None)
    # A redirect is not followed.
    assert len(server.requests) == 1


def test_a_429_tells_how_long_to_wait(server: RawServer) -> None:
    server.answer = lambda: answer("429 Too Many Requests", "Retry-After: 90")
    assert make_webhook(server.url).post(7, FACTS).retry_after == 90


def test_a_retry_after_that_is_no_number_asks_for_nothing(server: RawServer) -> None:
    server.answer = lambda: answer("503 Busy", "Retry-After: whenever you like")
    reply = make_webhook(server.url).post(7, FACTS)
    assert (reply.status, reply.retry_after) == (503, None)


def test_a_server_that_hangs_is_given_up_at_the_deadline(server: RawServer) -> None:
    released = threading.Event()

    def hang() -> Iterator[bytes]:
        yield b"HTTP/1.1 200"
        released.wait(30)

    server.answer = hang
    began_at = time.monotonic()
    try:
        reply = make_webhook(server.url, deadline=1.0).post(7, FACTS)
    finally:
        released.set()

    assert reply.error is not None
    assert reply.status is None
    assert time.monotonic() - began_at < 15


def test_a_connection_that_is_reset_is_no_delivery() -> None:
    def reset() -> None:
        connection, _ = listener.accept()
        connection.recv(65536)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()

    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        thread = threading.Thread(target=reset, daemon=True)
        thread.start()
        reply = make_webhook(f"http://127.0.0.1:{listener.getsockname()[1]}/secret-path").post(7, FACTS)
        thread.join(10)

    assert reply.status is None
    assert reply.error is not None
    assert "secret-path" not in reply.error


def test_a_server_that_is_not_there_is_no_delivery() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port = listener.getsockname()[1]
    reply = make_webhook(f"http://127.0.0.1:{port}/").post(7, FACTS)
    assert reply.status is None
    assert reply.error is not None


def test_an_answer_without_end_is_not_read_and_its_status_counts(server: RawServer) -> None:
    def endless(status: str) -> Iterator[bytes]:
        yield f"HTTP/1.1 {status}\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
        while True:
            yield b"2000\r\n" + b"x" * 0x2000 + b"\r\n"

    server.answer = lambda: endless("200 OK")
    assert make_webhook(server.url).post(7, FACTS).error is None
    server.answer = lambda: endless("500 Oops")
    reply = make_webhook(server.url).post(7, FACTS)
    assert (reply.status, reply.error is None) == (500, False)


def test_only_the_host_of_the_url_may_be_printed() -> None:
    url = "https://hooks.example/services/T0/B0/key?token=x"
    assert redact_url(SecretStr(url)) == "https://hooks.example"
