"""The calls of one attempt: each with a slot, a deadline and a permit; and what PingOne answered last."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final, Literal, TypeVar

from worker.clocks.boot_clock import boot_time
from worker.leases.attempt_line import CallSummary
from worker.leases.claim import Claim
from worker.pace.errors import SlotTooFar
from worker.pace.slot import Slot
from worker.pingone.client import Call
from worker.pingone.errors import NO_ANSWER, Answer, InvalidOtp, PingOneError, ResyncRequired
from worker.pingone.pairing import PairedDevice, Pairing
from worker.pingone.wire import Device
from worker.records.tools import AttemptTools
from worker.rules import resync
from worker.rules.no_effect import CallFailure
from worker.vault.otp import Otp

# What an answer to OTP 1 says of `oathResync`; others say nothing.
_SEEN = {
    Device: resync.Answer.TAKEN,
    ResyncRequired: resync.Answer.ASKED_FOR_SECOND,
    InvalidOtp: resync.Answer.REFUSED,
}


# What may be marked as sent: OTP 1, OTP 2, or the pairing.
Marked = Literal[1, 2, "pairing"]
PAIRING: Final = "pairing"
# What a call brings that succeeds.
T = TypeVar("T")


class NotPermitted(Exception):
    """No further call may start, since the batch was paused, the lease was lost, or the worker stops."""


class Calls:
    """The calls of one attempt at a record, under its lease."""

    def __init__(self, tools: AttemptTools, claim: Claim, slot: Slot) -> None:
        self._tools = tools
        self._claim = claim
        # What is marked as sent and not known to be answered; None: nothing is.
        self.marked: Marked | None = 1 if claim.is_otp1_marked else PAIRING if claim.is_pairing_marked else None
        # Requests that had gone out before it was marked.
        self._requests_before = 0
        # In `boot_time` seconds: an OTP that was made for a time step does not go out later.
        self._until = math.inf
        # PingOne's last answer, for the history.
        self._answer: Answer | None = None
        self._call = Call(
            session_id=f"oathbulk-batch-{claim.batch_id}",
            transaction_id=f"oathbulk-record-{claim.record_id}-{claim.lease_id[:8]}",
            slot=slot,
            send_before=claim.started + min(tools.send_within, tools.last_send),
            permit=self._check_permit,
        )

    @property
    def is_marked_unsent(self) -> bool:
        """Whether an OTP or the pairing is marked as sent of which no byte went out."""
        return self.marked is not None and self._call.requests == self._requests_before

    @property
    def summary(self) -> CallSummary:
        """What the calls have cost so far, and PingOne's last answer."""
        call = self._call
        return CallSummary(call.requests, call.rate_limited, self._answer, call.seconds)

    def describe(self) -> dict[str, Any]:
        """Describe the attempt for the log: our ids, and PingOne's id of its last answer, None before there is one."""
        claim, answer = self._claim, self._answer
        ids = {"batch_id": claim.batch_id, "record_id": claim.record_id, "attempt": claim.progress.attempts}
        return ids | {"correlation_id": answer and answer.correlation_id}

    def wait_for_slot(self) -> None:
        """Wait for a slot, unless one is at hand. Raises SlotTooFar."""
        if self._call.slot is None:
            self._call.slot = self._tools.pace.wait()

    def give_back_slot(self) -> None:
        """Let others have a slot that was waited for and not used."""
        if self._call.slot is not None:
            self._tools.pace.give_back(self._call.slot)
            self._call.slot = None

    def set_marked(self, marked: Marked, marked_after: float, seconds_left: float = math.inf) -> None:
        """Note that this was marked as sent, after `marked_after` in `boot_time` seconds; it may go out for
        `seconds_left` seconds from then, and no longer than the lease and the mark permit."""
        self.marked, self._requests_before = marked, self._call.requests
        self._until = marked_after + seconds_left
        self._set_send_deadline(marked_after)

    def read_device(self, device_id: str) -> Device | CallFailure:
        """Read the device. Raises NotPermitted."""
        self._begin_read()
        claim, client = self._claim, self._tools.client
        return self._perform(lambda: client.read_device(claim.user_id, device_id, call=self._call))

    def pair(self) -> PairedDevice | CallFailure:
        """Pair the token, which is marked as sent. Raises NotPermitted."""
        claim, pairings = self._claim, self._tools.pairings
        return self._perform(lambda: pairings.pair(claim.user_id, claim.serial_number, call=self._call))

    def find_device(self) -> Pairing | CallFailure | None:
        """Look up whose device the token is; None: nobody's. Raises NotPermitted."""
        self._begin_read()
        # It has a pace of its own, and may have to wait for that.
        self.give_back_slot()
        claim, pairings = self._claim, self._tools.pairings
        return self._perform(lambda: pairings.find_pairing(claim.serial_number, claim.user_id, call=self._call))

    def post(self, ordinal: int, otp: Otp, device_id: str, *, with_flag: bool) -> Device | CallFailure:
        """Post an OTP that is marked as sent; `with_flag`: with `oathResync`, whatever is known of the environment.
        Raises NotPermitted."""
        has_flag = with_flag or self._tools.resync.sends_flag()
        claim, client = self._claim, self._tools.client
        answer = self._perform(lambda: client.activate(claim.user_id, device_id, otp, resync=has_flag, call=self._call))
        if ordinal == 1 and (seen := _SEEN.get(type(answer))):
            self._tools.resync.learn(seen, had_flag=has_flag, record_id=claim.record_id)
        return answer

    def _begin_read(self) -> None:
        """Prepare for a call that sends nothing which is marked, and may go out as long as the lease permits."""
        self.marked = None
        self._call.send_before = self._claim.started + self._tools.last_send

    def _perform(self, call: Callable[[], T]) -> T | CallFailure:
        """Make a call, and return its answer or its failure, which is an answer too."""
        try:
            answer: T | CallFailure = call()
        except (PingOneError, SlotTooFar) as failure:
            # Its traceback refers to tenacity, which keeps the failure: a circle that holds all that the call had in
            # hand.
            answer = failure.with_traceback(None)
        self._remember_answer(read_answer(answer))
        return answer

    def _remember_answer(self, answer: Answer) -> None:
        """Keep the last answer for the history; but a plain answer to a read does not replace the refusal that led to
        the read."""
        is_plain = answer.code is None and answer.detail_code is None
        if answer.status is not None and not (is_plain and self._answer and self._answer.code):
            self._answer = answer

    def _set_send_deadline(self, marked_after: float) -> None:
        """Set the time by which the OTP must go out. It counts from before the OTP was marked, since the worker may
        hear of that commit long after it."""
        latest = min(self._claim.started + self._tools.last_send, self._until)
        self._call.send_before = min(latest, marked_after + self._tools.send_within)

    def _check_permit(self) -> None:
        """Raise NotPermitted if no further try of a call may start. A post is marked as sent anew, since a rescue
        counts from that time."""
        is_allowed = self._tools.leases.may_read if self.marked is None else self._tools.leases.renew_mark
        marked_after = boot_time()
        if self._tools.is_stopping() or not is_allowed(self._claim):
            raise NotPermitted
        if self.marked is not None:
            self._set_send_deadline(marked_after)


def read_answer(answer: object) -> Answer:
    """PingOne's answer as the history keeps it; NO_ANSWER where no slot was near, so that PingOne was not called, and
    for a look-up, whose answer decides nothing that PingOne's audit would tell."""
    return answer.answer if isinstance(answer, Device | PairedDevice | PingOneError) else NO_ANSWER
