"""The story of a record that gets its device: paired, looked up, and activated in one attempt."""

from dataclasses import replace
from typing import Any

import pytest
from unit.records.test_activation import (
    ACTIVE,
    AGAIN,
    ANSWERED,
    INTERNAL,
    INVALID,
    LOST,
    NOT_PERMITTED,
    RESYNC,
    STALE,
    UNSENT,
    USER,
    WAITING,
    Story,
    fail,
    fail_late,
    hand_back,
    retried,
    tell,
)

from models.reason import Reason
from models.record_states import PairingState
from worker.pace.rate_groups import SlotTooFar
from worker.pingone import errors
from worker.pingone.errors import Answer
from worker.pingone.users import PairedDevice, Pairing
from worker.rules.steps import Active, DeadLetter, PairingProgress, Progress

DEVICE = "0f0b7a52-device"
FREE = PairingProgress(PairingState.UNSENT, was_free=True, is_allowed=True)
SENT, MISSED = replace(FREE, state=PairingState.SENT, pairings=1), PairingProgress(PairingState.MISSED, pairings=1)
MISSED = replace(MISSED, is_allowed=True)
MADE = replace(FREE, state=PairingState.PAIRED, device_id=DEVICE, pairings=1, is_made=True)
NOT_OURS = replace(MADE, pairings=0, is_made=False)
# It had a device, which PingOne has not found for a while.
HAD_DEVICE = PairingProgress(device_id=DEVICE, was_free=True, is_allowed=True)
PAIRED = PairedDevice(DEVICE, "ACTIVATION_REQUIRED", Answer(status=201))
PAIRED_ACTIVE = PairedDevice(DEVICE, "ACTIVE", Answer(status=201))
OURS = Pairing(DEVICE, USER)
ALREADY = errors.AlreadyPaired(Answer(status=400, code="INVALID_DATA"))
DONE = errors.OutcomeUnknown(Answer(status=200, correlation_id="3f0c8a52"))
NOT_FOUND = errors.NotFound(Answer(status=404))


def without_device(pairing: PairingProgress = FREE, **fields: int) -> Progress:
    return Progress(pairing=pairing, **fields)


WITHOUT_DEVICE = without_device()


def unpaired(*story: Any, progress: Progress = WITHOUT_DEVICE, **ends: Any) -> Story:
    return Story(*story, progress=progress, **ends)


