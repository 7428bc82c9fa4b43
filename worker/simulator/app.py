"""The simulator as an ASGI application.

The calls to PingOne do not pass through a framework's router and middleware, which would cost more than all
the rest; only the control API does.
"""

from __future__ import annotations

from typing import Any

from starlette.types import ASGIApp

from worker.simulator.call import Call
from worker.simulator.connections import Connections
from worker.simulator.delivery import Line, Receive, Send
from worker.simulator.routes import Request
from worker.simulator.simulation import Simulation

CONTROL = "/simulator/"


class Application:
    """Answers as PingOne does; and as the control API, under its own path, if there is one."""

    def __init__(self, simulation: Simulation, connections: Connections, control: ASGIApp | None) -> None:
        self._simulation = simulation
        self._connections = connections
        self._control = control

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if self._control is not None and scope["path"].startswith(CONTROL):
            await self._control(scope, receive, send)
            return
        line = Line(receive, send, self._connections.of(scope["client"]))
        await Call(self._simulation, Request.from_scope(scope), line).run()
