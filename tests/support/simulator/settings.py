"""What only tests turn: faults, further limits, and a value for each reading of what the vendor leaves open."""

from collections.abc import Mapping
from functools import cached_property
from typing import Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, field_validator

from worker.simulator.calls import Group
from worker.simulator.world import Settings

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
DEVICE_OPERATIONS = ("activate", "read", "list", "unpair")
PROVISIONING_OPERATIONS = ("pair", "remove_order", "import_tokens", "revoke_tokens", "read_job")


class WatchedSettings(Settings):
    """All settings of the watched simulator."""

    # The share of calls that each kind of fault hits, among calls for `fault_operations`, and no more than
    # `faults_per_device` of them a device, or a token that is to be paired (None: no limit). Which calls are hit
    # depends on `fault_seed`.
    faults: Mapping[FaultKind, float] = {}
    fault_seed: int = 0
    fault_operations: tuple[str, ...] = (*DEVICE_OPERATIONS, *PROVISIONING_OPERATIONS)
    faults_per_device: int | None = Field(default=None, ge=0)
    # For the kinds `error_…`: the statuses to choose from, the share of them whose body is a proxy's page, and the
    # Retry-After in seconds, if there is to be one.
    error_statuses: tuple[int, ...] = Field(default=(500, 502, 503), min_length=1)
    error_html_share: float = Field(default=0.5, ge=0, le=1)
    error_retry_after: int | None = Field(default=None, ge=0)
    # For the kind `drip`: seconds between two bytes. For `reset_late`: seconds from the reset to the operation.
    drip_interval: float = Field(default=0.5, gt=0)
    late_effect_after: float = Field(default=1, ge=0)

    # Further rates for devices, by the seconds after the first request from which on they hold; and whether the counts
    # of all groups restart every so many whole seconds, instead of a bucket's.
    rate_changes: Mapping[NonNegativeFloat, PositiveFloat] = {}
    limit_window: float | None = Field(default=None, gt=0)
    # A quota beside the rate of devices: so many requests, then none until `quota_resets_after` seconds after the first
    # of them, then as many again. `quota_reset_time` is answered instead of the true time.
    quota: int | None = Field(default=None, ge=0)
    quota_resets_after: float = Field(default=60, ge=0)
    quota_reset_time: str | None = None
    # Does a refusal of the limit say when to come again? A number: it always asks for so many seconds.
    retry_after: Literal["seconds", "none"] | PositiveInt = "seconds"
    # Seconds that are added to the latency at most, drawn at random; and by which the service's clock is ahead.
    jitter: float = Field(default=0, ge=0)
    clock_skew: float = 0
    # Calls of these groups are answered with a 403, as if the client lacked the role for them.
    forbidden_groups: tuple[Group, ...] = ()
    # How clients have to authenticate to the token endpoint: CLIENT_SECRET_BASIC, _POST, _JWT, or PRIVATE_KEY_JWT.
    client_auth: Literal["basic", "post", "secret_jwt", "private_key_jwt"] | None = None

    # Does the answer to a successful activation hold the device's `status`?
    activation_body: Literal["full", "no_status"] = "full"
    # Does the inventory take a filter together with `expand=devices`, or refuse both with a 400?
    expand_with_filter: bool = True
    # Where does a token show the device that it is paired as: in itself, or under `_embedded`?
    expanded_devices: Literal["inline", "embedded"] = "inline"
    # Does a device show the serial number of its token?
    device_shows_serial_number: bool = False
    # Do the capabilities say what the license grants, or nothing?
    capabilities_filled: bool = True
    # What is answered to a job that is posted, and where its id is.
    job_answer: Literal[201, 202] = 201
    job_id_in: Literal["body", "location"] = "body"
    # A job that is over answers 404 after so many reads of its end. None: never.
    job_kept_reads: int | None = Field(default=None, ge=0)
    # Is `result.duplicates` an empty list or missing, where there are none?
    no_duplicates: Literal["empty", "missing"] = "empty"
    # Does a paired token make a job of revocations FAILED, or is it left out?
    revoke_paired: Literal["failed", "skipped"] = "failed"
    # The status of a device that was paired without saying one, and what becomes of a `status` in the request.
    pairing_status: Literal["ACTIVATION_REQUIRED", "ACTIVE"] = "ACTIVATION_REQUIRED"
    sent_status: Literal["honoured", "ignored", "refused"] = "honoured"
    # What is answered to the pairing of a token that is not in the inventory, or is paired.
    unknown_serial: Literal[400, 404] = 400
    paired_serial: Literal[400, 409] = 400
    # Seconds until the inventory shows what a token is paired as, and until a new device can be read and listed.
    inventory_read_lag: float = Field(default=0, ge=0)
    device_read_lag: float = Field(default=0, ge=0)

    @field_validator("faults")
    @classmethod
    def _check_shares(cls, faults: Mapping[FaultKind, float]) -> Mapping[FaultKind, float]:
        if any(share < 0 for share in faults.values()) or sum(faults.values()) > 1:
            raise ValueError("must be shares of all calls, which together are no more than 1")
        return faults

    @cached_property
    def has_readings(self) -> bool:
        """Whether an answer may have to be another than the product's simulator gives."""
        names = list(type(self).model_fields)
        readings = names[names.index("activation_body") :]
        return any(getattr(self, name) != type(self).model_fields[name].default for name in readings)
