"""Sends one request and receives its answer; where no answer comes, tells whether the first byte went out.

What matters is the moment when the first byte is about to go: before it, nothing was delivered; after it, the outcome
is unknown until the device was read."""

from __future__ import annotations

import math
import socket
import struct
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import httpcore
import httpx

from worker.clocks.boot_clock import boot_time
from worker.pingone.connections import FAILURES, Address, Connections, find_parser, parse_address
from worker.pingone.deadlines import WATCHDOG, Deadline
from worker.pingone.envelope import make_printable
from worker.pingone.errors import Answer, NotDelivered, OutcomeUnknown, TooLateToSend
from worker.pingone.wire import Request

# Bytes. PingOne's answers about one device have a few hundred; whatever is longer than this is not PingOne's.
LARGEST_BODY = 1024 * 1024
# Bytes. A page of a list: 1,000 items, of which each has a few thousand at the most.
LARGEST_PAGE = 8 * 1024 * 1024

# The value of SO_LINGER: on, 0 s. Closing drops what was not delivered yet, and sends RST. Otherwise the kernel goes on
# delivering for a minute and more, to a network that was cut and healed: an OTP would arrive long after it was given
# up, its device read and the OTP sent again.
_DROP_ON_CLOSE = struct.pack("ii", 1, 0)

# The socket option after how many milliseconds the kernel itself drops what it could not deliver: a worker that stands
# still closes nothing. Linux alone has this.
_USER_TIMEOUT = getattr(socket, "TCP_USER_TIMEOUT", None)


class Transport:
    """One thread's connections. Raises ConfigError if the environment's proxy or CA settings cannot be used.

    `deadline`, in seconds, bounds a whole exchange but for the look-up of a host name, which nothing can interrupt: a
    look-up that took too long ends in NotDelivered when it returns. Bodies above `largest_body` bytes are not read."""

    def __init__(self, *, deadline: float = 20.0, largest_body: int = LARGEST_BODY) -> None:
        self._deadline = deadline
        self._largest_body = largest_body
        self._connections = Connections(deadline)
        # Those that are open, by origin.
        self._sockets: dict[str, socket.socket] = {}

    def close(self) -> None:
        """Close all connections."""
        self._connections.close()

    def exchange(self, request: Request, *, send_before: float | None = None) -> tuple[int, Mapping[str, str], bytes]:
        """Send a request and return the answer's status, headers (names in lower case) and body. `send_before` is in
        `boot_time` seconds.

        Raises NotDelivered (TooLateToSend after `send_before`) or OutcomeUnknown.
        """
        try:
            address = parse_address(request.url)
        except httpx.InvalidURL as error:
            raise NotDelivered(Answer(message=f"{type(error).__name__}: {error}")) from error
        exchange = _Exchange(self._sockets, address.origin, self._deadline, send_before)
        with WATCHDOG.watch(exchange.deadline):
            try:
                answer = self._send(request, address, exchange)
            except FAILURES as error:
                raise exchange.make_failure(f"{type(error).__name__}: {error}") from error
        if exchange.deadline.is_over:
            # An answer that ends with its connection looks complete wherever it was cut.
            raise exchange.make_failure("cut off")
        return answer

    def drop_connection(self, url: str) -> None:
        """Never use the present connection to this URL's host again: what comes by it may answer another request."""
        self._connections.drop(parse_address(url).origin)

    def _send(self, request: Request, address: Address, exchange: _Exchange) -> tuple[int, Mapping[str, str], bytes]:
        """Send the request and read the whole answer."""
        response = self._connections.send(request.method, address, request.headers, request.content, exchange.trace)
        try:
            received = find_parser(response)
            body = bytearray()
            for chunk in response.iter_stream():
                body += chunk
                if len(body) > self._largest_body:
                    raise OutcomeUnknown(Answer(status=response.status, message="an oversized body"))
        finally:
            response.close()
        if received.trailing_data[0]:
            # Bytes that nobody asked for would be read as the answer to the next request.
            self._connections.drop(address.origin)
        return response.status, _read_headers(response), bytes(body)


def _read_headers(response: httpcore.Response) -> dict[str, str]:
    """The headers of an answer, their names in lower case; what comes several times is put together, as RFC 9110 says
    in section 5.3."""
    headers: dict[str, str] = {}
    for raw_name, raw_value in response.headers:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


class _Exchange:
    """One exchange: how far it has come, as httpcore's trace events tell, and when it must be over.
    https://www.encode.io/httpcore/extensions/#trace"""

    def __init__(
        self, sockets: dict[str, socket.socket], origin: str, deadline: float, send_before: float | None
    ) -> None:
        now = boot_time()
        self._sockets = sockets
        self._origin = origin
        self._send_before = send_before
        # After a slow look-up or handshake the time that is left may not do for an answer: then it is better not to
        # send at all.
        self._starts_before = now + deadline / 2
        self._limit = deadline
        self._may_have_sent = False
        # One thread has one connection to an origin at a time: this one, if it is still open.
        self.deadline = Deadline(now + deadline, sockets.get(origin))

    def trace(self, event: str, info: Mapping[str, Any]) -> None:
        """Take one of httpcore's trace events. Raises NotDelivered if the first byte is not to go out any more."""
        if event == "http11.send_request_headers.started":
            self._check_first_byte(is_tunnel=info["request"].method == b"CONNECT")
        elif event.endswith((".connect_tcp.complete", ".start_tls.complete")):
            connection = info["return_value"].get_extra_info("socket")
            self._sockets[self._origin] = self.deadline.connection = connection
            _drop_undelivered(connection, self._limit)
        elif event == "http11.response_closed.started":
            WATCHDOG.stop_watching(self.deadline)

    def make_failure(self, message: str) -> NotDelivered | OutcomeUnknown:
        """Make the error for an exchange without an answer, by whether its first byte went out."""
        if boot_time() >= self.deadline.ends_at:
            message = f"no complete answer within {self._limit:g} s ({message})"
        # An error about a malformed answer quotes it.
        answer = Answer(message=make_printable(message))
        return OutcomeUnknown(answer) if self._may_have_sent else NotDelivered(answer)

    def _check_first_byte(self, *, is_tunnel: bool) -> None:
        """Check whether the first byte may go, right before it does: to PingOne, or to a proxy that is asked for a
        tunnel and learns nothing."""
        now = boot_time()
        if now >= self._starts_before:
            raise NotDelivered(Answer(message="connecting took too long to wait for an answer as well"))
        if is_tunnel:
            return
        if self._send_before is not None and now >= self._send_before:
            raise TooLateToSend(Answer(message="the time to send had passed"))
        self._may_have_sent = True


def _drop_undelivered(connection: socket.socket, seconds: float) -> None:
    """Let the kernel drop what is not delivered when the connection is closed, or after so many seconds."""
    # It may have been closed by the other side already.
    with suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _DROP_ON_CLOSE)
        if _USER_TIMEOUT is not None:
            connection.setsockopt(socket.IPPROTO_TCP, _USER_TIMEOUT, math.ceil(seconds * 1000))
