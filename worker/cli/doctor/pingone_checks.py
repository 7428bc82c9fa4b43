"""The checks of PingOne and of the way there: proxy, certificates, access token, clock, address."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from urllib.parse import urlsplit

from worker.cli.doctor.finding import Finding, examine, fault, not_known
from worker.cli.doctor.role_checks import DEVICES, INVENTORY, POLICIES, USERS, CallKind, check_roles
from worker.cli.hosts import describe_hosts
from worker.config.environment import Environment
from worker.installation.installation import Installation
from worker.pingone.auth import AccessTokens
from worker.pingone.diagnosis import find_own_address, is_public, measure_drift, reach_proxy, read_certificate_end
from worker.pingone.errors import CredentialsRefused, NotDelivered, PingOneError
from worker.pingone.transport import find_proxy_host

# Seconds that one call may take, since a person waits for it.
DEADLINE = 5.0
# Seconds. A TOTP step is 30 s: on a clock that is wrong by more than a few, a pair seems older or younger than it is.
LARGEST_DRIFT = 5.0
# A certificate that ends sooner should have been replaced by now.
SHORTEST_CERTIFICATE = timedelta(days=7)

_NETWORK = "check PINGONE_REGION or PINGONE_API_URL and PINGONE_TOKEN_URL, HTTPS_PROXY, and the network"
_CREDENTIALS = (
    "check PINGONE_CLIENT_ID, PINGONE_CLIENT_SECRET (or PINGONE_PRIVATE_KEY, PINGONE_KEY_ID and the clock), "
    "PINGONE_CLIENT_AUTH and PINGONE_AUTH_ENVIRONMENT_ID"
)


def check_pingone(installation: Installation, environment: Environment) -> Iterator[Finding]:
    """Check the way to PingOne, then what this environment's worker applications may do."""
    name = environment.name
    yield examine("hosts", lambda: " ".join(describe_hosts(installation, name)))
    yield examine("proxy", lambda: check_proxy(environment.api_url), "check HTTPS_PROXY and NO_PROXY")
    yield examine("tls", lambda: check_tls(environment), "check SSL_CERT_FILE, SSL_CERT_DIR and HTTPS_PROXY")
    yield from check_access(environment)
    yield examine("clock", lambda: check_clock(lambda: measure_drift(environment, deadline=DEADLINE)))
    yield examine("egress address", lambda: check_egress(environment.api_url))


def check_access(environment: Environment) -> Iterator[Finding]:
    """Ask for an access token for each worker application, and make the reads that need their roles."""
    importer = environment.as_importer()
    if importer is environment:
        yield from _check_application(environment, "access token", (USERS, DEVICES, INVENTORY, POLICIES))
    else:
        yield from _check_application(environment, "access token", (USERS, DEVICES, POLICIES))
        yield from _check_application(importer, "access token (import)", (INVENTORY,))


def check_proxy(url: str) -> Finding:
    """Say which proxy is in force, and connect to it."""
    if find_proxy_host(url) is None:
        return Finding("proxy", "none is in force for PingOne")
    try:
        return Finding("proxy", f"{reach_proxy(url, deadline=DEADLINE)}, which can be reached")
    except NotDelivered as error:
        return fault("proxy", f"cannot be reached: {error}", "check HTTPS_PROXY, NO_PROXY and that server")


def check_tls(environment: Environment) -> Finding:
    """Check that PingOne's certificates are verified, by whose authorities, and until when they are good. Raises
    ConfigError."""
    urls = {urlsplit(url).netloc: url for url in (environment.api_url, environment.token_url)}
    if all(url.startswith("http://") for url in urls.values()):
        return Finding("tls", "none: PingOne is simulated on this machine")
    named = os.environ.get("SSL_CERT_FILE") or os.environ.get("SSL_CERT_DIR")
    told = f"certificates are checked, by the authorities of {named or 'the package certifi'}"
    try:
        ends = {host: end for host, url in urls.items() if (end := read_certificate_end(url, deadline=DEADLINE))}
    except NotDelivered as error:
        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            cure = "if a proxy shows certificates of its own, name its authority with SSL_CERT_FILE"
            return fault("tls", f"{told}; refused: {error}", cure)
        return not_known("tls", f"{told}; PingOne's cannot be read: {error}")
    detail = f"{told}; " + ", ".join(f"{host}'s is good until {end:%Y-%m-%d}" for host, end in ends.items())
    if min(ends.values()) - datetime.now(UTC) < SHORTEST_CERTIFICATE:
        return fault("tls", detail, "tell whoever runs that server or proxy to replace it")
    return Finding("tls", detail)


def check_clock(measure: Callable[[], float]) -> Finding:
    """Compare this machine's clock with PingOne's. `measure` returns the seconds that ours is ahead."""
    try:
        ahead = measure()
    except PingOneError as error:
        return not_known("clock", f"PingOne does not tell the time: {error}", _NETWORK)
    detail = f"{abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} PingOne's"
    if abs(ahead) > LARGEST_DRIFT:
        return fault("clock", detail, "set it, for instance with NTP")
    return Finding("clock", detail)


def check_egress(url: str) -> Finding:
    """Say from which address PingOne sees us come, which is what its list of allowed addresses has to name."""
    if proxy := find_proxy_host(url):
        return not_known("egress address", f"it is that of the proxy {proxy}, or of a router behind it")
    address = find_own_address(url)
    if address is None:
        return not_known("egress address", "there is no way to PingOne's host")
    if not is_public(address):
        return not_known("egress address", f"PingOne does not tell it; {address} of this machine is not public")
    return Finding("egress address", address)


def _check_application(application: Environment, check: str, kinds: Sequence[CallKind]) -> Iterator[Finding]:
    """Ask for an access token for one worker application, and make the reads of these kinds with it."""
    granted: list[str] = []
    yield examine(check, partial(_ask_for_access, application, granted, check))
    yield from check_roles(application, granted[0] if granted else None, kinds)


def _ask_for_access(application: Environment, kept: list[str], check: str) -> Finding:
    """Ask for an access token, and keep it for the reads that follow."""
    try:
        kept.append(AccessTokens(application, deadline=DEADLINE).get())
    except CredentialsRefused as error:
        return fault(check, str(error), _CREDENTIALS)
    except NotDelivered as error:
        return fault(check, str(error), _NETWORK)
    return Finding(check, f"granted to {application.client_id}, authenticated by {application.client_auth}")
