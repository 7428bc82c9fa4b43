"""The settings of imports, the inventory and pairings: a value for each reading of what the vendor leaves open."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from worker.simulator.operation_names import Group

# Seconds after which PingOne deletes a device that waits for its activation.
A_DAY = 86_400


class ProvisioningSettings(BaseModel):
    """Settings of imports, the inventory and pairings. Times are in seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    # What is answered to a job that is posted, and where its id is: in the body (and in `Location`), or in `Location`
    # alone?
    job_answer: Literal[201, 202] = 201
    job_id_in: Literal["body", "location"] = "body"
    # Seconds that a job runs, and its status meanwhile.
    job_takes: float = Field(default=1, ge=0)
    job_running_status: str = Field(default="IN_PROGRESS", min_length=1)
    # A job that is over answers 404 after so many reads of its end, or so many seconds after its end. None: never.
    job_kept_reads: int | None = Field(default=None, ge=0)
    job_kept_for: float | None = Field(default=None, ge=0)
    # Does one bad token in a list make the request a 400, or the job FAILED?
    bad_list_entry: Literal["refused", "failed"] = "refused"
    # Is a serial number that is twice in a list a duplicate, or a bad token?
    repeated_serial: Literal["duplicate", "bad"] = "duplicate"
    # Is `result.duplicates` an empty list or missing, where there are none?
    no_duplicates: Literal["empty", "missing"] = "empty"
    # Tokens in a list at the most, and what is answered to more; None: any number is taken.
    most_job_tokens: int | None = Field(default=1000, ge=1)
    large_job: Literal["413", "size_limit"] = "413"
    # What is the hash of a TOTP token that comes without one? HOTP is always SHA-1.
    absent_totp_hash: Literal["sha1", "sha256"] = "sha1"
    # Does a paired token make a job of revocations FAILED, or is it left out, where `forceUnpair` is not set?
    revoke_paired: Literal["failed", "skipped"] = "failed"
    # What is answered to a token by itself whose serial number is in the inventory already?
    existing_serial: Literal[400, 409] = 400

    # Tokens in an environment at the most.
    most_tokens: int = Field(default=100_000, ge=1)
    # Is `hotp.counter` in the inventory the server's counter of now, or that of the import?
    hotp_counter_shown: Literal["live", "imported"] = "live"
    # Whose rate limit counts the calls for the inventory: a limit of their own, or that of another group?
    inventory_counts_as: Group = "inventory"

    # The status of a device that was paired without saying one, and what becomes of a `status` in the request.
    pairing_status: Literal["ACTIVATION_REQUIRED", "ACTIVE"] = "ACTIVATION_REQUIRED"
    sent_status: Literal["honoured", "ignored", "refused"] = "honoured"
    # What is answered to the pairing of a token that is not in the inventory, or is paired; and where the policy does
    # not have OATH tokens?
    unknown_serial: Literal[400, 404] = 400
    paired_serial: Literal[400, 409] = 400
    oath_off: Literal[400, 403] = 400
    # Does `pairingDisabled` of the policy stop an administrator too? Has the user to be enabled for MFA?
    pairing_disabled_for_all: bool = False
    pairing_needs_mfa_enabled: bool = False
    # Devices that the license permits in an environment; None: any number.
    licensed_devices: int | None = Field(default=None, ge=0)
    # Devices of a user that may wait for their activation at a time.
    most_waiting_devices: int = Field(default=50, ge=1)
    # Seconds for which a deleted device can still be read and listed.
    deleted_read_lag: float = Field(default=0, ge=0)
    # Seconds until the inventory shows what a token is paired as, and until a new device can be read and listed. It can
    # be activated at once.
    inventory_read_lag: float = Field(default=0, ge=0)
    device_read_lag: float = Field(default=0, ge=0)
    # Seconds after which a device that waits for its activation is deleted; None: never.
    waiting_device_life: float | None = Field(default=A_DAY, gt=0)
