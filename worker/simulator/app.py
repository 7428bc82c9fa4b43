"""The simulator as an ASGI application: each request goes to a `Call`, or to the control API.

Calls to PingOne do not pass through a framework's router and middleware, which would take more time than all the rest
of a call; only the control API does.
"""

from __future__ import annotations

from typing import Any

from starlette.types import ASGIApp

from worker.simulator.call import Call
from worker.simulator.connections import Connections
from worker.simulator.delivery import ClientConnection, Receive, Send
from worker.simulator.routes import Request
from worker.simulator.simulation import Simulation

# The path under which the control API lies.
CONTROL = "/simulator/"


class Application:
    """Answers as PingOne does, and under `CONTROL` as the control API, unless that is None."""

    def __init__(self, simulation: Simulation, connections: Connections, control: ASGIApp | None) -> None:
        self._simulation = simulation
        self._connections = connections
        self._control = control

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if self._control is not None and scope["path"].startswith(CONTROL):
            await self._control(scope, receive, send)
            return
        client = ClientConnection(receive, send, self._connections.find(scope["client"]))
        await Call(self._simulation, Request.from_scope(scope), client).run()
