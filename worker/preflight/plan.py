"""The hash of a plan: a short fingerprint of everything that decides what a batch will do. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from worker.config.environment import Environment
from worker.config.settings import Settings
from worker.intake import Shipment
from worker.rules.hours import DailyHours

# What a part may be, so that it is written as JSON in one way only.
Part = str | int | float | bool | list[str] | None
# The parts of a plan by their names; those of settings are called like the variable.
Parts = dict[str, Part]

# Hexadecimal digits of a hash: short enough to be read out on the telephone.
DIGITS = 12
# How a refusal names the parts that are neither settings nor options of the same name.
_NAMES = {
    "file_sha256": "the file",
    "assignment_sha256": "the list of --assign",
    "environment_id": "the environment's id",
    "api_host": "the API's host",
    "otp_type": "--otp-type",
    "time_step": "--time-step",
    "only_assigned": "--only-assigned",
    "key": "the key of the file",
    "password": "the password of the file",
    "accepted": "--accept",
}
# Parts whose values say nothing to a person.
_WITHOUT_VALUES = ("file_sha256", "assignment_sha256")


class OtherPlan(Exception):
    """What is to be loaded is not what the plan says; the message says what differs, as far as that is known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """What a person chooses for a batch by options, as far as it changes what is done. `share` is a part of the
    license's rate, above 0 and up to 1; `canary` a number of records; `accepted` has names of findings."""

    batch: str
    canary: int | None = None
    share: float | None = None
    hours: DailyHours | None = None
    accepted: Iterable[str] = ()


def collect_parts(shipment: Shipment, environment: Environment, settings: Settings, choices: Choices) -> Parts:
    """Collect what decides what a batch will do. Secrets are told as given or not given."""
    return {
        "file_sha256": shipment.digest,
        "assignment_sha256": shipment.assignment.digest if shipment.assignment else None,
        **_describe_reading(shipment),
        "import": shipment.switches.may_import,
        "pair": shipment.switches.may_pair,
        "environment": environment.name,
        "environment_id": environment.environment_id,
        "api_host": find_host(environment.api_url),
        "batch": choices.batch,
        "share": choices.share,
        "window": str(choices.hours) if choices.hours else None,
        "canary": choices.canary,
        "accepted": sorted(set(choices.accepted)),
        **_describe_settings(environment, settings),
    }


def _describe_reading(shipment: Shipment) -> Parts:
    """Describe how the file is read. Neither the key nor a hash of it: a short password could be guessed from that."""
    hints = shipment.hints
    return {
        "format": shipment.format.name,
        "only_assigned": shipment.only_assigned,
        "encoding": hints.encoding,
        "otp_type": hints.otp_type,
        "digits": hints.digits,
        "time_step": hints.time_step,
        "hash": hints.hash_algorithm,
        "key": "given" if hints.key else "not given",
        "password": "given" if hints.password else "not given",
    }


def _describe_settings(environment: Environment, settings: Settings) -> Parts:
    """Describe the settings that change what is done to a token, and not merely when or how fast."""
    return {
        "OATHBULK_OTP_POST_BUDGET": settings.otp_post_budget,
        "OATHBULK_MAX_ATTEMPTS": settings.max_attempts,
        "OATHBULK_FIRST_RECORDS": settings.first_records,
        "OATHBULK_TOTP_MAX_AGE": settings.totp_max_age,
        "OATHBULK_REPLAY_CRON": settings.replay_cron,
        "PINGONE_RESYNC_ON_FIRST_CALL": environment.resync_on_first_call,
        "PINGONE_PAIRING_STATUS": environment.pairing_status,
    }


def find_host(url: str) -> str:
    """Find the host of a URL, with its port if it names one."""
    found = urlsplit(url)
    return f"{found.hostname}:{found.port}" if found.port else str(found.hostname)


def hash_parts(parts: Mapping[str, Part]) -> str:
    """Compute the hash of a plan: the first digits of the SHA-256 of its parts as JSON, whose keys are sorted."""
    canonical = json.dumps(parts, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()[:DIGITS]


def describe_differences(planned: Mapping[str, Part], now: Mapping[str, Part]) -> list[str]:
    """Name each part that is not what was planned, with its value then and now."""
    names = [name for name in dict.fromkeys([*planned, *now]) if planned.get(name) != now.get(name)]
    return [_describe_difference(name, planned.get(name), now.get(name)) for name in names]


def _describe_difference(name: str, planned: Part, now: Part) -> str:
    called = _NAMES.get(name, name if name.isupper() else f"--{name}")
    if name in _WITHOUT_VALUES:
        return called
    return f"{called} ({_write(planned)} in the plan, {_write(now)} now)"


def _write(part: Part) -> str:
    """Write the value of a part for a person."""
    match part:
        case None:
            return "not given"
        case bool():
            return "on" if part else "off"
        case list():
            return ", ".join(map(str, part)) or "nothing"
    return str(part)
