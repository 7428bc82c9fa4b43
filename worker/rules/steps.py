"""What is known about a record: the state of its OTPs, and the findings of its attempts; the counter of its next OTP;
its limits; and its next step: a call to PingOne, or the decision that ends the attempt. The values are immutable: every
step makes a new one. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Literal

from models.attempt import Failure
from models.reason import PauseReason, Reason
from models.record_states import OtpState, PairingState
from worker.rules.quota import Quota

# Tolerance between the age of a device and the age of the request that made it: ages of requests are computed when the
# attempt or the page begins, and either can last a minute or so.
TOLERANCE = timedelta(minutes=2)


@dataclass(frozen=True, slots=True)
class SentAgo:
    """Ages of the requests that may have created a device or a token: the first one and the last one."""

    first: timedelta
    last: timedelta


def count_ago(now: datetime, last_at: datetime | None, first_at: datetime | None = None) -> SentAgo | None:
    """Compute the ages of requests: the last was marked as sent at `last_at`, the first at `first_at` if there were
    several. None if no request was marked."""
    return SentAgo(now - (first_at or last_at), now - last_at) if last_at else None


def may_be_made_by(sent_ago: SentAgo | None, age: timedelta | None, lasts: timedelta) -> bool:
    """Whether one of our requests may have created a device or token of this age. True if either is unknown (None).
    `lasts`: how long PingOne may work on a request."""
    if sent_ago is None or age is None:
        return True
    return sent_ago.last - lasts - TOLERANCE <= age <= sent_ago.first + TOLERANCE


@dataclass(frozen=True, slots=True)
class OtpProgress:
    """What is known about one OTP. `posts` counts the requests with it that may have reached PingOne."""

    state: OtpState = OtpState.UNSENT
    posts: int = 0


@dataclass(frozen=True, slots=True)
class PairingProgress:
    """What is known about the pairing that makes a record's device. `device_id` is empty until there is a device.
    `pairings` counts pairing requests since the last replay that may have made one; `is_made`: one of them did.
    `was_free`: a look-up found the token free before the latest request. `is_allowed`: the record may be paired, now or
    again. `sent_ago`: the ages of the requests at the beginning of this attempt; zero for its own."""

    state: PairingState = PairingState.PAIRED
    device_id: str = ""
    pairings: int = 0
    is_made: bool = False
    was_free: bool = False
    is_allowed: bool = False
    sent_ago: SentAgo | None = field(default=None, compare=False)

    @property
    def is_open(self) -> bool:
        """Whether an unknown device, or one that may be ACTIVE, may exist: after a pairing request of unknown outcome,
        until a look-up has found the device and a read has shown its status; and while only the inventory has shown the
        device."""
        is_unread = self.state == PairingState.UNSENT and bool(self.device_id)
        return is_unread or self.state in (PairingState.SENT, PairingState.MISSED)

    @property
    def was_paired_by_others(self) -> bool:
        """Whether PingOne has shown a device that was not read yet, and that no request of ours can have made."""
        return self.is_open and bool(self.device_id) and not self.is_made and not self.pairings

    def sent(self) -> PairingProgress:
        """A pairing request is about to be sent, and its outcome is unknown until its answer comes."""
        first = self.sent_ago.first if self.sent_ago and self.pairings else timedelta(0)
        sent_ago = SentAgo(first, last=timedelta(0))
        return replace(self, state=PairingState.SENT, pairings=self.pairings + 1, sent_ago=sent_ago)

    def unsent(self) -> PairingProgress:
        """The request never reached PingOne, or made nothing, so it no longer counts in `pairings`. Earlier ones still
        do."""
        return replace(self, state=PairingState.UNSENT, pairings=self.pairings - 1)

    def found(self, device_id: str, *, is_made: bool) -> PairingProgress:
        """The token is this device of the record's user, which has to be read: it may be ACTIVE already."""
        return replace(self, state=PairingState.SENT, device_id=device_id, is_made=is_made)

    def with_age(self, age: timedelta | None, lasts: timedelta) -> PairingProgress:
        """PingOne says how old the device is. A device that a look-up found is somebody else's if it was made before
        our first request, or more than `lasts` after our last one: days may pass between our requests and the
        look-ups."""
        if not self.is_open or not self.is_made:
            return self
        return replace(self, is_made=may_be_made_by(self.sent_ago, age, lasts))

    def read(self) -> PairingProgress:
        """The device was read, so nothing is open."""
        return replace(self, state=PairingState.PAIRED) if self.device_id else self

    def paired(self, device_id: str, *, is_made: bool) -> PairingProgress:
        """The token is this device of the record's user."""
        return replace(self, state=PairingState.PAIRED, device_id=device_id, is_made=is_made)

    def missed(self) -> PairingProgress:
        """A look-up found the token free: for the first time after a request of unknown outcome, or again."""
        if self.state == PairingState.SENT:
            return replace(self, state=PairingState.MISSED)
        return replace(self, state=PairingState.UNSENT, was_free=True)

    def without_device(self) -> PairingProgress:
        """The device is gone from PingOne, and the token is free."""
        return replace(self, state=PairingState.UNSENT, device_id="", is_made=False, was_free=True)


