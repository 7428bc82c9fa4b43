"""Which function answers a call that makes or removes tokens and devices, or belongs to it."""

from __future__ import annotations

from worker.simulator.answers import Answer, refusal, success
from worker.simulator.call_log import Entry
from worker.simulator.imports import create_token, import_tokens, read_job, revoke_token, revoke_tokens
from worker.simulator.operation_names import Operation
from worker.simulator.pairing import pair, remove_order
from worker.simulator.request_body import invalid, read_object
from worker.simulator.routes import Request, Target
from worker.simulator.simulation import Simulation


def provision(operation: Operation, request: Request, target: Target, entry: Entry, simulation: Simulation) -> Answer:
    """Do one of the PROVISIONING_OPERATIONS. Raises BadBody."""
    match operation:
        case "pair":
            return pair(request, target, entry, simulation)
        case "remove_order":
            return remove_order(target, entry, simulation)
        case "create_token":
            return create_token(request, target, entry, simulation)
        case "revoke_token":
            return revoke_token(target, entry, simulation)
        case "import_tokens":
            return import_tokens(request, target, entry, simulation)
        case "revoke_tokens":
            return revoke_tokens(request, target, entry, simulation)
        case "read_job":
            return read_job(request, target, entry, simulation)
    return _answer_mfa_enabled(operation, request, target, entry, simulation)


def _answer_mfa_enabled(
    operation: Operation, request: Request, target: Target, entry: Entry, simulation: Simulation
) -> Answer:
    """Say whether MFA is on for a user, or switch it on or off. Raises BadBody."""
    user = simulation.world.directory.find(target.environment_id or "", target.user_id or "")
    if user is None:
        return refusal(404, "NOT_FOUND")
    if operation == "set_mfa_enabled":
        wanted = read_object(request.body).get("mfaEnabled")
        if not isinstance(wanted, bool):
            raise invalid("mfaEnabled")
        entry.took_effect = wanted != user.is_mfa_enabled
        user.is_mfa_enabled = wanted
    return success({"mfaEnabled": user.is_mfa_enabled})
