"""One exchange: what arrives, what is never used again, and whether a byte went out where no answer came."""

import gzip
import os
import select
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from support.processes.waiting import wait_until
from unit.pingone.conftest import Conversation, LocalServer, Serve, hang, hang_up, http, make_environment, reset

from worker.clocks import boot_time
from worker.config.settings import ConfigError
from worker.pingone import transport as module
from worker.pingone.diagnosis import measure_drift, read_certificate_end
from worker.pingone.errors import NotDelivered, OutcomeUnknown, TooLateToSend
from worker.pingone.transport import LARGEST_BODY, Exchange, Transport, Watchdog
from worker.pingone.wire import Request

CONTENT = b'{"otp": "000634"}'
ACCESS_TOKEN = "made-up-access-token"
# More than both kernels hold while nobody reads.
HUGE = b"x" * 50_000_000

# What a call may need beyond its deadline on a busy machine, in seconds; still far from the servers' patience.
SLACK = 25.0


class Caller:
    """Calls one server by a transport of its own."""

    def __init__(self, url: str, deadline: float) -> None:
        self.url = url
        self.transport = Transport(url, deadline=deadline)

    def __call__(
        self, content: bytes = CONTENT, send_before: float | None = None
    ) -> tuple[int, Mapping[str, str], bytes]:
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {ACCESS_TOKEN}"}
        request = Request("POST", f"{self.url}/v1/somewhere", headers, content)
        return self.transport.exchange(request, send_before=send_before)

    def fail(self, kind: type[Exception] = OutcomeUnknown, match: str | None = None, **options: Any) -> Exception:
        """The error of a call that fails, which is of this very kind."""
        with pytest.raises(kind, match=match) as caught:
            self(**options)
        assert type(caught.value) is kind
        return caught.value


Connect = Callable[..., Caller]


@pytest.fixture
def connect(request: pytest.FixtureRequest) -> Connect:
    """Makes a caller of the server at this URL."""

    def make(url: str, deadline: float = 20.0) -> Caller:
        caller = Caller(url, deadline)
        request.addfinalizer(caller.transport.close)
        return caller

    return make


def unused_url() -> str:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"http://127.0.0.1:{listener.getsockname()[1]}"


def drip(head: bytes) -> Callable[[Conversation], None]:
    """Send this, and then a byte now and then, for longer than any deadline."""

    def answer(conversation: Conversation) -> None:
        conversation.write(head)
        while not conversation.stopped.wait(0.05):
            conversation.write(b"a")

    return answer


def end_with(content: bytes) -> Callable[[Conversation], None]:
    """Send this, and hang up."""

    def answer(conversation: Conversation) -> None:
        conversation.write(content)
        hang_up(conversation)

    return answer


def test_an_answer_comes_as_status_headers_and_body(connect: Connect, serve: Serve) -> None:
    server = serve(http(418, b"short and stout", Correlation_Id="abc", Set_Cookie="balancer=7; Path=/"))
    call = connect(server.url)
    for _ in range(5):
        status, headers, body = call()
    assert (status, headers["correlation-id"], body) == (418, "abc", b"short and stout")
    sent = {"authorization": f"Bearer {ACCESS_TOKEN}", "accept-encoding": "identity"}
    # Calls share one connection, and no cookies.
    for request in server.received:
        assert (request.method, request.target, request.body) == ("POST", "/v1/somewhere", CONTENT)
        assert sent.items() <= request.headers.items()
        assert (request.connection, "cookie" in request.headers) == (1, False)


def test_a_header_that_comes_twice_has_both_values(connect: Connect, serve: Serve) -> None:
    """RFC 9110, section 5.3."""
    answer = b"HTTP/1.1 200 OK\r\nWarning: one\r\nContent-Length: 0\r\nWARNING: two\r\n\r\n"
    assert connect(serve(answer).url)()[1] == {"warning": "one, two", "content-length": "0"}


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nmine\r\n0\r\n\r\n"
ANOTHERS = http(200, b"the answer to somebody else")


