"""Serves the desk on a socket, until Ctrl-C."""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import Any
from urllib.parse import urlsplit

import uvicorn

from worker import audit
from worker.cli.console import error_console
from worker.cli.failures import explain_server_failure
from worker.cli.homes import is_own_home, print_home
from worker.desk.app import make_app
from worker.desk.doors import Door, Forms, LinkDoor, Network, ProxyDoor
from worker.desk.views import Desk
from worker.installation.installation import Installation
from worker.observability.logs import configure_logs

# Seconds after Ctrl-C. Who has not sent a request to its end by then, or takes an answer slowly, is cut off.
GRACE = 1
# Of http://, which browsers leave out.
USUAL_PORT = 80


def serve(
    installation: Installation,
    listener: socket.socket,
    user_header: str | None,
    origin: str | None,
    networks: list[Network],
    *,
    is_read_only: bool,
) -> None:
    """Serve the desk until Ctrl-C, which raises KeyboardInterrupt."""
    configure_logs("WARNING", installation.settings.log_format)
    logging.getLogger("uvicorn.error").addFilter(_is_no_cut_off)
    own = list_own_names(listener.getsockname())
    if is_own_home(installation):
        print_home(installation)
    door: Door
    if user_header and origin:
        door = ProxyDoor(user_header, networks)
        error_console.print(f"The desk is at {origin}, until Ctrl-C.", soft_wrap=True)
    else:
        door = _make_link_door(installation, origin or f"http://{own[0]}")
    origins = [f"http://{name}" for name in own] + ([origin] if origin else [])
    hosts = [*own, urlsplit(origin).netloc] if origin else own
    app = make_app(Desk(installation, door, Forms(origins), explain_server_failure, is_read_only), hosts)
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


def _make_link_door(installation: Installation, origin: str) -> LinkDoor:
    """Make a door for the person at this terminal, who sees its links. `origin`: where browsers find the desk."""
    return LinkDoor(
        audit.name_this_person(installation.settings),
        # A browser sends a cookie to every port of a host: two desks must not have the same.
        f"oathbulk-desk-{urlsplit(origin).port or 'web'}",
        lambda path: error_console.print(
            f"The desk, until Ctrl-C; this link works once: {origin}{path}", soft_wrap=True
        ),
    )


def list_own_names(address: tuple[Any, ...]) -> list[str]:
    """The names by which a browser on this machine, or a proxy, reaches the socket with this address, as they write
    them: each with its port, but for the one that is meant without."""
    host, port = address[:2]
    names = [f"[{host}]" if ":" in host else host, "localhost", "127.0.0.1"]
    return [name if port == USUAL_PORT else f"{name}:{port}" for name in dict.fromkeys(names)]


def _is_no_cut_off(line: logging.LogRecord) -> bool:
    """Whether a line of the log is about something else than a request that Ctrl-C has cut off, which is no failure."""
    return not (line.exc_info and isinstance(line.exc_info[1], asyncio.CancelledError))
