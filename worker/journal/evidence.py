"""What journals show of a record, and what a database that forgot has to learn from it. Pure.

The lines of one lease stand in one file, in their order. Nothing is made of the order of two leases: they may have been
written by two machines whose clocks differ. So an OTP counts as answered if any lease heard an answer, and otherwise as
often posted as the highest number that any lease left open.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from models.reason import Reason
from models.record import OtpState
from worker.journal.reader import Line
from worker.rules.progress import OtpProgress, Progress
from worker.rules.steps import Active, DeadLetter, Decision, ReadDevice, SendOtp, Step

# What follows an answer, if it is no reason for a dead letter: the device is ACTIVE, or the next OTP goes.
ACTIVE, NEXT_OTP = "active", "next_otp"
_REASONS = frozenset(Reason)


class Row(NamedTuple):
    """What a record is recognized by: a database that was restored may give the numbers of batches anew."""

    batch: int
    row: int
    device: str


@dataclass(slots=True)
class OtpEvidence:
    """What is known of one OTP, from its lines so far."""

    is_seen: bool = False
    is_answered: bool = False
    # What followed the answer.
    then: str | None = None
    # The highest post that an earlier lease left without an answer, or that was answered.
    posts: int = 0
    # The lease that the last line is of, and its post while that is without an answer.
    lease: str = ""
    open: int = 0

    def add(self, line: Line) -> None:
        self.is_seen = True
        if line.lease != self.lease:
            self.posts, self.open, self.lease = self.most_posts, 0, line.lease
        match line.state:
            case OtpState.SENT:
                self.open = line.posts
            case OtpState.UNSENT:
                self.open = 0
            case OtpState.ANSWERED:
                self.is_answered, self.then, self.open = True, line.then, line.posts

    @property
    def most_posts(self) -> int:
        return max(self.posts, self.open)

    @property
    def verdict(self) -> Reason | None:
        """What the record becomes a dead letter for, unless a read finds its device ACTIVE. None: its next OTP goes."""
        if self.then == NEXT_OTP:
            return None
        # PingOne took the OTP: should the device not be ACTIVE all the same, it needs fresh ones.
        return Reason(self.then) if self.then in _REASONS else Reason.BUDGET_SPENT


@dataclass(slots=True)
class Evidence:
    """What is known of one record."""

    first: OtpEvidence = field(default_factory=OtpEvidence)
    second: OtpEvidence = field(default_factory=OtpEvidence)

    def add(self, line: Line) -> None:
        (self.first if line.otp == 1 else self.second).add(line)

    def correct(self, known: Progress) -> Progress:
        """What the database knows, and what it has to learn beside it; equal to `known` if nothing."""
        first = self.first
        if self.second.is_seen:
            # The second OTP goes only after PingOne asked for it.
            first = OtpEvidence(True, is_answered=True, then=NEXT_OTP, posts=max(1, first.most_posts))
        known = _learn(known, 1, first)
        return _learn(known, 2, self.second) if known.second else known


def gather(lines: Iterable[Line]) -> dict[Row, Evidence]:
    """By record. The lines of a lease must come in their order."""
    found: dict[Row, Evidence] = {}
    for line in lines:
        found.setdefault(Row(line.batch, line.row, line.device), Evidence()).add(line)
    return found


def consequence(progress: Progress, step: Step | Decision) -> str | None:
    """What follows an answer, in the journal's words. None: nothing is known by it."""
    match step:
        case Active():
            return ACTIVE
        case SendOtp():
            return NEXT_OTP
        case DeadLetter(reason=reason):
            return reason
        case ReadDevice():
            return progress.verdict
    return None


def _learn(known: Progress, ordinal: int, seen: OtpEvidence) -> Progress:
    otp = known.otp(ordinal)
    if otp.state == OtpState.ANSWERED:
        return known
    posts = max(otp.posts, seen.most_posts)
    if seen.is_answered:
        answered = known.with_otp(ordinal, OtpProgress(OtpState.ANSWERED, posts))
        return replace(answered, verdict=known.verdict or seen.verdict)
    # As many posts as the database counts are known to it, and so is what a read found after them.
    return known.with_otp(ordinal, OtpProgress(OtpState.SENT, posts)) if posts > otp.posts else known
