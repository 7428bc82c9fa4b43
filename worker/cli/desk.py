"""`oathbulk desk`: serves web pages on which a person looks at shipments and commands batches."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import socket
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

import typer

from worker import audit
from worker.cli.console import error_console
from worker.cli.failures import explain_server_failure
from worker.cli.homes import is_own_home, open_installation_with, print_home
from worker.cli.signals import turning_signals_into_interrupts
from worker.config.server_urls import is_loopback
from worker.config.settings import ConfigError
from worker.embedded import INSTALL_LOCAL, can_serve
from worker.installation.installation import Installation

if TYPE_CHECKING:
    from worker.desk.security import LinkLogin, Login, Network

# Seconds after Ctrl-C until unfinished requests and slow downloads are cut off.
GRACE = 1
# By scheme, the port that browsers omit.
_PORTS = {"http": 80, "https": 443}
_LOOPBACK = ("127.0.0.0/8", "::1/128")


def desk(
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes any free one.")] = 8765,
    host: Annotated[str, typer.Option(metavar="ADDRESS", help="The address to listen on, without TLS.")] = "127.0.0.1",
    read_only: Annotated[bool, typer.Option("--read-only", help="Accept no commands; only show pages.")] = False,
    user_header: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Behind a proxy: the header with the person's name. Needs --origin."),
    ] = None,
    origin: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Behind a proxy, or in a container: the address that browsers use, https://…"),
    ] = None,
    proxy: Annotated[
        list[str] | None,
        typer.Option(metavar="ADDRESS", help="The proxy's addresses or networks. Default: loopback."),
    ] = None,
) -> None:
    """Serve web pages for viewing tokens and controlling batches, until Ctrl-C. Print a link to open."""
    if not can_serve():
        raise ConfigError(f"the desk is not installed: {INSTALL_LOCAL}")
    networks = _read_networks(proxy or [])
    origin = _describe_origin(origin) if origin else None
    _check_way_in(host, user_header, origin, proxy)
    installation = open_installation_with(None)
    if installation.has_home or not installation.settings.is_embedded_database:
        # The schema is checked now, not at the first page.
        _ = installation.database
    # uvicorn ends properly at a signal, and then raises it again.
    with _listen(host, port) as listener, contextlib.suppress(KeyboardInterrupt), turning_signals_into_interrupts():
        _serve(installation, listener, user_header, origin, networks, is_read_only=read_only)


def _check_way_in(host: str, user_header: str | None, origin: str | None, proxy: list[str] | None) -> None:
    """Refuse options that would let in anybody, or nobody. Raises typer.BadParameter."""
    if user_header and not origin:
        raise typer.BadParameter("needs --origin: the address that browsers use", param_hint="--user-header")
    if proxy and not user_header:
        raise typer.BadParameter("needs --user-header", param_hint="--proxy")
    if user_header:
        return
    if origin and not is_loopback(urlsplit(origin).hostname or ""):
        raise typer.BadParameter(
            "names another machine, so it needs --user-header: the header with the person's name", param_hint="--origin"
        )
    # In a container, the desk has to listen on all addresses, and its port is published on loopback: the origin says
    # so.
    if not origin and not is_loopback(host):
        raise typer.BadParameter(
            f"{host} can be reached from other machines, and the desk has no TLS: put a proxy in front of it that "
            f"logs people in, and name its header with --user-header",
            param_hint="--host",
        )


def _describe_origin(text: str) -> str:
    """Read an origin, and write it as browsers do. Raises typer.BadParameter."""
    try:
        parts = urlsplit(text.lower())
        is_fit = parts.scheme in _PORTS and parts.hostname and parts.path in ("", "/") and not parts.username
        port = parts.port
    except ValueError:
        is_fit, port = False, None
    if not is_fit or parts.query or parts.fragment:
        raise typer.BadParameter(
            "must be a URL without a path, such as https://desk.example.com", param_hint="--origin"
        )
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"{parts.scheme}://{host}" + (f":{port}" if port and port != _PORTS[parts.scheme] else "")


def _read_networks(proxies: list[str]) -> list[Network]:
    """Read addresses and networks. Raises typer.BadParameter."""
    try:
        return [ipaddress.ip_network(each) for each in proxies or _LOOPBACK]
    except ValueError as error:
        raise typer.BadParameter(
            f"{error}: give an address, or a network such as 10.0.0.0/24", param_hint="--proxy"
        ) from error


def _listen(host: str, port: int) -> socket.socket:
    """Open the socket that browsers connect to. Raises typer.BadParameter."""
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise typer.BadParameter(
            f"cannot listen on {host} port {port}: {error.strerror or error}. --port 0 takes any free port",
            param_hint="--host and --port",
        ) from error


def _serve(
    installation: Installation,
    listener: socket.socket,
    user_header: str | None,
    origin: str | None,
    networks: list[Network],
    *,
    is_read_only: bool,
) -> None:
    """Serve the desk until Ctrl-C, which raises KeyboardInterrupt."""
    # Not at the top: an installation may lack the server, and no other command for a person logs.
    import uvicorn

    from worker.desk.app import Desk, make_app
    from worker.desk.security import Forms, ProxyLogin
    from worker.observability.logs import configure_logs

    configure_logs("WARNING", installation.settings.log_format)
    logging.getLogger("uvicorn.error").addFilter(_is_no_cut_off)
    own = list_own_names(listener.getsockname())
    if is_own_home(installation):
        print_home(installation)
    if user_header and origin:
        login: Login = ProxyLogin(user_header, networks)
        error_console.print(f"The desk is at {origin}, until Ctrl-C.", soft_wrap=True)
    else:
        login = _make_link_login(installation, origin or f"http://{own[0]}")
    origins = [f"http://{name}" for name in own] + ([origin] if origin else [])
    hosts = [*own, urlsplit(origin).netloc] if origin else own
    app = make_app(Desk(installation, login, Forms(origins), explain_server_failure, is_read_only), hosts)
    config = uvicorn.Config(
        app,
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=GRACE,
    )
    uvicorn.Server(config).run(sockets=[listener])


def _make_link_login(installation: Installation, place: str) -> LinkLogin:
    """Make a login with links to this place, shown to the person at this terminal."""
    from worker.desk.security import LinkLogin

    return LinkLogin(
        audit.name_this_person(installation.settings),
        # A browser sends a cookie to every port of a host: two desks must not use the same cookie.
        f"oathbulk-desk-{urlsplit(place).port or 'web'}",
        lambda path: error_console.print(
            f"The desk, until Ctrl-C; this link works once: {place}{path}", soft_wrap=True
        ),
    )


def list_own_names(address: tuple[Any, ...]) -> list[str]:
    """The names under which a browser on this machine, or a proxy, reaches the socket with this address, as browsers
    write them: each with its port, unless that is the default."""
    host, port = address[:2]
    names = [f"[{host}]" if ":" in host else host, "localhost", "127.0.0.1"]
    return [name if port == _PORTS["http"] else f"{name}:{port}" for name in dict.fromkeys(names)]


def _is_no_cut_off(line: logging.LogRecord) -> bool:
    """Whether a log line is about something other than a request that Ctrl-C has cut off, which is not a failure."""
    return not (line.exc_info and isinstance(line.exc_info[1], asyncio.CancelledError))
