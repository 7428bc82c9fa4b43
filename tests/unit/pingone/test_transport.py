from __future__ import annotations

import json
import logging
import select
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.processes.waiting import wait_until

from worker.config.settings import ConfigError
from worker.pingone.errors import NotDelivered, OutcomeUnknown, TooLateToSend
from worker.pingone.transport import LARGEST_BODY, Transport
from worker.pingone.wire import Request

CONTENT = b'{"otp": "000634"}'
ACCESS_TOKEN = "made-up-access-token"

# What a call may need beyond its deadline on a busy machine, in seconds; still far from the servers' patience.
SLACK = 25.0
# Seconds to wait for what the kernel does by timers of its own.
PATIENCE = 30.0


def post(url: str) -> Request:
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {ACCESS_TOKEN}"}
    return Request("POST", f"{url}/v1/somewhere", headers, CONTENT)


@dataclass
class Transports:
    """Transports, one to each server that is asked."""

    deadline: float = 20
    made: dict[str, Transport] = field(default_factory=dict)

    def to(self, url: str) -> Transport:
        if url not in self.made:
            self.made[url] = Transport(url, deadline=self.deadline)
        return self.made[url]

    def exchange(self, request: Request, *, send_before: float | None = None) -> tuple[int, Mapping[str, str], bytes]:
        origin = "/".join(request.url.split("/")[:3])
        return self.to(origin).exchange(request, send_before=send_before)


@pytest.fixture
def transport() -> Iterator[Transports]:
    with transport_of(20) as transports:
        yield transports


@contextmanager
def transport_of(deadline: float) -> Iterator[Transports]:
    transports = Transports(deadline)
    try:
        yield transports
    finally:
        for each in transports.made.values():
            each.close()


def unused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


def test_an_answer_comes_as_status_headers_and_body(transport: Transports, serve: Any, script: Any, http: Any) -> None:
    talk = script([http(418, b"short and stout", Correlation_Id="abc")])
    status, headers, body = transport.exchange(post(serve(talk).url))
    assert (status, body) == (418, b"short and stout")
    assert headers["correlation-id"] == "abc"
    (request,) = talk.received
    assert (request.method, request.target, request.body) == ("POST", "/v1/somewhere", CONTENT)
    assert request.headers["authorization"] == f"Bearer {ACCESS_TOKEN}"
    assert request.headers["accept-encoding"] == "identity"


@pytest.mark.parametrize(
    ("written", "target"),
    [("/v1/somewhere", "/v1/somewhere"), ("", "/"), ("?limit=1", "/?limit=1"), ("/v1/a b#part", "/v1/a%20b")],
)
def test_a_url_goes_out_as_a_browser_would_send_it(
    transport: Transports, serve: Any, script: Any, http: Any, written: str, target: str
) -> None:
    talk = script([http(200)])
    url = serve(talk).url
    transport.exchange(Request("GET", url.replace("http://127.0.0.1", "HTTP://127.0.0.1") + written, {}, b""))
    (request,) = talk.received
    assert (request.target, request.headers["host"]) == (target, url.removeprefix("http://"))


def test_a_header_that_comes_twice_has_both_values(transport: Transports, serve: Any, script: Any) -> None:
    """RFC 9110, section 5.3."""
    answer = b"HTTP/1.1 200 OK\r\nWarning: one\r\nContent-Length: 0\r\nWARNING: two\r\n\r\n"
    _, headers, _ = transport.exchange(post(serve(script([answer])).url))
    assert headers == {"warning": "one, two", "content-length": "0"}


def test_calls_share_one_connection(transport: Transports, serve: Any, script: Any, http: Any) -> None:
    server = serve(script([http(200)]))
    for _ in range(5):
        transport.exchange(post(server.url))
    assert server.connections == 1


