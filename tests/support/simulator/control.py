"""The control API, under /simulator/: programs set the simulator up with it, and read what it saw."""

import json
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import TypeAdapter, ValidationError

from support.simulator.readings import read_fields
from support.simulator.simulation import FaultOrder, WatchedSeed, WatchedSimulation
from worker.simulator.calls import Answer, Call, success
from worker.simulator.oath import Verdict
from worker.simulator.world import Device, InventoryToken

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


def read_tally(simulation: WatchedSimulation, _: bytes) -> dict[str, Any]:
    """Requests that the rate limit let through and refused, second by second."""
    return {"seconds": simulation.tally.to_list()}


def order_faults(simulation: WatchedSimulation, body: bytes) -> dict[str, Any]:
    """Take orders for faults, `[{"kind": …, "operation": …, "device_id": …}]`: each hits the next call that matches it,
    once."""
    simulation.faults.orders.extend(ORDERS.validate_json(body))
    return {}


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
    ("GET", "tally"): read_tally,
    ("POST", "faults"): order_faults,
    ("POST", "access_tokens/revoke"): revoke_access_tokens,
}