@dataclass(frozen=True, slots=True)
class Progress:
    """Everything that decides what a record does next. `attempts` counts the attempts since the last replay, including
    this one; `not_found` counts the record's 404s; `is_stale`: its OTPs are too old to send. The other fields are as in
    the table `record`. A record with a seed has a `next_counter`, and makes another OTP for every post, so that no
    counter is used twice. `first` and `second` are then the OTPs of its latest pair, and their `posts` are those of all
    pairs together."""

    first: OtpProgress = OtpProgress()
    second: OtpProgress | None = OtpProgress()
    attempts: int = 1
    verdict: Reason | None = None
    not_found: int = 0
    is_stale: bool = False
    next_counter: int | None = None
    pairing: PairingProgress = PairingProgress()
    # An OTP was sent in this attempt, and the answer did not show the device's status.
    is_just_posted: bool = field(default=False, compare=False)
    # From 0 up to 1, drawn once for each attempt: spreads the delays of returning records.
    jitter: float = 0.0

    @property
    def posts(self) -> int:
        """Posts of both OTPs in this budget."""
        return self.first.posts + (self.second.posts if self.second else 0)

    @property
    def last_counter(self) -> int | None:
        """The counter of the last sent OTP; None without a seed."""
        return None if self.next_counter is None else self.next_counter - 1

    @property
    def is_half_done(self) -> bool:
        """Whether PingOne has asked for OTP 2, and it has not been sent. Meaningful only for unfinished records."""
        second = self.second
        is_answered = self.first.state == OtpState.ANSWERED and second is not None and second.state == OtpState.UNSENT
        return is_answered and self.verdict is None

    @property
    def is_open(self) -> bool:
        """Whether an OTP may have made the device ACTIVE without our knowledge."""
        return self.first.state == OtpState.SENT or (self.second is not None and self.second.state == OtpState.SENT)

    @property
    def needs_read(self) -> bool:
        """Whether only a read can make this record final: the outcome of an OTP or its pairing is unknown, or a verdict
        waits."""
        return self.is_open or self.verdict is not None or self.pairing.is_open

    def with_otp(self, ordinal: int, otp: OtpProgress) -> Progress:
        """The same record with another state of this OTP."""
        return replace(self, first=otp) if ordinal == 1 else replace(self, second=otp)

    def otp(self, ordinal: int) -> OtpProgress:
        """What is known about OTP 1 or 2."""
        otp = self.first if ordinal == 1 else self.second
        assert otp is not None, "only an OTP that the record brought is sent"  # noqa: S101
        return otp

    def with_otp_sent(self, ordinal: int, counter: int | None = None) -> Progress:
        """The OTP is about to be sent: its outcome is unknown until an answer is read. `counter`: the counter of an OTP
        from a seed."""
        sent = self.with_otp(ordinal, OtpProgress(OtpState.SENT, self.otp(ordinal).posts + 1))
        return sent if counter is None else replace(sent, next_counter=counter + 1)

    def with_otp_answered(self, ordinal: int) -> Progress:
        """PingOne answered the OTP, so it must never be sent again."""
        return self.with_otp(ordinal, replace(self.otp(ordinal), state=OtpState.ANSWERED))

    def with_otp_unsent(self, ordinal: int) -> Progress:
        """The OTP never reached PingOne, or PingOne did nothing with it: as if it had not been sent, so its counter is
        free again."""
        unsent = self.with_otp(ordinal, OtpProgress(OtpState.UNSENT, self.otp(ordinal).posts - 1))
        return unsent if self.next_counter is None else replace(unsent, next_counter=self.next_counter - 1)

    def with_device_waiting(self) -> Progress:
        """A read found the device still waiting: an OTP of unknown outcome was not accepted, and may be sent again.
        `not_found` stays: a record whose device is readable, but whose posts get 404s, must also come to an end."""
        known = replace(self, pairing=self.pairing.read())
        if known.next_counter is not None and known.is_open:
            return known._with_pair_after_unknown_outcome()
        for ordinal in (1, 2) if self.second else (1,):
            if known.otp(ordinal).state == OtpState.SENT:
                known = known.with_otp(ordinal, replace(known.otp(ordinal), state=OtpState.UNSENT))
        return known

    def _with_pair_after_unknown_outcome(self) -> Progress:
        """Begin another pair of a seed, since an OTP of this one may have reached PingOne. After an OTP 1 of unknown
        outcome one counter is skipped: if PingOne asked for the second OTP and that answer was lost, it would take the
        next OTP for the second one, and refuse it for lacking `oathResync`."""
        assert self.next_counter is not None, "only a seed makes another pair"  # noqa: S101
        skipped = 1 if self.first.state == OtpState.SENT else 0
        return replace(self.with_new_pair(), next_counter=self.next_counter + skipped)

    def with_new_pair(self) -> Progress:
        """Begin with an OTP 1 again: the seed makes another pair, and the posts so far still count."""
        first, second = self.first, self.second or OtpProgress()
        return replace(
            self, first=OtpProgress(OtpState.UNSENT, first.posts), second=OtpProgress(OtpState.UNSENT, second.posts)
        )


