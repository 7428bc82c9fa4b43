"""One call: what a request asks for, and its answer.

https://developer.pingidentity.com/pingone-api (MFA devices, users, OATH tokens, device authentication policies)
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Literal, TypeVar
from urllib.parse import parse_qsl
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic.alias_generators import to_camel

# Groups of operations, each with its own rate limit. Which operation belongs to which group is not published.
Group = Literal["mfa", "directory", "inventory", "configuration"]
# The operation of a request, or the operation for each media type, since some operations share a path and a method.
Choice = str | Mapping[str, str]

JSON = "application/json"
HTML = "text/html; charset=utf-8"
_MEDIA = "application/vnd.pingidentity"
# For each kind of path, with `*` for an id: the group, and the operation of each method.
ROUTES: Mapping[str, tuple[Group, Mapping[str, Choice]]] = {
    "users": ("directory", {"GET": "find_users"}),
    # `remove_order` is the request of a client that unpairs a device but omits its id.
    "users/*/devices": ("mfa", {"GET": "list", "POST": {JSON: "pair"}, "DELETE": "remove_order"}),
    # A client with another media type requests another operation.
    "users/*/devices/*": (
        "mfa",
        {"GET": "read", "DELETE": "unpair", "POST": {f"{_MEDIA}.device.activate+json": "activate"}},
    ),
    "oathTokens": ("inventory", {"GET": "list_tokens"}),
    "oathTokens/*": ("inventory", {"GET": "read_token"}),
    "oathJobs": (
        "inventory",
        {
            "POST": {
                f"{_MEDIA}.job.oathtokens.create+json": "import_tokens",
                f"{_MEDIA}.job.oathtokens.revoke+json": "revoke_tokens",
            }
        },
    ),
    "oathJobs/*": ("inventory", {"GET": "read_job"}),
    "deviceAuthenticationPolicies": ("configuration", {"GET": "read_policies"}),
    "mfaSettings": ("configuration", {"GET": "read_mfa_settings"}),
    "capabilities": ("configuration", {"GET": "read_capabilities"}),
    "roles": ("configuration", {"GET": "list_roles"}),
    "as/token": ("mfa", {"POST": "access_token"}),
}

_MESSAGES = {
    "INVALID_DATA": "The request could not be completed. One or more validation errors were in the request.",
    "INVALID_REQUEST": "The request could not be completed. The request was invalid.",
    "REQUEST_FAILED": "The request could not be completed. There was an issue processing the request.",
    "ACCESS_FAILED": "The request could not be completed. You do not have access to this resource.",
    "NOT_FOUND": "The request could not be completed. The requested resource was not found.",
    "REQUEST_LIMITED": "The request could not be completed. There were too many requests.",
    "UNEXPECTED_ERROR": "An unexpected error occurred.",
}
_DETAIL_MESSAGES = {
    "EXTRA_OTP_REQUIRED": "An extra OTP is required",
    "INVALID_OTP": "The OTP is not valid",
    "INVALID_VALUE": "The value is not valid",
    "REQUIRED_VALUE": "A value is required",
    "ACCOUNT_NOT_USABLE": "The user account cannot be used",
    "INVALID_TOKEN": "The access token is missing, unknown or expired",
    "INSUFFICIENT_PERMISSIONS": "The permissions are not sufficient",
    "LIMIT_EXCEEDED": "The limit is exceeded",
    "QUOTA_EXCEEDED": "The quota is exceeded",
    "INVALID_FILTER": "The filter is not supported",
    "INVALID_PARAMETER": "The parameter is not valid",
    "UNIQUENESS_VIOLATION": "The value is in use already",
    "DEVICE_LOCKED": "The device is locked",
    "DEVICE_BLOCKED": "The device is blocked",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer to be sent."""

    status: int
    body: bytes = b""
    content_type: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict)

    def with_header(self, name: str, value: str) -> Answer:
        """The answer with one more header, whose name is in lower case."""
        return replace(self, headers={**self.headers, name: value})


class Refused(Exception):
    """The operation cannot be done as requested; `answer` says why."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status)
        self.answer = answer


class Body(BaseModel):
    """The JSON body of a request, with the vendor's field names. A null field counts as missing."""

    model_config = ConfigDict(strict=True, frozen=True, hide_input_in_errors=True, alias_generator=to_camel)

    @model_validator(mode="before")
    @classmethod
    def _drop_nulls(cls, fields: object) -> object:
        return (
            {key: value for key, value in fields.items() if value is not None} if isinstance(fields, dict) else fields
        )


B = TypeVar("B", bound=Body)