@pytest.mark.parametrize(
    "answer",
    [http(200, b"mine") + ANOTHERS, http(200, b"mine") + ANOTHERS[:30], http(200, b"mine") + b"\n", CHUNKED + ANOTHERS],
    ids=["an answer", "half an answer", "a byte", "chunks"],
)
def test_a_connection_by_which_more_came_than_the_answer_is_not_used_again(
    connect: Connect, serve: Serve, tls: ssl.SSLContext, answer: bytes
) -> None:
    server = serve(answer, http(200, b"mine too"), tls=tls)
    call = connect(server.url, SLACK)
    assert [call()[2] for _ in range(3)] == [b"mine", b"mine too", b"mine too"]
    assert [request.connection for request in server.received] == [1, 2, 2]


@pytest.mark.parametrize("is_encrypted", [False, True], ids=["plain", "encrypted"])
def test_a_connection_by_which_something_comes_while_it_is_idle_is_not_used_again(
    connect: Connect, serve: Serve, tls: ssl.SSLContext, is_encrypted: bool
) -> None:
    has_answered = threading.Event()

    def talk(conversation: Conversation) -> None:
        conversation.read_request()
        conversation.write(http(200, b"%d" % conversation.number))
        if conversation.number == 1:
            assert has_answered.wait(SLACK)
            conversation.write(http(200, b"unasked"))
            conversation.read_request()

    call = connect(serve(talk=talk, tls=tls if is_encrypted else None).url, SLACK)
    assert call()[2] == b"1"
    has_answered.set()
    connection = call.transport._connection
    wait_until(lambda: select.select([connection], [], [], 0)[0], "it has arrived")
    assert call()[2] == b"2"


def test_who_cannot_be_reached_was_sent_nothing(connect: Connect) -> None:
    for url in (unused_url(), "https://no-such-host.invalid"):
        connect(url).fail(NotDelivered)


def test_a_connection_that_was_closed_meanwhile_is_replaced_before_anything_is_sent(
    connect: Connect, serve: Serve
) -> None:
    server = serve(end_with(http(200)))
    call = connect(server.url)
    # There is none yet.
    call.transport.drop_connection()
    call()
    connection = call.transport._connection
    # httpx may have closed it by now.
    wait_until(lambda: connection.fileno() < 0 or select.select([connection], [], [], 0)[0], "it has ended")
    call()
    call.transport.drop_connection()
    call()
    assert (len(server.received), server.connections) == (3, 3)


@pytest.mark.parametrize("end", [reset, hang_up])
@pytest.mark.parametrize("before", [[], [http(200)]], ids=["new connection", "kept connection"])
def test_a_connection_lost_after_the_first_byte_leaves_the_outcome_unknown(
    connect: Connect, serve: Serve, end: Any, before: list[bytes]
) -> None:
    server = serve(*before, end)
    call = connect(server.url)
    for _ in before:
        call()
    call.fail()
    assert server.connections == 1


def test_a_write_that_fails_halfway_leaves_the_outcome_unknown(connect: Connect, serve: Serve) -> None:
    def talk(conversation: Conversation) -> None:
        conversation.connection.recv(10)
        reset(conversation)

    connect(serve(talk=talk).url).fail(content=HUGE)


def read_on(conversation: Conversation, ends: list[str]) -> None:
    """Read to the end of what comes, and note how it ends."""
    try:
        while conversation.connection.recv(1_000_000):
            pass
        ends.append("in order")
    except OSError as error:
        ends.append(type(error).__name__)


def test_a_call_that_was_given_up_takes_along_what_was_not_delivered_yet(connect: Connect, serve: Serve) -> None:
    """An orderly end follows all that the kernel holds, and the kernel goes on delivering that; a reset drops it."""
    is_over, ends = threading.Event(), list[str]()

    def talk(conversation: Conversation) -> None:
        is_over.wait(SLACK)
        read_on(conversation, ends)

    connect(serve(talk=talk).url, 1).fail(content=HUGE)
    is_over.set()
    wait_until(lambda: ends == ["ConnectionResetError"], "the connection is reset")


