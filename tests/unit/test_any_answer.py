"""Whatever is known of a record and whatever PingOne answers: what comes next is decided, and no OTP is asked for that
may not go. That every story of a record ends, and keeps the promises, the hunt sees to, with the real statements."""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st
from support.data.progress import progress_with_device

from models.reason import Reason
from models.record_states import OtpState
from worker.pace.search import PaceOutOfReach, SlotTooFar
from worker.pingone import errors
from worker.pingone.devices import Device
from worker.pingone.errors import Answer
from worker.rules.decisions import (
    POSTS_PER_OTP,
    choose_first_step,
    decide_after_post,
    decide_after_read,
)
from worker.rules.steps import (
    Active,
    DeadLetter,
    Decision,
    Limits,
    OtpProgress,
    Pause,
    Progress,
    ReadDevice,
    Retry,
    SendOtp,
    Step,
)

OFTEN = settings(max_examples=200)

FAILURES: list[errors.PingOneError] = [
    errors.NotDelivered(),
    errors.TooLateToSend(),
    errors.RateLimited(),
    errors.Unauthorized(),
    errors.CredentialsRefused(),
    errors.Forbidden(),
    errors.LicenseExceeded(),
    errors.NotFound(),
    errors.ProtocolFault(),
    errors.ForeignLink(),
    errors.OutcomeUnknown(),
    errors.OutcomeUnknown(Answer(status=200, correlation_id="3f0c8a52")),
    errors.OtherDevice(Answer(status=200, correlation_id="3f0c8a52")),
    errors.ResyncRequired(),
    errors.InvalidOtp(),
    errors.Rejected(),
    errors.Rejected(Answer(status=400, code="ACCOUNT_NOT_USABLE")),
    errors.TooManyTerms(),
    errors.ExpandRefused(),
    errors.TooManyTokens(),
    errors.InventoryFull(),
    errors.AlreadyImported(),
    errors.BadToken(),
    errors.TokenNotInInventory(),
    errors.AlreadyPaired(),
    errors.MethodOff(),
    errors.TooManyDevices(),
    errors.AccountNotUsable(),
    errors.StatusRefused(),
    SlotTooFar(9.0),
    PaceOutOfReach(4.0),
]
NOTHING = (errors.NotDelivered, errors.NotActedOn, errors.CredentialsRefused, SlotTooFar)

limits = st.builds(Limits, posts=st.integers(2, 7), attempts=st.integers(1, 8))
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
answers = devices | st.sampled_from(FAILURES)


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

    untold = family(errors.PingOneError) - {type(failure) for failure in FAILURES}
    assert untold == {errors.PingOneError, errors.NotActedOn}