@dataclass(slots=True)
class Call:
    """A request as it arrived. `operation` is None, with a `refusal`, if there is no such operation. The ids are those
    in the path, or empty; `resource_id` is a user's, a token's, or a job's. `body` is set once it has been read."""

    method: str
    path: str
    query: str
    headers: Mapping[bytes, bytes]
    environment_id: str
    resource_id: str
    device_id: str
    group: Group
    operation: str | None
    refusal: Answer | None
    body: bytes = b""

    @classmethod
    def from_scope(cls, scope: Mapping[str, Any]) -> Call:
        """Make a call from an ASGI request, and find its operation."""
        method, path, headers = scope["method"], scope["path"], dict(scope["headers"])
        route, ids = _read_path(path)
        media_type = headers.get(b"content-type", b"").decode("latin-1").partition(";")[0].strip().lower()
        group, found = _find_operation(route, method, media_type)
        operation, refused = (found, None) if isinstance(found, str) else (None, found)
        environment_id, resource_id, device_id = (*ids, "", "", "")[:3]
        return cls(
            method,
            path,
            scope["query_string"].decode("latin-1"),
            headers,
            environment_id,
            resource_id,
            device_id,
            group,
            operation,
            refused,
        )

    @property
    def root(self) -> str:
        """The URL at which the client reached the simulator, for the links in the simulator's answers."""
        return f"http://{self.header(b'host') or 'localhost'}"

    @property
    def parameters(self) -> dict[str, str]:
        """The parameters of the query."""
        return dict(parse_qsl(self.query, keep_blank_values=True))

    def header(self, name: bytes) -> str | None:
        """The value of a header, whose name is given in lower case."""
        value = self.headers.get(name)
        return None if value is None else value.decode("latin-1")

    def fields(self) -> dict[str, Any]:
        """Read the body as a JSON object. Raises Refused."""
        try:
            fields = json.loads(self.body) if self.body else None
        except ValueError:
            fields = None
        if not isinstance(fields, dict):
            raise Refused(refusal(400, "INVALID_REQUEST"))
        return fields

    def read(self, model: type[B]) -> B:
        """Read the body as the operation's input. Raises Refused, with the first field that is missing or wrong."""
        try:
            return model.model_validate(self.fields())
        except ValidationError as error:
            fault = error.errors(include_input=False, include_url=False, include_context=False)[0]
        target = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in fault["loc"]).lstrip(".")
        raise missing(target) if fault["type"] == "missing" else invalid(target)


def _read_path(path: str) -> tuple[str | None, tuple[str, ...]]:
    """Find out what a path names, as a key of ROUTES or None, and the ids in it. A path that ends with a slash lacks
    its last id, and names the whole list."""
    match path.split("/"):
        case ["", "v1", "environments", environment_id, *parts]:
            parts = parts[:-1] if parts and not parts[-1] else parts
            route = "/".join("*" if number % 2 else part for number, part in enumerate(parts))
            return route if route in ROUTES else None, (environment_id, *parts[1::2])
        case ["", "v1", "roles"]:
            return "roles", ()
        case ["", *environment_id, "as", "token"]:
            return "as/token", tuple(environment_id)
    return None, ()


def _find_operation(route: str | None, method: str, media_type: str) -> tuple[Group, str | Answer]:
    """Find the group and the operation, or the refusal if there is none."""
    if route is None:
        return "mfa", refusal(404, "NOT_FOUND")
    group, methods = ROUTES[route]
    choice = methods.get(method)
    if choice is None:
        return group, refusal(405, "INVALID_REQUEST")
    return group, choice if isinstance(choice, str) else choice.get(media_type) or refusal(415, "INVALID_REQUEST")


def success(body: Mapping[str, Any], status: int = 200) -> Answer:
    """An answer with this body as JSON."""
    return Answer(status, json.dumps(body, separators=(",", ":")).encode())


def refusal(
    status: int,
    code: str,
    detail_code: str | None = None,
    *,
    target: str | None = None,
    inner: Mapping[str, Any] | None = None,
) -> Answer:
    """An error in the vendor's envelope: https://developer.pingidentity.com/pingone-api (error codes)"""
    envelope: dict[str, Any] = {"id": str(uuid4()), "code": code, "message": _MESSAGES[code]}
    if detail_code is not None:
        detail = {"code": detail_code, "target": target, "message": _DETAIL_MESSAGES[detail_code], "innerError": inner}
        envelope["details"] = [{name: value for name, value in detail.items() if value is not None}]
    return success(envelope, status)


def missing(target: str) -> Refused:
    """The refusal of a body that lacks a field."""
    return Refused(refusal(400, "INVALID_DATA", "REQUIRED_VALUE", target=target))


def invalid(target: str) -> Refused:
    """The refusal of a body with a wrong value in a field."""
    return Refused(refusal(400, "INVALID_DATA", "INVALID_VALUE", target=target))


def timestamp(seconds: float) -> str:
    """A Unix time in the vendor's form: ISO 8601 in UTC, with milliseconds and a Z."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
