"""Stories of a record, told to their end against a made-up PingOne: the promises hold whatever happens on the way.

A story is told as worker/records.py tells it, and keeps what worker/leases would have committed, so that it
can be broken off at any moment: a killed worker's record goes on from what was written down."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, repeat

from hypothesis import given, settings
from hypothesis import strategies as st
from support.data.progress import progress_with_device

from models.reason import Reason
from models.record_states import OtpState
from worker.pace.errors import PaceOutOfReach, SlotTooFar
from worker.pingone import errors
from worker.pingone.devices import Device
from worker.pingone.errors import Answer
from worker.rules.decisions import (
    NO_PERMIT,
    POSTS_PER_OTP,
    choose_first_step,
    decide_after_post,
    decide_after_read,
)
from worker.rules.progress import (
    Active,
    DeadLetter,
    Decision,
    Limits,
    Next,
    OtpProgress,
    Pause,
    Progress,
    ReadDevice,
    Retry,
    SendOtp,
    Step,
)

OFTEN = settings(max_examples=200)

FAILURES: dict[str, errors.PingOneError] = {
    "not_delivered": errors.NotDelivered(),
    "too_late": errors.TooLateToSend(),
    "rate_limited": errors.RateLimited(),
    "unauthorized": errors.Unauthorized(),
    "credentials_refused": errors.CredentialsRefused(),
    "forbidden": errors.Forbidden(),
    "license_exceeded": errors.LicenseExceeded(),
    "not_found": errors.NotFound(),
    "protocol_fault": errors.ProtocolFault(),
    "foreign_link": errors.ForeignLink(),
    "unknown": errors.OutcomeUnknown(),
    "done": errors.OutcomeUnknown(Answer(status=200, correlation_id="3f0c8a52")),
    "other_device": errors.OtherDevice(Answer(status=200, correlation_id="3f0c8a52")),
    "resync": errors.ResyncRequired(),
    "invalid": errors.InvalidOtp(),
    "rejected": errors.Rejected(),
    "not_usable": errors.Rejected(Answer(status=400, code="ACCOUNT_NOT_USABLE")),
    "too_many_terms": errors.TooManyTerms(),
    "expand_refused": errors.ExpandRefused(),
    "too_many_tokens": errors.TooManyTokens(),
    "inventory_full": errors.InventoryFull(),
    "already_imported": errors.AlreadyImported(),
    "bad_token": errors.BadToken(),
    "token_not_in_inventory": errors.TokenNotInInventory(),
    "already_paired": errors.AlreadyPaired(),
    "method_off": errors.MethodOff(),
    "too_many_devices": errors.TooManyDevices(),
    "account_not_usable": errors.AccountNotUsable(),
    "status_refused": errors.StatusRefused(),
    "slot_too_far": SlotTooFar(9.0),
    "pace_out_of_reach": PaceOutOfReach(4.0),
}
NOTHING = (errors.NotDelivered, errors.NotActedOn, errors.CredentialsRefused, SlotTooFar)

# What may happen to an OTP post: a failure above; or it works, and its answer is read, lost, or dies with the worker.
POSTS = [*FAILURES, "works", "works_unheard", "works_killed", "killed_before", "killed_after_resync", "not_permitted"]
READS = [*FAILURES, "truth", "killed", "not_permitted"]
# With one of these as PingOne's lasting mood, and reads that tell the truth, every story must come to its end.
MOODS = [
    "works",
    "works_unheard",
    "unknown",
    "done",
    "resync",
    "invalid",
    "rejected",
    "not_usable",
    "forbidden",
    "not_found",
]


class Killed(Exception):
    """The worker died: what was not written down is forgotten."""


@dataclass
class Story:
    """`written` is the record in the database. Every post and every end is held against the promises."""

    limits: Limits
    written: Progress
    posts: Iterator[str]
    reads: Iterator[str]
    stale_from: int | None = None
    attempts: int = 0
    told: int = 0
    is_active: bool = False
    delivered: dict[int, int] = field(default_factory=lambda: {1: 0, 2: 0})
    open: set[int] = field(default_factory=set)
    was_resync_written: bool = False
    was_read: bool = False

    def tell_attempt(self) -> Decision | None:
        """One leased try; None if the worker died in it."""
        self.told += 1
        self.attempts += 1
        is_stale = self.stale_from is not None and self.told >= self.stale_from
        progress = replace(self.written, attempts=self.attempts, is_stale=is_stale)
        self.was_read = False
        try:
            progress, decision = self._tell(progress)
        except Killed:
            return None
        self._settle(progress, decision)
        return decision

    def _tell(self, progress: Progress) -> tuple[Progress, Decision]:
        step: Step | Decision
        progress, step = choose_first_step(progress, self.limits)
        while isinstance(step, ReadDevice | SendOtp):
            tell = self._read(progress) if isinstance(step, ReadDevice) else self._post(progress, step.ordinal)
            progress, step = tell
        return progress, step

    def _read(self, progress: Progress) -> Next:
        event = next(self.reads)
        if event == "killed":
            raise Killed
        if event == "not_permitted":
            return progress, NO_PERMIT
        answer: Device | errors.PingOneError | None = FAILURES.get(event)
        if answer is None or (event == "not_found" and self.is_active):
            self.open.clear()
            answer = Device("ACTIVE" if self.is_active else "ACTIVATION_REQUIRED", False, False, Answer(status=200))
        # "No such device" is an answer as well: then nothing of it is active.
        self.was_read = isinstance(answer, Device | errors.NotFound)
        return decide_after_read(progress, answer, self.limits)

    def _post(self, progress: Progress, ordinal: int) -> Next:
        self._check_post(progress, ordinal)
        progress = progress.with_otp_sent(ordinal)
        self.written = progress
        event = next(self.posts)
        if event == "killed_before":
            self.open.add(ordinal)
            raise Killed
        if event == "not_permitted":
            return progress.with_otp_unsent(ordinal), NO_PERMIT
        answer = self._deliver(event, ordinal)
        progress, step = decide_after_post(progress, ordinal, answer, self.limits)
        if isinstance(step, SendOtp):
            self._write_answered(progress)
        return progress, step

    def _deliver(self, event: str, ordinal: int) -> Device | errors.PingOneError:
        answer = FAILURES.get(event)
        if isinstance(answer, NOTHING):
            return answer
        self.delivered[ordinal] += 1
        self.is_active |= event.startswith("works")
        if event == "works":
            return Device("ACTIVE", False, False, Answer(status=200))
        if answer is None or event in ("unknown", "done", "other_device"):
            self.open.add(ordinal)
        if event in ("works_killed", "killed_after_resync"):
            raise Killed
        return answer or errors.OutcomeUnknown()

    def _check_post(self, progress: Progress, ordinal: int) -> None:
        assert not self.is_active, "an OTP goes to a device that is active"
        assert ordinal == 1 or self.was_resync_written, "OTP 2 without EXTRA_OTP_REQUIRED to OTP 1"
        assert self.written.otp(ordinal).state != OtpState.ANSWERED, "an answered OTP goes again"
        assert not self.open, "an OTP goes while the fate of one is open"
        assert progress.otp(ordinal).posts < POSTS_PER_OTP
        assert self.delivered[ordinal] < POSTS_PER_OTP, "an OTP goes a third time"
        assert sum(self.delivered.values()) < self.limits.posts, "more posts than the budget"

    def _write_answered(self, progress: Progress) -> None:
        self.was_resync_written = True
        self.written = progress

    def _settle(self, progress: Progress, decision: Decision) -> None:
        is_counted = not isinstance(decision, Pause) and getattr(decision, "is_counted", True)
        self.attempts -= 0 if is_counted else 1
        self.written = progress
        assert sum(self.delivered.values()) <= progress.posts, "a post was not counted"
        if isinstance(decision, DeadLetter):
            assert not self.is_active, "what is active does not end active"
            assert not self.open or self.was_read, "final without a read, while a fate is open"
            assert decision.reason in Reason
        if isinstance(decision, Active):
            assert self.is_active


def tell(story: Story, most: int) -> Decision | None:
    """Attempts until the record is final, or so many were told."""
    for _ in range(most):
        decision = story.tell_attempt()
        if isinstance(decision, Active | DeadLetter):
            return decision
    return None


limits = st.builds(Limits, posts=st.integers(2, 7), attempts=st.integers(1, 8))
fresh = st.sampled_from([progress_with_device(), progress_with_device(second=None)])
events = st.lists(st.sampled_from(POSTS), max_size=12)
looks = st.lists(st.sampled_from(READS), max_size=12)
staleness = st.none() | st.integers(1, 6)


@OFTEN
@given(limits, fresh, events, looks, st.sampled_from(MOODS), staleness)
def test_every_story_ends_and_keeps_the_promises(
    limits: Limits, start: Progress, posts: Sequence[str], reads: Sequence[str], mood: str, stale_from: int | None
):
    story = Story(limits, start, chain(posts, repeat(mood)), chain(reads, repeat("truth")), stale_from)
    decision = tell(story, most=60)
    assert decision is not None, "the story does not end"
    assert isinstance(decision, Active) == story.is_active


@OFTEN
@given(
    fresh,
    st.sampled_from(["killed_before", "not_permitted", "unknown", "not_found"]),
    st.sampled_from(["not_delivered", "rate_limited", "slot_too_far", "too_late", "unauthorized"]),
)
def test_a_story_waits_for_the_end_of_an_outage_and_then_ends_well(start: Progress, before: str, outage: str):
    story = Story(Limits(), start, chain([before], repeat(outage, 50), repeat("works")), repeat("truth"))
    assert tell(story, most=60) == Active()


@OFTEN
@given(limits, events, st.sampled_from(["unknown", "forbidden", "rejected", "not_delivered", "killed"]))
def test_a_record_of_unknown_fate_waits_for_its_read_for_ever(limits: Limits, posts: Sequence[str], failing: str):
    story = Story(limits, progress_with_device(), chain(["unknown"], posts, repeat("works")), repeat(failing))
    assert tell(story, most=100) is None
    assert story.written.needs_read
    assert sum(story.delivered.values()) == 1


counted = st.integers(0, 3)
otps = st.builds(OtpProgress, st.sampled_from(OtpState), counted)
progresses = st.builds(
    progress_with_device,
    first=otps,
    second=st.none() | otps,
    attempts=st.integers(1, 12),
    verdict=st.none() | st.sampled_from([Reason.INVALID_OTP, Reason.RESYNC_FAILED, Reason.REJECTED]),
    not_found=st.integers(0, 4),
    is_stale=st.booleans(),
    jitter=st.floats(0, 1, exclude_max=True),
)
devices = st.builds(
    Device,
    st.sampled_from(["ACTIVE", "ACTIVATION_REQUIRED", "SOMETHING_NEW"]),
    st.booleans(),
    st.booleans(),
    st.just(Answer(status=200)),
)
answers = devices | st.sampled_from(list(FAILURES.values()))


def check_send(progress: Progress, step: Step | Decision, limits: Limits) -> None:
    """Whatever was known before: an OTP is only asked for if it may go."""
    if isinstance(step, SendOtp):
        otp = progress.otp(step.ordinal)
        assert otp.state == OtpState.UNSENT
        assert otp.posts < POSTS_PER_OTP
        assert progress.posts < limits.posts
        assert progress.attempts <= limits.attempts
        assert not progress.is_stale
        assert step.ordinal == 1 or progress.first.state == OtpState.ANSWERED


@OFTEN
@given(progresses, limits)
def test_whatever_is_known_an_attempt_begins_with_a_read_if_one_is_owed(progress: Progress, limits: Limits):
    known, step = choose_first_step(progress, limits)
    assert known == progress
    check_send(known, step, limits)
    assert isinstance(step, ReadDevice) == bool(progress.needs_read or progress.not_found)


@OFTEN
@given(progresses, answers, limits)
def test_whatever_is_known_every_answer_to_a_read_is_decided(
    progress: Progress, answer: Device | errors.PingOneError, limits: Limits
):
    known, step = decide_after_read(progress, answer, limits)
    check_send(known, step, limits)
    assert not isinstance(step, ReadDevice)
    assert known.posts == progress.posts
    assert isinstance(step, Active) == (isinstance(answer, Device) and answer.is_active)
    if isinstance(step, SendOtp):
        assert isinstance(answer, Device)
    if isinstance(step, Retry | Pause) and progress.needs_read:
        assert known.needs_read, "a read that told nothing leaves the fate open"
    if isinstance(step, DeadLetter) and OtpState.SENT in (
        progress.first.state,
        progress.second and progress.second.state,
    ):
        assert isinstance(answer, Device | errors.NotFound), "only an answer about the device closes a fate"


@OFTEN
@given(progresses, st.sampled_from([1, 2]), answers, limits)
def test_whatever_is_known_every_answer_to_an_otp_is_decided(
    progress: Progress, ordinal: int, answer: Device | errors.PingOneError, limits: Limits
):
    before = replace(progress, second=progress.second or OtpProgress(), verdict=None).with_device_waiting()
    before = before.with_otp_answered(1) if ordinal == 2 else before
    known, step = decide_after_post(before.with_otp_sent(ordinal), ordinal, answer, limits)
    check_send(known, step, limits)
    if isinstance(step, SendOtp):
        assert (step.ordinal, ordinal, type(answer)) == (2, 1, errors.ResyncRequired)
    if isinstance(step, DeadLetter):
        assert not known.needs_read
    if isinstance(answer, NOTHING):
        assert known.otp(ordinal) == OtpProgress(OtpState.UNSENT, before.otp(ordinal).posts)
        assert isinstance(step, Pause) or step.is_counted is False or step.reason == Reason.DEVICE_NOT_FOUND
    else:
        assert known.otp(ordinal).posts == before.otp(ordinal).posts + 1
        is_unknown = isinstance(answer, errors.OutcomeUnknown)
        assert known.otp(ordinal).state == (OtpState.SENT if is_unknown else OtpState.ANSWERED)


def test_every_failure_that_pingone_knows_is_tried_here():
    def family(kind: type[errors.PingOneError]) -> set[type[errors.PingOneError]]:
        return {kind}.union(*(family(each) for each in kind.__subclasses__()))

    untold = family(errors.PingOneError) - {type(failure) for failure in FAILURES.values()}
    assert untold == {errors.PingOneError, errors.NotActedOn}
