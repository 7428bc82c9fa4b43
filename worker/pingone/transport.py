"""Sends one request and receives its answer; if no answer comes, says whether the first byte went out. Before the first
byte, nothing was delivered; after it, the outcome is unknown until the device has been read. httpx reports that moment,
and the socket, to the `trace` function of a request: https://www.python-httpx.org/advanced/extensions/#trace"""

from __future__ import annotations

import math
import os
import socket
import ssl
import struct
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx

from worker.clocks import boot_time
from worker.config.server_urls import is_loopback
from worker.config.settings import ConfigError
from worker.pingone.errors import Answer, NotDelivered, OutcomeUnknown, TooLateToSend
from worker.pingone.wire import Request, make_printable

# Bytes. PingOne's answers about one device have a few hundred; anything longer than this is not PingOne's.
LARGEST_BODY = 1024 * 1024
# Bytes. A page of a list: 1,000 items of at most a few thousand each.
LARGEST_PAGE = 8 * 1024 * 1024

# Seconds for each step of connecting: the answer needs the rest of the deadline.
CONNECT_TIMEOUT = 5.0

# Seconds for which an idle connection is kept. Common servers close it after 5 s; a request sent just then is lost,
# with an unknown outcome.
KEEPALIVE_EXPIRY = 4.0

# Longest interval between two checks of the deadlines, in seconds: a thread's wait stops while the machine is
# suspended, but deadlines do not.
LONGEST_WAIT = 1.0

# What an httpx request may raise. httpx parses the address of a redirect although it does not follow redirects: an
# invalid address raises one of the last two.
HTTP_ERRORS = (httpx.TransportError, httpx.InvalidURL, UnicodeError)

# Not compressed: a small body could unfold into a huge one.
_HEADERS = {"Accept-Encoding": "identity", "User-Agent": "oathbulk"}

# The settings of proxies, as in curl and httpx.
_PROXIES = "HTTPS_PROXY, HTTP_PROXY, ALL_PROXY, NO_PROXY"

# The value of SO_LINGER: on, 0 s. Closing drops what was not delivered yet, and sends RST. Otherwise the kernel would
# keep trying to deliver for over a minute while the network is cut: an OTP could arrive long after its device was read
# and the OTP was sent again.
_DROP_ON_CLOSE = struct.pack("ii", 1, 0)

# The socket option that makes the kernel drop what it could not deliver within a number of milliseconds: a frozen
# worker closes nothing by itself. Linux only.
_USER_TIMEOUT = getattr(socket, "TCP_USER_TIMEOUT", None)

# How a body in chunks ends (RFC 9112, section 7.1), after the line end of the chunk or header before it.
_LAST_CHUNK = b"\r\n0\r\n\r\n"


class Transport:
    """One thread's connection to the server of this URL, reused while the server keeps it open.

    `deadline`, in seconds, limits a whole exchange except the look-up of a host name, which nothing can interrupt:
    after a slow look-up, it raises NotDelivered. Bodies above `largest_body` bytes are not read. Redirects are not
    followed, and cookies are not kept. Raises ConfigError if the environment's proxy or CA settings cannot be used."""

    def __init__(self, url: str, *, deadline: float = 20.0, largest_body: int = LARGEST_BODY) -> None:
        self._deadline = deadline
        self._largest_body = largest_body
        self._http = open_http(url, httpx.Timeout(deadline, connect=min(CONNECT_TIMEOUT, deadline / 2)))
        # The latest connection, which may be closed by now.
        self._connection: socket.socket | None = None

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def exchange(self, request: Request, *, send_before: float | None = None) -> tuple[int, Mapping[str, str], bytes]:
        """Send a request and return the answer's status, headers (names in lower case) and body. `send_before` is in
        `boot_time` seconds.

        Raises NotDelivered (TooLateToSend after `send_before`) or OutcomeUnknown."""
        exchange = Exchange(self._deadline, self._connection, send_before)
        with WATCHDOG.watch(exchange):
            try:
                answer = self._send(request, exchange)
            except HTTP_ERRORS as error:
                raise exchange.make_failure(f"{type(error).__name__}: {error}") from error
            finally:
                self._connection = exchange.connection
        if exchange.is_over:
            # An answer that ends when its connection closes looks complete wherever it was cut off.
            raise exchange.make_failure("cut off")
        return answer

    def drop_connection(self) -> None:
        """Never use the current connection again: its next bytes may answer another request."""
        shut(self._connection)

    def _send(self, request: Request, exchange: Exchange) -> tuple[int, Mapping[str, str], bytes]:
        """Send the request and read the whole answer."""
        body = bytearray()
        with self._http.stream(
            request.method,
            request.url,
            headers=request.headers,
            content=request.content,
            extensions={"trace": exchange.trace},
        ) as response:
            for chunk in response.iter_raw():
                body += chunk
                if len(body) > self._largest_body:
                    raise OutcomeUnknown(Answer(status=response.status_code, message="an oversized body"))
        if exchange.has_rest(len(body), is_chunked="transfer-encoding" in response.headers):
            # Unrequested bytes would be read as the answer to the next request.
            shut(exchange.connection)
        return response.status_code, dict(response.headers.items()), bytes(body)


