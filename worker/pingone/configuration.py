"""How an environment is configured: its policies, its MFA settings, and what its license permits. Pure.

The sources are the vendor's pages and its public SDKs:
https://developer.pingidentity.com/pingone-api/mfa/device-authentication-policy.html
https://github.com/patrickcping/pingone-go-sdk-v2/blob/main/mfa/generate/pingone-mfa.yml
https://github.com/pingidentity/pingone-go-client/blob/main/pingone/api/openapi.yaml
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from worker.config.environment import Environment
from worker.pace.search import RateGroup
from worker.pingone.wire import (
    Envelope,
    Page,
    choose_error,
    find_part,
    parse_page,
    read_count,
    read_number,
    read_text,
    read_truth,
    read_word,
)

T = TypeVar("T")

# Devices that a user may have if the MFA settings do not say.
DEFAULT_MAX_DEVICES = 5
# PingOne's name for the limit that a license grants each rate group, and the number of seconds it is for. The
# inventory's limit is not published.
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
    # It applies if a pairing names no policy.
    is_default: bool | None = None
    is_oath_enabled: bool | None = None
    # Wrong OTPs after which a device is locked.
    failure_count: int | None = None
    # NONE, EMAIL_THEN_SMS, SMS_THEN_EMAIL, or an unknown word; None if the policy does not say, so that PingOne's
    # default applies.
    new_device_notification: str | None = None


@dataclass(frozen=True)
class MfaSettings:
    """The MFA settings of an environment. None: not known."""

    max_devices: int | None = None
    # Whether wrong OTPs lock the user's account; if so, after how many, and for how many seconds.
    has_account_lock: bool | None = None
    lockout_failures: int | None = None
    lockout_seconds: float | None = None


@dataclass(frozen=True)
class Capabilities:
    """What an environment's license permits. It is not published whether a worker application can see this."""

    # None: not known.
    can_use_oath_token: bool | None = None
    # Requests a second that the license grants, by rate group, as far as it says.
    rates: Mapping[RateGroup, float] = field(default_factory=dict)


def parse_policies(envelope: Envelope, *, environment: Environment) -> Page[Policy]:
    """Read a page of policies from an answer.
    https://developer.pingidentity.com/pingone-api/mfa/device-authentication-policy/create-device-authentication-policy.html"""
    return parse_page(envelope, environment=environment, name="deviceAuthenticationPolicies", read_item=_read_policy)


def parse_mfa_settings(envelope: Envelope) -> MfaSettings:
    """Read the MFA settings from an answer: the operation readMFASettings of the MFA SDK."""
    return _parse(envelope, {"pairing", "lockout", "users"}, _read_mfa_settings)


def parse_capabilities(envelope: Envelope) -> Capabilities:
    """Read the capabilities from an answer: the schema EnvironmentCapabilities of PingOne's Go client."""
    return _parse(envelope, {"canUseOATHToken", "licenseQuantities"}, _read_capabilities)


def _parse(envelope: Envelope, names: set[str], read: Callable[[Mapping[str, Any]], T]) -> T:
    """Read an object from a 2xx answer that has one of these fields, or at least links: other JSON is not PingOne's."""
    fields = envelope.fields
    if not envelope.is_success or not fields.keys() & (names | {"_links"}):
        raise choose_error(envelope)
    return read(fields)


def _read_policy(fields: Mapping[str, Any]) -> Policy:
    token = fields.get("oathToken")
    return Policy(
        id=fields["id"],
        name=read_text(fields.get("name")),
        is_default=read_truth(fields.get("default")),
        is_oath_enabled=read_truth(find_part(token, "enabled")),
        failure_count=read_count(find_part(token, "otp", "failure", "count")),
        new_device_notification=read_word(fields.get("newDeviceNotification")),
    )


def _read_mfa_settings(fields: Mapping[str, Any]) -> MfaSettings:
    most, lockout = find_part(fields, "pairing", "maxAllowedDevices"), fields.get("lockout")
    return MfaSettings(
        max_devices=DEFAULT_MAX_DEVICES if most is None else read_count(most),
        has_account_lock=lockout is not None,
        lockout_failures=read_count(find_part(lockout, "failureCount")),
        lockout_seconds=read_number(find_part(lockout, "durationSeconds")),
    )


def _read_capabilities(fields: Mapping[str, Any]) -> Capabilities:
    limits = {
        group: read_number(find_part(fields, "licenseQuantities", name, "limit")) for group, (name, _) in _RATES.items()
    }
    return Capabilities(
        can_use_oath_token=read_truth(fields.get("canUseOATHToken")),
        rates={group: limit / _RATES[group][1] for group, limit in limits.items() if limit is not None},
    )
