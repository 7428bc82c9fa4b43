"""What each operation does to the world, and what it answers. The caller holds the simulation's lock meanwhile."""

from __future__ import annotations

from worker.simulator.answers import Answer, refusal, success
from worker.simulator.bodies import device_body
from worker.simulator.call_log import Entry
from worker.simulator.operation_names import ENVIRONMENT_READS, PROVISIONING_OPERATIONS, Operation, find_group
from worker.simulator.provisioning import provision
from worker.simulator.reads import answer_read
from worker.simulator.request_body import BadBody, invalid, missing, read_any_object, read_object
from worker.simulator.routes import Request, Target, find_filter
from worker.simulator.settings import Settings
from worker.simulator.simulation import Simulation
from worker.simulator.world import Device, Outcome


def perform(operation: Operation, request: Request, target: Target, entry: Entry, simulation: Simulation) -> Answer:
    """Do the operation, note in the entry what it came to, and return the answer."""
    if operation == "access_token":
        authorization, endpoint = request.header(b"authorization"), f"{request.root}{request.path}"
        answer = simulation.access.answer_request(authorization, request.body, simulation.settings, endpoint)
        entry.outcome = answer.code or "ISSUED"
        return answer
    if not simulation.settings.permitted or find_group(operation) in simulation.settings.forbidden_groups:
        return refusal(403, "ACCESS_FAILED", "INSUFFICIENT_PERMISSIONS")
    simulation.catch_up()
    try:
        if operation in ENVIRONMENT_READS:
            return answer_read(operation, request, target, simulation)
        if operation in PROVISIONING_OPERATIONS:
            return provision(operation, request, target, entry, simulation)
        if operation == "list":
            return _list(request, target, simulation)
        return _perform_on_device(operation, request, target, entry, simulation)
    except BadBody as bad:
        return bad.answer


def find_device(target: Target, simulation: Simulation) -> Device | None:
    """The device that a path names; None if it names none, or if the device cannot be seen (yet)."""
    environment_id, user_id, device_id = target.environment_id, target.user_id, target.device_id
    if environment_id is None or user_id is None or device_id is None:
        return None
    return simulation.world.find(environment_id, user_id, device_id, simulation.unix_time())


def _perform_on_device(
    operation: Operation, request: Request, target: Target, entry: Entry, simulation: Simulation
) -> Answer:
    """Do an operation on the device that the path names. Raises BadBody."""
    device, now = find_device(target, simulation), simulation.unix_time()
    if device is None and operation == "read":
        ids = target.environment_id or "", target.user_id or "", target.device_id or ""
        device = simulation.deleted.find(*ids, now)
    if device is None or (operation == "read" and not device.is_readable(now)):
        return refusal(404, "NOT_FOUND")
    if device.forbidden:
        return refusal(403, "ACCESS_FAILED", "INSUFFICIENT_PERMISSIONS")
    if operation == "activate":
        return _activate(device, request, entry, simulation)
    if operation == "read":
        return success(device_body(device, request.root, simulation.settings, now=now))
    return _administer(operation, device, request, entry, simulation)


def read_activation(body: bytes) -> tuple[str, bool]:
    """Read OTP and `oathResync` from the body of an activation. Raises BadBody."""
    fields = read_object(body)
    otp, resync = fields.get("otp"), fields.get("oathResync", False)
    if otp is None:
        raise missing("otp")
    if not isinstance(otp, str) or not (otp.isascii() and otp.isdigit() and len(otp) in (6, 8)):
        raise invalid("otp")
    if not isinstance(resync, bool):
        raise invalid("oathResync")
    return otp, resync


def read_sent_otp(body: bytes) -> tuple[str | None, bool | None]:
    """Read OTP and `oathResync` from any body, well formed or not, for the call log; None where it has none."""
    fields = read_any_object(body) or {}
    otp, resync = fields.get("otp"), fields.get("oathResync")
    return otp if isinstance(otp, str) else None, resync if isinstance(resync, bool) else None


def _activate(device: Device, request: Request, entry: Entry, simulation: Simulation) -> Answer:
    """Answer an activation. Raises BadBody."""
    otp, resync = read_activation(request.body)
    now, settings = simulation.unix_time(), simulation.settings
    outcome = device.activate(otp, resync=resync, now=now, settings=settings)
    entry.outcome, entry.took_effect = outcome.value, outcome.took_effect
    if outcome is Outcome.ACTIVE or (outcome is Outcome.ALREADY_ACTIVE and settings.active_answer == "ok"):
        body = device_body(device, request.root, settings, now=now)
        if settings.activation_body == "no_status":
            del body["status"]
        return success(body)
    return _refused_activation(outcome, settings)


def _refused_activation(outcome: Outcome, settings: Settings) -> Answer:
    if outcome is Outcome.EXTRA_OTP_REQUIRED:
        return refusal(400, "INVALID_DATA", "EXTRA_OTP_REQUIRED", target="otp")
    if outcome is Outcome.ACCOUNT_NOT_USABLE:
        return refusal(400, "REQUEST_FAILED", "ACCOUNT_NOT_USABLE")
    if outcome is Outcome.ALREADY_ACTIVE and settings.active_answer == "rejected":
        return refusal(400, "REQUEST_FAILED", "INVALID_VALUE", target="status")
    if outcome in (Outcome.LOCKED, Outcome.BLOCKED) and settings.locked_answer != "invalid_otp":
        detail_code = f"DEVICE_{outcome.value}" if settings.locked_answer == "detail" else None
        return refusal(400, "REQUEST_FAILED", detail_code)
    match settings.invalid_otp_body:
        case "detail":
            return refusal(400, "INVALID_DATA", "INVALID_OTP", target="otp")
        case "code":
            return refusal(400, "INVALID_OTP")
        case "invalid_value":
            return refusal(400, "INVALID_DATA", "INVALID_VALUE", target="otp")


def _administer(operation: Operation, device: Device, request: Request, entry: Entry, simulation: Simulation) -> Answer:
    now = simulation.unix_time()
    entry.took_effect, entry.outcome = True, operation.upper()
    match operation:
        case "unlock":
            device.unlock(now)
        case "block":
            device.block(now)
        case "unblock":
            device.unblock(now)
        case "unpair":
            simulation.world.remove(device)
            if simulation.settings.deleted_read_lag:
                simulation.deleted.add(device, now + simulation.settings.deleted_read_lag)
            return Answer(204)
    return success(device_body(device, request.root, simulation.settings, now=now))


def _list(request: Request, target: Target, simulation: Simulation) -> Answer:
    user = simulation.world.directory.find(target.environment_id or "", target.user_id or "")
    if user is None:
        return refusal(404, "NOT_FOUND")
    wanted = find_filter(request.query)
    if wanted is None:
        return refusal(400, "INVALID_REQUEST", "INVALID_FILTER", target="filter")
    now = simulation.unix_time()
    devices = [device for device in user.devices.values() if device.is_readable(now)]
    devices += simulation.deleted.of_user(user, now)
    bodies = [device_body(device, request.root, simulation.settings, now=now) for device in devices]
    found = [body for body in bodies if all(body[name] == value for name, value in wanted.items())]
    href = f"{request.root}{request.path}"
    return success(
        {
            "_links": {"self": {"href": href}},
            "_embedded": {"devices": found},
            "count": len(found),
            "size": len(found),
        }
    )
