"""Serving the simulator: a listening socket, uvicorn on it, and the loopback rule for the control API."""

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

# A client that waits for its pace keeps its connection for longer than uvicorn's five seconds.
_KEEP_ALIVE = 75
# Calls may be asleep for their latency when the server stops.
_STOPS_WITHIN = 1


def listen(host: str, port: int) -> socket.socket:
    """A socket that accepts connections from now on, port 0 for any free port. Raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Named as TCP, or asyncio leaves Nagle's algorithm on, and each answer waits 40 ms for the client's ACK.
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
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def base_url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def write_ready_file(path: Path, listener: socket.socket) -> None:
    """Write `{"port": …}`, whole or not at all: whoever waits for the file may read it at once."""
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    draft.write_text(json.dumps({"port": listener.getsockname()[1]}) + "\n", encoding="utf-8")
    draft.replace(path)


class SimulatorServer(uvicorn.Server):
    """Stops at once: calls that hang, and clients that keep their connections, would hold it up for long."""

    def __init__(self, config: uvicorn.Config, connections: Connections) -> None:
        super().__init__(config)
        self._watched = connections

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._watched.abort_all()
        await super().shutdown(sockets)


def make_server(simulation: Simulation, *, control: bool) -> SimulatorServer:
    """A server whose `run(sockets=[…])` serves until a signal or `should_exit`."""
    connections = Connections()
    application = Application(simulation, connections, Control(simulation).application() if control else None)
    config = uvicorn.Config(
        application,
        http=connections.protocol(),
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
    """The simulator on a free loopback port, in a thread of this process; gives its base URL."""
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
