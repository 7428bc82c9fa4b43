"""Serves the watched simulator: each call is written down and, if a fault hits it, loses its answer."""

import asyncio
import contextlib
import random
import socket
import struct
import threading
import time
from collections.abc import Iterator
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from support.simulator.call_log import find_detail
from support.simulator.control import control
from support.simulator.readings import reread_answer, reread_request
from support.simulator.simulation import Fault, WatchedSimulation, error_answer, garbled_answer
from worker.simulator.calls import Answer, Call
from worker.simulator.server import (
    PRESS,
    base_url,
    configure,
    listen,
    perform,
    press,
    read_body,
    refuse,
    send_answer,
    send_head,
)

# The value of SO_LINGER: on, 0 seconds. Closing then sends RST instead of FIN, and drops what was not sent yet.
RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Connections:
    """The open connections, found by the client's address, which is all that an ASGI application learns of them."""

    def __init__(self) -> None:
        self.transports: dict[tuple[str, int], asyncio.Transport] = {}
        self._are_over = False

    def end(self) -> None:
        """Close every connection at once, and each that is made from now on: calls that hang, and clients that keep
        their connections open, would delay the server's end for long."""
        self._are_over = True
        for transport in list(self.transports.values()):
            transport.abort()

    def make_protocol(self) -> type[H11Protocol]:
        """A subclass of uvicorn's HTTP protocol that enters each connection here, and removes it when it is closed."""
        connections = self

        class WatchedProtocol(H11Protocol):
            def connection_made(self, transport: asyncio.Transport) -> None:
                super().connection_made(transport)
                # The address from when the connection was accepted: uvicorn asks the socket, which does not know it any
                # more if the client has gone already.
                self.client = transport.get_extra_info("peername")[:2]
                connections.transports[self.client] = transport
                if connections._are_over:
                    transport.abort()

            def connection_lost(self, exc: Exception | None) -> None:
                # A new connection from the same port may have taken its place.
                if connections.transports.get(self.client) is self.transport:
                    del connections.transports[self.client]
                super().connection_lost(exc)

        return WatchedProtocol


class WatchedServer(uvicorn.Server):
    """uvicorn's server, which closes all connections when it stops."""

    def __init__(self, simulation: WatchedSimulation) -> None:
        self._connections = Connections()
        application = WatchedApplication(simulation, self._connections)
        super().__init__(configure(application, self._connections.make_protocol()))

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close all connections, then stop as uvicorn does."""
        self._connections.end()
        await super().shutdown(sockets)


class WatchedApplication:
    """Answers as the product's simulator does, but for faults and readings; under /simulator/ as the control API."""

    def __init__(self, simulation: WatchedSimulation, connections: Connections) -> None:
        self._simulation = simulation
        self._connections = connections

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        call = Call.from_scope(scope)
        if call.path.startswith("/simulator/"):
            call.body = await read_body(receive)
            answer = press(call, self._simulation) if call.path == PRESS else control(call, self._simulation)
            await send_answer(answer, send, time.time())
            return
        await WatchedCall(self._simulation, call, receive, send, self._connections.transports[scope["client"]]).run()


class WatchedCall:
    """One call. It is worked on to its end even when the client hangs up: that does not undo an operation."""

    def __init__(
        self, simulation: WatchedSimulation, call: Call, receive: Any, send: Any, transport: asyncio.Transport
    ) -> None:
        self._simulation, self._call, self._receive, self._send = simulation, call, receive, send
        self._transport = transport
        self._entry = simulation.call_log.open(call, time.monotonic(), time.time())

    async def run(self) -> None:
        """Do what the product's application does, and end the entry in the call log."""
        simulation, call, settings = self._simulation, self._call, self._simulation.settings
        try:
            limited = simulation.admit(call, self._entry.arrived_at)
            call.body = await self._read_body()
            simulation.call_log.note_body(self._entry, call.body)
            if settings.latency or settings.jitter:
                await asyncio.sleep(settings.latency + random.random() * settings.jitter)
            refused = limited or refuse(call, simulation)
            await (self._deliver(refused) if refused else self._execute())
        except ConnectionAbortedError:
            self._entry.client_gone = True
        finally:
            simulation.call_log.close(self._entry, time.monotonic())

    async def _execute(self) -> None:
        """Do the operation and deliver its answer, or play the fault that hits this call."""
        call, entry, settings = self._call, self._entry, self._simulation.settings
        with self._simulation.lock:
            fault = self._simulation.faults.draw(call.operation, entry.device_id, settings, entry.serial_number)
        if fault is None:
            await self._deliver(self._perform())
            return
        entry.fault = fault.kind
        if fault.kind == "reset_late":
            await self._reset()
            await asyncio.sleep(settings.late_effect_after)
        answer = self._perform() if fault.does_operation else Answer(500)
        await self._lose(answer, fault)

    async def _lose(self, answer: Answer, fault: Fault) -> None:
        """Deliver something else than the answer to an operation, or nothing."""
        match fault.kind:
            case "reset_before" | "reset_after":
                await self._reset()
            case "error_before" | "error_after":
                await self._deliver(error_answer(fault, self._simulation.settings))
            case "hang_before" | "hang_after":
                await self._wait_until_closed()
                self._entry.client_gone = True
            case "drip":
                await self._deliver(answer, drip=self._simulation.settings.drip_interval)
            case "garbled":
                await self._deliver(garbled_answer())

    def _perform(self) -> Answer:
        """Do the operation, and note what it came to."""
        simulation, call, entry = self._simulation, self._call, self._entry
        with simulation.lock:
            answer = reread_request(call, simulation) or perform(call, simulation)
            entry.note_outcome(call, answer, time.monotonic())
            simulation.call_log.note_made(entry)
            return reread_answer(call, answer, simulation)

    async def _deliver(self, answer: Answer, *, drip: float | None = None) -> None:
        """Send the answer, unless the client has gone, and note it in the entry. `drip`: seconds between two bytes."""
        entry = self._entry
        if self._transport.is_closing():
            entry.client_gone = True
            return
        entry.status = answer.status
        entry.detail_code = find_detail(answer)
        if drip is None:
            await send_answer(answer, self._send, self._simulation.unix_time())
            return
        await send_head(answer, self._send, self._simulation.unix_time())
        for index in range(len(answer.body)):
            await asyncio.sleep(drip)
            if self._transport.is_closing():
                entry.client_gone = True
                return
            part = {"type": "http.response.body", "body": answer.body[index : index + 1], "more_body": True}
            await self._send(part)
        await self._send({"type": "http.response.body", "body": b""})

    async def _read_body(self) -> bytes:
        """The request's whole body. Raises ConnectionAbortedError if the client closed the connection before its
        end."""
        body = b""
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ConnectionAbortedError
            body += message["body"]
            if not message["more_body"]:
                return body

    async def _reset(self) -> None:
        """Reset the connection unless the client has closed it already, so that the client sees ECONNRESET and not an
        end of file, and wait until it is closed."""
        self._entry.client_gone = self._transport.is_closing()
        if not self._entry.client_gone:
            self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
            self._transport.abort()
        await self._wait_until_closed()

    async def _wait_until_closed(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass


@contextlib.contextmanager
def running(simulation: WatchedSimulation) -> Iterator[str]:
    """Run the simulator on a free loopback port, in a thread of this process; gives its base URL."""
    listener = listen("127.0.0.1", 0)
    server = WatchedServer(simulation)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="simulator", daemon=True)
    thread.start()
    try:
        yield base_url(listener)
    finally:
        server.should_exit = True
        thread.join(timeout=10)
        listener.close()
