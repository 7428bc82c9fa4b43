"""The control API, under /simulator/: programs set the simulator up with it and read what it saw."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from pydantic import TypeAdapter, ValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from worker.simulator.control_bodies import Aging, Pressing, SignOn
from worker.simulator.faults import FaultOrder
from worker.simulator.seeding import WorldSeed
from worker.simulator.simulation import Simulation
from worker.simulator.states import device_state, job_state, token_state

_ORDERS = TypeAdapter(list[FaultOrder])
_CHANGES = TypeAdapter(dict[str, Any])


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
            Route("/simulator/tokens", self.list_tokens, methods=["GET"]),
            Route("/simulator/tokens/press", self.press_tokens, methods=["POST"]),
            Route("/simulator/jobs", self.list_jobs, methods=["GET"]),
            Route("/simulator/notifications", self.read_notifications, methods=["GET"]),
            Route("/simulator/age", self.age_devices, methods=["POST"]),
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
        """All devices, with the call that made each."""
        simulation = self._simulation
        with simulation.lock:
            simulation.catch_up()
            states = [device_state(device, simulation.unix_time()) for device in simulation.world.devices()]
        return JSONResponse({"devices": states})

    async def list_tokens(self, _: Request) -> JSONResponse:
        """All tokens of the inventory, with the call that imported each."""
        with self._simulation.lock:
            self._simulation.catch_up()
            states = [token_state(token) for token in self._simulation.world.inventory.all_tokens()]
        return JSONResponse({"tokens": states})

    async def press_tokens(self, request: Request) -> JSONResponse:
        """Press the tokens `{"serials": […]}` twice each, as a person with the token does; `{"otps": {serial: [OTP,
        OTP]}}` has those that have a button."""
        serials = set(Pressing.model_validate_json(await request.body()).serials)
        with self._simulation.lock:
            self._simulation.catch_up()
            tokens = self._simulation.world.inventory.all_tokens()
            shown = {each.serial_number: each.token.press_twice() for each in tokens if each.serial_number in serials}
        return JSONResponse({"otps": {serial: otps for serial, otps in shown.items() if otps}})

    async def list_jobs(self, _: Request) -> JSONResponse:
        """All jobs, also those that are cleaned up, with the tokens that each made or revoked."""
        with self._simulation.lock:
            self._simulation.catch_up()
            return JSONResponse({"jobs": [job_state(job) for job in self._simulation.jobs.all()]})

    async def read_notifications(self, _: Request) -> JSONResponse:
        """How often each user was told of a new device, by the user's id."""
        with self._simulation.lock:
            return JSONResponse({"users": dict(self._simulation.notifications)})

    async def age_devices(self, request: Request) -> JSONResponse:
        """Make every device that waits for its activation older, `{"hours": 25}`, and leave the clock as it is."""
        hours = Aging.model_validate_json(await request.body()).hours
        with self._simulation.lock:
            aged = self._simulation.world.age_waiting(hours * 3600)
            self._simulation.catch_up()
        return JSONResponse({"aged": aged})

    async def read_device(self, request: Request) -> JSONResponse:
        with self._simulation.lock:
            device = self._simulation.world.find_by_id(request.path_params["device_id"])
            if device is None:
                return JSONResponse({"error": "no such device"}, status_code=404)
            return JSONResponse(device_state(device, self._simulation.unix_time()))

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
        """The sums of the call log, how many devices have which status, and the sums of all else that happened."""
        simulation = self._simulation
        with simulation.lock:
            simulation.catch_up()
            statuses = Counter(device.status for device in simulation.world.devices())
            sums = {
                "devices": dict(sorted(statuses.items())),
                "devices_outlived": simulation.world.outlived,
                "tokens": len(simulation.world.inventory.all_tokens()),
                "jobs": len(simulation.jobs.all()),
                "notifications": simulation.notifications.total(),
                "people_notified": len(simulation.notifications),
            }
        return JSONResponse(simulation.call_log.counts() | sums)

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


async def _refuse(_: Request, error: Exception) -> JSONResponse:
    """Answer a validation error: the fields at fault and what they must be, but not what was in them, as it may be
    secret."""
    assert isinstance(error, ValidationError)  # noqa: S101 - the handler is registered for this exception only
    return JSONResponse({"error": json.loads(error.json(include_input=False, include_url=False))}, status_code=400)
