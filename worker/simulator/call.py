"""One call to the simulated PingOne, from its arrival to its entry in the call log."""

from __future__ import annotations

import asyncio
import random
import sys
import time
from uuid import uuid4

from worker.simulator.answers import Answer, refusal
from worker.simulator.call_log import Entry
from worker.simulator.delivery import ClientConnection, ClientGone
from worker.simulator.faults import Fault, error_answer, garbled_answer
from worker.simulator.operation_names import Operation, find_group
from worker.simulator.operations import find_device, perform, read_sent_otp
from worker.simulator.request_body import read_any_object
from worker.simulator.routes import Request, Target, find_operation, find_target
from worker.simulator.simulation import Simulation


class Call:
    """One request to the simulated PingOne. It is worked on to its end even when the client hangs up: that does not
    undo an operation."""

    def __init__(self, simulation: Simulation, request: Request, client: ClientConnection) -> None:
        self._simulation = simulation
        self._request = request
        self._client = client
        target = find_target(request.path)
        operation = find_operation(request, target)
        self._target = target or Target("unknown")
        self._operation: Operation | None = None if isinstance(operation, Answer) else operation
        self._refused: Answer | None = operation if isinstance(operation, Answer) else None
        self._entry = self._open_entry()

    async def run(self) -> None:
        """Read the request, check limit and access token, do the operation, answer, and end the entry in the call
        log."""
        try:
            # The limit counts a request when it arrives, however slowly its body follows.
            limited = self._check_limit()
            self._request.body = await self._client.read_body()
            self._note_body()
            await self._wait()
            refused = limited or self._check_access_token() or self._refused
            await (self._deliver(refused) if refused else self._execute())
        except ClientGone:
            self._entry.client_gone = True
        finally:
            self._simulation.call_log.close(self._entry, time.monotonic())

    async def _execute(self) -> None:
        """Do the operation and deliver its answer, or play the fault that hits this call."""
        fault = self._draw_fault()
        if fault is None:
            await self._deliver(self._perform())
            return
        self._entry.fault = fault.kind
        settings = self._simulation.settings
        if fault.kind == "reset_late":
            await self._reset()
            await asyncio.sleep(settings.late_effect_after)
        answer = self._perform() if fault.does_operation else self._skip_operation()
        match fault.kind:
            case "reset_before" | "reset_after":
                await self._reset()
            case "error_before" | "error_after":
                await self._deliver(error_answer(fault, settings))
            case "hang_before" | "hang_after":
                await self._client.hang()
                self._entry.client_gone = True
            case "drip":
                await self._deliver(answer, drip=settings.drip_interval)
            case "garbled":
                await self._deliver(garbled_answer())

    def _perform(self) -> Answer:
        assert self._operation is not None  # noqa: S101 - a call without an operation was refused earlier
        with self._simulation.lock:
            answer = perform(self._operation, self._request, self._target, self._entry, self._simulation)
        if self._entry.took_effect:
            self._entry.effect_at = time.monotonic()
        return answer

    def _skip_operation(self) -> Answer:
        """Do nothing to the device, except that its OTP is used up if `lost_otp_used_up` is set; the answer is a
        500."""
        simulation = self._simulation
        otp, _ = read_sent_otp(self._request.body)
        with simulation.lock:
            device = find_device(self._target, simulation)
            if simulation.settings.lost_otp_used_up and device is not None and otp is not None:
                device.token.use_up(otp, now=simulation.unix_time(), rules=simulation.settings.rules)
                self._entry.outcome, self._entry.took_effect = "USED_UP", True
                self._entry.effect_at = time.monotonic()
        return refusal(500, "UNEXPECTED_ERROR")

    async def _deliver(self, answer: Answer, *, drip: float | None = None) -> None:
        """Send the answer, unless the client has gone, and note it in the entry. `drip`: seconds between two bytes."""
        entry, client = self._entry, self._client
        if client.is_closed:
            entry.client_gone = True
            return
        entry.status, entry.code = answer.status, answer.code
        entry.detail_code, entry.error_id = answer.detail_code, answer.error_id
        entry.correlation_id = str(uuid4())
        await client.start(answer, entry.correlation_id, self._simulation.unix_time())
        if drip is None:
            await client.finish(answer.body)
        else:
            entry.client_gone = not await client.drip(answer.body, drip)

    async def _reset(self) -> None:
        self._entry.client_gone = self._client.is_closed
        await self._client.reset()

    async def _wait(self) -> None:
        """Sleep for the latency that the settings ask for."""
        settings = self._simulation.settings
        if settings.latency or settings.jitter:
            await asyncio.sleep(settings.latency + random.random() * settings.jitter)  # noqa: S311

    def _check_limit(self) -> Answer | None:
        """The refusal of a request over the limit of its group, or over the quota; requests for access tokens do not
        count."""
        if self._operation == "access_token":
            return None
        return self._simulation.admit(self._entry.arrived_at, find_group(self._operation))

    def _check_access_token(self) -> Answer | None:
        """The refusal of a request without a valid access token."""
        if self._operation == "access_token":
            return None
        if self._simulation.access.admits(self._request.header(b"authorization")):
            return None
        return refusal(401, "ACCESS_FAILED", "INVALID_TOKEN")

    def _draw_fault(self) -> Fault | None:
        assert self._operation is not None  # noqa: S101 - a call without an operation was refused earlier
        with self._simulation.lock:
            faults, settings = self._simulation.faults, self._simulation.settings
            return faults.draw(self._operation, self._target.device_id, settings, self._entry.serial_number)

    def _open_entry(self) -> Entry:
        request, target = self._request, self._target
        entry = self._simulation.call_log.open(request.method, request.path, time.monotonic(), time.time())
        entry.operation = self._operation
        entry.environment_id, entry.user_id, entry.device_id = (
            target.environment_id,
            target.user_id,
            target.device_id,
        )
        # All calls of a batch have the same session id, so one string in memory serves all of them.
        entry.session_id = sys.intern(request.header(b"x-ping-external-session-id") or "") or None
        entry.transaction_id = request.header(b"x-ping-external-transaction-id")
        return entry

    def _note_body(self) -> None:
        """Write the OTP or the serial number into the entry before the operation is done or refused."""
        if self._operation in ("pair", "create_token"):
            serial_number = (read_any_object(self._request.body) or {}).get("serialNumber")
            self._entry.serial_number = serial_number if isinstance(serial_number, str) else None
            return
        otp, self._entry.oath_resync = read_sent_otp(self._request.body)
        if otp is not None:
            self._entry.otp = self._simulation.call_log.fingerprint(otp)
