"""Which operation a request asks for: some share one path and method, and differ by media type only.

https://developer.pingidentity.com/pingone-api (MFA devices, users, OATH tokens, device authentication policies)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from worker.simulator.answers import Answer, refusal
from worker.simulator.operation_names import Operation

_DEVICE_MEDIA_TYPES: Mapping[str, Operation] = {
    "application/vnd.pingidentity.device.activate+json": "activate",
    "application/vnd.pingidentity.device.unlock+json": "unlock",
    "application/vnd.pingidentity.device.block+json": "block",
    "application/vnd.pingidentity.device.unblock+json": "unblock",
}
_JSON = "application/json"

# What a path names that is neither a device nor the token endpoint: for each method, the operation, or the operations
# by media type.
_RESOURCES: Mapping[str, Mapping[str, Operation | Mapping[str, Operation]]] = {
    "users": {"GET": "find_users"},
    "devices": {"GET": "list", "POST": {_JSON: "pair"}, "DELETE": "remove_order"},
    "mfaEnabled": {"GET": "read_mfa_enabled", "PUT": {_JSON: "set_mfa_enabled"}},
    "oathTokens": {"GET": "list_tokens", "POST": {_JSON: "create_token"}},
    "oathToken": {"GET": "read_token", "DELETE": "revoke_token"},
    "oathJobs": {
        "POST": {
            "application/vnd.pingidentity.job.oathtokens.create+json": "import_tokens",
            "application/vnd.pingidentity.job.oathtokens.revoke+json": "revoke_tokens",
        }
    },
    "oathJob": {"GET": "read_job"},
    "deviceAuthenticationPolicies": {"GET": "read_policies"},
    "mfaSettings": {"GET": "read_mfa_settings"},
    "capabilities": {"GET": "read_capabilities"},
    "roles": {"GET": "list_roles"},
    "device": {"GET": "read", "DELETE": "unpair", "POST": _DEVICE_MEDIA_TYPES},
    "token endpoint": {"POST": "access_token"},
}
_COLLECTIONS = ("users", "oathTokens", "oathJobs", "deviceAuthenticationPolicies", "mfaSettings", "capabilities")


@dataclass(frozen=True, slots=True)
class Target:
    """What a path names: `resource` says what kind of thing it is, the ids which one. `resource_id` is that of a token
    or a job."""

    resource: str
    environment_id: str | None = None
    user_id: str | None = None
    device_id: str | None = None
    resource_id: str | None = None


@dataclass(slots=True)
class Request:
    """A request as it arrived; `body` is filled in later, when it has been read."""

    method: str
    path: str
    query: str
    headers: dict[bytes, bytes]
    body: bytes = b""

    @classmethod
    def from_scope(cls, scope: dict[str, Any]) -> Request:
        query = scope["query_string"].decode("latin-1")
        return cls(scope["method"], scope["path"], query, dict(scope["headers"]))

    def header(self, name: bytes) -> str | None:
        """The value of a header, whose name is given in lower case."""
        value = self.headers.get(name)
        return None if value is None else value.decode("latin-1")

    @property
    def root(self) -> str:
        """The URL under which the client reached the simulator, for the links in its answers."""
        return f"http://{self.header(b'host') or 'localhost'}"


def find_target(path: str) -> Target | None:
    """Read a path: `/{id}/as/token`, `/as/token`, `/v1/roles`, or in `/v1/environments/{id}` one of the
    collections, `/oathTokens/{id}`, `/oathJobs/{id}`, `/users/{id}/mfaEnabled`, `/users/{id}/devices[/{id}]`; None for
    others."""
    match path.split("/"):
        # A client that leaves out the device's id names all devices of the user.
        case ["", "v1", "environments", environment_id, "users", user_id, "devices"] | [
            "", "v1", "environments", environment_id, "users", user_id, "devices", ""
        ]:  # fmt: skip
            return Target("devices", environment_id, user_id)
        case ["", "v1", "environments", environment_id, "users", user_id, "devices", device_id]:
            return Target("device", environment_id, user_id, device_id)
        case ["", "v1", "environments", environment_id, "users", user_id, "mfaEnabled"]:
            return Target("mfaEnabled", environment_id, user_id)
        case ["", "v1", "environments", environment_id, collection] if collection in _COLLECTIONS:
            return Target(collection, environment_id)
        case ["", "v1", "environments", environment_id, "oathTokens", token_id] if token_id:
            return Target("oathToken", environment_id, resource_id=token_id)
        case ["", "v1", "environments", environment_id, "oathJobs", job_id] if job_id:
            return Target("oathJob", environment_id, resource_id=job_id)
        case ["", "v1", "roles"]:
            return Target("roles")
        case ["", environment_id, "as", "token"]:
            return Target("token endpoint", environment_id)
        case ["", "as", "token"]:
            return Target("token endpoint")
    return None


def find_operation(request: Request, target: Target | None) -> Operation | Answer:
    """The operation that the request asks for, or the refusal if there is no such operation."""
    if target is None:
        return refusal(404, "NOT_FOUND")
    found = _RESOURCES[target.resource].get(request.method)
    if found is None:
        return refusal(405, "INVALID_REQUEST")
    if isinstance(found, str):
        return found
    media_type = (request.header(b"content-type") or "").partition(";")[0].strip().lower()
    return found.get(media_type) or refusal(415, "INVALID_REQUEST")


def find_filter(query: str) -> dict[str, str] | None:
    """Read the filter `status eq "…" and type eq "…"` as `{"status": "…", "type": "…"}`; None for a filter of another
    form, and `{}` without one."""
    wanted: dict[str, str] = {}
    for parameter in query.split("&") if query else []:
        name, _, value = parameter.partition("=")
        if name != "filter":
            continue
        words = unquote(value.replace("+", " ")).split()
        for start in range(0, len(words), 4):
            attribute, operator, quoted, *conjunction = [*words[start : start + 4], "", "", ""][:4]
            is_known = attribute in ("status", "type") and operator.lower() == "eq"
            if not is_known or quoted[:1] != '"' or conjunction[0].lower() not in ("", "and"):
                return None
            wanted[attribute] = quoted.strip('"')
    return wanted
