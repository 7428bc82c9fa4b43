"""Serves the watched simulator: each call is written down and, if a fault hits it, loses its answer. And the control
API, under /simulator/: programs set the simulator up with it, and read what it saw."""

import asyncio
import contextlib
import json
import random
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import uvicorn
from pydantic import TypeAdapter, ValidationError
from uvicorn.protocols.http.h11_impl import H11Protocol

from support.simulator.call_log import find_detail
from support.simulator.readings import read_fields, reread_answer, reread_request
from support.simulator.simulation import Fault, FaultOrder, WatchedSeed, WatchedSimulation, error_answer, garbled_answer
from worker.simulator.calls import Answer, Call, success
from worker.simulator.oath import Verdict
from worker.simulator.server import (
    base_url,
    configure,
    listen,
    perform,
    read_body,
    refuse,
    send_answer,
    send_head,
)
from worker.simulator.world import Device, InventoryToken

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
            await send_answer(control(call, self._simulation), send, time.time())
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


ORDERS = TypeAdapter(list[FaultOrder])


def control(call: Call, simulation: WatchedSimulation) -> Answer:
    """Answer a request to the control API. Wrong JSON is a 400 with the reason, and changes nothing."""
    action = ACTIONS.get((call.method, call.path.removeprefix("/simulator/")))
    if action is None:
        return success({"error": "no such request"}, 404)
    with simulation.lock:
        simulation.world.catch_up(simulation.unix_time())
        try:
            return success(action(simulation, call.body))
        except ValidationError as error:
            # Not what was in the fields, as it may be secret.
            return success({"error": json.loads(error.json(include_input=False, include_url=False))}, 400)


def change_settings(simulation: WatchedSimulation, body: bytes) -> dict[str, Any]:
    simulation.change(read_fields(body))
    return {}


def seed(simulation: WatchedSimulation, body: bytes) -> dict[str, Any]:
    """Add what a seed has."""
    simulation.seed(WatchedSeed.model_validate_json(body))
    return {}


def list_devices(simulation: WatchedSimulation, _: bytes) -> dict[str, Any]:
    """All devices, with the call that made each; null if it was seeded."""
    return {"devices": [device_state(device, simulation) for device in simulation.world.devices.values()]}


def device_state(device: Device, simulation: WatchedSimulation) -> dict[str, Any]:
    """The state of a device. The first of a user's devices that is ACTIVE is their default."""
    active = [other.id for other in device.user.devices.values() if other.status == "ACTIVE"]
    return {
        "device_id": device.id,
        "serial": device.token.serial_number,
        "user_id": device.user.id,
        "status": device.status,
        "is_default": active[:1] == [device.id],
        "made_by": simulation.call_log.makers.get(device.id),
    }


def list_tokens(simulation: WatchedSimulation, _: bytes) -> dict[str, Any]:
    """All tokens of the inventory, with the call that posted the job of each; null if it was seeded."""
    makers = simulation.call_log.makers
    posted = {made: makers.get(job.id) for job in simulation.world.jobs.values() for made in job.token_ids}

    def state(token: InventoryToken) -> dict[str, Any]:
        return {
            "token_id": token.id,
            "serial": token.serial_number,
            "device_id": token.device.id if token.device else None,
            "user_id": token.device.user.id if token.device else None,
            "made_by": posted.get(token.id),
        }

    return {"tokens": [state(token) for token in simulation.world.token_ids.values()]}


def list_jobs(simulation: WatchedSimulation, _: bytes) -> dict[str, Any]:
    """All jobs, also those that are cleaned up, with the tokens that each made or revoked."""
    jobs = simulation.world.jobs.values()
    return {
        "jobs": [{"job_id": job.id, "type": job.type, "status": job.status, "token_ids": job.token_ids} for job in jobs]
    }


def age_devices(simulation: WatchedSimulation, body: bytes) -> dict[str, Any]:
    """Make every device that waits for its activation older, `{"hours": 25}`, and leave the clock as it is."""
    for device in simulation.world.devices.values():
        if device.status != "ACTIVE":
            device.created_at -= read_fields(body)["hours"] * 3600
    simulation.world.catch_up(simulation.unix_time())
    return {}


def sign_on(simulation: WatchedSimulation, body: bytes) -> dict[str, Any]:
    """Check an OTP, `{"device_id": "…", "otp": "…"}`, as the sign-on of the device's user would. It is no call to the
    API: neither the call log nor the rate limit knows of it."""
    fields = read_fields(body)
    device = simulation.world.devices.get(fields["device_id"])
    if device is None or device.status != "ACTIVE":
        return {"outcome": "NOT_ACTIVE"}
    verdict = device.token.check_otp(fields["otp"], resync=False, now=simulation.unix_time())
    return {"outcome": "SIGNED_ON" if verdict is Verdict.ACCEPTED else "INVALID_OTP"}


def read_counts(simulation: WatchedSimulation, _: bytes) -> dict[str, Any]:
    """The sums of the call log, and how many devices have which status."""
    statuses = Counter(device.status for device in simulation.world.devices.values())
    return simulation.call_log.counts() | {"devices": statuses}


def clear_counts(simulation: WatchedSimulation, _: bytes) -> dict[str, Any]:
    """Begin the sums of the call log anew."""
    simulation.call_log.clear()
    return {}


def read_tally(simulation: WatchedSimulation, _: bytes) -> dict[str, Any]:
    """Requests that the rate limit let through and refused, second by second."""
    return {"seconds": simulation.tally.to_list()}


def order_faults(simulation: WatchedSimulation, body: bytes) -> dict[str, Any]:
    """Take orders for faults, `[{"kind": …, "operation": …, "device_id": …}]`: each hits the next call that matches it,
    once."""
    simulation.faults.orders.extend(ORDERS.validate_json(body))
    return {}


def list_access_tokens(simulation: WatchedSimulation, _: bytes) -> dict[str, Any]:
    """All that were handed out, those that were revoked too."""
    return {"access_tokens": [*simulation.access.revoked, *simulation.access.expires_at]}


def revoke_access_tokens(simulation: WatchedSimulation, _: bytes) -> dict[str, Any]:
    simulation.access.revoke_all()
    return {}


ACTIONS: Mapping[tuple[str, str], Callable[[WatchedSimulation, bytes], dict[str, Any]]] = {
    ("PATCH", "settings"): change_settings,
    ("POST", "world"): seed,
    ("GET", "devices"): list_devices,
    ("GET", "tokens"): list_tokens,
    ("GET", "jobs"): list_jobs,
    ("POST", "age"): age_devices,
    ("POST", "sign-on"): sign_on,
    ("GET", "counts"): read_counts,
    ("POST", "counts/clear"): clear_counts,
    ("GET", "tally"): read_tally,
    ("POST", "faults"): order_faults,
    ("GET", "access_tokens"): list_access_tokens,
    ("POST", "access_tokens/revoke"): revoke_access_tokens,
}
