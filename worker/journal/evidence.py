"""What journals show of a record, and how they correct a database that lost its last commits. Pure functions.

The lines of one lease stand in one file, in their order. The order of two leases is not used: two machines whose clocks
differ may have written them. So an OTP counts as answered if an answer came in any lease; otherwise it counts as posted
as often as the highest number that any lease left without an answer.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from models.reason import Reason
from models.record_states import OtpState
from worker.journal.reader import Line
from worker.rules.progress import OtpProgress, Progress
from worker.rules.steps import Active, DeadLetter, Decision, ReadDevice, SendOtp, Step

# What follows an answer, as `then` in a line of the journal, unless it is the reason of a dead letter.
# The device is ACTIVE.
ACTIVE = "active"
# The next OTP is sent.
NEXT_OTP = "next_otp"
_REASONS = frozenset(Reason)


class Row(NamedTuple):
    """By what a record is recognized. The device is part of it, since a database that was restored may give the number
    of a batch a second time."""

    batch: int
    row: int
    device: str


@dataclass(slots=True)
class OtpEvidence:
    """What the lines of the journal that were added so far show of one OTP."""

    is_seen: bool = False
    is_answered: bool = False
    # What followed the answer: ACTIVE, NEXT_OTP, or the reason of a dead letter.
    then: str | None = None
    # The highest number of posts that an earlier lease left without an answer, or that was answered.
    posts: int = 0
    # The lease that wrote the last line.
    lease: str = ""
    # The number of the post of this lease that has no answer yet; 0 if there is none.
    open_post: int = 0

    def add(self, line: Line) -> None:
        """Take in the next line about this OTP."""
        self.is_seen = True
        if line.lease != self.lease:
            self.posts, self.open_post, self.lease = self.most_posts, 0, line.lease
        match line.state:
            case OtpState.SENT:
                self.open_post = line.posts
            case OtpState.UNSENT:
                self.open_post = 0
            case OtpState.ANSWERED:
                self.is_answered, self.then, self.open_post = True, line.then, line.posts

    @property
    def most_posts(self) -> int:
        """How often the OTP was posted at most, as any one lease knew."""
        return max(self.posts, self.open_post)

    @property
    def verdict(self) -> Reason | None:
        """The reason for which the record becomes a dead letter, unless a read finds its device ACTIVE. None: its next
        OTP is sent."""
        if self.then == NEXT_OTP:
            return None
        # PingOne answered this OTP, so it is never sent again: if the device is not ACTIVE, it needs other OTPs.
        return Reason(self.then) if self.then in _REASONS else Reason.BUDGET_SPENT


@dataclass(slots=True)
class Evidence:
    """What journals show of one record."""

    first: OtpEvidence = field(default_factory=OtpEvidence)
    second: OtpEvidence = field(default_factory=OtpEvidence)
    # With a seed: the lowest counter of which no OTP was sent; 0 where no line tells of one.
    next_counter: int = 0

    def add(self, line: Line) -> None:
        """Take in the next line about this record."""
        self.next_counter = max(self.next_counter, line.next_counter or 0)
        (self.first if line.otp == 1 else self.second).add(line)

    def correct(self, known: Progress) -> Progress:
        """The progress that the database has, corrected by the journal; equal to `known` if there is nothing to
        correct."""
        if self._is_of_earlier_pairs(known):
            return known
        first = self.first
        if self.second.is_seen:
            # The second OTP is sent only after PingOne asked for it, so the first one was answered.
            first = OtpEvidence(True, is_answered=True, then=NEXT_OTP, posts=max(1, first.most_posts))
        corrected = _add_evidence(known, 1, first)
        corrected = _add_evidence(corrected, 2, self.second) if corrected.second else corrected
        return self._skip_used_counters(known, corrected)

    def _is_of_earlier_pairs(self, known: Progress) -> bool:
        """Whether the database knows every counter of these lines as used, and its seed has begun another pair since,
        of which nothing was sent yet: after a replay, a read, or when the device was removed."""
        return known.first.state == OtpState.UNSENT and 0 < self.next_counter <= (known.next_counter or 0)

    def _skip_used_counters(self, known: Progress, corrected: Progress) -> Progress:
        """Let a seed go on behind every counter that was used. Which pair they belonged to is not asked: unless an
        answer of PingOne's decided the record, it goes on as if an OTP 1 were of unknown fate, and begins a new pair
        after a read."""
        if known.next_counter is None or self.next_counter <= known.next_counter:
            return corrected
        behind = replace(corrected, next_counter=self.next_counter)
        if behind.verdict is not None:
            return behind
        first = OtpProgress(OtpState.SENT, max(behind.first.posts, self.first.most_posts))
        second = OtpProgress(OtpState.UNSENT, max(behind.posts - behind.first.posts, self.second.most_posts))
        return replace(behind, first=first, second=second)


def gather_evidence(lines: Iterable[Line]) -> dict[Row, Evidence]:
    """Collect what the lines show, by record. The lines of a lease must come in their order."""
    found: dict[Row, Evidence] = {}
    for line in lines:
        found.setdefault(Row(line.batch, line.row, line.device), Evidence()).add(line)
    return found


def find_consequence(progress: Progress, step: Step | Decision) -> str | None:
    """What follows an answer, as the journal writes it down in `then`; None if the answer decided nothing."""
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


def _add_evidence(known: Progress, ordinal: int, seen: OtpEvidence) -> Progress:
    """Correct what the database knows of OTP `ordinal` (1 or 2)."""
    otp = known.otp(ordinal)
    if otp.state == OtpState.ANSWERED:
        return known
    posts = max(otp.posts, seen.most_posts)
    if seen.is_answered:
        answered = known.with_otp(ordinal, OtpProgress(OtpState.ANSWERED, posts))
        return replace(answered, verdict=known.verdict or seen.verdict)
    # If the database has counted as many posts, it knows of all of them, and of what a read found afterwards.
    return known.with_otp(ordinal, OtpProgress(OtpState.SENT, posts)) if posts > otp.posts else known
