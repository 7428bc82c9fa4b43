"""What can happen to a request: each evil with its share, and the answer that stands for it."""

from __future__ import annotations

import uuid

from hunt.answers import answer
from hunt.dice import Dice
from hunt.tenant import FIND, PAIR, Call, Reply

# How a request fails before its first byte.
UNDELIVERED = (("refused", 0.06), ("slow_connect", 0.04))
# PingOne, or what stands before it, answers and does nothing.
NOTHING_DONE = (
    ("rate_limited", 0.05),
    ("rate_limited_long", 0.02),
    ("unauthorized", 0.03),
    ("forbidden", 0.03),
    ("not_found", 0.05),
    ("not_allowed", 0.005),
    ("media_type", 0.005),
)
# No readable answer comes, though PingOne may act, or has acted.
UNREADABLE = (
    ("reset", 0.1),
    ("timeout", 0.1),
    ("late", 0.1),
    ("server_error", 0.1),
    ("unavailable", 0.03),
    ("request_timeout", 0.01),
    ("redirect", 0.01),
    ("no_status", 0.02),
    ("garbled", 0.02),
    ("other_device", 0.03),
    ("proxy_not_found", 0.03),
    ("proxy_forbidden", 0.03),
    ("own_fault", 0.03),
)


class Bug(Exception):
    """A fault of our own, in the middle of a call."""


PAGE = {"content-type": "text/html", "server": "a gateway"}, b"<!doctype html><title>Not here</title>"


def nothing_done(evil: str) -> Reply:
    return {
        "rate_limited": answer(429, "REQUEST_LIMITED", "LIMIT_EXCEEDED", retry_after=1),
        "rate_limited_long": answer(429, "REQUEST_LIMITED", "QUOTA_EXCEEDED", retry_after=45),
        "unauthorized": answer(401, "ACCESS_FAILED", "INVALID_TOKEN"),
        "forbidden": answer(403, "ACCESS_FAILED", "INSUFFICIENT_PERMISSIONS"),
        "not_found": answer(404, "NOT_FOUND"),
        "not_allowed": answer(405),
        "media_type": answer(415, "INVALID_REQUEST"),
    }[evil]


def unreadable(evil: str, dice: Dice, call: Call) -> Reply:
    return {
        "server_error": answer(dice.pick("status", (500, 502, 504)), "UNEXPECTED_ERROR"),
        "unavailable": answer(503, retry_after=7),
        "request_timeout": answer(408),
        "redirect": answer(302),
        "no_status": answer(200),
        "other_device": _about_another(dice, call),
        "proxy_not_found": (404, *PAGE),
        "proxy_forbidden": (403, *PAGE),
        "garbled": (dice.pick("status", (200, 400)), {}, b'{"code": "INVALID_DA'),
    }[evil]


def _about_another(dice: Dice, call: Call) -> Reply:
    """What another request of its kind was to be answered."""
    device_id, status = str(uuid.UUID(int=7)), dice.pick("other_status", ("ACTIVE", "ACTIVATION_REQUIRED"))
    if call.kind == PAIR:
        return answer(201, id=device_id, status=status, serialNumber="OTHER")
    if call.kind == FIND:
        is_paired = dice.chance("other_status", 0.5)
        user_id = call.device.user_id if call.device else ""
        devices = {"devices": [{"id": device_id, "user": {"id": user_id}}]} if is_paired else {}
        return answer(200, id="token-OTHER", serialNumber="OTHER", **devices)
    return answer(200, id="another", status=status)
