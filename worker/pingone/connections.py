"""The open connections of one thread: one to each origin, used again while the server keeps it open.

httpx chooses how an origin is reached (directly or through a proxy, with which certificates), and httpcore speaks HTTP.
The pool between them does for one thread what only several need, and takes a fifth of an exchange's time. The way
around it leads through private names of both, so their versions are pinned in pyproject.toml."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import h11
import httpcore
import httpx

from worker.pingone.http_client import build_client

# What may go wrong with an exchange: httpcore has no common name for these.
FAILURES = (
    httpcore.ConnectionNotAvailable,
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.ProxyError,
    httpcore.TimeoutException,
    httpcore.UnsupportedProtocol,
    httpx.InvalidURL,
)

# The origin and the path of a URL whose path goes out as it stands. To parse every device's URL anew would take a
# fortieth of a worker's time.
_PLAIN = re.compile(r"(https?://[^/?#]+)(/[\w~/-]*)", re.ASCII)


class Address(NamedTuple):
    """A URL in two parts: the origin, and the target there as it goes out."""

    origin: str
    target: bytes


def parse_address(url: str) -> Address:
    """Part a URL, as httpx reads it. Raises httpx.InvalidURL."""
    if plain := _PLAIN.fullmatch(url):
        origin, path = plain.groups()
        return Address(_parse_origin(origin), path.encode("ascii"))
    parsed = httpx.URL(url)
    return Address(_write_origin(parsed), parsed.raw_path)


# Origins alone are kept: a query may have a person's name.
@lru_cache
def _parse_origin(url: str) -> str:
    return _write_origin(httpx.URL(url))


def _write_origin(url: httpx.URL) -> str:
    return f"{url.scheme}://{url.netloc.decode('ascii')}"


@dataclass(frozen=True, slots=True)
class _Route:
    """How an origin is reached."""

    url: httpx.URL
    origin: httpcore.Origin
    # What connects to it.
    pool: Any


class Connections:
    """The connections of one thread. Connecting and each read end within `deadline` seconds. Raises ConfigError if the
    environment's proxy or CA settings cannot be used."""

    def __init__(self, deadline: float) -> None:
        self._client = build_client(deadline)
        self._timeouts = self._client.timeout.as_dict()
        self._headers = {name.title(): value for name, value in self._client.headers.items()}
        self._routes: dict[str, _Route] = {}
        self._open: dict[str, Any] = {}

    def close(self) -> None:
        """Close all connections."""
        for origin in list(self._open):
            self.drop(origin)
        self._client.close()

    def drop(self, origin: str) -> None:
        """Close the connection to this origin, if there is one."""
        connection = self._open.pop(origin, None)
        if connection is not None:
            connection.close()

    def send(
        self, method: str, address: Address, headers: Mapping[str, str], content: bytes, trace: Any
    ) -> httpcore.Response:
        """Send a request; return the answer, whose body is still to be read, and which is to be closed. `trace` takes
        httpcore's trace events. Raises one of FAILURES."""
        route = self._find_route(address.origin)
        url = httpcore.URL(
            scheme=route.url.raw_scheme,
            host=route.url.raw_host,
            port=route.url.port,
            target=address.target,
        )
        fields = {"Host": route.url.netloc.decode("ascii")} | self._headers | dict(headers)
        if content:
            fields["Content-Length"] = str(len(content))
        request = httpcore.Request(
            method,
            url,
            headers=[(name.encode("ascii"), value.encode("ascii")) for name, value in fields.items()],
            content=content,
            extensions={"timeout": self._timeouts, "trace": trace},
        )
        response: httpcore.Response = self._find_connection(address.origin, route).handle_request(request)
        return response

    def _find_connection(self, origin: str, route: _Route) -> Any:
        """Find the connection to an origin that can be used; otherwise make one, which connects with its first
        request."""
        connection = self._open.get(origin)
        if connection is None or connection.is_closed() or connection.has_expired() or not connection.is_available():
            self.drop(origin)
            connection = self._open[origin] = route.pool.create_connection(route.origin)
        return connection

    def _find_route(self, origin: str) -> _Route:
        """Find how httpx would reach this origin."""
        if origin not in self._routes:
            url = httpx.URL(origin)
            transport: Any = self._client._transport_for_url(url)
            default_port = {"http": 80, "https": 443}.get(url.scheme)
            if default_port is None or not url.host:
                raise httpx.InvalidURL("only http:// and https:// with a host can be reached")
            place = httpcore.Origin(url.raw_scheme, url.raw_host, url.port or default_port)
            self._routes[origin] = _Route(url, place, transport._pool)
        return self._routes[origin]


def find_parser(response: httpcore.Response) -> h11.Connection:
    """Find what parses the answers that come by the same connection as this one, which is not closed yet."""
    stream: Any = response.stream
    parser: h11.Connection = stream._connection._h11_state
    return parser