class Exchange:
    """One exchange: its progress, by httpx's trace events, and its deadline. `connection` is used if it is still
    open."""

    def __init__(self, limit: float, connection: socket.socket | None, send_before: float | None = None) -> None:
        now = boot_time()
        self._limit = limit
        self._send_before = send_before
        # After a slow look-up or handshake there may be too little time for an answer: then it is better not to send.
        self._starts_before = now + limit / 2
        self._may_have_sent = False
        self.ends_at = now + limit
        self.connection = connection
        self.is_over = False

    def trace(self, event: str, info: Mapping[str, Any]) -> None:
        """Handle one of httpx's trace events. Raises NotDelivered if the first byte must not go out anymore."""
        if event == "http11.send_request_headers.started":
            self._check_first_byte(is_tunnel=info["request"].method == b"CONNECT")
        elif event.endswith((".connect_tcp.complete", ".start_tls.complete")):
            self.connection = info["return_value"].get_extra_info("socket")
            _drop_undelivered(self.connection, self._limit)
        elif event == "http11.response_closed.started":
            WATCHDOG.stop_watching(self)

    def cut_connection(self) -> None:
        """End this exchange after its deadline: readers of the connection find it closed."""
        self.is_over = True
        shut(self.connection)

    def has_rest(self, body_length: int, *, is_chunked: bool) -> bool:
        """Whether an encrypted connection delivered more than the answer, whose body has this many bytes. An
        unencrypted one is only used on this machine."""
        if not isinstance(self.connection, _KeepingSocket):
            return False
        received = self.connection.received
        head = received.find(b"\r\n\r\n") + 4
        end = received.find(_LAST_CHUNK, head - 2) + len(_LAST_CHUNK) if is_chunked else head + body_length
        return end != len(received)

    def make_failure(self, message: str) -> NotDelivered | OutcomeUnknown:
        """Make the error for an exchange without an answer, by whether its first byte went out."""
        if boot_time() >= self.ends_at:
            message = f"no complete answer within {self._limit:g} s ({message})"
        # An error about a malformed answer quotes it.
        answer = Answer(message=make_printable(message))
        return OutcomeUnknown(answer) if self._may_have_sent else NotDelivered(answer)

    def _check_first_byte(self, *, is_tunnel: bool) -> None:
        """Right before the first byte goes out, check whether it may: to PingOne, or to a proxy that is asked for a
        tunnel and learns nothing."""
        now = boot_time()
        if now >= self._starts_before:
            raise NotDelivered(Answer(message="connecting left no time to wait for an answer"))
        if is_tunnel:
            return
        if self._send_before is not None and now >= self._send_before:
            raise TooLateToSend(Answer(message="the time to send had passed"))
        if isinstance(self.connection, _KeepingSocket):
            self.connection.received = bytearray()
        self._may_have_sent = True


class Watchdog:
    """Shuts the connections of exchanges past their deadline, in its own thread. Thread-safe. httpx limits each read,
    which a server that sends a byte now and then never exceeds."""

    def __init__(self) -> None:
        self._reset()
        os.register_at_fork(after_in_child=self._reset)

    def _reset(self) -> None:
        """Start without a thread and without exchanges, also after a fork: threads do not survive it, but their locks
        do, and stay locked."""
        self._changed = threading.Condition()
        self._exchanges: set[Exchange] = set()
        self._wakes_at = math.inf
        self._thread: threading.Thread | None = None

    @contextmanager
    def watch(self, exchange: Exchange) -> Iterator[None]:
        """Shut the exchange's connection if its deadline passes within this block."""
        with self._changed:
            self._exchanges.add(exchange)
            if self._thread is None:
                self._thread = threading.Thread(target=self._watch, name="pingone-deadlines", daemon=True)
                self._thread.start()
            elif exchange.ends_at < self._wakes_at:
                self._changed.notify()
        try:
            yield
        finally:
            self.stop_watching(exchange)

    def stop_watching(self, exchange: Exchange) -> None:
        """Forget this exchange. Call this before closing the connection: afterwards, its descriptor may belong to
        another connection."""
        with self._changed:
            self._exchanges.discard(exchange)

    def _watch(self) -> None:
        with self._changed:
            while True:
                now = boot_time()
                for exchange in [exchange for exchange in self._exchanges if exchange.ends_at <= now]:
                    exchange.cut_connection()
                    self._exchanges.discard(exchange)
                self._wakes_at = min((exchange.ends_at for exchange in self._exchanges), default=math.inf)
                self._changed.wait(None if self._wakes_at == math.inf else min(self._wakes_at - now, LONGEST_WAIT))