@pytest.mark.parametrize("rest", ["an answer", "half an answer", "a byte", "chunks"])
def test_a_connection_by_which_more_came_than_the_answer_is_not_used_again(
    monkeypatch: pytest.MonkeyPatch, certificate: Any, serve: Any, script: Any, http: Any, rest: str
) -> None:
    second = http(200, b"the answer to somebody else")
    more = {"an answer": second, "half an answer": second[:30], "a byte": b"\n", "chunks": second}[rest]
    first = http(200, b"mine")
    if rest == "chunks":
        first = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nmine\r\n0\r\n\r\n"
    talk = script([first + more, http(200, b"mine too")])
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate.path))
    server = serve(talk, certificate.server_context())
    with transport_of(SLACK) as transport:
        answers = [transport.exchange(post(server.url))[2] for _ in range(3)]
    assert answers == [b"mine", b"mine too", b"mine too"]
    assert [request.connection for request in talk.received] == [1, 2, 2]


@pytest.mark.parametrize("is_encrypted", [False, True], ids=["plain", "encrypted"])
def test_a_connection_by_which_something_comes_while_it_is_idle_is_not_used_again(
    monkeypatch: pytest.MonkeyPatch, certificate: Any, serve: Any, http: Any, is_encrypted: bool
) -> None:
    asked_again, has_come = threading.Event(), threading.Event()

    def talk(conversation: Any) -> None:
        conversation.read_request()
        conversation.write(http(200, b"%d" % conversation.number))
        if conversation.number == 1:
            assert asked_again.wait(SLACK)
            conversation.write(http(200, b"unasked"))
            has_come.set()
            conversation.read_request()

    monkeypatch.setenv("SSL_CERT_FILE", str(certificate.path))
    server = serve(talk, certificate.server_context() if is_encrypted else None)
    with transport_of(SLACK) as transport:
        first = transport.exchange(post(server.url))[2]
        asked_again.set()
        assert has_come.wait(SLACK)
        # It was sent; a busy kernel takes a moment to bring it.
        connection = transport.to(server.url)._connection
        wait_until(lambda: select.select([connection], [], [], 0)[0], SLACK, "it has arrived")
        second = transport.exchange(post(server.url))[2]
    assert (first, second) == (b"1", b"2")


def test_a_connection_that_is_dropped_is_not_used_again(
    transport: Transports, serve: Any, script: Any, http: Any
) -> None:
    server = serve(script([http(200)]))
    # There is none yet.
    transport.to(server.url).drop_connection()
    for _ in range(2):
        transport.exchange(post(server.url))
    transport.to(server.url).drop_connection()
    transport.exchange(post(server.url))
    assert server.connections == 2


def test_cookies_are_not_kept(transport: Transports, serve: Any, script: Any, http: Any) -> None:
    talk = script([http(200, Set_Cookie="balancer=7; Path=/")])
    server = serve(talk)
    for _ in range(2):
        transport.exchange(post(server.url))
    assert "cookie" not in talk.received[1].headers


def test_a_refused_connection_was_not_delivered(transport: Transports) -> None:
    with pytest.raises(NotDelivered):
        transport.exchange(post(f"http://127.0.0.1:{unused_port()}"))


def test_an_unknown_host_was_not_delivered(transport: Transports) -> None:
    with pytest.raises(NotDelivered):
        transport.exchange(post("https://no-such-host.invalid"))


def test_a_connection_that_the_server_closed_meanwhile_is_replaced_before_anything_is_sent(
    transport: Transports, serve: Any, http: Any
) -> None:
    received, closed = [], threading.Event()

    def talk(conversation: Any) -> None:
        received.append(conversation.read_request())
        conversation.write(http(200))
        if conversation.number == 1:
            conversation.connection.shutdown(socket.SHUT_RDWR)
            closed.set()

    server = serve(talk)
    transport.exchange(post(server.url))
    assert closed.wait(SLACK)
    status, _, _ = transport.exchange(post(server.url))
    assert (status, len(received), server.connections) == (200, 2, 2)


