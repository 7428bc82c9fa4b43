"""What a request is for, and whether anybody may send it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

from hunt.model_inventory import describe_parameters
from hunt.tenant import FIND, IMPORT, JOB, LIST, PAIR, PEOPLE, POST, READ, SETTINGS, Call, ModelDevice
from worker.pingone.wire import Request

# By serial number.
Tokens = Mapping[str, ModelDevice]


def recognize(request: Request, tokens: Tokens) -> tuple[str, ModelDevice | None]:
    """What a request is for, and which token it is about."""
    url = urlsplit(request.url)
    match url.path.split("/")[4:]:
        case ["users", _, "devices", device_id]:
            return (POST if request.method == "POST" else READ), _find_device(device_id, tokens)
        case ["users", _, "devices"] if request.method == "POST":
            return PAIR, tokens[json.loads(request.content)["serialNumber"]]
        case ["users", user_id, "devices"]:
            return FIND, next(each for each in tokens.values() if user_id in _find_user_ids(each))
        case ["users"]:
            return PEOPLE, None
        case ["oathTokens", token_id]:
            return FIND, tokens[token_id.removeprefix("token-")]
        case ["oathTokens"] if filter_ := parse_qs(url.query).get("filter"):
            return FIND, tokens[filter_[0].split('"')[1]]
        case ["oathTokens"]:
            return LIST, None
        case ["mfaSettings"]:
            return SETTINGS, None
        case ["oathJobs"]:
            return IMPORT, None
        case ["oathJobs", _]:
            return JOB, None
    raise AssertionError(f"nobody answers at {request.url}")


def is_malformed(request: Request, call: Call, tokens: Tokens) -> bool:
    """Whether nobody may send this: to another person than the assignment says, or with other parameters than the
    seed's. A read changes nothing, and may be for the person whom the assignment named before."""
    is_wrong = not request.headers["Authorization"].startswith("Bearer access-token-")
    if call.kind in (POST, PAIR):
        is_wrong |= call.device is None or call.user_id != call.device.user_id
    if call.kind == READ:
        is_wrong |= call.device is None or call.user_id not in _find_user_ids(call.device)
    if call.kind == IMPORT:
        described = json.loads(request.content)["tokens"]
        is_wrong |= any(_has_wrong_parameters(each, tokens[each["serialNumber"]]) for each in described)
    return is_wrong


def find_user(request: Request) -> str:
    """The id of the user whom a request is about; empty: of none."""
    return request.url.partition("/users/")[2].partition("/")[0]


def _find_user_ids(token: ModelDevice) -> set[str]:
    return {person.user_id for person in token.people}


def _find_device(device_id: str, tokens: Tokens) -> ModelDevice | None:
    """The token that has, or had, this device."""
    return next((each for each in tokens.values() if device_id in (each.device_id, *each.former_ids)), None)


def _has_wrong_parameters(described: Mapping[str, Any], token: ModelDevice) -> bool:
    """Whether a token is to be imported otherwise than as its seed says."""
    if token.seed is None:
        return True
    is_secret_right = described.get("secret") == token.seed.seed.secret.reveal().hex().upper()
    wanted = describe_parameters(token)
    return not is_secret_right or any(described.get(name) != value for name, value in wanted.items())