WATCHDOG = Watchdog()


def shut(connection: socket.socket | None) -> None:
    """Shut a connection, if there is one, so that it is not used again."""
    # It may have been closed already.
    with suppress(OSError):
        if connection is not None:
            # Not SSLSocket.shutdown, which first removes the encryption from under the thread that reads and writes:
            # that thread would read ciphertext as an answer, or send its request in the clear.
            socket.socket.shutdown(connection, socket.SHUT_RDWR)


def _drop_undelivered(connection: socket.socket, seconds: float) -> None:
    """Let the kernel drop undelivered bytes when the connection is closed, or after this many seconds."""
    # The other side may have closed it already.
    with suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _DROP_ON_CLOSE)
        if _USER_TIMEOUT is not None:
            connection.setsockopt(socket.IPPROTO_TCP, _USER_TIMEOUT, math.ceil(seconds * 1000))


def open_http(url: str, timeout: httpx.Timeout) -> httpx.Client:
    """Open an HTTP client for the server of a URL, through the environment's proxy and with its certificate
    authorities. Nothing is connected yet. Raises ConfigError if those settings cannot be used."""
    try:
        return httpx.Client(
            headers=_HEADERS,
            timeout=timeout,
            limits=httpx.Limits(keepalive_expiry=KEEPALIVE_EXPIRY),
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
            verify=read_authorities(),
            proxy=find_proxy(url),
            # `find_proxy` reads the environment, because it lets no plain http:// leave this machine.
            trust_env=False,
        )
    except (ValueError, ImportError, httpx.InvalidURL) as error:
        raise ConfigError(f"{_PROXIES} cannot be used: {error}") from error


def read_authorities() -> ssl.SSLContext:
    """Read the environment's certificate authorities, once. Raises ConfigError if they cannot be used."""
    named = {name: os.environ.get(name) for name in ("SSL_CERT_FILE", "SSL_CERT_DIR")}
    try:
        return _build_tls_context(*named.values())
    except OSError as error:
        # httpx takes the first one that is set.
        name, path = next((name, path) for name, path in named.items() if path)
        raise ConfigError(f"{name}={path} cannot be used: {error.strerror}") from error


class _KeepingSocket(ssl.SSLSocket):
    """An encrypted connection that keeps what it has received since the last request. httpx does not report bytes after
    an answer, and would read them as the next answer."""

    received: bytes | bytearray = b""

    def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
        content = super().recv(buflen, flags)
        self.received += content
        return content


@cache
def _build_tls_context(*_settings: str | None) -> ssl.SSLContext:
    """Build the TLS context that trusts the authorities in these settings. All threads of a process share it, because
    the certificates of all authorities take most of a megabyte."""
    context = httpx.create_ssl_context()
    context.sslsocket_class = _KeepingSocket
    context.set_alpn_protocols(["http/1.1"])
    context.set_alpn_protocols = _ignore_protocols  # type: ignore[method-assign]
    return context


def _ignore_protocols(alpn_protocols: Iterable[str]) -> None:
    """Do nothing instead of SSLContext.set_alpn_protocols: httpx sets the same protocols for each connection, but no
    thread may change what another one is reading."""


def find_proxy(url: str) -> str | None:
    """Find the URL of the proxy for requests to this URL; None if there is none. It may contain a password: never print
    it. An http:// URL is only for this machine (see worker.config.settings), so it skips any proxy elsewhere: the
    request would cross the network in the clear."""
    parts, proxies = urlsplit(url), getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if (
        not proxy
        or proxy_bypass(parts.hostname or "")
        or (parts.scheme == "http" and not is_loopback(_parse_host(proxy)))
    ):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def find_proxy_host(url: str) -> str | None:
    """Find the host of the proxy for requests to this URL; None if there is none."""
    proxy = find_proxy(url)
    return None if proxy is None else _parse_host(proxy)


def _parse_host(proxy: str) -> str:
    try:
        return urlsplit(proxy if "://" in proxy else f"http://{proxy}").hostname or ""
    except ValueError as error:
        raise ConfigError(f"{_PROXIES} cannot be used: {error}") from error
