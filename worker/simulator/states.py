"""The state of devices, tokens and jobs as JSON, for whoever judges a client: all that the simulator knows, and nothing
secret."""

from __future__ import annotations

from typing import Any

from worker.simulator.inventory import InventoryToken
from worker.simulator.jobs import Job
from worker.simulator.world import Device


def device_state(device: Device, now: float) -> dict[str, Any]:
    """The state of a device by now. `made_by`: the number of the call that paired it; None if it was seeded."""
    return {
        "device_id": device.id,
        "serial": device.serial_number,
        "environment_id": device.environment_id,
        "user_id": device.user.id,
        "status": device.status,
        "is_default": device.user.order[:1] == [device.id],
        "locked": device.is_locked(now),
        "blocked": device.blocked_at is not None,
        "account_usable": device.user.is_usable,
        "failures": device.failures,
        "counter": device.token.counter,
        "made_by": device.made_by,
        "created_at": device.created_at,
    }


def token_state(token: InventoryToken) -> dict[str, Any]:
    """The state of a token. `made_by`: the number of the call that imported it; None if it was seeded."""
    return {
        "token_id": token.id,
        "serial": token.serial_number,
        "environment_id": token.environment_id,
        "type": token.type,
        "digits": token.digits,
        "hash": token.hash,
        "time_step": token.time_step if token.type == "totp" else None,
        "counter": token.token.counter,
        "device_id": token.pairing.device_id if token.pairing else None,
        "user_id": token.pairing.user_id if token.pairing else None,
        "made_by": token.made_by,
        "job_id": token.job_id,
    }


def job_state(job: Job) -> dict[str, Any]:
    """The state of a job, and which tokens it made or revoked. `made_by`: the number of the call that posted it."""
    return {
        "job_id": job.id,
        "environment_id": job.environment_id,
        "type": job.type,
        "status": job.status,
        "reason": job.reason,
        "made_by": job.made_by,
        "created_at": job.created_at,
        "ends_at": job.ends_at,
        "token_ids": job.token_ids,
        "duplicates": [serial_number for serial_number, _ in job.duplicates],
        "reads": job.reads,
    }
