"""The simulator's settings: how it reads what the vendor's pages leave open, its limits, its latency and its faults."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, field_validator

from worker.simulator.operation_names import DEVICE_OPERATIONS, PROVISIONING_OPERATIONS, Group, Operation, OtherGroup
from worker.simulator.provisioning_settings import ProvisioningSettings
from worker.simulator.token import Rules

# Kinds of faults. `…_before`: the operation is not done at all; `…_after`: it is done, and its answer is lost.
FaultKind = Literal[
    "reset_before",  # the connection is reset, and nothing was done
    "reset_after",  # it was done, then the connection is reset
    "reset_late",  # the connection is reset at once, and it is done `late_effect_after` seconds later
    "error_before",  # one of `error_statuses`, nothing was done
    "error_after",  # one of `error_statuses`, although it was done
    "hang_before",  # no answer ever, and nothing was done; the connection stays open until the client closes it
    "hang_after",  # the same, although it was done
    "drip",  # done and answered, a byte of the body every `drip_interval` seconds
    "garbled",  # done, and a 200 whose body is a web page
]


class Settings(ProvisioningSettings):
    """All settings of the simulator; those of imports and pairings are in the base class. Times are in seconds, shares
    from 0 to 1. They never change: `with_changes` makes new ones, which are checked."""

    # How far a server looks for an OTP. PingOne's values are not published; these are common ones. In OTPs for HOTP, in
    # time steps for TOTP.
    look_ahead: int = Field(default=10, ge=1)
    resync_range: int = Field(default=100, ge=1)
    totp_window: int = Field(default=1, ge=0)
    totp_resync_range: int = Field(default=20, ge=1)

    # Is EXTRA_OTP_REQUIRED the answer only to a first OTP with `oathResync`, and INVALID_OTP to one without?
    extra_otp_needs_resync: bool = False
    # Does an answer EXTRA_OTP_REQUIRED count towards `failure_count`?
    extra_otp_counts_as_failure: bool = False
    # Seconds within which the second OTP has to follow the first.
    first_otp_remembered: float = Field(default=300, gt=0)
    # Is an OTP that was answered with EXTRA_OTP_REQUIRED refused when it is sent again?
    first_otp_used_up: bool = False
    # Is the OTP of a call used up, when a fault kept its operation from being done?
    lost_otp_used_up: bool = False
    # Does the answer to a successful activation hold the device's `status`?
    activation_body: Literal["full", "no_status"] = "full"
    # What is answered when a device is activated that is ACTIVE already?
    active_answer: Literal["rejected", "ok", "invalid_otp"] = "rejected"
    # Where does the error about a wrong OTP say so: in its detail, in its code, or as an INVALID_VALUE?
    invalid_otp_body: Literal["detail", "code", "invalid_value"] = "detail"
    # What is answered for a locked or blocked device: an error that names the lock, one without a detail, or the one
    # about a wrong OTP?
    locked_answer: Literal["detail", "bare", "invalid_otp"] = "detail"

    # A device is locked for `cool_down` seconds after `failure_count` failures, as the MFA policy's
    # `oathToken.otp.failure` says. `account_lock_after`: failures of a user, over all devices, after which the account
    # cannot be used; None is never.
    failure_count: int = Field(default=3, ge=1, le=7)
    cool_down: float = Field(default=120, ge=0)
    account_lock_after: int | None = Field(default=None, ge=1)

    # Items in a page of a list, at the most.
    page_size: int = Field(default=100, ge=1)
    # Terms of a filter, more than which are refused as INVALID_FILTER; None: any number is taken.
    most_filter_terms: int | None = Field(default=None, ge=1)
    # Does the inventory take a filter together with `expand=devices`, or refuse both with a 400?
    expand_with_filter: bool = True
    # Where does a token show the device that it is paired as: in itself, or under `_embedded`?
    expanded_devices: Literal["inline", "embedded"] = "inline"
    # Does a device show the serial number of its token?
    device_shows_serial_number: bool = False
    # Do the capabilities say what the license grants, or nothing?
    capabilities_filled: bool = True
    # Calls of these groups are answered with a 403, as if the client lacked the role for them.
    forbidden_groups: tuple[Group, ...] = ()

    # The MFA policy: whether OATH tokens are on, whether users may not pair them, and whom PingOne tells of a new
    # device ("absent": the policy does not say).
    oath_enabled: bool = True
    pairing_disabled: bool = False
    new_device_notification: Literal["absent", "NONE", "EMAIL_THEN_SMS", "SMS_THEN_EMAIL"] = "NONE"
    # The MFA settings: devices that a user may have, and whether MFA is on for new users.
    max_allowed_devices: int = Field(default=5, ge=1, le=15)
    mfa_enabled_for_new_users: bool = False

    # Seconds for which an access token is valid.
    access_token_life: float = Field(default=3600, gt=0)
    # How clients have to authenticate to the token endpoint: CLIENT_SECRET_BASIC, _POST, _JWT, or PRIVATE_KEY_JWT.
    client_auth: Literal["any", "basic", "post", "secret_jwt", "private_key_jwt"] = "any"
    # False: every call to the API is answered with a 403, as if the client lacked its role.
    permitted: bool = True

    # Requests a second for devices; None is unlimited, 0 refuses every one. With `limit_window` the count restarts
    # every so many whole seconds, else the limit is a bucket of `burst` that fills at `rate`. `rate_changes` are
    # further rates by the seconds after the first request from which on they hold. `group_rates` has requests a second
    # of other groups, each counted by itself; a group that is not in it is unlimited.
    rate: float | None = Field(default=None, ge=0)
    rate_changes: Mapping[NonNegativeFloat, PositiveFloat] = {}
    group_rates: Mapping[OtherGroup, NonNegativeFloat] = {}
    burst: int = Field(default=10, ge=1)
    limit_window: float | None = Field(default=None, gt=0)
    limit_answer: Literal["limit", "quota", "forbidden"] = "limit"
    retry_after: Literal["seconds", "date", "none"] = "seconds"

    # A quota beside the rate of devices: so many requests, then none until `quota_resets_after` seconds after the first
    # of them, then as many again. `quota_reset_time` is answered instead of the true time, to try other forms and wrong
    # values.
    quota: int | None = Field(default=None, ge=0)
    quota_resets_after: float = Field(default=60, ge=0)
    quota_reset_time: str | float | None = None

    # Seconds before each answer, and how many more, drawn at random, are added to them at most.
    latency: float = Field(default=0, ge=0)
    jitter: float = Field(default=0, ge=0)
    # Seconds by which the simulated service's clock is ahead of this machine's.
    clock_skew: float = 0

    # The share of calls that each kind of fault hits, among calls for `fault_operations`, and no more than
    # `faults_per_device` of them a device, or a token that is to be paired (None: no limit). Which calls are hit
    # depends on `fault_seed`.
    faults: Mapping[FaultKind, float] = {}
    fault_seed: int = 0
    fault_operations: tuple[Operation, ...] = (*DEVICE_OPERATIONS, *PROVISIONING_OPERATIONS)
    faults_per_device: int | None = Field(default=None, ge=0)
    # For the kinds `error_…`: the statuses to choose from, the share of them whose body is a proxy's page, and the
    # Retry-After in seconds, if there is to be one.
    error_statuses: tuple[int, ...] = Field(default=(500, 502, 503), min_length=1)
    error_html_share: float = Field(default=0.5, ge=0, le=1)
    error_retry_after: int | None = Field(default=None, ge=0)
    # For the kind `drip`: seconds between two bytes. For `reset_late`: seconds from the reset to the operation.
    drip_interval: float = Field(default=0.5, gt=0)
    late_effect_after: float = Field(default=1, ge=0)

    @field_validator("faults")
    @classmethod
    def _check_shares(cls, faults: Mapping[FaultKind, float]) -> Mapping[FaultKind, float]:
        if any(share < 0 for share in faults.values()) or sum(faults.values()) > 1:
            raise ValueError("must be shares of all calls, which together are no more than 1")
        return faults

    @field_validator("error_statuses")
    @classmethod
    def _check_error_statuses(cls, statuses: tuple[int, ...]) -> tuple[int, ...]:
        if not all(500 <= status <= 599 for status in statuses):
            raise ValueError("must be statuses from 500 to 599")
        return statuses

    @cached_property
    def rules(self) -> Rules:
        """The settings by which a token's OTPs are judged."""
        return Rules(**{name: getattr(self, name) for name in Rules.__dataclass_fields__})

    def with_changes(self, changes: Mapping[str, Any]) -> Settings:
        """A copy of these settings with the changes. Raises ValidationError for an unknown name or a wrong value."""
        return Settings.model_validate(self.model_dump() | dict(changes))
