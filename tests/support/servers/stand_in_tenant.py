"""What the stand-in tells of its environment: an inventory of its tokens, their devices, and settings in good order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from support.data.tokens import Token


def answer_read(path: str, tokens: Iterable[Token], settings: Mapping[str, Any]) -> dict[str, Any] | None:
    """The body of the answer to this path below the environment; None if there is no such thing. `settings` are changes
    of the bodies, by their paths."""
    changed = settings.get(path, {})
    match path.split("/"):
        case ["capabilities"]:
            return {"canUseOATHToken": True} | changed
        case ["mfaSettings"]:
            return {"pairing": {"maxAllowedDevices": 5}} | changed
        case ["deviceAuthenticationPolicies"]:
            failure = {"count": 7, "coolDown": {"duration": 2, "timeUnit": "MINUTES"}}
            token = {"enabled": True, "otp": {"failure": failure}}
            policy = {"id": "policy-1", "name": "Office", "default": True, "oathToken": token}
            return _list("deviceAuthenticationPolicies", [policy | {"newDeviceNotification": "NONE"} | changed])
        case ["oathTokens"]:
            return _list("oathTokens", [_token(token) for token in tokens])
        case ["users", user, "devices"]:
            mine = [_device(token) | changed for token in tokens if token.user_id == user]
            return _list("devices", mine) if mine else None
    return None


def _list(name: str, items: list[dict[str, Any]]) -> dict[str, Any]:
    return {"_links": {}, "_embedded": {name: items}, "size": len(items)}


def _token(token: Token) -> dict[str, Any]:
    kind = {"type": "HOTP", "otpLength": 8, "hashAlgorithm": "HmacSHA1"}
    devices = [{"id": token.device_id, "user": {"id": token.user_id}}]
    return {"id": f"token-{token.serial}", "serialNumber": token.serial, "devices": devices} | kind


def _device(token: Token) -> dict[str, Any]:
    return {"id": token.device_id, "type": "OATH_TOKEN", "status": token.status}
