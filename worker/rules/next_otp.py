"""Which OTP a record sends next, or why it may send none. Pure."""

from __future__ import annotations

from typing import Literal

from models.reason import Reason
from models.record_states import OtpState
from worker.rules.limits import Limits
from worker.rules.progress import Progress
from worker.rules.steps import DeadLetter, Next, SendOtp

# Posts of one and the same OTP.
POSTS_PER_OTP = 2


def send_next_otp(progress: Progress, limits: Limits) -> Next:
    """Send the next OTP, or give the record up."""
    return progress, choose_otp(progress, limits)


def begin_new_pair(progress: Progress, limits: Limits) -> Next:
    """What follows where the second OTP of a seed's pair cannot go any more: another pair, if both of its OTPs are
    within the budget. Its token is out of step, so one OTP alone would be wasted."""
    again = progress.with_new_pair()
    if again.posts + 2 > limits.posts:
        return again, DeadLetter(Reason.BUDGET_SPENT)
    return send_next_otp(again, limits)


def may_go_again_with_flag(progress: Progress, limits: Limits) -> bool:
    """Whether a seed whose first OTP was refused sends its next one with `oathResync`. Its token may be out of step in
    an environment that asks for a second OTP only then, so the budget needs room for that one too."""
    was_refused = progress.verdict == Reason.INVALID_OTP and progress.posts == 1
    return was_refused and progress.next_counter is not None and progress.posts + 2 <= limits.posts


def choose_otp(progress: Progress, limits: Limits) -> SendOtp | DeadLetter:
    """The OTP that goes next, or the reason why none may. What became of every earlier post is known."""
    ordinal: Literal[1, 2] = 2 if progress.first.state == OtpState.ANSWERED else 1
    if ordinal == 2 and progress.second is None:
        return DeadLetter(Reason.SECOND_OTP_MISSING)
    otp = progress.otp(ordinal)
    if progress.is_stale:
        return DeadLetter(Reason.STALE_OTP, is_counted=False)
    # A seed makes another OTP for each post.
    is_used_up = progress.next_counter is None and otp.posts >= POSTS_PER_OTP
    if otp.state != OtpState.UNSENT or is_used_up or progress.posts >= limits.posts:
        return DeadLetter(Reason.BUDGET_SPENT)
    if progress.attempts > limits.attempts:
        return DeadLetter(Reason.ATTEMPTS_SPENT, is_counted=False)
    return SendOtp(ordinal)
