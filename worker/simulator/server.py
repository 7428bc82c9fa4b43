"""Serves the simulator: a listening socket, and uvicorn on it; `is_loopback` decides about the control API."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import uvicorn

from worker.simulator.app import Application
from worker.simulator.connections import Connections
from worker.simulator.control import Control
from worker.simulator.simulation import Simulation

# Seconds that an idle connection stays open. A client that waits for its pace is idle for longer than uvicorn's default
# of five seconds.
_KEEP_ALIVE = 75
# Seconds that the server waits for open calls when it stops: they may be asleep for their latency.
_STOPS_WITHIN = 1


def listen(host: str, port: int) -> socket.socket:
    """Open a socket that accepts connections from now on; port 0 takes any free port. Raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol is named, because asyncio otherwise leaves Nagle's algorithm on, and each answer waits 40 ms for the
    # client's ACK.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(2048)
    except OSError:
        listener.close()
        raise
    return listener


def is_loopback(host: str) -> bool:
    """Whether this host name or address can be reached from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def base_url(listener: socket.socket) -> str:
    """The URL at which the socket listens, without a path."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def write_ready_file(path: Path, listener: socket.socket) -> None:
    """Write `{"port": …}` in one step, so that whoever waits for the file never reads half of it."""
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    draft.write_text(json.dumps({"port": listener.getsockname()[1]}) + "\n", encoding="utf-8")
    draft.replace(path)


class SimulatorServer(uvicorn.Server):
    """uvicorn's server, which closes all connections when it stops: calls that hang, and clients that keep their
    connections open, would delay its end for long."""

    def __init__(self, config: uvicorn.Config, connections: Connections) -> None:
        super().__init__(config)
        self._watched = connections

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close all connections, then stop as uvicorn does."""
        self._watched.end()
        await super().shutdown(sockets)


def make_server(simulation: Simulation, *, control: bool) -> SimulatorServer:
    """Make a server whose `run(sockets=[…])` serves until a signal comes or `should_exit` is set."""
    connections = Connections()
    application = Application(simulation, connections, Control(simulation).application() if control else None)
    config = uvicorn.Config(
        application,
        http=connections.make_protocol(),
        ws="none",
        lifespan="off",
        loop="asyncio",
        interface="asgi3",
        access_log=False,
        log_config=None,
        proxy_headers=False,
        server_header=False,
        date_header=False,
        timeout_keep_alive=_KEEP_ALIVE,
        timeout_graceful_shutdown=_STOPS_WITHIN,
    )
    return SimulatorServer(config, connections)


@contextlib.contextmanager
def running(simulation: Simulation, *, control: bool = True) -> Iterator[str]:
    """Run the simulator on a free loopback port, in a thread of this process; gives its base URL."""
    listener = listen("127.0.0.1", 0)
    server = make_server(simulation, control=control)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="simulator", daemon=True)
    thread.start()
    try:
        yield base_url(listener)
    finally:
        server.should_exit = True
        thread.join(timeout=10)
        listener.close()