@pytest.mark.parametrize("how", ["reset", "hang up"])
@pytest.mark.parametrize("is_first", [True, False], ids=["new connection", "kept connection"])
def test_a_connection_lost_after_the_first_byte_leaves_the_outcome_unknown(
    transport: Transports, serve: Any, http: Any, how: str, is_first: bool
) -> None:
    def talk(conversation: Any) -> None:
        if not is_first:
            conversation.read_request()
            conversation.write(http(200))
        conversation.read_request()
        if how == "reset":
            conversation.reset()

    server = serve(talk)
    if not is_first:
        transport.exchange(post(server.url))
    with pytest.raises(OutcomeUnknown):
        transport.exchange(post(server.url))
    assert server.connections == 1


def test_a_write_that_fails_halfway_leaves_the_outcome_unknown(transport: Transports, serve: Any) -> None:
    def talk(conversation: Any) -> None:
        conversation.connection.recv(10)
        conversation.reset()

    request = Request("POST", serve(talk).url, {}, b"x" * 50_000_000)
    with pytest.raises(OutcomeUnknown):
        transport.exchange(request)


def test_a_server_that_hangs_is_left_at_the_deadline(serve: Any) -> None:
    def talk(conversation: Any) -> None:
        conversation.read_request()
        conversation.stopped.wait(2 * SLACK)

    with transport_of(deadline=1) as transport:
        began = time.monotonic()
        with pytest.raises(OutcomeUnknown):
            transport.exchange(post(serve(talk).url))
        assert 0.9 < time.monotonic() - began < 1 + SLACK


def test_a_call_that_was_given_up_takes_along_what_was_not_delivered_yet(serve: Any) -> None:
    """An orderly end follows all that the kernel holds, and the kernel goes on delivering that; a reset drops it."""
    is_over, ends = threading.Event(), []

    def talk(conversation: Any) -> None:
        is_over.wait(SLACK)
        try:
            while conversation.connection.recv(1_000_000):
                pass
            ends.append("in order")
        except ConnectionResetError:
            ends.append("reset")

    # More than both kernels hold while nobody reads.
    request = Request("POST", serve(talk).url, {}, b"x" * 50_000_000)
    with transport_of(deadline=1) as transport, pytest.raises(OutcomeUnknown):
        transport.exchange(request)
    is_over.set()
    wait_until(lambda: ends == ["reset"], SLACK, "the connection is reset")


SENDER = """
import sys
from worker.pingone.transport import Transport
from worker.pingone.wire import Request
Transport(sys.argv[1], deadline=1).exchange(Request("POST", sys.argv[1], {}, b"x" * 50_000_000))
"""


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="only Linux drops it by itself")
def test_what_a_frozen_process_could_not_deliver_is_dropped_all_the_same(serve: Any) -> None:
    connections, may_read, ends = list[tuple[int, int]](), threading.Event(), list[str]()

    def talk(conversation: Any) -> None:
        conversation.reader.readline()
        sender, receiver = conversation.connection.getpeername(), conversation.connection.getsockname()
        connections.append((sender[1], receiver[1]))
        may_read.wait(PATIENCE)
        try:
            while conversation.connection.recv(1_000_000):
                pass
            ends.append("in order")
        except OSError as error:
            ends.append(type(error).__name__)

    with subprocess.Popen([sys.executable, "-c", SENDER, serve(talk).url]) as sender:
        try:
            wait_until(lambda: connections and is_stuck(connections[0]), PATIENCE, "the kernels hold all that they can")
            sender.send_signal(signal.SIGSTOP)
            wait_until(lambda: undelivered(connections[0]) is None, PATIENCE, "the kernel gives it up")
            may_read.set()
            wait_until(lambda: ends == ["ConnectionResetError"], PATIENCE, "the rest never arrives")
        finally:
            sender.kill()


