"""The httpx client of one thread, with the proxies and certificate authorities that the environment names."""

from __future__ import annotations

import ipaddress
import os
import ssl
from collections.abc import Iterable
from functools import cache
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx

from worker.config.settings import ConfigError

# Seconds that each step of connecting may take: the answer needs the rest of the deadline.
CONNECT_TIMEOUT = 5.0

# Seconds for which an idle connection is kept. Common servers close it after 5 s; a request that is sent just then is
# lost, its outcome unknown.
KEEPALIVE_EXPIRY = 4.0

# The settings of proxies, which httpx reads by itself.
_PROXIES = "HTTPS_PROXY, HTTP_PROXY, ALL_PROXY, NO_PROXY"


def build_client(deadline: float) -> httpx.Client:
    """Build an httpx client, which builds its own transports: only so does httpx honour the proxy settings of the
    environment. It waits `deadline` seconds at the most for the next byte of an answer.

    Raises ConfigError if those settings, or the certificate authorities that they name, cannot be used."""
    try:
        return httpx.Client(
            verify=_build_tls_context(*map(os.environ.get, ("SSL_CERT_FILE", "SSL_CERT_DIR"))),
            mounts=_choose_mounts(),
            # Not compressed: a small body could unfold into a huge one.
            headers={"Accept-Encoding": "identity", "User-Agent": "oathbulk"},
            timeout=httpx.Timeout(deadline, connect=min(CONNECT_TIMEOUT, deadline / 2)),
            limits=httpx.Limits(keepalive_expiry=KEEPALIVE_EXPIRY),
            follow_redirects=False,
        )
    except (OSError, ValueError, ImportError, httpx.InvalidURL) as error:
        raise ConfigError(f"{_PROXIES}, SSL_CERT_FILE or SSL_CERT_DIR cannot be used: {error}") from error


@cache
def _build_tls_context(*_settings: str | None) -> ssl.SSLContext:
    """Build the TLS context that trusts the authorities which these settings name; httpx reads them by itself. All
    threads of a process share it, for the certificates of all authorities take most of a megabyte."""
    context = httpx.create_ssl_context()
    context.set_alpn_protocols(["http/1.1"])
    context.set_alpn_protocols = _ignore_protocols  # type: ignore[method-assign]
    return context


def _ignore_protocols(alpn_protocols: Iterable[str]) -> None:
    """Do nothing in place of SSLContext.set_alpn_protocols: httpcore sets the same protocols with each connection, but
    no thread may change what another reads at that moment."""


def find_proxy_host(url: str) -> str | None:
    """Find the host of the proxy that requests to this URL go through; None where they go through none."""
    proxy = find_proxy(url)
    return None if proxy is None else _parse_host(proxy)


def find_proxy(url: str) -> str | None:
    """Find the URL of the proxy that requests to this URL go through; None where they go through none. It may hold a
    password: never print it."""
    parts, proxies = urlsplit(url), getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if not proxy or proxy_bypass(parts.hostname or "") or (parts.scheme == "http" and not _is_loopback(proxy)):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def _choose_mounts() -> dict[str, httpx.BaseTransport | None]:
    """Take http:// past any proxy that is not on this machine. It is for this machine alone (see
    worker.config.settings), and what goes through such a proxy would cross the network in the clear."""
    proxies = getproxies()
    proxy = proxies.get("http") or proxies.get("all")
    if not proxy or _is_loopback(proxy):
        return {}
    return {"http://": None}


def _parse_host(proxy: str) -> str:
    try:
        return urlsplit(proxy if "://" in proxy else f"http://{proxy}").hostname or ""
    except ValueError as error:
        raise ConfigError(f"{_PROXIES} cannot be used: {error}") from error


def _is_loopback(proxy: str) -> bool:
    host = _parse_host(proxy)
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
