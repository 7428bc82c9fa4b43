"""One attempt at a record, under one lease: the calls that its decisions ask for, and a settlement."""

from __future__ import annotations

import math
from collections.abc import Callable

from models.encrypted import DecryptionError, identify_row
from models.reason import PauseReason
from worker.clocks.boot_clock import boot_time
from worker.database.away import is_away
from worker.journal.evidence import find_consequence
from worker.leases.attempt_line import CallSummary, leaves_pending
from worker.leases.claim import Claim
from worker.pace.errors import SlotTooFar
from worker.pace.slot import Slot
from worker.pingone.client import Call
from worker.pingone.errors import NO_ANSWER, Answer, InvalidOtp, PingOneError, ResyncRequired
from worker.pingone.wire import Device
from worker.records.otps import FromPair, Otps
from worker.records.tools import AttemptTools
from worker.rules import decisions, resync
from worker.rules.minting import Mint, StepMissed, WaitForStep
from worker.rules.no_effect import (
    CallFailure,
    hand_back_until_step,
    hand_back_without_permit,
    hand_back_without_slot,
)
from worker.rules.progress import Progress
from worker.rules.steps import Decision, Next, Pause, ReadDevice, Retry, SendOtp, Step
from worker.vault.otp import Otp
from worker.vault.otp_source import read_otp_source

# What an answer to OTP 1 says of `oathResync`; others say nothing.
_SEEN = {
    Device: resync.Answer.TAKEN,
    ResyncRequired: resync.Answer.ASKED_FOR_SECOND,
    InvalidOtp: resync.Answer.REFUSED,
}


class NotPermitted(Exception):
    """No further call may start, since the batch was paused, the lease was lost, or the worker stops."""


