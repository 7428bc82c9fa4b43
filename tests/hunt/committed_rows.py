"""Our tables as they are committed, read past SQLAlchemy: after every commit, so it has to be quick."""

from collections import namedtuple
from typing import Any

from models.batch import BatchState
from models.reason import PASSING
from models.record_states import FINAL, OtpState, PairingState

_BATCHES = "id, name, state, reason, probe_at, closes_at, resumes_at, prepared_until"
_RECORDS = """id, batch_id, device_id, status, scheduled_at, lease_id, lease_until, otp1_state, otp1_posts, otp2_state,
    otp2_posts, otp_sent_at, otp_expires_at, verdict, attempts, attempts_forgiven, reason,
    finalized_at IS NULL AS is_not_finalized, otps IS NULL AS is_without_otps, next_counter, posts_forgiven,
    serial_number, user_id, owner_id, is_in_inventory, import_job_id, is_token_made, is_device_made, pairing, pairings,
    username, not_before"""
# A date of this year or later is a person's who keeps a record back.
_LET_GO_BY_A_PERSON = "9"


def _names(columns: str) -> list[str]:
    return [column.split()[-1] for column in columns.split(",")]


class Row(namedtuple("Row", _names(_RECORDS))):
    """A record. Times are texts, as SQLite keeps them."""

    __slots__ = ()

    def state(self, ordinal: int) -> str:
        return self.otp1_state if ordinal == 1 else self.otp2_state

    @property
    def marked(self) -> int:
        """Which OTP is committed as going out; 1 if none is."""
        return 2 if self.otp2_state == OtpState.SENT else 1

    def posts(self, ordinal: int) -> int:
        return self.otp1_posts if ordinal == 1 else self.otp2_posts

    @property
    def is_final(self) -> bool:
        return self.status in FINAL

    @property
    def needs_read(self) -> bool:
        is_open = self.pairing in (PairingState.SENT, PairingState.MISSED)
        return OtpState.SENT in (self.otp1_state, self.otp2_state) or self.verdict is not None or is_open

    @property
    def has_begun(self) -> bool:
        """Something went out for it since its budget began, or made its device."""
        return bool(self.otp1_posts + self.otp2_posts or self.is_device_made or self.needs_read)

    @property
    def waits_until(self) -> str | None:
        """The date that it waits for; None if it waits for none."""
        return None if self.has_begun or self.is_final else self.not_before

    @property
    def is_kept_back(self) -> bool:
        """A person has to let it go."""
        return (self.waits_until or "").startswith(_LET_GO_BY_A_PERSON)

    @property
    def sent_things(self) -> tuple[int, int, int]:
        """How many requests of each kind are written down, since the record began again."""
        return self.otp1_posts, self.otp2_posts, self.pairings

    @property
    def is_prepared(self) -> bool:
        return bool(self.user_id and self.is_in_inventory)

    def __str__(self) -> str:
        otps = f"{self.otp1_state}/{self.otp1_posts} {self.otp2_state}/{self.otp2_posts}"
        if self.next_counter is not None:
            otps += f" next {self.next_counter}"
        pairing = f"{self.pairing}/{self.pairings}" if self.pairing != PairingState.UNSENT or self.pairings else None
        device = f"device {self.device_id[-6:]}{'!' if self.is_device_made else ''}"
        lacks = None if self.is_prepared else f"lacks {'token' if self.user_id else 'user'}"
        told = [
            self.status,
            (self.lease_id or "")[:8],
            otps,
            self.verdict,
            self.reason,
            pairing,
            device,
            lacks,
            f"job {self.import_job_id}" if self.import_job_id else None,
            f"due {self.scheduled_at[11:23]}",
            f"not before {self.not_before[:23]}" if self.not_before else None,
        ]
        return " ".join(filter(None, told))


class BatchRow(namedtuple("BatchRow", _names(_BATCHES))):
    """A batch."""

    __slots__ = ()

    @property
    def waits_for_a_person(self) -> bool:
        return self.state == BatchState.PAUSED and self.reason not in PASSING

    @property
    def changes_at(self) -> str | None:
        """When a tick will pause it, or let it run."""
        if self.state == BatchState.RUNNING:
            return self.closes_at
        return self.probe_at or self.resumes_at if self.state == BatchState.PAUSED else None


def read_records(connection: Any) -> dict[int, Row]:
    return {values[0]: Row(*values) for values in connection.execute(f"SELECT {_RECORDS} FROM record ORDER BY id")}


def read_batches(connection: Any) -> dict[int, BatchRow]:
    return {values[0]: BatchRow(*values) for values in connection.execute(f"SELECT {_BATCHES} FROM batch ORDER BY id")}
