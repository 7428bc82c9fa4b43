"""What a report of a batch holds: plain values, all times in UTC, all durations in seconds. No OTP, no seed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from worker.reports.batch_report.durations import Durations
from worker.reports.refused_rows import RefusedLine
from worker.reports.taken_over import TakenOver


@dataclass(frozen=True, slots=True)
class RowCounts:
    """How many rows of the file ended how. `refused` rows never became a record; the tokens of `already_active` rows
    were active before, so that they were left out at loading."""

    active: int = 0
    dead_letter: int = 0
    cancelled: int = 0
    # Pending, queued or in work.
    open: int = 0
    refused: int = 0
    already_active: int = 0

    @property
    def rows(self) -> int:
        """All rows of the file: the sum of the others."""
        return self.active + self.dead_letter + self.cancelled + self.open + self.refused + self.already_active


@dataclass(frozen=True, slots=True)
class TokenLine:
    """One token. `person`: the user name, e-mail address, external id or user id, the first that is known."""

    serial_number: str
    row_number: int
    person: str
    lot: str | None
    status: str
    reason: str | None
    attempts: int
    # True where PingOne asked for a second OTP, False where it took the first, None where it told neither.
    is_out_of_step: bool | None
    finalized_at: datetime | None


@dataclass(frozen=True, slots=True)
class ReasonGroup:
    """The dead letters of one reason; `tokens` are the first of them, in the order of the file."""

    reason: str
    count: int
    cure: str
    tokens: tuple[TokenLine, ...]


@dataclass(frozen=True, slots=True)
class RefusedGroup:
    """The refused rows of one reason; `rows` are the first of them, in the order of the file."""

    reason: str
    count: int
    cure: str
    rows: tuple[RefusedLine, ...]


@dataclass(frozen=True, slots=True)
class StepShare:
    """How many of some tokens were out of step, of those of which PingOne's answers tell."""

    name: str
    tokens: int
    out_of_step: int
    # Whether so many of them cannot be chance, compared with all others.
    stands_out: bool = False
    # The share among all others.
    elsewhere: float = 0.0

    @property
    def share(self) -> float:
        return self.out_of_step / self.tokens if self.tokens else 0.0


@dataclass(frozen=True, slots=True)
class StepColumn:
    """The shares by the values of one column of the file, those that stand out first, then the highest first."""

    name: str
    groups: tuple[StepShare, ...]


@dataclass(frozen=True, slots=True)
class Pause:
    """A time in which no call started, as far as the audit tells. Where `is_start_known` is False, the batch paused by
    itself, at some moment after `start`, when it last settled a token."""

    start: datetime
    # None: it still lasts.
    end: datetime | None
    why: str
    is_start_known: bool = True


@dataclass(frozen=True, slots=True)
class Timeline:
    """Tokens that are active now, by the time at which they became so: `moments` are times with the number of tokens
    that were active by then. `until` is when the last token was settled; while some are not, when this was read."""

    since: datetime
    until: datetime
    moments: tuple[tuple[datetime, int], ...]
    pauses: tuple[Pause, ...]


@dataclass(frozen=True, slots=True)
class Command:
    """A line of the audit about this batch."""

    at: datetime
    actor: str
    action: str
    ticket: str | None
    facts: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a batch comes from: its file and its list of who gets what, if there was one, each with the SHA-256 of its
    bytes; who loaded it, when, and on which ticket. What the audit tells is None where it has no line of the load."""

    file: str
    sha256: str | None
    environment: str
    environment_id: str
    loaded_at: datetime
    loaded_by: str | None
    ticket: str | None
    parent: str | None
    list_file: str | None = None
    list_sha256: str | None = None


@dataclass(frozen=True, slots=True)
class State:
    """How the batch stands: `finished`, or its state with the reason of a pause and the cure."""

    word: str
    reason: str | None
    detail: str | None
    # Whether it goes on by itself.
    is_passing: bool


@dataclass(frozen=True, slots=True)
class Versions:
    """What made the report: the program's version and the revision of the database's schema."""

    program: str
    schema: str


@dataclass(frozen=True, slots=True)
class Report:
    """The whole report, as it was at `made_at`. `tokens` is None where there are more than a page can hold."""

    batch: str
    made_at: datetime
    state: State
    counts: RowCounts
    dead_letters: tuple[ReasonGroup, ...]
    # The most frequent reason first; None if the batch was loaded before refused rows were kept.
    refused: tuple[RefusedGroup, ...] | None
    timeline: Timeline
    durations: Durations
    in_step: StepShare
    step_columns: tuple[StepColumn, ...]
    tokens: tuple[TokenLine, ...] | None
    origin: Origin
    commands: tuple[Command, ...]
    versions: Versions
    # Its tokens that were loaded again since. The counts, dead letters and refused rows above have these, too.
    taken_over: TakenOver = field(default_factory=TakenOver)
    # Names of batches that begin like its own: no file of its rows is proposed under one of them.
    names_taken: frozenset[str] = frozenset()
