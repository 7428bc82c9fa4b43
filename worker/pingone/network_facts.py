"""What is between this machine and PingOne: a proxy, certificates, the address that requests come from."""

from __future__ import annotations

import ipaddress
import socket
from datetime import UTC, datetime
from ssl import cert_time_to_seconds
from urllib.parse import urlsplit

import httpx

from worker.pingone.errors import Answer, NotDelivered
from worker.pingone.transport import find_proxy, open_route

# Ports of proxies that name none.
_DEFAULT_PORTS = {"http": 80, "https": 443, "socks5": 1080, "socks5h": 1080}


def read_certificate_end(url: str, *, deadline: float) -> datetime | None:
    """Read until when the certificate is good that this server shows, after it was verified; None for http://. Raises
    NotDelivered; ConfigError if proxy or authorities cannot be used."""
    if urlsplit(url).scheme != "https":
        return None
    try:
        timeouts = {"timeout": httpx.Timeout(deadline).as_dict()}
        with open_route(url) as http:
            response = http.handle_request(httpx.Request("GET", url, extensions=timeouts))
            certificate = response.extensions["network_stream"].get_extra_info("ssl_object").getpeercert()
            response.close()
    except httpx.TransportError as error:
        raise NotDelivered(Answer(message=f"{type(error).__name__}: {error}")) from error
    return datetime.fromtimestamp(cert_time_to_seconds(certificate["notAfter"]), UTC)


def reach_proxy(url: str, *, deadline: float) -> str | None:
    """Connect to the proxy that requests to this URL go through; its host and port, or None if there is none. Raises
    NotDelivered."""
    proxy = find_proxy(url)
    if proxy is None:
        return None
    parts = urlsplit(proxy)
    place = (parts.hostname or "", parts.port or _DEFAULT_PORTS.get(parts.scheme, 80))
    name = f"{place[0]}:{place[1]}"
    try:
        socket.create_connection(place, timeout=deadline).close()
    except OSError as error:
        raise NotDelivered(Answer(message=f"{name}: {error.strerror or error}")) from error
    return name


def find_own_address(url: str) -> str | None:
    """Find the address of this machine from which it would send to this URL's host, which gets nothing; None if its
    name or the way there is not known."""
    parts = urlsplit(url)
    try:
        host = socket.getaddrinfo(parts.hostname, parts.port or 443, type=socket.SOCK_DGRAM)[0]
        with socket.socket(host[0], socket.SOCK_DGRAM) as probe:
            # UDP: this looks up the way, and sends nothing.
            probe.connect(host[4])
            return str(probe.getsockname()[0])
    except OSError:
        return None


def is_public(address: str) -> bool:
    """Whether an address is seen as it is by all the internet, so that no router puts another in its place."""
    return ipaddress.ip_address(address.partition("%")[0]).is_global
