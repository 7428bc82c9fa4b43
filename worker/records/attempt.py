"""One attempt at a record, under one lease: decisions choose the next step, until one of them ends the attempt and
settles the record. Each call of a step has a slot, a permit, and a deadline by which it must be sent."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from typing import Any, Final, Literal, TypeVar

from models.attempt import SOMEBODY_ELSE, CallName, Failure, find_last_answer
from models.encrypted import DecryptionError, Keyring, identify_row
from models.reason import PauseReason
from worker.batches.upkeep import explain_decryption_failure
from worker.clocks import PingOneClock, boot_time
from worker.database.errors import is_away
from worker.leases.lease import CallSummary, Claim, DeviceInProgress, Leases, leaves_pending
from worker.pace.search import SlotTooFar
from worker.pace.slots import Pace, Slot
from worker.pingone.client import Call, Client
from worker.pingone.clients import Pairings
from worker.pingone.devices import Device
from worker.pingone.errors import InvalidOtp, PingOneError, ResyncRequired
from worker.records.otp_source import Otps
from worker.rules import decisions, resync
from worker.rules.decisions import CallFailure
from worker.rules.steps import (
    Active,
    Decision,
    FindDevice,
    Limits,
    Mint,
    Next,
    Pair,
    Pause,
    Progress,
    Retry,
    SendOtp,
    Step,
    StepMissed,
    WaitForStep,
)
from worker.tenants import Resync
from worker.vault.otps import open_otps, write_spent

# An answer gives its time in whole seconds, so an age computed from it may be up to one second short.
_DATE_IS_CUT = timedelta(seconds=1)
# What an answer to OTP 1 says about `oathResync`; other answers say nothing.
_FIRST_OTP_ANSWERS = {
    Device: resync.FirstOtpAnswer.TAKEN,
    ResyncRequired: resync.FirstOtpAnswer.ASKED_FOR_SECOND,
    InvalidOtp: resync.FirstOtpAnswer.REFUSED,
}
_OTP_CALLS: dict[int, CallName] = {1: CallName.OTP1, 2: CallName.OTP2}
# What may be marked as sent: OTP 1, OTP 2, or the pairing.
Marked = Literal[1, 2, "pairing"]
PAIRING: Final = "pairing"
# The result of a successful call.
T = TypeVar("T")

# Called with a settled attempt: its claim, how it ended, and how many OTPs it spent.
OnSettled = Callable[[Claim, Decision, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptTools:
    """What all attempts of one thread share. Times in seconds."""

    leases: Leases
    client: Client
    pairings: Pairings
    pace: Pace
    keyring: Keyring
    # PingOne's time, for the OTPs of TOTP seeds.
    clock: PingOneClock
    # No OTP of a TOTP seed is sent in these last seconds of its time step.
    step_margin: float
    limits: Limits
    # An OTP is sent within this time after it was marked as sent, or not at all.
    send_within: float
    # An OTP is sent within this time after the claim, so that enough of the lease is left, or not at all.
    last_send: float
    # Knows, or learns, whether OTP 1 is sent with `oathResync`.
    resync: Resync
    on_settled: OnSettled
    is_stopping: Callable[[], bool]


class NotPermitted(Exception):
    """No further call may start, because the batch was paused, the lease was lost, or the worker stops."""


class Attempt:
    """One attempt, from a claim to its settlement. `progress` always has everything that is known, so that a failure of
    our own loses nothing."""

    def __init__(self, tools: AttemptTools, claim: Claim, slot: Slot) -> None:
        self.progress = claim.progress
        self._tools = tools
        self._claim = claim
        # What is marked as sent without a known answer; None: nothing.
        self._marked: Marked | None = 1 if claim.is_otp1_marked else PAIRING if claim.is_pairing_marked else None
        # Requests that were sent before the mark.
        self._requests_before = 0
        # In `boot_time` seconds: an OTP made for a time step is not sent later.
        self._until = math.inf
        # None until the OTPs are decrypted.
        self._otps: Otps | None = None
        # How long ago somebody else made the device, or made it ACTIVE.
        self._others_ago: timedelta | None = None
        # In `boot_time` seconds: nothing is sent later, so that enough of the lease is left for its answer.
        self._last_send = claim.started + tools.last_send
        self._call = Call(
            session_id=f"oathbulk-batch-{claim.batch_id}",
            transaction_id=f"oathbulk-record-{claim.record_id}-{claim.lease_id[:8]}",
            slot=slot,
            permit=self._check_permit,
        )
        self._set_send_deadline(claim.started)

    def describe(self) -> dict[str, Any]:
        """Describe the attempt for the log: our ids, and PingOne's id of its last answer, None before there is one."""
        claim = self._claim
        return {
            "batch_id": claim.batch_id,
            "record_id": claim.record_id,
            "attempt": claim.progress.attempts,
            "correlation_id": find_last_answer(self._call.past).get("correlation_id"),
        }

    def make(self) -> Decision | None:
        """Make the calls, and settle the record however they end. Returns the decision that ended the attempt, None if
        the lease was lost. Raises our own failures, after settling."""
        try:
            decision = self._run_steps()
        except Exception as failure:
            if self._marked is not None and self._call.requests == self._requests_before:
                # No byte of the marked request was sent.
                self._take_back(self._marked)
            self._settle(_decide_after_own_failure(failure, self._tools.limits))
            raise
        return self._settle(decision)

    def _run_steps(self) -> Decision:
        """Perform one step after the other until a decision ends the attempt."""
        claim = self._claim
        source = open_otps(self._tools.keyring, claim.otps, claim.batch_id, claim.row_number)
        self._otps = otps = Otps(source, self._tools.clock, self._tools.step_margin)
        step: Step | Decision
        if claim.is_otp1_marked:
            step = SendOtp(1)
        elif claim.is_pairing_marked:
            step = Pair()
        else:
            self.progress, step = decisions.choose_first_step(self.progress, self._tools.limits)
        try:
            while isinstance(step, Step):
                self.progress, step = self._take_step(step, otps)
        except NotPermitted:
            if self._marked is not None:
                # The permit is checked between two tries, and only a try without effect is followed by another.
                self._take_back(self._marked)
            return decisions.NO_PERMIT
        except SlotTooFar as far:
            return decisions.hand_back_without_slot(far)
        return step

    def _take_step(self, step: Step, otps: Otps) -> Next:
        """Take one step, and decide what follows. Raises NotPermitted, and SlotTooFar if nothing is marked."""
        match step:
            case Pair():
                return self._pair()
            case FindDevice():
                return self._find_device()
            # Any answer has the time; so if it is not known yet and an OTP needs it, the device is read.
            case SendOtp() if not otps.lacks_time:
                return self._send_otp(step.ordinal, otps)
        self.progress, following = self._read_device()
        if isinstance(following, SendOtp) and otps.lacks_time:
            # The first answer's time was far from this machine's: the next one shows which of the two is wrong.
            self.progress, following = self._read_device()
        return self.progress, decisions.NO_TIME if isinstance(following, SendOtp) and otps.lacks_time else following

    def _pair(self) -> Next:
        """Mark the pairing as sent, pair the token, and decide what follows. The device's id is recorded before an OTP
        is marked as sent."""
        claim, pairings = self._claim, self._tools.pairings
        if self._marked != PAIRING:
            self._wait_for_slot()
            marked_after = boot_time()
            if not self._tools.leases.mark_pairing(claim):
                raise NotPermitted
            self.progress = replace(self.progress, pairing=self.progress.pairing.sent())
            self._set_marked(PAIRING, marked_after)
        answer = self._perform(CallName.PAIR, pairings.pair, claim.user_id, claim.serial_number)
        return self._write_before(*decisions.decide_after_pairing(self.progress, answer, self._tools.limits))

    def _find_device(self) -> Next:
        """Look up whose device the token is, and decide what follows."""
        self._begin_read()
        # The search has its own pace, and may have to wait for its own slot.
        self._give_back_slot()
        claim, pairings = self._claim, self._tools.pairings
        answer = self._perform(CallName.FIND, pairings.find_pairing, claim.serial_number, claim.user_id)
        return self._write_before(
            *decisions.decide_after_search(self.progress, answer, claim.user_id, self._tools.limits)
        )

    def _read_device(self) -> Next:
        """Read the device and decide what follows."""
        self._begin_read()
        user_id, device_id, client = self._claim.user_id, self.progress.pairing.device_id, self._tools.client
        answer = self._perform(CallName.READ, client.read_device, user_id, device_id)
        if isinstance(answer, Device):
            since_claim = timedelta(seconds=boot_time() - self._claim.started)
            others_ago = decisions.find_age_of_others_work(self.progress, answer, since_claim)
            self._others_ago = others_ago if self._others_ago is None else self._others_ago
        # An OTP may be marked as sent again only after it is recorded that the first post was not accepted.
        is_flag_open = self._tools.resync.is_open
        return self._write_before(
            *decisions.decide_after_read(self.progress, answer, self._tools.limits, is_flag_open=is_flag_open)
        )

    def _send_otp(self, ordinal: Literal[1, 2], otps: Otps) -> Next:
        """Mark an OTP as sent, post it, record what is then known, and decide what follows."""
        if self._marked != ordinal and (instead := self._mark_sent(ordinal, otps)):
            return instead
        otp = otps.take(ordinal, self.progress.last_counter)
        # If a verdict waits, the OTP was refused without the flag.
        has_flag = ordinal == 2 or self.progress.verdict is not None or self._tools.resync.sends_flag()
        user_id, device_id, client = self._claim.user_id, self.progress.pairing.device_id, self._tools.client
        name, activate = _OTP_CALLS[ordinal], partial(client.activate, resync=has_flag)
        answer = self._perform(name, activate, user_id, device_id, otp, resync=has_flag)
        following = self._write_before(*decisions.decide_after_post(self.progress, ordinal, answer, self._tools.limits))
        if ordinal == 1 and (first_answer := _FIRST_OTP_ANSWERS.get(type(answer))):
            self._tools.resync.learn(first_answer, had_flag=has_flag, record_id=self._claim.record_id)
        return following

    def _take_back(self, marked: Marked) -> None:
        """Count a marked OTP or pairing as unsent again, since it was not sent."""
        if marked == PAIRING:
            self.progress = replace(self.progress, pairing=self.progress.pairing.unsent())
            return
        self.progress = self.progress.with_otp_unsent(marked)

    def _mark_sent(self, ordinal: Literal[1, 2], otps: Otps) -> Next | None:
        """Wait for a slot, then mark the OTP as sent. Returns None if it may be sent, or what follows instead."""
        chosen = otps.choose(self.progress, ordinal)
        if isinstance(chosen, Mint):
            self._wait_for_slot()
            # The time step may have ended meanwhile.
            chosen = otps.choose(self.progress, ordinal)
        if isinstance(chosen, WaitForStep):
            self._give_back_slot()
            return self.progress, Retry(chosen.seconds, is_counted=False, why=Failure.TIME_STEP)
        if isinstance(chosen, StepMissed):
            return self._write_before(*decisions.begin_new_pair(self.progress, self._tools.limits))
        marked_after, seconds_left = boot_time(), otps.seconds_left(chosen)
        if not self._tools.leases.mark_sent(self._claim, ordinal, chosen.counter):
            raise NotPermitted
        self.progress = self.progress.with_otp_sent(ordinal, chosen.counter)
        self._set_marked(ordinal, marked_after, seconds_left)
        return None

    def _write_before(self, progress: Progress, step: Step | Decision) -> Next:
        """Record what is known before a step that builds on it: a worker that dies in the next call must not lose it.
        `progress` keeps it even if recording fails: the commit may have gone through."""
        self.progress, self._marked = progress, None
        if not isinstance(step, Step):
            return progress, step
        try:
            if not self._tools.leases.write_progress(self._claim, progress, self._call.past):
                raise NotPermitted
        except DeviceInProgress:
            return decisions.give_up_device(progress)
        return progress, step

    def _settle(self, decision: Decision) -> Decision | None:
        """End the attempt in the database, and update its batch accordingly. Returns the decision, None if the lease
        was lost: then nothing is written."""
        if isinstance(decision, Active) and self._is_others_work():
            decision = Active(SOMEBODY_ELSE)
        if not self._tools.leases.settle(self._claim, self.progress, decision, self._sum_up(decision)):
            return None
        posts = self._claim.count_spent_posts(self.progress, leaves_pending=leaves_pending(decision))
        self._tools.on_settled(self._claim, decision, posts)
        return decision

    def _is_others_work(self) -> bool:
        """Whether somebody else made the device, or made it ACTIVE, since the batch began to run. Earlier work may be
        an earlier batch's, of any installation, or a person's."""
        return self._others_ago is not None and self._tools.leases.ran(self._claim, self._others_ago + _DATE_IS_CUT)

    def _sum_up(self, decision: Decision) -> CallSummary:
        """Sum up the calls that were sent, and which OTPs of a pair were spent if the pair is to be erased."""
        sent = self._otps.list_sent(self.progress) if self._otps and isinstance(decision, Active) else None
        row = identify_row(self._claim.batch_id, self._claim.row_number)
        spent = self._tools.keyring.seal(write_spent(sent), row) if sent else None
        return CallSummary(self._call.past, spent)

    def _wait_for_slot(self) -> None:
        """Wait for a slot, unless one is at hand. Raises SlotTooFar."""
        if self._call.slot is None:
            self._call.slot = self._tools.pace.wait()

    def _give_back_slot(self) -> None:
        """Return an unused slot for others."""
        if self._call.slot is not None:
            self._tools.pace.give_back(self._call.slot)
            self._call.slot = None

    def _set_marked(self, marked: Marked, marked_after: float, seconds_left: float = math.inf) -> None:
        """Note that this was marked as sent, after `marked_after` in `boot_time` seconds; it may be sent for
        `seconds_left` seconds from then, within the limits of lease and mark."""
        self._marked, self._requests_before = marked, self._call.requests
        self._until = marked_after + seconds_left
        self._set_send_deadline(marked_after)

    def _begin_read(self) -> None:
        """Prepare for a read: nothing is marked, and the read may be sent as long as the lease permits."""
        self._marked = None
        self._call.send_before = self._last_send

    def _perform(
        self, name: CallName, perform: Callable[..., T], *arguments: object, resync: bool | None = None
    ) -> T | CallFailure:
        """Make a call, and return its answer or its failure, which counts as an answer. `resync`: whether an OTP is
        sent with the flag."""
        self._call.name, self._call.resync = name, resync
        try:
            answer: T | CallFailure = perform(*arguments, call=self._call)
        except (PingOneError, SlotTooFar) as failure:
            # Its traceback refers to tenacity's state, which keeps the failure: a cycle that would keep OTPs in memory.
            answer = failure.with_traceback(None)
        return answer

    def _set_send_deadline(self, marked_after: float) -> None:
        """Set the deadline for sending the OTP. It counts from before the mark, since the worker may learn late that
        the mark was committed."""
        self._call.send_before = min(self._last_send, self._until, marked_after + self._tools.send_within)

    def _check_permit(self) -> None:
        """Raise NotPermitted if no further try of a call may start. A post is marked as sent again, since a rescue
        counts from that time."""
        is_allowed = self._tools.leases.may_read if self._marked is None else self._tools.leases.renew_mark
        marked_after = boot_time()
        if self._tools.is_stopping() or not is_allowed(self._claim):
            raise NotPermitted
        if self._marked is not None:
            self._set_send_deadline(marked_after)


def _decide_after_own_failure(failure: Exception, limits: Limits) -> Decision:
    """Pause the batch after a failure of our own. After a database restart, only make the record pending again; while
    the database is away, that cannot be written either, and the lease expires."""
    if is_away(failure):
        return Retry(limits.read_delay, is_counted=False, why=Failure.DATABASE)
    if isinstance(failure, DecryptionError):
        detail = explain_decryption_failure(failure)
        return Pause(PauseReason.INTERNAL, delay=limits.read_delay, is_own=True, detail=detail)
    return Pause(PauseReason.INTERNAL, delay=limits.read_delay)
