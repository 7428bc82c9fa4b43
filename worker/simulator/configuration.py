"""The simulated environment's policy, MFA settings and capabilities, as JSON in the vendor's form.

https://developer.pingidentity.com/pingone-api (device authentication policies)
"""

from __future__ import annotations

from typing import Any

from worker.simulator.settings import Settings

# Made up, and the same at each start.
POLICY_ID = "0a7b0000-5e1f-4c0d-8000-00000000000b"

# The built-in roles, a few of them, with some of their permissions. The names of the roles are the vendor's; which
# permissions tokens need, and who has them, is not published: these are made up.
ROLES: list[dict[str, Any]] = [
    {"id": "role-1", "name": "Identity Data Admin", "permissions": [{"id": "dir:read:user"}]},
    {"id": "role-2", "name": "Environment Admin", "permissions": [{"id": "mfa:create:oathToken"}]},
    {"id": "role-3", "name": "Configuration Read Only", "permissions": [{"id": "mfa:read:deviceAuthenticationPolicy"}]},
]


def policy_body(settings: Settings) -> dict[str, Any]:
    """The environment's only policy, which is its default one."""
    body: dict[str, Any] = {
        "id": POLICY_ID,
        "name": "Default MFA Policy",
        "default": True,
        "authentication": {"deviceSelection": "DEFAULT_TO_FIRST"},
        "oathToken": {
            "enabled": settings.oath_enabled,
            "pairingDisabled": settings.pairing_disabled,
            "otp": {"failure": {"count": settings.failure_count, "coolDown": _duration(settings.cool_down)}},
        },
    }
    if settings.new_device_notification != "absent":
        body["newDeviceNotification"] = settings.new_device_notification
    return body


def mfa_settings_body(settings: Settings) -> dict[str, Any]:
    """The MFA settings. Without an account lock there is no `lockout`; a simulated one has no end."""
    body: dict[str, Any] = {
        "pairing": {"maxAllowedDevices": settings.max_allowed_devices},
        "users": {"mfaEnabled": settings.mfa_enabled_for_new_users},
    }
    if settings.account_lock_after is not None:
        body["lockout"] = {"failureCount": settings.account_lock_after}
    return body


def capabilities_body(settings: Settings) -> dict[str, Any]:
    """The capabilities: what the license grants, or nothing of it."""
    if not settings.capabilities_filled:
        return {}
    limits = {
        "rlgMfaRps": settings.rate,
        "rlgDirAccessRps": settings.group_rates.get("directory"),
        "rlgConfigRpm": 60 * settings.group_rates.get("configuration", 10),
    }
    known = {name: {"limit": limit} for name, limit in limits.items() if limit is not None}
    return {"canUseOATHToken": True, "licenseQuantities": known}


def _duration(seconds: float) -> dict[str, Any]:
    """A duration in the largest unit that divides it."""
    whole = round(seconds)
    if whole and whole % 60 == 0:
        return {"duration": whole // 60, "timeUnit": "MINUTES"}
    return {"duration": whole, "timeUnit": "SECONDS"}