def undelivered(ports: tuple[int, int]) -> int | None:
    """Bytes that wait to go out from one port of this machine to another; None: there is no such connection."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, remote, _, queues, *_ = line.split()
        # Others may go from the same port to elsewhere.
        if (int(local[-4:], 16), int(remote[-4:], 16)) == ports:
            return int(queues.split(":")[0], 16)
    return None


def is_stuck(ports: tuple[int, int]) -> bool:
    before = undelivered(ports)
    time.sleep(0.05)
    return bool(before) and undelivered(ports) == before


def drip(conversation: Any, head: bytes) -> None:
    """Send a byte now and then, for longer than any deadline."""
    conversation.write(head)
    for _ in range(1200):
        if conversation.stopped.wait(0.05):
            return
        conversation.write(b"a")


HEADS = {
    "status line": b"HTTP/1.1 200 ",
    "header": b"HTTP/1.1 200 OK\r\nX-Long: ",
    "body": b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n",
    "body without an end": b"HTTP/1.1 200 OK\r\n\r\n{",
}


def outcome_of_a_drip(serve: Any, http: Any, tls: Any, part: str, is_first: bool) -> tuple[str, float]:
    """Call a server that sends this part of its answer byte by byte; return how the call ends, and the seconds it
    takes."""

    def talk(conversation: Any) -> None:
        if not is_first:
            conversation.read_request()
            conversation.write(http(200))
        conversation.read_request()
        drip(conversation, HEADS[part])

    server = serve(talk, tls)
    with transport_of(deadline=2) as transport:
        if not is_first:
            transport.exchange(post(server.url))
        began = time.monotonic()
        with pytest.raises(OutcomeUnknown) as caught:
            transport.exchange(post(server.url))
        return str(caught.value), time.monotonic() - began


@pytest.mark.parametrize("is_encrypted", [True, False], ids=["https", "http"])
def test_a_dripping_server_is_cut_off_at_the_deadline(
    serve: Any, http: Any, certificate: Any, monkeypatch: pytest.MonkeyPatch, is_encrypted: bool
) -> None:
    """In any part of its answer, on a new connection or one kept from the call before; all at the same time."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate.path))
    tls = certificate.server_context() if is_encrypted else None
    cases = [(part, is_first) for part in HEADS for is_first in (True, False)]
    with ThreadPoolExecutor(len(cases)) as threads:
        outcomes = threads.map(lambda case: outcome_of_a_drip(serve, http, tls, *case), cases)
    for case, (text, seconds) in zip(cases, outcomes, strict=True):
        assert "within 2 s" in text, case
        assert 1.9 < seconds < 2 + SLACK, case


def test_a_cut_call_does_not_harm_the_next(serve: Any, http: Any) -> None:
    def talk(conversation: Any) -> None:
        conversation.read_request()
        if conversation.number == 1:
            drip(conversation, HEADS["body"])
        conversation.write(http(200, b"fine"))

    server = serve(talk)
    with transport_of(deadline=1) as transport:
        with pytest.raises(OutcomeUnknown):
            transport.exchange(post(server.url))
        assert transport.exchange(post(server.url))[2] == b"fine"


def test_a_deadline_is_kept_while_an_earlier_call_has_a_later_one(serve: Any, http: Any) -> None:
    asked, go = threading.Event(), threading.Event()

    def slow(conversation: Any) -> None:
        conversation.read_request()
        asked.set()
        assert go.wait(10)
        conversation.write(http(200, b"late"))

    def dripping(conversation: Any) -> None:
        conversation.read_request()
        drip(conversation, HEADS["body"])

    with transport_of(20) as patient, transport_of(1) as hasty, ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(patient.exchange, post(serve(slow).url))
        assert asked.wait(10)
        began = time.monotonic()
        with pytest.raises(OutcomeUnknown):
            hasty.exchange(post(serve(dripping).url))
        assert time.monotonic() - began < 1 + SLACK
        go.set()
        assert waiting.result(10)[2] == b"late"


def test_a_handshake_that_hangs_was_not_delivered(serve: Any) -> None:
    def talk(conversation: Any) -> None:
        conversation.stopped.wait(2 * SLACK)

    server = serve(talk)
    with transport_of(deadline=0.8) as transport:
        began = time.monotonic()
        with pytest.raises(NotDelivered):
            transport.exchange(post(server.url.replace("http:", "https:")))
        assert time.monotonic() - began < SLACK


