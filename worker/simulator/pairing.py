"""Pairings: giving a token of the inventory to a user, which makes a device. The caller holds the simulation's lock
meanwhile.

https://developer.pingidentity.com/pingone-api (MFA devices)
"""

from __future__ import annotations

from typing import Any, Literal
from uuid import uuid4

from worker.simulator.answers import Answer, refusal, success
from worker.simulator.bodies import device_body, device_href
from worker.simulator.call_log import Entry
from worker.simulator.configuration import POLICY_ID
from worker.simulator.inventory import InventoryToken
from worker.simulator.request_body import invalid, missing, read_object
from worker.simulator.routes import Request, Target
from worker.simulator.settings import Settings
from worker.simulator.simulation import Simulation
from worker.simulator.users import User
from worker.simulator.world import Device

Status = Literal["ACTIVATION_REQUIRED", "ACTIVE"]


def pair(request: Request, target: Target, entry: Entry, simulation: Simulation) -> Answer:
    """Answer the request for a device of a user. Raises BadBody."""
    environment_id = target.environment_id or ""
    user = simulation.world.directory.find(environment_id, target.user_id or "")
    if user is None:
        return refusal(404, "NOT_FOUND")
    fields, settings = read_object(request.body), simulation.settings
    serial_number, status = _read_serial_number(fields), _read_status(fields, settings)
    refused = _check_policy(settings) or _check_user(user, environment_id, simulation)
    if refused is not None:
        return refused
    token = simulation.world.inventory.find(environment_id, serial_number)
    if token is None:
        return _refuse_unknown(settings)
    if token.pairing is not None:
        code = "INVALID_DATA" if settings.paired_serial == 400 else "REQUEST_FAILED"
        return refusal(settings.paired_serial, code, "UNIQUENESS_VIOLATION", target="serialNumber")
    device = _make_device(token, user, status, entry, simulation)
    answer = success(device_body(device, request.root, settings, now=simulation.unix_time()), 201)
    return answer.with_headers([(b"location", device_href(device, request.root).encode())])


def remove_order(target: Target, entry: Entry, simulation: Simulation) -> Answer:
    """Answer the request to remove the order of a user's devices: none is asked for first at a sign-on any more."""
    user = simulation.world.directory.find(target.environment_id or "", target.user_id or "")
    if user is None:
        return refusal(404, "NOT_FOUND")
    user.order.clear()
    entry.took_effect, entry.outcome = True, "ORDER_REMOVED"
    return Answer(204)


def _read_serial_number(fields: dict[str, Any]) -> str:
    """Read the serial number, and check the type and the policy. Raises BadBody."""
    for name in ("type", "serialNumber"):
        if fields.get(name) is None:
            raise missing(name)
    if fields["type"] != "OATH_TOKEN":
        raise invalid("type")
    serial_number, policy = fields["serialNumber"], fields.get("policy")
    if not isinstance(serial_number, str):
        raise invalid("serialNumber")
    if policy is not None and not (isinstance(policy, dict) and policy.get("id") == POLICY_ID):
        raise invalid("policy.id")
    return serial_number


def _read_status(fields: dict[str, Any], settings: Settings) -> Status:
    """The status that the device is to have. Raises BadBody."""
    sent = fields.get("status")
    if sent is None or settings.sent_status == "ignored":
        return settings.pairing_status
    if settings.sent_status == "refused" or sent not in ("ACTIVATION_REQUIRED", "ACTIVE"):
        raise invalid("status")
    return "ACTIVE" if sent == "ACTIVE" else "ACTIVATION_REQUIRED"


def _check_policy(settings: Settings) -> Answer | None:
    """The refusal where the policy does not permit OATH tokens."""
    if settings.oath_enabled and not (settings.pairing_disabled and settings.pairing_disabled_for_all):
        return None
    if settings.oath_off == 403:
        return refusal(403, "ACCESS_FAILED")
    return refusal(400, "INVALID_DATA", "INVALID_VALUE", target="type")


def _check_user(user: User, environment_id: str, simulation: Simulation) -> Answer | None:
    """The refusal of one more device for this user."""
    settings = simulation.settings
    if not user.can_act:
        return refusal(400, "REQUEST_FAILED", "ACCOUNT_NOT_USABLE")
    if settings.pairing_needs_mfa_enabled and not user.is_mfa_enabled:
        return refusal(400, "REQUEST_FAILED", "INVALID_VALUE", target="mfaEnabled")
    licensed = settings.licensed_devices
    if licensed is not None and _count_devices(environment_id, simulation) >= licensed:
        return refusal(403, "LICENSE_EXCEEDED")
    if len(user.devices) >= settings.max_allowed_devices:
        return _refuse_more(settings.max_allowed_devices)
    if user.waiting_devices >= settings.most_waiting_devices:
        return _refuse_more(settings.most_waiting_devices)
    return None


def _count_devices(environment_id: str, simulation: Simulation) -> int:
    return sum(device.environment_id == environment_id for device in simulation.world.devices())


def _refuse_more(most: int) -> Answer:
    return refusal(400, "REQUEST_FAILED", "LIMIT_EXCEEDED", inner={"maximumAllowed": most})


def _refuse_unknown(settings: Settings) -> Answer:
    """The refusal of a token that is not in the inventory."""
    if settings.unknown_serial == 404:
        return refusal(404, "NOT_FOUND")
    return refusal(400, "INVALID_DATA", "INVALID_VALUE", target="serialNumber")


def _make_device(token: InventoryToken, user: User, status: Status, entry: Entry, simulation: Simulation) -> Device:
    """Pair a token, tell its user as the policy says, and note it in the entry."""
    now, settings = simulation.unix_time(), simulation.settings
    device = Device(
        id=str(uuid4()),
        serial_number=token.serial_number,
        environment_id=token.environment_id,
        user=user,
        token=token.token,
        created_at=now,
        updated_at=now,
        status=status,
        readable_at=now + settings.device_read_lag,
        made_by=entry.number,
    )
    simulation.world.add(device, shown_at=now + settings.inventory_read_lag)
    if settings.new_device_notification != "NONE":
        simulation.notifications[user.id] += 1
    entry.took_effect, entry.outcome, entry.made_device_id = True, "PAIRED", device.id
    return device
