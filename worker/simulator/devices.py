"""Operations on the devices of a user: pairing, activation, locks, unpairing. The caller holds the simulation's lock
meanwhile.

https://developer.pingidentity.com/pingone-api (MFA devices)
"""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from worker.simulator.calls import Answer, Call, Refused, invalid, missing, refusal, success, timestamp
from worker.simulator.oath import Verdict
from worker.simulator.reads import POLICY_ID, find_user, read_filter_of
from worker.simulator.simulation import Simulation
from worker.simulator.world import Device, Status, User

# What a filter may pick a user's devices by.
_FILTERED = ("status", "type")


def device_body(device: Device, root: str, now: float) -> dict[str, Any]:
    """A device as JSON. `root` is the URL under which the client reached the simulator."""
    lock: dict[str, Any] = {"status": "LOCKED" if device.is_locked(now) else "UNLOCKED"}
    # One that has no end is infinite.
    if device.locked_until is not None and device.locked_until < 1e11:
        lock["expiresAt"] = timestamp(device.locked_until)
    block: dict[str, Any] = {"status": "UNBLOCKED"}
    if device.blocked_at is not None:
        block = {"status": "BLOCKED", "blockedAt": timestamp(device.blocked_at)}
    return {
        "_links": {"self": {"href": _href(device, root)}},
        "id": device.id,
        "type": "OATH_TOKEN",
        "status": device.status,
        "lock": lock,
        "block": block,
        "user": {"id": device.user.id},
        "environment": {"id": device.token.environment_id},
        "createdAt": timestamp(device.created_at),
        "updatedAt": timestamp(device.updated_at),
    }


def _href(device: Device, root: str) -> str:
    return f"{root}/v1/environments/{device.token.environment_id}/users/{device.user.id}/devices/{device.id}"


def activate(call: Call, simulation: Simulation) -> Answer:
    """Check an OTP. Raises Refused."""
    device, now, settings = _find_device(call, simulation), simulation.unix_time(), simulation.settings
    otp, resync = _read_activation(call)
    if not device.user.can_act:
        return refusal(400, "REQUEST_FAILED", "ACCOUNT_NOT_USABLE")
    if device.blocked_at is not None:
        return refusal(400, "REQUEST_FAILED", "DEVICE_BLOCKED")
    if device.is_locked(now):
        return refusal(400, "REQUEST_FAILED", "DEVICE_LOCKED")
    if device.status == "ACTIVE":
        return refusal(400, "REQUEST_FAILED", "INVALID_VALUE", target="status")
    match device.activate(otp, resync=resync, now=now, settings=settings):
        case Verdict.ACCEPTED:
            return success(device_body(device, call.root, now))
        case Verdict.EXTRA_OTP_REQUIRED:
            return refusal(400, "INVALID_DATA", "EXTRA_OTP_REQUIRED", target="otp")
        case Verdict.REFUSED:
            return refusal(400, "INVALID_DATA", "INVALID_OTP", target="otp")


def _read_activation(call: Call) -> tuple[str, bool]:
    """Read OTP and `oathResync` from the body of an activation. Raises Refused."""
    fields = call.fields()
    otp, resync = fields.get("otp"), fields.get("oathResync", False)
    if otp is None:
        raise missing("otp")
    if not isinstance(otp, str) or not (otp.isascii() and otp.isdigit() and len(otp) in (6, 8)):
        raise invalid("otp")
    if not isinstance(resync, bool):
        raise invalid("oathResync")
    return otp, resync


def read(call: Call, simulation: Simulation) -> Answer:
    """Answer the read of a device. Raises Refused."""
    return _show(_find_device(call, simulation), call, simulation)


def administer(call: Call, simulation: Simulation) -> Answer:
    """Lift or place a lock or a block, as the operation's name says. Raises Refused."""
    device, now = _find_device(call, simulation), simulation.unix_time()
    device.updated_at = now
    match call.operation:
        case "unlock":
            device.locked_until, device.failures = None, 0
        case "block":
            device.blocked_at = now
        case "unblock":
            device.blocked_at = None
    return _show(device, call, simulation)


def unpair(call: Call, simulation: Simulation) -> Answer:
    """Remove a device; its token stays in the inventory. Raises Refused."""
    simulation.world.remove(_find_device(call, simulation))
    return Answer(204)


def remove_order(call: Call, simulation: Simulation) -> Answer:
    """Answer the request to remove the order of a user's devices. Nothing here goes by that order. Raises Refused."""
    find_user(call, simulation)
    return Answer(204)


def list_devices(call: Call, simulation: Simulation) -> Answer:
    """List the devices of a user, with a filter on status and type. Raises Refused."""
    user, now = find_user(call, simulation), simulation.unix_time()
    wanted = read_filter_of(call, _FILTERED, simulation.settings)
    bodies = [device_body(device, call.root, now) for device in user.devices.values()]
    found = [body for body in bodies if wanted is None or wanted.admits({name: body[name] for name in _FILTERED})]
    links = {"self": {"href": f"{call.root}{call.path}"}}
    return success({"_links": links, "_embedded": {"devices": found}, "count": len(found), "size": len(found)})


def pair(call: Call, simulation: Simulation) -> Answer:
    """Give a token of the inventory to a user, which makes a device. Raises Refused."""
    user, settings, now = find_user(call, simulation), simulation.settings, simulation.unix_time()
    serial_number, status = _read_pairing(call.fields())
    _check_user(user, settings.max_allowed_devices)
    token = simulation.world.inventory.find(call.environment_id, serial_number)
    if token is None:
        raise invalid("serialNumber")
    if token.device is not None:
        return refusal(400, "INVALID_DATA", "UNIQUENESS_VIOLATION", target="serialNumber")
    device = Device(id=str(uuid4()), user=user, token=token, created_at=now, updated_at=now, status=status)
    simulation.world.add(device)
    return success(device_body(device, call.root, now), 201).with_header("location", _href(device, call.root))


def _read_pairing(fields: dict[str, Any]) -> tuple[str, Status]:
    """Read the serial number and the status that the device is to have. Raises Refused."""
    for name in ("type", "serialNumber"):
        if fields.get(name) is None:
            raise missing(name)
    if fields["type"] != "OATH_TOKEN":
        raise invalid("type")
    serial_number, policy, status = fields["serialNumber"], fields.get("policy"), fields.get("status")
    if not isinstance(serial_number, str):
        raise invalid("serialNumber")
    if policy is not None and not (isinstance(policy, dict) and policy.get("id") == POLICY_ID):
        raise invalid("policy.id")
    if status not in (None, "ACTIVATION_REQUIRED", "ACTIVE"):
        raise invalid("status")
    return serial_number, "ACTIVE" if status == "ACTIVE" else "ACTIVATION_REQUIRED"


def _check_user(user: User, most: int) -> None:
    """Check that a user may have one more device. Raises Refused."""
    if not user.can_act:
        raise Refused(refusal(400, "REQUEST_FAILED", "ACCOUNT_NOT_USABLE"))
    if len(user.devices) >= most:
        raise Refused(refusal(400, "REQUEST_FAILED", "LIMIT_EXCEEDED", inner={"maximumAllowed": most}))


def _find_device(call: Call, simulation: Simulation) -> Device:
    """The device that the path names. Raises Refused."""
    device = simulation.world.find(call.environment_id, call.user_id, call.device_id)
    if device is None:
        raise Refused(refusal(404, "NOT_FOUND"))
    return device


def _show(device: Device, call: Call, simulation: Simulation) -> Answer:
    return success(device_body(device, call.root, simulation.unix_time()))