# The counter from which a seed makes its next OTP, and when that OTP may be sent. For HOTP it is the next counter, at
# any time. For TOTP it is the current time step by PingOne's clock (RFC 6238); OTP 2 must come from the step right
# after OTP 1's. Times are Unix times of PingOne's clock, in seconds.


@dataclass(frozen=True, slots=True)
class Now:
    """The time by PingOne's clock, as far as it is known: it is between these two."""

    earliest: float
    latest: float


@dataclass(frozen=True, slots=True)
class Mint:
    """Make the OTP from this counter; None: the record's pair has it. It may be sent until `until`; only OTPs of TOTP
    seeds expire."""

    counter: int | None
    until: float = math.inf


@dataclass(frozen=True, slots=True)
class WaitForStep:
    """The next OTP's time step has not begun, or the current one ends too soon: `seconds` until the next one begins."""

    seconds: float


@dataclass(frozen=True, slots=True)
class StepMissed:
    """The time step for OTP 2 is over, or nearly: only a new pair helps."""


def choose_hotp_counter(progress: Progress) -> Mint:
    """Choose the counter of the next OTP of an HOTP seed."""
    return Mint(_unused(progress))


def choose_time_step(
    progress: Progress, ordinal: int, time_step: int, now: Now, margin: float
) -> Mint | WaitForStep | StepMissed:
    """Choose the time step of OTP `ordinal` of a TOTP seed. `time_step` in seconds; no OTP is sent in the last `margin`
    seconds of its step."""
    unused = _unused(progress)
    # While the step may or may not have changed, assume the earlier one.
    step = int(now.earliest // time_step)
    ends = (step + 1) * time_step
    is_nearly_over = now.latest >= ends - margin
    if ordinal == 2 and (step > unused or (step == unused and is_nearly_over)):
        return StepMissed()
    if step < unused:
        return WaitForStep(unused * time_step - now.earliest)
    return WaitForStep(ends - now.earliest) if is_nearly_over else Mint(step, ends - margin)


def _unused(progress: Progress) -> int:
    """The lowest counter or time step without an OTP."""
    assert progress.next_counter is not None, "only a record with a seed makes OTPs"  # noqa: S101
    return progress.next_counter


# Limits, steps and decisions


@dataclass(frozen=True, slots=True)
class Limits:
    """What the settings allow each record."""

    # Posts of OTPs, for one set of OTPs.
    posts: int = 3
    # Counted attempts since the last replay.
    attempts: int = 8
    # Seconds after an unanswered call until the device is read: PingOne may still be working on the call. A read
    # without a result is repeated after a delay in proportion to this one.
    read_delay: float = 30.0
    # Seconds after which a request that was marked as sent gets no answer anymore, and PingOne is done with it.
    over_after: float = 55.0
    # Seconds after a 404 until the device is looked for again.
    not_found_delay: float = 10.0
    # Longest hold of the fleet in seconds after a `Retry-After`; a longer wait means a used-up quota.
    longest_hold: float = 120.0


@dataclass(frozen=True, slots=True)
class ReadDevice:
    """Read the device, to see whether it is ACTIVE, waits, or cannot be activated."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Pair the token with the record's user, which makes its device."""


@dataclass(frozen=True, slots=True)
class FindDevice:
    """Look up whose device the token is: after a pairing of unknown outcome, or if PingOne says that it is paired."""


@dataclass(frozen=True, slots=True)
class SendOtp:
    """Post this OTP; the second one is sent with `oathResync`."""

    ordinal: Literal[1, 2]


@dataclass(frozen=True, slots=True)
class Active:
    """The device is ACTIVE, and the record is done. `why`: one word for the attempt's line, if it was somebody else's
    work."""

    why: str | None = None


@dataclass(frozen=True, slots=True)
class Retry:
    """The record is pending again, and due after `delay` seconds. `is_counted`: the attempt counts against the limit.
    `why`: for the attempt's line."""

    delay: float
    is_counted: bool
    why: Failure


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """The record failed, and waits for a person."""

    reason: Reason
    # False if PingOne did nothing with the request, so that the attempt does not count.
    is_counted: bool = True
    # What PingOne showed, in a sentence with ids but no names, shown after the reason's cure.
    evidence: str = ""


@dataclass(frozen=True, slots=True)
class Pause:
    """The record is pending again, due after `delay` seconds, and its batch pauses: only a person or time can fix the
    cause. The attempt does not count."""

    reason: PauseReason
    delay: float = 0.0
    # Whether only this worker process may be at fault (a wrong key or secret). Then others can do the work.
    is_own: bool = False
    # With the reason `quota`: when the batch continues by itself.
    quota: Quota | None = None
    # A sentence for a person, instead of the reason's cure.
    detail: str | None = None


Step = ReadDevice | Pair | FindDevice | SendOtp
Decision = Active | Retry | DeadLetter | Pause
# What is known about the record now, and what it does next.
Next = tuple[Progress, Step | Decision]
