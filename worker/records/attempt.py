"""One attempt at a record, under one lease: the calls that its decisions ask for, and a settlement."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Literal

from worker.clocks.boot_clock import boot_time
from worker.leases.attempt_line import leaves_pending
from worker.leases.claim import Claim
from worker.leases.worker import DeviceInProgress
from worker.pace.errors import SlotTooFar
from worker.pace.slot import Slot
from worker.pingone.wire import Device
from worker.records.calls import PAIRING, Calls, Marked, NotPermitted
from worker.records.otps import FromPair, Otps
from worker.records.outcome import LEASE_LOST, describe_outcome
from worker.records.own_failures import decide_after_own_failure
from worker.records.tools import AttemptTools
from worker.rules import decisions, next_otp, pairing
from worker.rules.breaker_evidence import SOMEBODY_ELSE
from worker.rules.minting import Mint, StepMissed, WaitForStep
from worker.rules.no_effect import NO_TIME, hand_back_until_step, hand_back_without_permit, hand_back_without_slot
from worker.rules.progress import Progress
from worker.rules.steps import Active, Decision, FindDevice, Next, Pair, SendOtp, Step
from worker.vault.sealed_otps import open_otps

# An answer tells its time in whole seconds, so that what it shows may be older by up to one.
_DATE_IS_CUT = timedelta(seconds=1)


class Attempt:
    """One attempt, from a claim to its settlement. `progress` is what is known at any moment, so that a failure of our
    own loses nothing."""

    def __init__(self, tools: AttemptTools, claim: Claim, slot: Slot) -> None:
        self.tools = tools
        self.claim = claim
        self.progress: Progress = claim.progress
        self._calls = Calls(tools, claim, slot)
        # How long ago somebody else made the device, or made it ACTIVE.
        self._others_ago: timedelta | None = None
        # For the log.
        self.describe = self._calls.describe

    def run(self) -> str:
        """Make the calls, and settle the record however they end; say how that was. Raises what failed on our side,
        after settling."""
        try:
            decision = self._run_steps()
        except Exception as failure:
            if self._calls.marked is not None and self._calls.is_marked_unsent:
                self._take_back(self._calls.marked)
            self._settle(decide_after_own_failure(failure, self.tools.limits))
            raise
        return self._settle(decision)

    def _run_steps(self) -> Decision:
        """Perform one step after the other until a decision ends the attempt."""
        claim = self.claim
        source = open_otps(self.tools.keyring, claim.otps, claim.batch_id, claim.row_number)
        otps = Otps(source, self.tools.clock, self.tools.step_margin)
        step: Step | Decision
        if self.claim.is_otp1_marked:
            step = SendOtp(1)
        elif self.claim.is_pairing_marked:
            step = Pair()
        else:
            self.progress, step = decisions.choose_first_step(self.progress, self.tools.limits)
        while isinstance(step, Step):
            match step:
                case Pair():
                    self.progress, step = self._pair()
                case FindDevice():
                    self.progress, step = self._find_device()
                # Any answer tells the time; so where that is not known yet and an OTP needs it, the device is read.
                case SendOtp() if not otps.lack_clock:
                    self.progress, step = self._send_otp(step.ordinal, otps)
                case _:
                    self.progress, step = self._read_device()
                    if isinstance(step, SendOtp) and otps.lack_clock:
                        step = NO_TIME
        return step

    def _pair(self) -> Next:
        """Mark the pairing as sent, pair the token, and decide what follows. The device's id is written down before an
        OTP is marked as sent."""
        if self._calls.marked != PAIRING and (otherwise := self._mark_pairing()):
            return otherwise
        try:
            answer = self._calls.pair()
        except NotPermitted:
            self._take_back(PAIRING)
            return hand_back_without_permit(self.progress)
        self._calls.marked = None
        return self._write_before(*pairing.decide_after_pairing(self.progress, answer, self.tools.limits))

    def _find_device(self) -> Next:
        """Look up whose device the token is, and decide what follows."""
        try:
            answer = self._calls.find_device()
        except NotPermitted:
            return hand_back_without_permit(self.progress)
        user_id, limits = self.claim.user_id, self.tools.limits
        return self._write_before(*pairing.decide_after_search(self.progress, answer, user_id, limits))

    def _mark_pairing(self) -> Next | None:
        """Wait for a slot, then mark the pairing as sent. Returns what comes instead, or None if it may go out."""
        try:
            self._calls.wait_for_slot()
        except SlotTooFar as far:
            return hand_back_without_slot(self.progress, far)
        marked_after = boot_time()
        if not self.tools.leases.mark_pairing(self.claim):
            return hand_back_without_permit(self.progress)
        self.progress = replace(self.progress, pairing=self.progress.pairing.sent())
        self.claim = self.claim.with_pairing(self.progress.pairing)
        self._calls.set_marked(PAIRING, marked_after)
        return None

    def _read_device(self) -> Next:
        """Read the device and decide what follows."""
        try:
            answer = self._calls.read_device(self.progress.pairing.device_id)
        except NotPermitted:
            return hand_back_without_permit(self.progress)
        if isinstance(answer, Device):
            since_claim = timedelta(seconds=boot_time() - self.claim.started)
            found = decisions.find_age_of_others_work(self.progress, answer, since_claim)
            self._others_ago = found if self._others_ago is None else self._others_ago
        # An OTP may be marked as sent again only after it is written down that the first post was not taken.
        is_flag_open = self.tools.resync.is_open
        return self._write_before(
            *decisions.decide_after_read(self.progress, answer, self.tools.limits, is_flag_open=is_flag_open)
        )

    def _send_otp(self, ordinal: Literal[1, 2], otps: Otps) -> Next:
        """Mark an OTP as sent, post it, write down what is known then, and decide what follows."""
        if self._calls.marked != ordinal and (otherwise := self._mark_sent(ordinal, otps)):
            return otherwise
        try:
            otp = otps.take(ordinal, self.progress.last_counter)
            # A verdict that waits is a refusal without the flag.
            with_flag = ordinal == 2 or self.progress.verdict is not None
            answer = self._calls.post(ordinal, otp, self.progress.pairing.device_id, with_flag=with_flag)
        except NotPermitted:
            # The permit is asked for between two tries, and there is another try only after one that did nothing.
            self._take_back(ordinal)
            return hand_back_without_permit(self.progress)
        # `progress` has the answer from here on, even if writing it down fails: the commit may have gone through.
        self.progress, step = decisions.decide_after_post(self.progress, ordinal, answer, self.tools.limits)
        self._calls.marked = None
        return self._write_before(self.progress, step)

    def _take_back(self, marked: Marked) -> None:
        """Count an OTP or a pairing that did not go out as unsent again."""
        if marked == PAIRING:
            self.progress = replace(self.progress, pairing=self.progress.pairing.unsent())
            return
        self.progress = self.progress.with_otp_unsent(marked)

    def _mark_sent(self, ordinal: Literal[1, 2], otps: Otps) -> Next | None:
        """Wait for a slot, then mark the OTP as sent. Returns what comes instead, or None if it may go out."""
        chosen = otps.choose(self.progress, ordinal)
        if isinstance(chosen, FromPair | Mint):
            try:
                self._calls.wait_for_slot()
            except SlotTooFar as far:
                return hand_back_without_slot(self.progress, far)
            # The time step may have ended meanwhile.
            chosen = otps.choose(self.progress, ordinal)
        if isinstance(chosen, WaitForStep):
            self._calls.give_back_slot()
            return hand_back_until_step(self.progress, chosen.seconds)
        if isinstance(chosen, StepMissed):
            return self._write_before(*next_otp.begin_new_pair(self.progress, self.tools.limits))
        marked_after, seconds_left = boot_time(), otps.seconds_left(chosen)
        if not self.tools.leases.mark_sent(self.claim, ordinal, chosen.counter):
            return hand_back_without_permit(self.progress)
        self.progress = self.progress.with_otp_sent(ordinal, chosen.counter)
        self._calls.set_marked(ordinal, marked_after, seconds_left)
        return None

    def _write_before(self, progress: Progress, step: Step | Decision) -> Next:
        """Write down what is known before a step that builds on it: a worker that dies in the next call must not leave
        it unknown."""
        self.progress = progress
        if not isinstance(step, Step):
            return progress, step
        try:
            if not self.tools.leases.write_progress(self.claim, progress):
                return hand_back_without_permit(progress)
        except DeviceInProgress:
            return pairing.give_up_device(progress)
        self.claim = self.claim.with_pairing(progress.pairing)
        return progress, step

    def _settle(self, decision: Decision) -> str:
        """End the attempt in the database, and let its batch follow from that; nothing if the lease was lost. Say how
        it ended."""
        if isinstance(decision, Active) and self._is_others_work():
            decision = Active(SOMEBODY_ELSE)
        if not self.tools.leases.settle(self.claim, self.progress, decision, self._calls.summary):
            return LEASE_LOST
        posts = self.claim.count_spent_posts(self.progress, leaves_pending=leaves_pending(decision))
        self.tools.on_settled(self.claim, decision, posts)
        return describe_outcome(decision, self.progress)

    def _is_others_work(self) -> bool:
        """Whether somebody else made the device, or made it ACTIVE, since the batch began to run. What is older may be
        that of an earlier batch, of this installation or another, or a person's."""
        return self._others_ago is not None and self.tools.leases.ran(self.claim, self._others_ago + _DATE_IS_CUT)