FIND, POST = "slot given back, find", "slot, sending 1, post 1"
READ = "answered, slot, read, answered"
STORIES = {
    "a record is paired and activated in one lease with a slot for each call": unpaired(
        (PAIRED, ACTIVE), f"pair, answered, {POST}, settle Active", Active(), pairing=MADE
    ),
    "the second OTP goes in the same lease too": unpaired(
        (PAIRED, RESYNC, ACTIVE),
        f"pair, answered, {POST}, answered, slot, sending 2, post 2 with oathResync, settle Active",
        Active(),
        second=ANSWERED,
        pairing=MADE,
    ),
    "the device's id is written down before OTP 1 is marked": unpaired(
        (PAIRED,),
        "pair, answered, slot, sending 1, settle Pause",
        INTERNAL,
        UNSENT,
        given={"fails_at": "sending 1"},
        pairing=MADE,
        raises=RuntimeError,
    ),
    "a device that cannot be written down gets no OTP": unpaired(
        (PAIRED,), "pair, answered, settle Retry", NOT_PERMITTED, UNSENT, given={"is_lease_lost": True}, pairing=SENT
    ),
    "a device that is active at once gets no OTP": unpaired(
        (PAIRED_ACTIVE,), "pair, settle Active", Active(), UNSENT, pairing=MADE
    ),
    "a pairing whose answer got lost is looked up later and not repeated": unpaired(
        (LOST,), "pair, settle Retry", AGAIN, UNSENT, pairing=SENT
    ),
    # PingOne is done with the request, so nothing can still come of it.
    "an answer that says nothing of the device is looked up at once": unpaired(
        (DONE, OURS, WAITING, ACTIVE),
        f"pair, answered, find, {READ}, {POST}, settle Active",
        Active(),
        pairing=MADE,
    ),
    "a look-up gives back the slot that was waited for": unpaired(
        (None,),
        f"{FIND}, settle Retry",
        hand_back("not_found", 5.0),
        UNSENT,
        progress=without_device(SENT),
        pairing=replace(SENT, state=PairingState.MISSED),
    ),
    "a device that was found is written down, read and activated": unpaired(
        (OURS, WAITING, ACTIVE),
        f"{FIND}, {READ}, {POST}, settle Active",
        Active(),
        progress=without_device(SENT),
        pairing=MADE,
    ),
    "a device that was found and is active needs no OTP": unpaired(
        (OURS, ACTIVE),
        f"{FIND}, answered, slot, read, settle Active",
        Active(),
        UNSENT,
        progress=without_device(SENT),
        pairing=MADE,
    ),
    "a token that two look-ups find free is paired again under a new mark": unpaired(
        (None, PAIRED, ACTIVE),
        f"{FIND}, answered, slot, pairing, pair, answered, {POST}, settle Active",
        Active(),
        progress=without_device(MISSED),
        pairing=replace(MADE, pairings=2),
    ),
    # As before the attempt, and yet to be written: the mark stands in the database.
    "a device that is deleted and found after all is written down": unpaired(
        (NOT_FOUND, None, ALREADY, OURS, ACTIVE),
        "read, answered, find, answered, slot, pairing, pair, answered, find, answered, slot, read, settle Active",
        Active(),
        UNSENT,
        progress=without_device(HAD_DEVICE, not_found=3),
        pairing=HAD_DEVICE,
    ),
    "a pause between claim and pairing takes the mark back": unpaired(
        (retried(may_work=False),), "pair, still sending?, settle Retry", NOT_PERMITTED, UNSENT, pairing=FREE
    ),
    "a pairing that may not be marked does not go out": unpaired(
        (),
        "pairing, settle Retry",
        NOT_PERMITTED,
        UNSENT,
        progress=without_device(not_found=1),
        given={"may_send": False},
        pairing=FREE,
    ),
    "without a near slot a pairing is not marked": unpaired(
        (None,),
        f"{FIND}, answered, no slot, settle Retry",
        hand_back("hold", 5.0),
        UNSENT,
        progress=without_device(MISSED),
        given={"slots": 1},
        pairing=replace(FREE, pairings=1),
    ),
    "our own failure before the pairing went out takes its mark back": unpaired(
        (fail,), "pair, settle Pause", INTERNAL, UNSENT, pairing=FREE, raises=RuntimeError
    ),
    "our own failure after the pairing went out leaves its fate open": unpaired(
        (fail_late,), "pair, settle Pause", INTERNAL, UNSENT, pairing=SENT, raises=RuntimeError
    ),
    "a token that is paired already is looked up in the same attempt": unpaired(
        (ALREADY, OURS, WAITING, ACTIVE),
        f"pair, answered, find, {READ}, {POST}, settle Active",
        Active(),
        pairing=NOT_OURS,
    ),
    "a token that is another person's is given up": unpaired(
        (ALREADY, Pairing(DEVICE, "another-user")),
        "pair, answered, find, settle DeadLetter",
        DeadLetter(Reason.TOKEN_TAKEN, told="It is the device of user another-user."),
        UNSENT,
        pairing=FREE,
    ),
    "a refused OTP of the new device ends the record": unpaired(
        (PAIRED, INVALID, WAITING),
        f"pair, answered, {POST}, answered, slot, read, settle DeadLetter",
        DeadLetter(Reason.INVALID_OTP),
        pairing=MADE,
    ),
    "a stale record without a device is not paired": unpaired(
        (), "settle DeadLetter", STALE, UNSENT, given={"is_stale": True}, pairing=FREE
    ),
}
# A pairing that did not go out, or made nothing, with the mark of the claim and with one of the attempt.
STORIES |= {
    f"a pairing that came to {type(failure).__name__} is unsent again, {name}": unpaired(
        (failure,), f"{journal}, settle Retry", decision, UNSENT, progress=progress, pairing=FREE
    )
    for failure, decision in [
        (errors.NotDelivered(), hand_back("not_delivered", 1.0)),
        (NOT_FOUND, hand_back("not_found", 10.0)),
        (SlotTooFar(4.0), hand_back("hold", 4.0)),
    ]
    for name, progress, journal in [
        ("marked by the claim", without_device(), "pair"),
        ("marked in the attempt", without_device(not_found=1), "pairing, pair"),
    ]
}


@pytest.mark.parametrize("story", STORIES.values(), ids=STORIES)
def test_a_record_without_a_device(story: Story) -> None:
    tell(story)
