"""pingone: one request to one answer, and whether its first byte went out if there is none.

Everything hangs on the moment when the first byte is about to go: before it, nothing was delivered; after it,
the outcome is unknown until the device was read."""

from __future__ import annotations

import math
import socket
import struct
from collections.abc import Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import h11
import httpx

from worker.clocks.boot_clock import boot_time
from worker.pingone.deadlines import WATCHDOG, Deadline
from worker.pingone.envelope import printable
from worker.pingone.errors import Answer, NotDelivered, OutcomeUnknown, TooLateToSend
from worker.pingone.http_client import http_client
from worker.pingone.wire import Request

# Answers are a few hundred bytes; whatever is longer than this is no answer of PingOne's.
LARGEST_BODY = 1024 * 1024

# SO_LINGER. On, 0 s: closing drops what was not delivered yet, and sends RST. Otherwise the kernel goes on delivering
# for a minute and more, to a network that was cut and healed: an OTP would arrive long after it was given up, its
# device read and the OTP sent again.
_DROP_ON_CLOSE = struct.pack("ii", 1, 0)

# In milliseconds. A worker that stands still closes nothing: the kernel itself drops what it could not deliver for so
# long. Linux alone has this.
_USER_TIMEOUT = getattr(socket, "TCP_USER_TIMEOUT", None)


class Transport:
    """One thread's connections. Raises ConfigError if the environment's proxy or CA settings cannot be used.

    The total deadline (seconds) bounds all but the look-up of a host name, which nothing can interrupt: a
    look-up that took too long ends in NotDelivered when it returns."""

    def __init__(self, *, deadline: float = 20.0) -> None:
        self._deadline = deadline
        self._connections: dict[str, socket.socket] = {}
        self._client = http_client(deadline)

    def close(self) -> None:
        self._client.close()

    def exchange(self, request: Request, *, send_before: float | None = None) -> tuple[int, Mapping[str, str], bytes]:
        """Status, headers (names in lower case) and body. `send_before` is in `boot_time` seconds.

        Raises NotDelivered (TooLateToSend after `send_before`) or OutcomeUnknown.
        """
        call = _Call(self._connections, _origin(request.url), self._deadline, send_before)
        with WATCHDOG.watching(call.deadline):
            try:
                answer = self._send(request, call)
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                raise call.failure(f"{type(error).__name__}: {error}") from error
        if call.deadline.is_over:
            # An answer that ends with its connection looks complete wherever it was cut.
            raise call.failure("cut off")
        return answer

    def drop(self, url: str) -> None:
        """Never use the present connection to this URL's host again: what comes by it may answer another request."""
        connection = self._connections.get(_origin(url))
        if connection is not None:
            # The pool finds it ended and closes it before the next request. Not SSLSocket.shutdown, see Deadline.cut.
            with suppress(OSError):
                socket.socket.shutdown(connection, socket.SHUT_RDWR)

    def _send(self, request: Request, call: _Call) -> tuple[int, Mapping[str, str], bytes]:
        outgoing = self._client.build_request(
            request.method,
            request.url,
            headers=request.headers,
            content=request.content or None,
            extensions={"trace": call.trace},
        )
        response = self._client.send(outgoing, stream=True)
        try:
            received = _parser_behind(response)
            body = bytearray()
            for chunk in response.iter_raw():
                body += chunk
                if len(body) > LARGEST_BODY:
                    raise OutcomeUnknown(Answer(status=response.status_code, message="an oversized body"))
        finally:
            response.close()
            # The two refer to each other, and keep everything else of the exchange until the garbage collector comes.
            del response.stream
        if received.trailing_data[0]:
            # Bytes that nobody asked for would be read as the answer to the next request.
            self.drop(request.url)
        return response.status_code, dict(response.headers.items()), bytes(body)


def _parser_behind(response: httpx.Response) -> h11.Connection:
    """What parses the answers that come by the same connection as this one, which is not closed yet. The way to it
    leads through private names of httpx and httpcore: there is no other."""
    stream: Any = response.stream
    parser: h11.Connection = stream._stream._httpcore_stream._stream._connection._h11_state
    return parser


class _Call:
    """How far one exchange has come, as httpcore's trace events tell:
    https://www.encode.io/httpcore/extensions/#trace"""

    def __init__(
        self, connections: dict[str, socket.socket], origin: str, deadline: float, send_before: float | None
    ) -> None:
        now = boot_time()
        self._connections = connections
        self._origin = origin
        self._send_before = send_before
        # What is left must do for an answer: after a slow look-up or handshake it is better not to send at
        # all.
        self._starts_before = now + deadline / 2
        self._limit = deadline
        self._has_begun = False
        # One thread has one connection to an origin at a time: this one, if it is still open.
        self.deadline = Deadline(now + deadline, connections.get(self._origin))

    def trace(self, event: str, info: Mapping[str, Any]) -> None:
        if event == "http11.send_request_headers.started":
            self._begin(is_tunnel=info["request"].method == b"CONNECT")
        elif event.endswith((".connect_tcp.complete", ".start_tls.complete")):
            connection = info["return_value"].get_extra_info("socket")
            self._connections[self._origin] = self.deadline.connection = connection
            _drop_undelivered(connection, self._limit)
        elif event == "http11.response_closed.started":
            WATCHDOG.release(self.deadline)

    def failure(self, message: str) -> NotDelivered | OutcomeUnknown:
        if self.deadline.is_over:
            message = f"no complete answer within {self._limit:g} s ({message})"
        # An error about a malformed answer quotes it.
        answer = Answer(message=printable(message))
        return OutcomeUnknown(answer) if self._has_begun else NotDelivered(answer)

    def _begin(self, *, is_tunnel: bool) -> None:
        """The first byte is about to go: to PingOne, or to a proxy that is asked for a tunnel and learns
        nothing."""
        now = boot_time()
        if now >= self._starts_before:
            raise NotDelivered(Answer(message="connecting took too long to wait for an answer as well"))
        if is_tunnel:
            return
        if self._send_before is not None and now >= self._send_before:
            raise TooLateToSend(Answer(message="the time to send had passed"))
        self._has_begun = True


def _origin(url: str) -> str:
    return "{0.scheme}://{0.netloc}".format(urlsplit(url))


def _drop_undelivered(connection: socket.socket, seconds: float) -> None:
    """When it is closed, or after so many seconds."""
    # It may have been closed by the other side already.
    with suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _DROP_ON_CLOSE)
        if _USER_TIMEOUT is not None:
            connection.setsockopt(socket.IPPROTO_TCP, _USER_TIMEOUT, math.ceil(seconds * 1000))
