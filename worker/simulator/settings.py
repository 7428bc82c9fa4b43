"""The simulator's settings: the tenant's policy and its limits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat

from worker.simulator.calls import Group


class Settings(BaseModel):
    """All settings of the simulator. Times are in seconds. They never change: `with_changes` makes new ones, which are
    checked."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    # Is EXTRA_OTP_REQUIRED the answer only to a first OTP with `oathResync`, and INVALID_OTP to one without?
    extra_otp_needs_resync: bool = False
    # A device is locked for `cool_down` seconds after `failure_count` failures, as the MFA policy's
    # `oathToken.otp.failure` says. `account_lock_after`: failures of a user, over all devices, after which the account
    # cannot be used; None is never.
    failure_count: int = Field(default=3, ge=1, le=7)
    cool_down: float = Field(default=120, ge=0)
    account_lock_after: int | None = Field(default=None, ge=1)
    # Whom PingOne tells of a new device, as the MFA policy says ("absent": it does not say).
    new_device_notification: Literal["absent", "NONE", "EMAIL_THEN_SMS", "SMS_THEN_EMAIL"] = "NONE"
    # Devices that a user may have.
    max_allowed_devices: int = Field(default=5, ge=1, le=15)

    # Items in a page of a list, at the most.
    page_size: int = Field(default=100, ge=1)
    # Terms of a filter, more than which are refused as INVALID_FILTER; None: any number is taken.
    most_filter_terms: int | None = Field(default=None, ge=1)
    # Seconds that a job runs.
    job_takes: float = Field(default=1, ge=0)

    # Requests a second for devices; None is unlimited, 0 refuses every one. The limit is a bucket of `burst` that fills
    # at `rate`. `group_rates` has requests a second of other groups, each counted by itself; a group that is not in it
    # is unlimited.
    rate: float | None = Field(default=None, ge=0)
    group_rates: Mapping[Group, NonNegativeFloat] = {}
    burst: int = Field(default=10, ge=1)
    # Seconds before each answer.
    latency: float = Field(default=0, ge=0)

    def with_changes(self, changes: Mapping[str, Any]) -> Self:
        """A copy of these settings with the changes. Raises ValidationError for an unknown name or a wrong value."""
        return self.model_validate(self.model_dump() | dict(changes))