class Attempt:
    """One attempt, from a claim to its settlement. `progress` is what is known at any moment, so that a failure of our
    own loses nothing."""

    def __init__(self, tools: AttemptTools, claim: Claim, slot: Slot) -> None:
        self.tools = tools
        self.claim = claim
        self.progress: Progress = claim.progress
        self.answer: Answer | None = None
        # The OTP that is marked as sent and not known to be answered; None: none is.
        self.marked: int | None = 1 if claim.is_otp1_marked else None
        # Requests that had gone out before it was marked.
        self.requests_before = 0
        # In `boot_time` seconds: an OTP that was made for a time step does not go out later.
        self._until = math.inf
        # Whether the OTP that goes out next goes with `oathResync`.
        self._has_flag = False
        self.call = Call(
            session_id=f"oathbulk-batch-{claim.batch_id}",
            transaction_id=f"oathbulk-record-{claim.record_id}-{claim.lease_id[:8]}",
            slot=slot,
            send_before=claim.started + min(tools.send_within, tools.last_send),
            permit=self._check_permit,
        )

    def run(self) -> None:
        """Make the calls, and settle the record however they end. Raises what failed on our side, after settling."""
        try:
            decision = self._run_steps()
        except Exception as failure:
            if self.marked is not None and self.call.requests == self.requests_before:
                self._take_back(self.marked)
            self._settle(self._decide_after_own_failure(failure))
            raise
        self._settle(decision)

    def _decide_after_own_failure(self, failure: Exception) -> Decision:
        """Pause the batch after a failure of our own. A database that was restarted mends itself, so there the record
        only goes back; where it is still away, this cannot be written either, and the lease runs out."""
        delay = self.tools.limits.read_delay
        if is_away(failure):
            return Retry(delay, is_counted=False, why="database")
        return Pause(PauseReason.INTERNAL, delay=delay, is_own=isinstance(failure, DecryptionError))

    def _run_steps(self) -> Decision:
        """Perform one step after the other until a decision ends the attempt."""
        identity = identify_row(self.claim.batch_id, self.claim.row_number)
        source = read_otp_source(self.tools.keyring.open(self.claim.otps, identity))
        otps = Otps(source, self.tools.clock, self.tools.step_margin)
        step: Step | Decision
        if self.claim.is_otp1_marked:
            step = SendOtp(1)
        else:
            self.progress, step = decisions.choose_first_step(self.progress, self.tools.limits)
        while isinstance(step, ReadDevice | SendOtp):
            # Any answer tells the time; so where that is not known yet and an OTP needs it, the device is read.
            if isinstance(step, ReadDevice) or otps.lack_clock:
                self.progress, step = self._read_device()
            else:
                self.progress, step = self._send_otp(step.ordinal, otps)
        return step

    def _read_device(self) -> Next:
        """Read the device and decide what follows."""
        self.marked = None
        self.call.send_before = self.claim.started + self.tools.last_send
        try:
            answer = self._call(
                lambda: self.tools.client.read_device(self.claim.user_id, self.claim.device_id, call=self.call)
            )
        except NotPermitted:
            return hand_back_without_permit(self.progress)
        # An OTP may be marked as sent again only after it is written down that the first post was not taken.
        return self._write_before(*decisions.decide_after_read(self.progress, answer, self.tools.limits))

    def _send_otp(self, ordinal: int, otps: Otps) -> Next:
        """Mark an OTP as sent, post it, write down what is known then, and decide what follows."""
        if self.marked != ordinal and (otherwise := self._mark_sent(ordinal, otps)):
            return otherwise
        self._write_journal(ordinal)
        otp = otps.take(ordinal, self.progress.last_counter)
        self._has_flag = ordinal == 2 or self.tools.resync.sends_flag()
        try:
            answer = self._call(lambda: self._post(otp))
        except NotPermitted:
            # The permit is asked for between two tries, and there is another try only after one that did nothing.
            self._take_back(ordinal)
            return hand_back_without_permit(self.progress)
        if ordinal == 1:
            self._learn_of_flag(answer)
        # `progress` has the answer from here on, even if writing it down fails: the commit may have gone through.
        self.progress, step = decisions.decide_after_post(self.progress, ordinal, answer, self.tools.limits)
        self._write_journal(ordinal, _read_answer(answer), find_consequence(self.progress, step))
        self.marked = None
        return self._write_before(self.progress, step)

    def _learn_of_flag(self, answer: Device | CallFailure) -> None:
        """Let the environment's answer to OTP 1 tell whether it wants `oathResync` with it."""
        seen = _SEEN.get(type(answer))
        if seen is not None:
            self.tools.resync.learn(seen, had_flag=self._has_flag, record_id=self.claim.record_id)

    def _write_journal(self, ordinal: int, answer: Answer = NO_ANSWER, then: str | None = None) -> None:
        """Write the state of an OTP into the journal, from which a restored database learns what it does not know."""
        self.tools.journal.write(self.claim, ordinal, self.progress.otp(ordinal), answer, then)

    def _take_back(self, ordinal: int) -> None:
        """Count an OTP that did not go out as unsent again."""
        self.progress = self.progress.with_otp_unsent(ordinal)
        self._write_journal(ordinal)

    def _mark_sent(self, ordinal: int, otps: Otps) -> Next | None:
        """Wait for a slot, then mark the OTP as sent. Returns what comes instead, or None if it may go out."""
        chosen = otps.choose(self.progress, ordinal)
        if self.call.slot is None and isinstance(chosen, FromPair | Mint):
            try:
                self.call.slot = self.tools.pace.wait()
            except SlotTooFar as far:
                return hand_back_without_slot(self.progress, far)
            # The time step may have ended meanwhile.
            chosen = otps.choose(self.progress, ordinal)
        if isinstance(chosen, WaitForStep):
            self._give_back_slot()
            return hand_back_until_step(self.progress, chosen.seconds)
        if isinstance(chosen, StepMissed):
            return self._write_before(*decisions.begin_new_pair(self.progress, self.tools.limits))
        marked_after, seconds_left = boot_time(), otps.seconds_left(chosen)
        if not self.tools.leases.mark_sent(self.claim, ordinal, chosen.counter):
            return hand_back_without_permit(self.progress)
        self.progress = self.progress.with_otp_sent(ordinal, chosen.counter)
        self.marked, self.requests_before = ordinal, self.call.requests
        self._until = marked_after + seconds_left
        self._set_send_deadline(marked_after)
        return None

    def _give_back_slot(self) -> None:
        """Let others have a slot that was waited for and not used."""
        if self.call.slot is not None:
            self.tools.pace.give_back(self.call.slot)
            self.call.slot = None

    def _write_before(self, progress: Progress, step: Step | Decision) -> Next:
        """Write down what is known before a step that builds on it: a worker that dies in the next call must not leave
        it unknown."""
        self.progress = progress
        if isinstance(step, SendOtp | ReadDevice) and not self.tools.leases.write_progress(self.claim, progress):
            return hand_back_without_permit(progress)
        return progress, step

    def _set_send_deadline(self, marked_after: float) -> None:
        """Set the time by which the OTP must go out. It counts from before the OTP was marked, since the worker may
        hear of that commit long after it."""
        latest = min(self.claim.started + self.tools.last_send, self._until)
        self.call.send_before = min(latest, marked_after + self.tools.send_within)

    def _post(self, otp: Otp) -> Device:
        """Post an OTP. Raises what the client raises."""
        return self.tools.client.activate(
            self.claim.user_id, self.claim.device_id, otp, resync=self._has_flag, call=self.call
        )

    def _call(self, call: Callable[[], Device]) -> Device | CallFailure:
        """Make a call, and return its answer or its failure, which is an answer too."""
        try:
            answer: Device | CallFailure = call()
        except (PingOneError, SlotTooFar) as failure:
            # Its traceback refers to tenacity, which keeps the failure: a circle that holds all that the call had in
            # hand.
            answer = failure.with_traceback(None)
        self._remember_answer(_read_answer(answer))
        return answer

    def _remember_answer(self, answer: Answer) -> None:
        """Keep the last answer for the history; but a plain answer to a read does not replace the refusal that led to
        the read."""
        is_plain = answer.code is None and answer.detail_code is None
        if answer.status is not None and not (is_plain and self.answer and self.answer.code):
            self.answer = answer

    def _check_permit(self) -> None:
        """Raise NotPermitted if no further try of a call may start. A post is marked as sent anew, since a rescue
        counts from that time."""
        is_allowed = self.tools.leases.may_read if self.marked is None else self.tools.leases.renew_mark
        marked_after = boot_time()
        if self.tools.is_stopping() or not is_allowed(self.claim):
            raise NotPermitted
        if self.marked is not None:
            self._set_send_deadline(marked_after)

    def _settle(self, decision: Decision) -> None:
        """End the attempt in the database, and let its batch follow from that; nothing if the lease was lost."""
        summary = CallSummary(self.call.requests, self.call.rate_limited, self.answer)
        if self.tools.leases.settle(self.claim, self.progress, decision, summary):
            posts = self.claim.count_spent_posts(self.progress, leaves_pending=leaves_pending(decision))
            self.tools.on_settled(self.claim, decision, posts)


def _read_answer(answer: Device | CallFailure) -> Answer:
    """PingOne's answer as the history keeps it; NO_ANSWER where no slot was near, so that PingOne was not called."""
    return NO_ANSWER if isinstance(answer, SlotTooFar) else answer.answer
