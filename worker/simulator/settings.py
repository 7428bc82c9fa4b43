"""The simulator's settings: both readings of what the vendor leaves open, and the weather of the day."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveFloat, field_validator

from worker.simulator.token import Rules

Operation = Literal["access_token", "activate", "read", "list", "unlock", "block", "unblock", "unpair"]

# What befalls a call. `before`: the operation is not done at all; `after`: it is done, its answer is lost.
FaultKind = Literal[
    "reset_before",  # the connection is reset and nothing was done
    "reset_after",  # it was done, then the connection is reset
    "reset_late",  # the connection is reset at once, and it is done `late_effect_after` seconds later
    "error_before",  # one of `error_statuses`, nothing was done
    "error_after",
    "hang_before",  # no answer ever; the connection stands until the client goes
    "hang_after",
    "drip",  # done and answered, a byte of the body every `drip_interval` seconds
    "garbled",  # done, and a 200 whose body is a web page
]
DEVICE_OPERATIONS = tuple(name for name in get_args(Operation) if name != "access_token")


class Settings(BaseModel):
    """Times are in seconds, shares from 0 to 1. Changed as a whole: `changed` gives new, checked settings."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    # OTP windows are not published; these are common ones.
    look_ahead: int = Field(default=10, ge=1)
    resync_range: int = Field(default=100, ge=1)
    totp_window: int = Field(default=1, ge=0)
    totp_resync_range: int = Field(default=20, ge=1)

    # Is EXTRA_OTP_REQUIRED the answer only to a first OTP with `oathResync`, and INVALID_OTP to one without?
    extra_otp_needs_resync: bool = False
    extra_otp_counts_as_failure: bool = False
    first_otp_remembered: float = Field(default=300, gt=0)
    # Is an OTP that was answered with EXTRA_OTP_REQUIRED refused when it is sent again?
    first_otp_used_up: bool = False
    # Does a call that was lost before it was done use its OTP up all the same?
    lost_otp_used_up: bool = False
    activation_body: Literal["full", "no_status"] = "full"
    active_answer: Literal["rejected", "ok", "invalid_otp"] = "rejected"
    invalid_otp_body: Literal["detail", "code", "invalid_value"] = "detail"
    locked_answer: Literal["detail", "bare", "invalid_otp"] = "detail"

    # Locks, as the MFA policy's `oathToken.otp.failure` sets them; the account's lock is off by default.
    failure_count: int = Field(default=3, ge=1, le=7)
    cool_down: float = Field(default=120, ge=0)
    account_lock_after: int | None = Field(default=None, ge=1)

    access_token_life: float = Field(default=3600, gt=0)
    client_auth: Literal["any", "basic", "post"] = "any"
    permitted: bool = True

    # Requests a second to the API (not to the token endpoint); None is unlimited, 0 refuses every one. With
    # `limit_window` the count starts anew every so many whole seconds, else the limit is a bucket of `burst` that fills
    # at `rate`. `rate_changes` are further rates by the seconds after the first request from which on they hold.
    rate: float | None = Field(default=None, ge=0)
    rate_changes: Mapping[NonNegativeFloat, PositiveFloat] = {}
    burst: int = Field(default=10, ge=1)
    limit_window: float | None = Field(default=None, gt=0)
    limit_answer: Literal["limit", "quota", "forbidden"] = "limit"
    retry_after: Literal["seconds", "date", "none"] = "seconds"

    # A quota beside the rate: so many requests, then none until `quota_resets_after` seconds after the first of them,
    # then as many again. `quota_reset_time` is said in place of the true time: a form of its own, an absurdity.
    quota: int | None = Field(default=None, ge=0)
    quota_resets_after: float = Field(default=60, ge=0)
    quota_reset_time: str | float | None = None

    latency: float = Field(default=0, ge=0)
    jitter: float = Field(default=0, ge=0)
    clock_skew: float = 0

    faults: Mapping[FaultKind, float] = {}
    fault_seed: int = 0
    fault_operations: tuple[Operation, ...] = DEVICE_OPERATIONS
    faults_per_device: int | None = Field(default=None, ge=0)
    error_statuses: tuple[int, ...] = Field(default=(500, 502, 503), min_length=1)
    error_html_share: float = Field(default=0.5, ge=0, le=1)
    error_retry_after: int | None = Field(default=None, ge=0)
    drip_interval: float = Field(default=0.5, gt=0)
    late_effect_after: float = Field(default=1, ge=0)

    @field_validator("faults")
    @classmethod
    def _are_shares(cls, faults: Mapping[FaultKind, float]) -> Mapping[FaultKind, float]:
        if any(share < 0 for share in faults.values()) or sum(faults.values()) > 1:
            raise ValueError("must be shares of all calls, which together are no more than 1")
        return faults

    @field_validator("error_statuses")
    @classmethod
    def _are_errors(cls, statuses: tuple[int, ...]) -> tuple[int, ...]:
        if not all(500 <= status <= 599 for status in statuses):
            raise ValueError("must be statuses from 500 to 599")
        return statuses

    @cached_property
    def rules(self) -> Rules:
        """Those settings that decide about an OTP."""
        return Rules(**{name: getattr(self, name) for name in Rules.__dataclass_fields__})

    def changed(self, changes: Mapping[str, Any]) -> Settings:
        """These settings with the changes. Raises ValidationError for an unknown name or a wrong value."""
        return Settings.model_validate(self.model_dump() | dict(changes))
