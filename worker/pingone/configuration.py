"""How an environment is configured: policies, MFA settings, capabilities. The requests' addresses, and what is read of
the answers. Pure.

The sources are the vendor's pages and its public SDKs:
https://developer.pingidentity.com/pingone-api/mfa/device-authentication-policy.html
https://github.com/patrickcping/pingone-go-sdk-v2/blob/main/mfa/generate/pingone-mfa.yml
https://github.com/pingidentity/pingone-go-client/blob/main/pingone/api/openapi.yaml
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from worker.config.environment import Environment
from worker.pace.rate_groups import RateGroup
from worker.pingone.addresses import build_url
from worker.pingone.answer_errors import choose_error
from worker.pingone.envelope import open_envelope, read_word
from worker.pingone.json_fields import find_part, read_count, read_id, read_number, read_text, read_truth
from worker.pingone.pages import Page, parse_page

T = TypeVar("T")

# Devices that a user may have where the MFA settings do not say.
DEFAULT_MAX_DEVICES = 5
# Seconds in the units of a cool-down.
_SECONDS = {"SECONDS": 1, "MINUTES": 60, "HOURS": 3600}
# What a license grants each rate group, in PingOne's words, and in how many seconds. The inventory's is not published.
_RATES = {
    RateGroup.MFA: ("rlgMfaRps", 1),
    RateGroup.DIRECTORY: ("rlgDirAccessRps", 1),
    RateGroup.CONFIGURATION: ("rlgConfigRpm", 60),
}


@dataclass(frozen=True)
class Policy:
    """A device authentication policy. None: not known. In a new policy OATH tokens are off."""

    id: str
    name: str | None = None
    # It is in force where a pairing names no policy.
    is_default: bool | None = None
    is_oath_enabled: bool | None = None
    # Users may not pair tokens themselves; whether administrators may is not published.
    is_pairing_disabled: bool | None = None
    # Wrong OTPs after which a device is locked, and for how many seconds.
    failure_count: int | None = None
    cool_down: float | None = None
    # NONE, EMAIL_THEN_SMS, SMS_THEN_EMAIL, or a word that we do not know; None where the policy says nothing of it, so
    # that PingOne's default holds.
    new_device_notification: str | None = None


@dataclass(frozen=True)
class MfaSettings:
    """The MFA settings of an environment. None: not known."""

    max_devices: int | None = None
    # Whether wrong OTPs lock the user's account; then after how many, and for how many seconds.
    has_account_lock: bool | None = None
    lockout_failures: int | None = None
    lockout_seconds: float | None = None
    # Whether MFA is on for new users.
    is_mfa_enabled_for_new_users: bool | None = None


@dataclass(frozen=True)
class Capabilities:
    """What the license of an environment permits. It is not published whether a worker application sees any of it."""

    # None: not known.
    can_use_oath_token: bool | None = None
    # Requests a second that the license grants, by rate group, as far as it says.
    rates: Mapping[RateGroup, float] = field(default_factory=dict)


def build_policies_url(environment: Environment) -> str:
    """Build the address of the policies."""
    return build_url(environment, "deviceAuthenticationPolicies")


def build_mfa_settings_url(environment: Environment) -> str:
    """Build the address of the MFA settings."""
    return build_url(environment, "mfaSettings")


def build_capabilities_url(environment: Environment) -> str:
    """Build the address of the capabilities."""
    return build_url(environment, "capabilities")


def parse_policies(status: int, headers: Mapping[str, str], body: bytes, *, environment: Environment) -> Page[Policy]:
    """Read a page of policies from an answer.
    https://developer.pingidentity.com/pingone-api/mfa/device-authentication-policy/create-device-authentication-policy.html"""
    name = "deviceAuthenticationPolicies"
    return parse_page(status, headers, body, environment=environment, name=name, read_item=_read_policy)


def parse_mfa_settings(status: int, headers: Mapping[str, str], body: bytes) -> MfaSettings:
    """Read the MFA settings from an answer: the operation readMFASettings of the MFA SDK."""
    return _parse(status, headers, body, {"pairing", "lockout", "users"}, _read_mfa_settings)


def parse_capabilities(status: int, headers: Mapping[str, str], body: bytes) -> Capabilities:
    """Read the capabilities from an answer: the schema EnvironmentCapabilities of PingOne's Go client."""
    return _parse(status, headers, body, {"canUseOATHToken", "licenseQuantities"}, _read_capabilities)


def _parse(
    status: int, headers: Mapping[str, str], body: bytes, names: set[str], read: Callable[[Mapping[str, Any]], T]
) -> T:
    """Read an object from a 2xx answer that has one of these fields, or links at least: other JSON is not PingOne's."""
    envelope = open_envelope(status, headers, body)
    fields = envelope.fields or {}
    if not 200 <= status < 300 or not fields.keys() & (names | {"_links"}):
        raise choose_error(envelope)
    return read(fields)


def _read_policy(fields: Mapping[str, Any]) -> Policy | None:
    policy_id = read_id(fields.get("id"))
    if policy_id is None:
        return None
    token = fields.get("oathToken")
    return Policy(
        id=policy_id,
        name=read_text(fields.get("name")),
        is_default=read_truth(fields.get("default")),
        is_oath_enabled=read_truth(find_part(token, "enabled")),
        is_pairing_disabled=read_truth(find_part(token, "pairingDisabled")),
        failure_count=read_count(find_part(token, "otp", "failure", "count")),
        cool_down=_read_duration(find_part(token, "otp", "failure", "coolDown")),
        new_device_notification=read_word(fields.get("newDeviceNotification")),
    )


def _read_duration(value: object) -> float | None:
    """Read a duration with its unit, in seconds."""
    duration, unit = read_number(find_part(value, "duration")), read_word(find_part(value, "timeUnit"))
    return duration * _SECONDS[unit] if duration is not None and unit in _SECONDS else None


def _read_mfa_settings(fields: Mapping[str, Any]) -> MfaSettings:
    most, lockout = find_part(fields, "pairing", "maxAllowedDevices"), fields.get("lockout")
    return MfaSettings(
        max_devices=DEFAULT_MAX_DEVICES if most is None else read_count(most),
        has_account_lock=lockout is not None,
        lockout_failures=read_count(find_part(lockout, "failureCount")),
        lockout_seconds=read_number(find_part(lockout, "durationSeconds")),
        is_mfa_enabled_for_new_users=read_truth(find_part(fields, "users", "mfaEnabled")),
    )


def _read_capabilities(fields: Mapping[str, Any]) -> Capabilities:
    limits = {
        group: read_number(find_part(fields, "licenseQuantities", name, "limit")) for group, (name, _) in _RATES.items()
    }
    return Capabilities(
        can_use_oath_token=read_truth(fields.get("canUseOATHToken")),
        rates={group: limit / _RATES[group][1] for group, limit in limits.items() if limit is not None},
    )
