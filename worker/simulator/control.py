"""The control API, under /simulator/: programs set the simulator up with it and read what it saw."""

from __future__ import annotations

import json
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from worker.simulator.faults import FaultOrder
from worker.simulator.seeding import WorldSeed
from worker.simulator.simulation import Simulation
from worker.simulator.world import Device

_ORDERS = TypeAdapter(list[FaultOrder])
_CHANGES = TypeAdapter(dict[str, Any])


class SignOn(BaseModel):
    """The body of a sign-on."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True)

    otp: str = Field(repr=False)


class Control:
    """The endpoints of the control API, a method each. Wrong JSON in a request is a 400 with the reason, and changes
    nothing."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation

    def application(self) -> Starlette:
        """The control API as an ASGI application."""
        routes = [
            Route("/simulator/settings", self.read_settings, methods=["GET"]),
            Route("/simulator/settings", self.change_settings, methods=["PATCH"]),
            Route("/simulator/world", self.seed, methods=["POST"]),
            Route("/simulator/devices", self.list_devices, methods=["GET"]),
            Route("/simulator/devices/{device_id}", self.read_device, methods=["GET"]),
            Route("/simulator/devices/{device_id}/sign-on", self.sign_on, methods=["POST"]),
            Route("/simulator/journal", self.read_calls, methods=["GET"]),
            Route("/simulator/counts", self.read_counts, methods=["GET"]),
            Route("/simulator/tally", self.read_tally, methods=["GET"]),
            Route("/simulator/faults", self.order_faults, methods=["POST"]),
            Route("/simulator/access_tokens/revoke", self.revoke_access_tokens, methods=["POST"]),
            Route("/simulator/reset", self.reset, methods=["POST"]),
        ]
        return Starlette(routes=routes, exception_handlers={ValidationError: _refuse})

    async def read_settings(self, _: Request) -> JSONResponse:
        return JSONResponse(self._simulation.settings.model_dump(mode="json"))

    async def change_settings(self, request: Request) -> JSONResponse:
        self._simulation.change(_CHANGES.validate_json(await request.body()))
        return await self.read_settings(request)

    async def seed(self, request: Request) -> JSONResponse:
        """Add the devices, the client and the settings of a `WorldSeed`."""
        seed = WorldSeed.model_validate_json(await request.body())
        self._simulation.seed(seed)
        return JSONResponse({"devices": len(seed.devices)}, status_code=201)

    async def list_devices(self, _: Request) -> JSONResponse:
        with self._simulation.lock:
            states = [self._state(device) for device in self._simulation.world.devices()]
        return JSONResponse({"devices": states})

    async def read_device(self, request: Request) -> JSONResponse:
        with self._simulation.lock:
            device = self._simulation.world.find_by_id(request.path_params["device_id"])
            if device is None:
                return JSONResponse({"error": "no such device"}, status_code=404)
            return JSONResponse(self._state(device))

    async def sign_on(self, request: Request) -> JSONResponse:
        """Check an OTP, `{"otp": "…"}`, as the sign-on of the device's user would: `{"outcome": …}`, in the words of
        `Outcome`. It is no call to the API: neither the call log nor the rate limit knows of it."""
        otp = SignOn.model_validate_json(await request.body()).otp
        simulation = self._simulation
        with simulation.lock:
            device = simulation.world.find_by_id(request.path_params["device_id"])
            if device is None:
                return JSONResponse({"error": "no such device"}, status_code=404)
            outcome = device.sign_on(otp, now=simulation.unix_time(), settings=simulation.settings)
        return JSONResponse({"outcome": outcome.value})

    async def read_calls(self, request: Request) -> JSONResponse:
        """Entries of the call log, in pages: `?after=NUMBER&limit=N`. `&operation=activate` and the like pick entries
        by a field."""
        wanted = dict(request.query_params)
        try:
            after, limit = int(wanted.pop("after", 0)), int(wanted.pop("limit", 10_000))
        except ValueError:
            return JSONResponse({"error": "after and limit are whole numbers"}, status_code=400)
        entries = self._simulation.call_log.entries(after=after, limit=limit)
        found = [
            entry.to_dict()
            for entry in entries
            if all(str(getattr(entry, name, None)) == value for name, value in wanted.items())
        ]
        return JSONResponse({"entries": found, "next": entries[-1].number if entries else after})

    async def read_counts(self, _: Request) -> JSONResponse:
        """The sums of the call log, and how many devices have which status."""
        with self._simulation.lock:
            devices = [self._state(device)["status"] for device in self._simulation.world.devices()]
        statuses = {status: devices.count(status) for status in sorted(set(devices))}
        return JSONResponse(self._simulation.call_log.counts() | {"devices": statuses})

    async def read_tally(self, _: Request) -> JSONResponse:
        """Requests that the rate limit let through and refused, second by second."""
        with self._simulation.lock:
            return JSONResponse({"seconds": self._simulation.tally.to_list()})

    async def order_faults(self, request: Request) -> JSONResponse:
        """Take orders for faults, `[{"kind": …, "operation": …, "device_id": …}]`: each hits the next call that matches
        it, once."""
        orders = _ORDERS.validate_json(await request.body())
        with self._simulation.lock:
            self._simulation.faults.orders.extend(orders)
        return JSONResponse({"ordered": len(self._simulation.faults.orders)})

    async def revoke_access_tokens(self, _: Request) -> JSONResponse:
        return JSONResponse({"revoked": self._simulation.access.revoke_all()})

    async def reset(self, _: Request) -> JSONResponse:
        self._simulation.reset()
        return JSONResponse({})

    def _state(self, device: Device) -> dict[str, Any]:
        """The state of a device as JSON, without anything secret."""
        return {
            "device_id": device.id,
            "serial": device.serial_number,
            "environment_id": device.environment_id,
            "user_id": device.user.id,
            "status": device.status,
            "locked": device.is_locked(self._simulation.unix_time()),
            "blocked": device.blocked_at is not None,
            "account_usable": device.user.is_usable,
            "failures": device.failures,
            "counter": device.token.counter,
        }


async def _refuse(_: Request, error: Exception) -> JSONResponse:
    """Answer a validation error: the fields at fault and what they must be, but not what was in them, as it may be
    secret."""
    assert isinstance(error, ValidationError)  # noqa: S101 - the handler is registered for this exception only
    return JSONResponse({"error": json.loads(error.json(include_input=False, include_url=False))}, status_code=400)