def test_nothing_is_sent_when_connecting_took_too_long(
    serve: Any, script: Any, http: Any, certificate: Any, proxy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each step keeps to its own time-out, and together they use up the time that an answer would need."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate.path))
    talk = script([http(200)])
    server = serve(talk, certificate.server_context())

    def slow_proxy(conversation: Any) -> None:
        conversation.stopped.wait(1.8)
        proxy(conversation)

    monkeypatch.setenv("HTTPS_PROXY", serve(slow_proxy).url)
    with transport_of(deadline=3.0) as transport, pytest.raises(NotDelivered, match="too long"):
        transport.exchange(post(server.url))
    assert talk.received == []


def test_after_the_time_to_send_nothing_is_sent(transport: Transports, serve: Any, script: Any, http: Any) -> None:
    talk = script([http(200)])
    server = serve(talk)
    with pytest.raises(TooLateToSend):
        transport.exchange(post(server.url), send_before=time.monotonic())
    assert talk.received == []
    assert transport.exchange(post(server.url), send_before=time.monotonic() + 60)[0] == 200


def test_the_time_to_send_is_checked_when_the_first_byte_is_about_to_go(
    transport: Transports, serve: Any, script: Any, http: Any, certificate: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The time to send had not passed when the call began, but has when the connection stands."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate.path))
    received: list[Any] = []
    context = certificate.server_context()

    def talk(conversation: Any) -> None:
        conversation.stopped.wait(0.3)
        with context.wrap_socket(conversation.connection, server_side=True) as encrypted:
            received.append(encrypted.recv(1))

    server = serve(talk)
    with transport_of(deadline=20) as encrypting, pytest.raises(TooLateToSend):
        encrypting.exchange(post(server.url.replace("http:", "https:")), send_before=time.monotonic() + 0.2)
    server.stop()
    assert received in ([], [b""])


def test_a_body_beyond_the_limit_leaves_the_outcome_unknown(
    transport: Transports, serve: Any, script: Any, http: Any
) -> None:
    server = serve(script([http(200, b"x" * LARGEST_BODY), http(200, b"x" * (LARGEST_BODY + 1))]))
    assert len(transport.exchange(post(server.url))[2]) == LARGEST_BODY
    with pytest.raises(OutcomeUnknown, match="oversized"):
        transport.exchange(post(server.url))


def test_an_endless_body_is_not_read_to_its_end(transport: Transports, serve: Any) -> None:
    def talk(conversation: Any) -> None:
        conversation.read_request()
        conversation.write(b"HTTP/1.1 200 OK\r\n\r\n")
        for _ in range(1000):
            conversation.write(b"x" * 65536)

    with pytest.raises(OutcomeUnknown, match="oversized"):
        transport.exchange(post(serve(talk).url))


@pytest.mark.parametrize(
    "answer",
    [
        b"\x16\x03\x01 this is no HTTP\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * 200_000 + b"\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: other\r\n\r\n",
    ],
    ids=["no HTTP", "length", "chunks", "half a body", "huge header", "upgrade"],
)
def test_an_answer_that_is_no_http_leaves_the_outcome_unknown(transport: Transports, serve: Any, answer: bytes) -> None:
    def talk(conversation: Any) -> None:
        conversation.read_request()
        conversation.write(answer)

    try:
        status, _, _ = transport.exchange(post(serve(talk).url))
    except OutcomeUnknown:
        return
    # An answer all the same, though not one that settles anything.
    assert status == 101


def test_an_otp_quoted_from_a_malformed_answer_is_masked(transport: Transports, serve: Any) -> None:
    def talk(conversation: Any) -> None:
        request = conversation.read_request()
        conversation.write(b"HTTP/9.9 " + request.body + b"\r\n\r\n")

    with pytest.raises(OutcomeUnknown, match="illegal") as caught:
        transport.exchange(post(serve(talk).url))
    assert "000634" not in str(caught.value)


LOCATIONS = ["/elsewhere", "http://[bad", "https://\u2603.example.test", "x" * 5000, "//:70000", "http://a b/", ""]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_an_answer_and_the_other_host_hears_nothing(
    transport: Transports, serve: Any, script: Any, http: Any, status: int
) -> None:
    other = script([http(200)])
    answer = http(status, Location=f"{serve(other).url}/v1/somewhere")
    talk = script([answer])
    assert transport.exchange(post(serve(talk).url))[0] == status
    assert (len(talk.received), other.received) == (1, [])


@pytest.mark.parametrize("location", LOCATIONS)
def test_a_senseless_redirect_is_an_answer_or_leaves_the_outcome_unknown(
    transport: Transports, serve: Any, location: str
) -> None:
    def talk(conversation: Any) -> None:
        conversation.read_request()
        head = f"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: {location}\r\n\r\n"
        conversation.write(head.encode())

    with suppress(OutcomeUnknown):
        assert transport.exchange(post(serve(talk).url))[0] == 302


def test_the_environments_ca_is_trusted_and_no_other(
    serve: Any, script: Any, http: Any, certificate: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    talk = script([http(200)])
    server = serve(talk, certificate.server_context())
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)
    with transport_of(deadline=20) as transport, pytest.raises(NotDelivered, match="CERTIFICATE_VERIFY_FAILED"):
        transport.exchange(post(server.url))
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate.path))
    with transport_of(deadline=20) as transport:
        assert transport.exchange(post(server.url))[0] == 200
    assert len(talk.received) == 1