SENDER = """
import sys
from worker.pingone.transport import Transport
from worker.pingone.wire import Request
Transport(sys.argv[1], deadline=1).exchange(Request("POST", sys.argv[1], {}, b"x" * 50_000_000))
"""


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="only Linux drops it by itself")
def test_what_a_frozen_process_could_not_deliver_is_dropped_all_the_same(serve: Serve) -> None:
    connections, may_read, ends = list[tuple[int, int]](), threading.Event(), list[str]()

    def talk(conversation: Conversation) -> None:
        conversation.reader.readline()
        sender, receiver = conversation.connection.getpeername(), conversation.connection.getsockname()
        connections.append((sender[1], receiver[1]))
        may_read.wait(SLACK)
        read_on(conversation, ends)

    def is_stuck() -> bool:
        before = undelivered(connections[0])
        time.sleep(0.05)
        return bool(before) and undelivered(connections[0]) == before

    with subprocess.Popen([sys.executable, "-c", SENDER, serve(talk=talk).url]) as sender:
        try:
            wait_until(lambda: connections and is_stuck(), "the kernels hold all that they can")
            sender.send_signal(signal.SIGSTOP)
            wait_until(lambda: undelivered(connections[0]) is None, "the kernel gives it up")
            may_read.set()
            wait_until(lambda: ends == ["ConnectionResetError"], "the rest never arrives")
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


# What a server sends before it drips; with nothing, it hangs.
HEADS = {
    "status line": b"HTTP/1.1 200 ",
    "header": b"HTTP/1.1 200 OK\r\nX-Long: ",
    "body": b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n",
    "body without an end": b"HTTP/1.1 200 OK\r\n\r\n{",
}


@pytest.mark.parametrize("is_encrypted", [True, False], ids=["https", "http"])
def test_a_dripping_server_is_cut_off_at_the_deadline(
    connect: Connect, serve: Serve, tls: ssl.SSLContext, is_encrypted: bool
) -> None:
    """In any part of its answer, on a new connection or one kept from the call before; all at the same time. Half of
    the time is for their handshakes, which share this machine's processors."""

    def outlast(case: tuple[str, bool]) -> float:
        part, is_first = case
        before = [] if is_first else [http(200)]
        call = connect(serve(*before, drip(HEADS[part]), tls=tls if is_encrypted else None).url, 4)
        for _ in before:
            call()
        began = time.monotonic()
        call.fail(match="within 4 s")
        return time.monotonic() - began

    cases = [(part, is_first) for part in HEADS for is_first in (True, False)]
    with ThreadPoolExecutor(len(cases)) as threads:
        assert all(3.9 < seconds < 4 + SLACK for seconds in threads.map(outlast, cases))


def test_a_cut_call_does_not_harm_the_next(connect: Connect, serve: Serve) -> None:
    call = connect(serve(drip(HEADS["body"]), http(200, b"fine")).url, 1)
    call.fail()
    assert call()[2] == b"fine"


def test_a_deadline_is_kept_while_an_earlier_call_has_a_later_one(connect: Connect, serve: Serve) -> None:
    go = threading.Event()
    patient = serve(lambda _: http(200, b"late") if go.wait(10) else None)
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(connect(patient.url))
        wait_until(lambda: patient.received, "the earlier call is under way")
        connect(serve(drip(HEADS["body"])).url, 1).fail(match="within 1 s")
        go.set()
    assert waiting.result()[2] == b"late"


def test_a_handshake_that_hangs_was_not_delivered(connect: Connect, serve: Serve) -> None:
    connect(serve(talk=hang).url.replace("http:", "https:"), 0.8).fail(NotDelivered)


def test_after_the_time_to_send_nothing_is_sent(connect: Connect, serve: Serve) -> None:
    server = serve(http(200))
    call = connect(server.url)
    call.fail(TooLateToSend, send_before=boot_time())
    assert server.received == []
    assert call(send_before=boot_time() + 60)[0] == 200


def test_the_time_to_send_is_checked_when_the_first_byte_is_about_to_go(
    connect: Connect, serve: Serve, tls: ssl.SSLContext
) -> None:
    """The time to send had not passed when the call began, but has when the connection stands."""
    received: list[bytes] = []

    def talk(conversation: Conversation) -> None:
        conversation.stopped.wait(0.3)
        with tls.wrap_socket(conversation.connection, server_side=True) as encrypted:
            received.append(encrypted.recv(1))

    server = serve(talk=talk)
    call = connect(server.url.replace("http:", "https:"))
    call.fail(TooLateToSend, send_before=boot_time() + 0.2)
    server.stop()
    assert received in ([], [b""])


def test_a_body_beyond_the_limit_leaves_the_outcome_unknown(connect: Connect, serve: Serve) -> None:
    call = connect(serve(http(200, b"x" * LARGEST_BODY), http(200, b"x" * (LARGEST_BODY + 1))).url)
    assert len(call()[2]) == LARGEST_BODY
    call.fail(match="oversized")


