"""Serves the simulator: a listening socket, uvicorn on it, and the handling of each call."""

import asyncio
import json
import os
import socket
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from email.utils import formatdate
from pathlib import Path
from typing import Any
from uuid import uuid4

import uvicorn

from worker.simulator import operations
from worker.simulator.calls import Answer, Call, Refused, refusal
from worker.simulator.world import Simulation

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Handler = Callable[[Call, Simulation], Answer]

# Seconds for which an idle connection stays open. A client that waits for its pace is idle for longer than uvicorn's
# default of five seconds.
_KEEP_ALIVE = 75
# Seconds that the server waits for open calls when it stops: they may be sleeping for their latency.
_STOPS_WITHIN = 1


# The function of each operation.
HANDLERS: Mapping[str, Handler] = {
    "access_token": lambda call, simulation: simulation.access.answer_request(call),
    "activate": operations.activate,
    "read": operations.read_device,
    "list": operations.list_devices,
    "unpair": operations.unpair,
    "pair": operations.pair,
    "remove_order": operations.remove_order,
    "read_token": operations.read_token,
    "list_tokens": operations.list_tokens,
    "import_tokens": operations.import_tokens,
    "revoke_tokens": operations.revoke_tokens,
    "read_job": operations.read_job,
    "find_users": operations.find_users,
    "read_policies": operations.read_policies,
    "read_mfa_settings": operations.read_mfa_settings,
    "read_capabilities": operations.read_capabilities,
    "list_roles": operations.list_roles,
}


class Application:
    """The simulator as an ASGI application. Calls do not pass through a framework's router and middleware, which would
    take more time than the rest of a call."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        call = Call.from_scope(scope)
        answer = await self._answer(call, receive)
        await send_answer(answer, send, self._simulation.unix_time())

    async def _answer(self, call: Call, receive: Receive) -> Answer:
        # The limit counts a request on arrival, however slowly its body follows.
        limited = self._simulation.admit(call, time.monotonic())
        call.body = await read_body(receive)
        if self._simulation.settings.latency:
            await asyncio.sleep(self._simulation.settings.latency)
        return limited or refuse(call, self._simulation) or perform(call, self._simulation)


def refuse(call: Call, simulation: Simulation) -> Answer | None:
    """The refusal of a request without a valid access token or operation; None if it may proceed."""
    if call.operation != "access_token" and not simulation.access.admits(call):
        return refusal(401, "ACCESS_FAILED", "INVALID_TOKEN")
    return call.refusal


def perform(call: Call, simulation: Simulation) -> Answer:
    """Perform the operation of a call that was not refused."""
    with simulation.lock:
        simulation.world.catch_up(simulation.unix_time())
        try:
            return HANDLERS[call.operation or ""](call, simulation)
        except Refused as refused:
            return refused.answer


async def read_body(receive: Receive) -> bytes:
    """Read the body of a request; if the client is gone, only what arrived."""
    body = b""
    while True:
        message = await receive()
        part: bytes = message.get("body", b"")
        body += part
        if not message.get("more_body"):
            return body


async def send_answer(answer: Answer, send: Send, unix_time: float) -> None:
    """Send an answer, dated with the Unix time."""
    await send_head(answer, send, unix_time)
    await send({"type": "http.response.body", "body": answer.body})


async def send_head(answer: Answer, send: Send, unix_time: float) -> None:
    """Send the status line and the headers of an answer."""
    headers = {
        "date": formatdate(unix_time, usegmt=True),
        "correlation-id": str(uuid4()),
        "content-type": answer.content_type,
    }
    headers |= answer.headers
    # A 204 has neither a body nor a Content-Length.
    if answer.status != 204:
        headers["content-length"] = str(len(answer.body))
    encoded = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": answer.status, "headers": encoded})


def listen(host: str, port: int) -> socket.socket:
    """Open a socket that accepts connections from now on; port 0 takes any free one. Raises OSError."""
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


def base_url(listener: socket.socket) -> str:
    """The URL at which the socket listens, without a path."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def write_ready_file(path: Path, listener: socket.socket) -> None:
    """Write `{"port": …}` in one step, so that a reader never gets half of it."""
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    draft.write_text(json.dumps({"port": listener.getsockname()[1]}) + "\n", encoding="utf-8")
    draft.replace(path)


def configure(application: Any, http: type[asyncio.Protocol] | str = "h11") -> uvicorn.Config:
    """Configure a server for an ASGI application, with this implementation of HTTP."""
    return uvicorn.Config(
        application,
        http=http,
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


def make_server(simulation: Simulation) -> uvicorn.Server:
    """Make a server whose `run(sockets=[…])` serves until a signal comes or `should_exit` is set."""
    return uvicorn.Server(configure(Application(simulation)))
