"""What the vendor's pages leave open, played the other way: a request is changed before its operation is done, or the
answer afterwards."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from worker.simulator.calls import Answer, Call, invalid, refusal, success

if TYPE_CHECKING:
    from support.simulator.simulation import WatchedSimulation


def reread_request(call: Call, simulation: WatchedSimulation) -> Answer | None:
    """Change what a request asks for; or its refusal."""
    settings = simulation.settings
    if call.group in settings.forbidden_groups and call.operation != "access_token":
        return refusal(403, "ACCESS_FAILED", "INSUFFICIENT_PERMISSIONS")
    if not settings.has_readings:
        return None
    match call.operation, read_fields(call.body):
        case "list_tokens", _ if not settings.expand_with_filter and {"filter", "expand"} <= call.parameters.keys():
            return refusal(400, "INVALID_REQUEST", "INVALID_PARAMETER", target="expand")
        case "pair", {"status": _} if settings.sent_status == "refused":
            return invalid("status").answer
        case "pair", dict() as fields if "status" not in fields or settings.sent_status == "ignored":
            call.body = json.dumps(fields | {"status": settings.pairing_status}).encode()
        case "revoke_tokens", {"tokenIds": ids} if settings.revoke_paired == "skipped":
            found = [(each, simulation.world.token_ids.get((call.environment_id, each))) for each in ids]
            free = [each for each, token in found if token is None or token.device is None]
            call.body = json.dumps(read_fields(call.body) | {"tokenIds": free}).encode()
    return None


def reread_answer(call: Call, answer: Answer, simulation: WatchedSimulation) -> Answer:
    """The answer as the settings have it."""
    settings = simulation.settings
    if not settings.has_readings:
        return answer
    body = read_fields(answer.body)
    match call.operation, answer.status:
        case "pair", 400:
            return _reread_refused_pairing(answer, body["details"][0]["code"], simulation)
        case "import_tokens" | "revoke_tokens", 201:
            kept = answer.body if settings.job_id_in == "body" else b""
            return replace(answer, status=settings.job_answer, body=kept)
        case "read_job", 200:
            return _reread_job(call.resource_id, answer, body, simulation)
        case "read_capabilities", 200 if not settings.capabilities_filled:
            return success({"_links": body["_links"]})
        case "read", 200 if _is_young(body["id"], settings.device_read_lag, simulation):
            return refusal(404, "NOT_FOUND")
        case _ if answer.status >= 400:
            return answer
    if call.operation == "activate" and settings.activation_body == "no_status":
        del body["status"]
    if call.operation == "list":
        lag = settings.device_read_lag
        body["_embedded"]["devices"] = [
            device for device in body["_embedded"]["devices"] if not _is_young(device["id"], lag, simulation)
        ]
    for thing in _list_things(body):
        if settings.device_shows_serial_number and thing.get("type") == "OATH_TOKEN":
            device = simulation.world.devices.get(thing["id"])
            thing["serialNumber"] = device.token.serial_number if device else None
        paired = thing.pop("devices", [])
        if paired and not _is_young(paired[0]["id"], settings.inventory_read_lag, simulation):
            shown = {"devices": paired}
            thing |= shown if settings.expanded_devices == "inline" else {"_embedded": shown}
    return replace(answer, body=json.dumps(body).encode()) if answer.body else answer


def read_fields(body: bytes) -> dict[str, Any]:
    """Read a body as a JSON object; an empty one if it is none."""
    try:
        fields = json.loads(body) if body else {}
    except ValueError:
        return {}
    return fields if isinstance(fields, dict) else {}


def _list_things(body: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The devices or tokens of an answer: those of a page, or the one that it is about."""
    pages = [page for name, page in body.get("_embedded", {}).items() if name in ("devices", "oathTokens")]
    yield from pages[0] if pages else [body]


def _reread_refused_pairing(answer: Answer, detail_code: str, simulation: WatchedSimulation) -> Answer:
    settings, target = simulation.settings, read_fields(answer.body)["details"][0].get("target")
    if (detail_code, target, settings.unknown_serial) == ("INVALID_VALUE", "serialNumber", 404):
        return refusal(404, "NOT_FOUND")
    if (detail_code, settings.paired_serial) == ("UNIQUENESS_VIOLATION", 409):
        return refusal(409, "REQUEST_FAILED", "UNIQUENESS_VIOLATION", target="serialNumber")
    return answer


def _reread_job(job_id: str, answer: Answer, body: dict[str, Any], simulation: WatchedSimulation) -> Answer:
    settings = simulation.settings
    if body["status"] in ("DONE", "FAILED"):
        simulation.job_reads[job_id] += 1
        if settings.job_kept_reads is not None and simulation.job_reads[job_id] > settings.job_kept_reads:
            return refusal(404, "NOT_FOUND")
    if settings.no_duplicates == "missing" and body.get("result", {}).get("duplicates") == []:
        del body["result"]["duplicates"]
    return replace(answer, body=json.dumps(body).encode())


def _is_young(device_id: str, lag: float, simulation: WatchedSimulation) -> bool:
    """Whether a device was made by a call so few seconds ago."""
    device = simulation.world.devices.get(device_id)
    is_made = device is not None and device_id in simulation.call_log.makers
    return is_made and simulation.unix_time() < device.created_at + lag