def test_an_endless_body_is_not_read_to_its_end(connect: Connect, serve: Serve) -> None:
    connect(serve(b"HTTP/1.1 200 OK\r\n\r\n" + HUGE).url).fail(match="oversized")


@pytest.mark.parametrize(
    "answer",
    [
        b"\x16\x03\x01 this is no HTTP\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * 200_000 + b"\r\n\r\n",
    ],
    ids=["no HTTP", "length", "chunks", "half a body", "huge header"],
)
def test_an_answer_that_is_no_http_leaves_the_outcome_unknown(connect: Connect, serve: Serve, answer: bytes) -> None:
    connect(serve(end_with(answer)).url).fail()


OK = b"HTTP/1.1 200 OK\r\n"
CHUNKS = OK + b"Transfer-Encoding: chunked\r\n\r\n"
# How each begins, and what comes without end.
FLOODS = {
    "headers": (OK + b"X-First: 1\r\n", b"X-Flood: 1\r\n" * 1000),
    "one header": (OK + b"X-Flood: ", b"a" * 65536),
    "status line": (b"HTTP/1.1 200 ", b"a" * 65536),
    "informational answers": (b"", b"HTTP/1.1 102 Processing\r\n\r\n" * 100),
    "chunks of nothing but extensions": (CHUNKS, b"1;" + b"a" * 10_000 + b"\r\nx\r\n"),
    "an endless size of a chunk": (CHUNKS, b"0" * 65536),
    "trailers": (CHUNKS + b"0\r\n", b"X-Flood: 1\r\n" * 1000),
}


@pytest.mark.parametrize("flood", FLOODS)
def test_a_flood_ends_at_a_bound_of_size_or_at_the_deadline(connect: Connect, serve: Serve, flood: str) -> None:
    head, rest = FLOODS[flood]

    def answer(conversation: Conversation) -> None:
        conversation.write(head)
        # Until its client has had enough.
        while True:
            conversation.write(rest)

    call, began = connect(serve(answer).url, 2), time.monotonic()
    tracemalloc.start()
    try:
        error = call.fail()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(str(error)) < 1000
    assert peak < 10 * LARGEST_BODY
    assert time.monotonic() - began < 2 + SLACK


def test_a_compressed_body_is_not_unpacked(connect: Connect, serve: Serve) -> None:
    """Nobody asked for one. That nothing is read of it stands in test_wire.py."""
    bomb = gzip.compress(b" " * 50 * LARGEST_BODY)
    assert connect(serve(http(200, bomb, Content_Encoding="gzip")).url)()[2] == bomb


