"""Which operation a request asks for: four of them share one path and method, and differ by media type only.

https://developer.pingidentity.com/pingone-api (MFA devices, users, OATH tokens, device authentication policies)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from worker.simulator.answers import Answer, refusal
from worker.simulator.settings import Operation

_MEDIA_TYPES: dict[str, Operation] = {
    "application/vnd.pingidentity.device.activate+json": "activate",
    "application/vnd.pingidentity.device.unlock+json": "unlock",
    "application/vnd.pingidentity.device.block+json": "block",
    "application/vnd.pingidentity.device.unblock+json": "unblock",
}


# What lies directly under an environment, and the read that it is for.
_COLLECTIONS: dict[str, Operation] = {
    "users": "find_users",
    "oathTokens": "list_tokens",
    "deviceAuthenticationPolicies": "read_policies",
    "mfaSettings": "read_mfa_settings",
    "capabilities": "read_capabilities",
}


@dataclass(frozen=True, slots=True)
class Target:
    """What a path names: a device; the devices of a user, if `device_id` is None; the token endpoint, if `user_id` is
    None too. What is not of a user has a `read` that it is for, and a token of the inventory its `token_id`."""

    environment_id: str | None = None
    user_id: str | None = None
    device_id: str | None = None
    read: Operation | None = None
    token_id: str | None = None


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
    """Read a path: `/{id}/as/token`, `/as/token`, or in `/v1/environments/{id}` `/users/{id}/devices[/{id}]`,
    `/oathTokens/{id}` or one of the collections; None for others."""
    match path.split("/"):
        case ["", "v1", "environments", environment_id, "users", user_id, "devices"]:
            return Target(environment_id, user_id)
        case ["", "v1", "environments", environment_id, "users", user_id, "devices", device_id] if device_id:
            return Target(environment_id, user_id, device_id)
        case ["", "v1", "environments", environment_id, collection] if collection in _COLLECTIONS:
            return Target(environment_id, read=_COLLECTIONS[collection])
        case ["", "v1", "environments", environment_id, "oathTokens", token_id] if token_id:
            return Target(environment_id, read="read_token", token_id=token_id)
        case ["", environment_id, "as", "token"]:
            return Target(environment_id)
        case ["", "as", "token"]:
            return Target()
    return None


def find_operation(request: Request, target: Target | None) -> Operation | Answer:
    """The operation that the request asks for, or the refusal if there is no such operation."""
    if target is None:
        return refusal(404, "NOT_FOUND")
    if target.read is not None:
        return target.read if request.method == "GET" else refusal(405, "INVALID_REQUEST")
    match request.method, target.user_id, target.device_id:
        case "POST", None, None:
            return "access_token"
        case "GET", str(), None:
            return "list"
        case "GET", str(), str():
            return "read"
        case "DELETE", str(), str():
            return "unpair"
        case "POST", str(), str():
            media_type = (request.header(b"content-type") or "").partition(";")[0].strip().lower()
            return _MEDIA_TYPES.get(media_type) or refusal(415, "INVALID_REQUEST")
    return refusal(405, "INVALID_REQUEST")


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
