"""Users, tokens, devices and jobs as JSON in the vendor's form.

https://developer.pingidentity.com/pingone-api (users, OATH tokens, MFA devices)
"""

from __future__ import annotations

from typing import Any

from worker.simulator.answers import timestamp
from worker.simulator.inventory import InventoryToken
from worker.simulator.jobs import Job
from worker.simulator.settings import Settings
from worker.simulator.users import User
from worker.simulator.world import Device

_HASHES = {"sha1": "HmacSHA1", "sha256": "HmacSHA256", "sha512": "HmacSHA512"}


def user_body(user: User) -> dict[str, Any]:
    """A user as JSON, as far as a client of tokens needs it."""
    names = {name: value for name, value in user.names.items() if value is not None}
    return names | {
        "enabled": user.is_enabled,
        "mfaEnabled": user.is_mfa_enabled,
        "account": {"canAuthenticate": user.can_act, "status": "OK" if user.is_usable else "LOCKED"},
        "lifecycle": {"status": "ACCOUNT_OK"},
        "population": {"id": user.population_id},
    }


def token_body(token: InventoryToken, settings: Settings, *, now: float, is_expanded: bool) -> dict[str, Any]:
    """A token as JSON, never with its secret; with the device that the inventory shows by now, if it was asked for."""
    body: dict[str, Any] = {
        "id": token.id,
        "environment": {"id": token.environment_id},
        "serialNumber": token.serial_number,
        "type": token.type.upper(),
        "otpLength": token.digits,
        "hashAlgorithm": _HASHES[token.hash],
        "createdAt": timestamp(token.created_at),
    }
    if token.type == "totp":
        body["totp"] = {"timeStep": token.time_step, "drift": token.token.drift}
    else:
        is_live = settings.hotp_counter_shown == "live"
        body["hotp"] = {"counter": token.token.counter if is_live else token.imported_counter}
    if is_expanded and (pairing := token.find_pairing(now)):
        devices = {"devices": [{"id": pairing.device_id, "user": {"id": pairing.user_id}}]}
        return body | (devices if settings.expanded_devices == "inline" else {"_embedded": devices})
    return body


def device_body(device: Device, root: str, settings: Settings, *, now: float) -> dict[str, Any]:
    """A device as JSON. `root` is the URL under which the client reached the simulator."""
    serial_number = {"serialNumber": device.serial_number} if settings.device_shows_serial_number else {}
    lock: dict[str, Any] = {"status": "LOCKED" if device.is_locked(now) else "UNLOCKED"}
    if device.locked_until is not None and device.locked_until < 1e11:
        lock["expiresAt"] = timestamp(device.locked_until)
    block: dict[str, Any] = {"status": "UNBLOCKED"}
    if device.blocked_at is not None:
        block = {"status": "BLOCKED", "blockedAt": timestamp(device.blocked_at)}
    return {
        "_links": {"self": {"href": device_href(device, root)}},
        "id": device.id,
        "type": "OATH_TOKEN",
        "status": device.status,
        "lock": lock,
        "block": block,
        "user": {"id": device.user.id},
        "environment": {"id": device.environment_id},
        "createdAt": timestamp(device.created_at),
        "updatedAt": timestamp(device.updated_at),
    } | serial_number


def device_href(device: Device, root: str) -> str:
    """The address of a device."""
    return f"{root}/v1/environments/{device.environment_id}/users/{device.user.id}/devices/{device.id}"


def job_body(job: Job, root: str, settings: Settings) -> dict[str, Any]:
    """A job as JSON. Its link says /jobs/, as the vendor's example does, where no call answers."""
    body: dict[str, Any] = {
        "_links": {"self": {"href": f"{root}/v1/environments/{job.environment_id}/jobs/{job.id}"}},
        "id": job.id,
        "environment": {"id": job.environment_id},
        "type": job.type,
        "async": True,
        "status": settings.job_running_status if job.status == "RUNNING" else job.status,
    }
    match job.status, job.type:
        case "FAILED", _:
            body["reason"] = job.reason
        case "DONE", "REVOKE_OATH_TOKENS":
            body["result"] = {"revoked": len(job.token_ids)}
        case "DONE", _:
            body["result"] = {"created": len(job.token_ids)}
            if job.duplicates or settings.no_duplicates == "empty":
                body["result"]["duplicates"] = [
                    {"serialNumber": serial_number, "maskedSecret": masked} for serial_number, masked in job.duplicates
                ]
    return body