PIECES = st.sampled_from(
    [
        *(OK, b"HTTP/1.1 429 \r\n", b"HTTP/0.9 200 OK\r\n", b"HTTP/1.1 999999 OK\r\n", b"\r\n", b"\n"),
        *(b"Content-Length: 5\r\n", b"Content-Length: -1\r\n", b"Content-Length: 5, 6\r\n", b"content-length: 9" * 2),
        *(b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: gzip\r\n", b"Date: Mon, 01 Jan 0000 0:0:0 GMT\r\n"),
        *(b"Date: Tue, 03 Mar 2026 09:00:00 GMT\r\n", b"Date: Mon, 1 Jan 99999999999999999999 00:00:00\r\n"),
        *(b"X: \xff\xfe\x00\r\n", b": nameless\r\n", b" folded\r\n", b"Location: http://127.0.0.1:1/\r\n", b"X: \r\n"),
        *(b"5\r\nhello\r\n", b"0\r\n\r\n", b"fffffffffffffff\r\n", b'{"status": "ACTIVE"}', b"HTTP/1.1 100 \r\n\r\n"),
    ]
)


@pytest.fixture
def hostile(serve: Serve) -> LocalServer:
    """A server whose answer may be replaced."""
    return serve(b"")


@settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(st.lists(PIECES | st.binary(max_size=30), max_size=12).map(b"".join))
@example(OK + b"Date: Mon, 1 Jan 99999999999999999999 00:00:00 GMT\r\nContent-Length: 0\r\n\r\n")
@example(OK + b"Date: Mon, 1 Jan 2026 00:00:00 -0000\r\nContent-Length: 0\r\n\r\n")
def test_any_bytes_for_an_answer_are_one_or_leave_the_outcome_unknown(
    connect: Connect, hostile: LocalServer, answer: bytes
) -> None:
    hostile.answers[:] = [end_with(answer)]
    # No machine is so busy that a deadline ends what the answer should.
    for ask in (connect(hostile.url, 60), lambda: measure_drift(make_environment(hostile.url), deadline=60.0)):
        told = ""
        try:
            ask()
        except OutcomeUnknown as error:
            told = f"{error} {error!r}"
        assert not any(secret in told for secret in (ACCESS_TOKEN, "000634"))


def test_an_otp_quoted_from_a_malformed_answer_is_masked(connect: Connect, serve: Serve) -> None:
    call = connect(serve(b"HTTP/9.9 " + CONTENT + b"\r\n\r\n").url)
    assert "000634" not in str(call.fail(match="illegal"))


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_an_answer_and_the_other_host_hears_nothing(connect: Connect, serve: Serve, status: int) -> None:
    other = serve(http(200))
    server = serve(http(status, Location=f"{other.url}/v1/somewhere"))
    assert connect(server.url)()[0] == status
    assert (len(server.received), other.received) == (1, [])


@pytest.mark.parametrize(
    "location", ["/elsewhere", "http://[bad", "http://xn--", "https://\u2603.example.test", "x" * 5000, "//:7e4", ""]
)
def test_a_senseless_redirect_is_an_answer_or_leaves_the_outcome_unknown(
    connect: Connect, serve: Serve, location: str
) -> None:
    with suppress(OutcomeUnknown):
        assert connect(serve(http(302, Location=location)).url)()[0] == 302


def test_a_senseless_redirect_is_no_fault_of_the_certificates_reader(serve: Serve, tls: ssl.SSLContext) -> None:
    server = serve(http(302, Location="http://xn--"), tls=tls)
    with suppress(NotDelivered):
        read_certificate_end(server.url, deadline=SLACK)
    assert len(server.received) == 1


def test_the_environments_ca_is_trusted_and_no_other(
    connect: Connect, serve: Serve, tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve(http(200), tls=tls)
    assert connect(server.url)()[0] == 200
    monkeypatch.delenv("SSL_CERT_FILE")
    connect(server.url).fail(NotDelivered, match="CERTIFICATE_VERIFY_FAILED")
    assert len(server.received) == 1


def test_a_name_that_is_not_in_the_certificate_was_not_delivered(
    connect: Connect, serve: Serve, tls: ssl.SSLContext
) -> None:
    connect(serve(http(200), tls=tls).url.replace("127.0.0.1", "localhost")).fail(NotDelivered)


class Proxy:
    """An HTTP proxy's talk: tunnels CONNECT once `wait` seconds are over, and forwards anything else; keeps what it was
    asked for."""

    def __init__(self, wait: float = 0.0) -> None:
        self.asked: list[str] = []
        self.wait = wait

    def __call__(self, conversation: Conversation) -> None:
        request = conversation.read_request()
        assert request is not None
        self.asked.append(f"{request.method} {request.target}")
        conversation.stopped.wait(self.wait)
        if request.method != "CONNECT":
            conversation.write(http(200, b'"by a proxy"'))
            return
        host, _, port = request.target.partition(":")
        with socket.create_connection((host, int(port)), SLACK) as far:
            conversation.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            back = threading.Thread(target=copy, args=(far, conversation.connection), daemon=True)
            back.start()
            copy(conversation.connection, far)
            back.join(SLACK)


def copy(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while content := source.recv(65536):
            sink.sendall(content)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


def test_https_goes_through_the_environments_proxy_but_to_hosts_that_are_reached_directly(
    connect: Connect, serve: Serve, tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, proxy = serve(http(200), http(200), drip(HEADS["header"]), http(200), tls=tls), Proxy()
    monkeypatch.setenv("HTTPS_PROXY", serve(talk=proxy).url)
    call = connect(server.url, 2)
    assert [call()[0], call()[0]] == [200, 200]
    assert proxy.asked == [f"CONNECT 127.0.0.1:{server.port}"]
    # Its deadlines hold there too.
    call.fail(match="within 2 s")
    monkeypatch.setenv("NO_PROXY", "example.test,127.0.0.1")
    assert connect(server.url)()[0] == 200
    assert len(proxy.asked) == 1


def test_nothing_is_sent_when_connecting_took_too_long(
    connect: Connect, serve: Serve, tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each step keeps to its own time-out, and together they use up the time that an answer would need."""
    server = serve(http(200), tls=tls)
    monkeypatch.setenv("HTTPS_PROXY", serve(talk=Proxy(wait=1.8)).url)
    connect(server.url, 3).fail(NotDelivered, match="no time")
    assert server.received == []


def test_a_proxy_that_drips_or_refuses_delivers_nothing(
    connect: Connect, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusing = serve(http(407))
    for proxy, match in ((refusing, "407"), (serve(drip(HEADS["header"])), None)):
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        connect("https://api.example.test", 1).fail(NotDelivered, match=match)
    (asked,) = refusing.received
    assert (asked.method, asked.target) == ("CONNECT", "api.example.test:443")


def test_plain_http_goes_through_a_proxy_on_this_machine(
    connect: Connect, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, proxy = serve(http(200)), Proxy()
    monkeypatch.setenv("HTTP_PROXY", serve(talk=proxy).url)
    assert connect(server.url)()[2] == b'"by a proxy"'
    assert (proxy.asked, server.received) == ([f"POST {server.url}/v1/somewhere"], [])


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "ALL_PROXY"])
@pytest.mark.parametrize("value", ["http://proxy.example.test:3128", "192.0.2.1:3128"])
def test_plain_http_never_leaves_this_machine_by_a_proxy(
    connect: Connect, serve: Serve, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    assert connect(serve(http(200)).url)()[0] == 200


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


def test_the_threads_of_a_process_read_the_certificates_once(
    connect: Connect, serve: Serve, tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Later the loss of their file does not matter, even for a new connection."""
    # A path that no other test has named.
    path = Path(shutil.copy(os.environ["SSL_CERT_FILE"], tmp_path))
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    server = serve(http(200, Connection="close"), tls=tls)
    calls = [connect(server.url), connect(server.url)]
    path.unlink()
    assert [call()[0] for call in (*calls, connect(server.url), *calls)] == [200] * 5


FORK = """
import os, sys, time, warnings
from worker.pingone.transport import WATCHDOG, Exchange

warnings.simplefilter("ignore")

def is_cut():
    exchange = Exchange(0.05, None)
    with WATCHDOG.watch(exchange):
        patience = time.monotonic() + 5
        while not exchange.is_over and time.monotonic() < patience:
            time.sleep(0.01)
    return exchange.is_over

assert is_cut()
child = os.fork()
if not child:
    os._exit(0 if is_cut() else 1)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_deadlines_hold_in_a_process_forked_from_one_that_watches() -> None:
    subprocess.run([sys.executable, "-c", FORK], check=True, timeout=30)


def test_a_cut_connection_never_shows_its_reader_what_was_encrypted(
    tls: ssl.SSLContext, certificate: tuple[Path, Path]
) -> None:
    near, far = socket.socketpair()
    with ThreadPoolExecutor(1) as threads:
        accepting = threads.submit(tls.wrap_socket, far, server_side=True)
        context = ssl.create_default_context(cafile=certificate[0])
        encrypted_near = context.wrap_socket(near, server_hostname="127.0.0.1")
        encrypted_far = accepting.result(10)
    with encrypted_near, encrypted_far:
        encrypted_far.sendall(b"an answer")
        Exchange(0, encrypted_near).cut_connection()
        assert encrypted_near.recv(1000) in (b"an answer", b"")
        with pytest.raises(OSError, match=r"."):
            encrypted_near.sendall(b"an OTP")


def test_a_released_connection_is_left_alone_and_a_closed_one_does_not_stop_the_watch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 100.0
    monkeypatch.setattr(module, "boot_time", lambda: now)
    monkeypatch.setattr(module, "LONGEST_WAIT", 0.01)
    near, far = socket.socketpair()
    gone, other = socket.socketpair()
    gone.close()
    with near, far, other:
        watchdog = Watchdog()
        released, closed, watched = Exchange(1, near), Exchange(1, gone), Exchange(2, far)
        with watchdog.watch(released), watchdog.watch(closed), watchdog.watch(watched):
            watchdog.stop_watching(released)
            now = 103.0
            near.settimeout(30)
            # The other's deadline ends it.
            assert near.recv(1) == b""
        assert (released.is_over, closed.is_over, watched.is_over) == (False, True, True)