def test_a_name_that_is_not_in_the_certificate_was_not_delivered(
    serve: Any, script: Any, http: Any, certificate: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate.path))
    server = serve(script([http(200)]), certificate.server_context())
    with transport_of(deadline=20) as transport, pytest.raises(NotDelivered):
        transport.exchange(post(server.url.replace("127.0.0.1", "localhost")))


def test_https_goes_through_the_environments_proxy(
    serve: Any, script: Any, http: Any, certificate: Any, proxy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate.path))
    talk = script([http(200)])
    server = serve(talk, certificate.server_context())
    monkeypatch.setenv("HTTPS_PROXY", serve(proxy).url)
    with transport_of(deadline=20) as transport:
        for _ in range(2):
            assert transport.exchange(post(server.url))[0] == 200
    assert proxy.asked == [f"CONNECT 127.0.0.1:{server.port}"]
    assert len(talk.received) == 2


def test_a_dripping_server_behind_a_proxy_is_cut_off_too(
    serve: Any, certificate: Any, proxy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate.path))

    def talk(conversation: Any) -> None:
        conversation.read_request()
        drip(conversation, HEADS["header"])

    server = serve(talk, certificate.server_context())
    monkeypatch.setenv("HTTPS_PROXY", serve(proxy).url)
    with transport_of(deadline=2) as transport:
        began = time.monotonic()
        with pytest.raises(OutcomeUnknown):
            transport.exchange(post(server.url))
        assert time.monotonic() - began < SLACK


def test_a_proxy_that_drips_or_refuses_delivers_nothing(
    serve: Any, proxy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy.refuses = True
    monkeypatch.setenv("HTTPS_PROXY", serve(proxy).url)
    with transport_of(deadline=20) as transport, pytest.raises(NotDelivered, match="407"):
        transport.exchange(post("https://api.example.test"))
    assert proxy.asked == ["CONNECT api.example.test:443"]

    def dripping(conversation: Any) -> None:
        conversation.read_request()
        drip(conversation, HEADS["header"])

    monkeypatch.setenv("HTTPS_PROXY", serve(dripping).url)
    with transport_of(deadline=0.6) as transport:
        began = time.monotonic()
        with pytest.raises(NotDelivered):
            transport.exchange(post("https://api.example.test"))
        assert time.monotonic() - began < SLACK


def test_no_proxy_names_hosts_that_are_reached_directly(
    serve: Any, script: Any, http: Any, certificate: Any, proxy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate.path))
    server = serve(script([http(200)]), certificate.server_context())
    monkeypatch.setenv("HTTPS_PROXY", serve(proxy).url)
    monkeypatch.setenv("NO_PROXY", "example.test,127.0.0.1")
    with transport_of(deadline=20) as transport:
        assert transport.exchange(post(server.url))[0] == 200
    assert proxy.asked == []


