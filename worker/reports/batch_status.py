"""The status of a batch: its counts and its pace, and what follows from them. `status_json` has its JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from models.batch import BatchState
from models.record_states import FINAL, Status
from worker.pace.known_pace import Hold, KnownPace
from worker.reports.outage import Outage
from worker.reports.preparation_pace import PreparationPace
from worker.reports.rehearsal import Rehearsal
from worker.reports.stall import Fleet, Stall, find_stall
from worker.reports.time_left import estimate_if_listed, estimate_time_left
from worker.rules.resync import NeedsFlag


@dataclass(frozen=True, slots=True)
class BatchStatus:
    """How a batch stands. All counts are of records, but for `rows_refused`: rows that did not become one."""

    name: str
    environment: str
    state: str
    reason: str | None
    detail: str | None
    total: int
    rows_refused: int
    counts: dict[str, int]
    dead_letters: dict[str, int]
    resynced: int
    attempts: int
    otp_posts: int
    requests: int
    rate_limited: int
    created_at: datetime
    finished_at: datetime | None
    # Records settled a second, lately.
    pace: float
    # When the next pending record is due.
    next_due_at: datetime | None
    # What is known of the pace of the batch's license.
    license_pace: KnownPace | None = None
    # The batch's hours (`--window`), such as 22:00-05:30, and their time zone.
    hours: str | None = None
    zone: str | None = None
    # While it runs: when its hours end.
    closes_at: datetime | None = None
    # While it is paused for its hours or a quota: when it goes on by itself.
    resumes_at: datetime | None = None
    # While it is paused and records are in work: when the last of their leases ends, if their worker died.
    in_work_until: datetime | None = None
    # Seconds for which none of its due records has moved; None if none is due, or the batch does not run.
    still_for: float | None = None
    fleet: Fleet = field(default_factory=Fleet)
    # How many of its pending records wait until their user is found, and until their token is found or imported.
    waiting: dict[str, int] = field(default_factory=dict)
    # Whether tokens may be imported.
    may_import: bool = False
    preparation: PreparationPace = field(default_factory=PreparationPace)
    # Active records without an OTP that was posted: PingOne said ACTIVE by itself, and nothing was proved.
    unproved: int = 0
    # Dead letters by reason that need no fresh OTPs, so that a replay helps.
    replayable: Mapping[str, int] = field(default_factory=dict)
    # Tokens that this batch has put into the inventory, and devices that it has made.
    imported: int = 0
    paired: int = 0
    # Whether all of its dead letters have a seed, from which a replay makes OTPs.
    has_seeds: bool = False
    # Refused rows by reason; None if the batch was loaded before they were kept, so that only their number is known.
    refused: Mapping[str, int] | None = field(default_factory=dict)
    # Whether its environment wants `oathResync` with OTP 1, as far as that was learnt.
    needs_flag: NeedsFlag = NeedsFlag.UNKNOWN
    # When its records were purged; the counts are those from before.
    purged_at: datetime | None = None
    # While PingOne does not answer: since when, and when it is tried again.
    outage: Outage | None = None
    # The rehearsal that it is the batch of, where commands are printed to be pasted.
    rehearsal: Rehearsal | None = None

    def write_command(self, command: str) -> str:
        """Write a command on this batch so that it can be pasted."""
        return self.rehearsal.write(command) if self.rehearsal else command

    @property
    def stall(self) -> Stall | None:
        """Why due work does not move; None while it moves, or has not moved for a short time only."""
        fleet = replace(self.fleet, hold=str(self.hold) if self.hold else None, rehearsal=self.rehearsal)
        return find_stall(fleet, self.still_for, self.preparation.unprepared_for if self.preparing else None)

    @property
    def standstill(self) -> float:
        """Seconds for which nothing has moved: of what is due, or of what is to be prepared where nothing is due."""
        return (self.preparation.unprepared_for if self.still_for is None else self.still_for) or 0.0

    @property
    def preparing(self) -> int:
        """Records that have to be prepared before their first call."""
        return sum(self.waiting.values())

    @property
    def tokens_active(self) -> int:
        """Tokens of the batch that are active."""
        return self.counts[Status.ACTIVE]

    @property
    def rows(self) -> int:
        """All rows of the batch: its records, and those that are refused."""
        return self.total + self.rows_refused

    @property
    def tokens_left(self) -> int:
        """Tokens of the batch that are not active."""
        return self.rows - self.tokens_active

    @property
    def left(self) -> int:
        """Records that are not final yet."""
        return self.total - sum(self.counts[status] for status in FINAL)

    @property
    def given_up(self) -> int:
        """Tokens of the batch that nothing more happens to unless a person acts: dead letters, cancelled records,
        refused rows."""
        return self.tokens_left - self.left

    @property
    def is_left_known(self) -> bool:
        """Whether tokens were given up of which the rows are still kept, so that they can be exported."""
        return self.given_up > (self.rows_refused if self.refused is None else 0) and not self.purged_at

    @property
    def eta_seconds(self) -> float | None:
        """Seconds until the last record is settled at the present paces, the slower of activation and preparation; None
        while one of them is not known, or the batch is paused."""
        pace = 0.0 if self.state == BatchState.PAUSED else self.pace
        return estimate_time_left(self.left, pace, self.preparing, self.preparation.pace)

    @property
    def hold(self) -> Hold | None:
        """The hold of all workers of the batch's license; None while there is none."""
        return self.license_pace.hold if self.license_pace else None

    @property
    def requests_per_record(self) -> float:
        """Requests that a settled record took on average."""
        return self.requests / max(self.total - self.left, 1)

    @property
    def eta_if_listed_seconds(self) -> float | None:
        """Seconds until the last record is settled if the workers' address were listed by PingOne, and is not yet. None
        if it is not PingOne's limit that decides how long it takes."""
        return estimate_if_listed(self.eta_seconds, self.pace * self.requests_per_record, self.license_pace)
