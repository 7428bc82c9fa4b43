"""The history of one token, as values and as JSON: its records in all batches, and the attempts of each. Nothing secret
is in it: neither an OTP nor a seed."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from models.reason import Reason, find_cure
from models.record_states import OtpState
from worker.pace.known_pace import Hold
from worker.reports.refused_rows import RefusedLine
from worker.reports.stall import Fleet


@dataclass(frozen=True, slots=True, kw_only=True)
class PastAttempt:
    """One line of the table of attempts: one try under a lease, and PingOne's last answer to it."""

    number: int
    ended_at: datetime
    outcome: str
    reason: str | None
    http_status: int | None
    code: str | None
    detail_code: str | None
    pingone_error_id: str | None
    correlation_id: str | None
    requests: int
    otp_posts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchOfRecord:
    """The batch of a record: where its file came from, and whether its records may go. `last_row`: while set, only rows
    up to this one go. `resumes_at`: when a paused batch goes on by itself, if that is known."""

    name: str
    file: str
    environment: str
    environment_id: str
    state: str
    reason: str | None = None
    detail: str | None = None
    resumes_at: datetime | None = None
    last_row: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PastRecord:
    """One record of a token. The names are those of `models.record.Record`, where each is explained."""

    id: int
    batch_id: int
    row_number: int
    serial_number: str
    user_id: str
    username: str | None
    email: str | None
    external_id: str | None
    device_id: str
    lot: str | None
    extra: dict[str, Any] | None
    is_in_inventory: bool
    is_token_made: bool
    is_device_made: bool
    status: str
    reason: str | None
    detail: str | None
    scheduled_at: datetime
    lease_until: datetime | None
    finalized_at: datetime | None
    otp_type: str
    has_second_otp: bool
    otp1_state: str
    otp1_posts: int
    otp2_state: str
    otp2_posts: int
    posts_forgiven: int
    requests: int
    pingone_error_id: str | None
    correlation_id: str | None
    # Attempts that count, the one under way among them.
    counted_attempts: int
    # Whether its OTPs are made of a seed; else they are a pair.
    has_seed: bool
    # Whether its OTPs or its seed are still kept, encrypted.
    are_otps_kept: bool
    # Whether a replay would make it go again.
    is_replayable: bool
    batch: BatchOfRecord
    attempts: list[PastAttempt] = field(default_factory=list)

    @property
    def meaning(self) -> str | None:
        """What the reason means and what a person can do: as it was written down, or as it is known of the reason."""
        known = next((each for each in Reason if each == self.reason), None)
        return self.detail or (known and find_cure(known, has_seed=self.has_seed))

    def describe_otps(self) -> dict[str, str]:
        """Say of what its OTPs are made and whether that is still kept, and what became of each OTP."""
        source = f"{self.otp_type.upper()} {'seed' if self.has_seed else 'pair'}"
        kept = "kept encrypted" if self.are_otps_kept else "erased"
        second = _describe_otp(self.otp2_state, self.otp2_posts) if self.has_second_otp else "the file brought none"
        return {
            "source": f"{source}, {kept}",
            "otp1": _describe_otp(self.otp1_state, self.otp1_posts),
            "otp2": second,
        }

    def to_json(self) -> dict[str, Any]:
        """The record and its attempts, with names for what is said in words."""
        facts = _write_times(asdict(self))
        batch, attempts = facts.pop("batch"), facts.pop("attempts")
        return {
            "record": facts.pop("id"),
            "batch": batch["name"],
            "row": facts.pop("row_number"),
            "file": batch["file"],
            "batch_state": batch["state"],
            "batch_reason": batch["reason"],
            **{name: facts[name] for name in ("status", "reason")},
            "meaning": self.meaning,
            "otps": self.describe_otps(),
            **{name: value for name, value in facts.items() if name not in ("batch_id", "detail")},
            "attempts": [_write_times(attempt) for attempt in attempts],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenHistory:
    """All records of a serial number in one environment, the oldest first, and what decides when it goes on; and the
    rows with it that were refused. `now` is the database's time."""

    environment: str
    environment_id: str
    serial_number: str
    records: list[PastRecord]
    now: datetime
    fleet: Fleet = field(default_factory=Fleet)
    # The hold of all workers of the license; None while there is none.
    hold: Hold | None = None
    refused: list[RefusedLine] = field(default_factory=list)

    @property
    def latest(self) -> PastRecord:
        """The record of the latest load. There is one unless every row of the token
        was refused."""
        return self.records[-1]

    def to_json(self) -> dict[str, Any]:
        """The history as `oathbulk show --json` prints it, without what happens next."""
        return {
            "serial_number": self.serial_number,
            "environment": self.environment,
            "environment_id": self.environment_id,
            "records": [record.to_json() for record in self.records],
            "refused": [line.to_json() for line in self.refused],
        }


def _write_times(facts: dict[str, Any]) -> dict[str, Any]:
    """Write the times among these values as text, as ISO 8601 has it."""
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in facts.items()}


def _describe_otp(state: str, posts: int) -> str:
    """Say what became of one OTP."""
    posted = "posted once" if posts == 1 else f"posted {posts} times"
    match state:
        case OtpState.ANSWERED:
            return f"answered by PingOne, {posted}" if posts else "answered by PingOne"
        case OtpState.SENT:
            return "sent, and no answer is written down; the device is read before anything else is sent"
    return f"{posted} without effect, and may be sent again" if posts else "not sent"