def test_plain_http_goes_through_a_proxy_on_this_machine(
    serve: Any, script: Any, http: Any, proxy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    talk = script([http(200)])
    server = serve(talk)
    monkeypatch.setenv("HTTP_PROXY", serve(proxy).url)
    with transport_of(deadline=20) as transport:
        assert transport.exchange(post(server.url))[2] == b'"by a proxy"'
    assert proxy.asked == [f"POST {server.url}/v1/somewhere"]
    assert talk.received == []


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "ALL_PROXY"])
@pytest.mark.parametrize("value", ["http://proxy.example.test:3128", "192.0.2.1:3128"])
def test_plain_http_never_leaves_this_machine_by_a_proxy(
    serve: Any, script: Any, http: Any, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    with transport_of(deadline=20) as transport:
        assert transport.exchange(post(serve(script([http(200)])).url))[0] == 200


@pytest.mark.parametrize(
    ("variable", "value"),
    {
        "SSL_CERT_FILE": "/nowhere/at/all.pem",
        "HTTPS_PROXY": "gopher://proxy.example.test",
        "ALL_PROXY": "http://proxy.example.test:port",
    }.items(),
)
def test_settings_of_the_environment_that_cannot_be_used_are_named(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigError, match=variable):
        Transport("https://api.example.test")


def test_no_log_line_at_any_level_shows_what_a_request_carries(
    transport: Transports, serve: Any, script: Any, http: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    transport.exchange(post(serve(script([http(200)])).url))
    with pytest.raises(NotDelivered) as caught:
        transport.exchange(post(f"http://127.0.0.1:{unused_port()}"))
    text = caplog.text + repr(caught.value) + repr(caught.value.__cause__)
    assert "send_request_headers.complete" in text
    assert ACCESS_TOKEN not in text
    assert json.loads(CONTENT)["otp"] not in text


def test_making_calls_makes_no_new_tls_contexts(
    serve: Any, script: Any, http: Any, certificate: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The CA file is read when the transport is made: later its loss does not matter, even for a new connection."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate.path))
    server = serve(script([http(200, Connection="close")]), certificate.server_context())
    with transport_of(deadline=20) as transport:
        transport.to(server.url)
        monkeypatch.setenv("SSL_CERT_FILE", "/nowhere/at/all.pem")
        for _ in range(3):
            assert transport.exchange(post(server.url))[0] == 200


def test_the_threads_of_a_process_read_the_certificates_once(
    serve: Any, http: Any, certificate: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # A path that no other test has named.
    monkeypatch.setenv("SSL_CERT_FILE", str(shutil.copy(certificate.path, tmp_path)))
    made, protocols = list[ssl.SSLContext](), list[str | None]()
    create = httpx.create_ssl_context

    def counted() -> ssl.SSLContext:
        made.append(create())
        return made[-1]

    def talk(conversation: Any) -> None:
        conversation.read_request()
        protocols.append(conversation.connection.selected_alpn_protocol())
        conversation.write(http(200))

    monkeypatch.setattr(httpx, "create_ssl_context", counted)
    tls = certificate.server_context()
    tls.set_alpn_protocols(["h2", "http/1.1"])
    server = serve(talk, tls)
    for _ in range(2):
        with transport_of(deadline=20) as transport:
            assert transport.exchange(post(server.url))[0] == 200
    assert len(made) == 1
    assert protocols == ["http/1.1"] * 2
