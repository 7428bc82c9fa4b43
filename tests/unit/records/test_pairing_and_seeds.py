"""The stories of a record that gets its device, paired or looked up and activated in one attempt; and of a record whose
OTPs are made from a seed: from which counter, and when."""

from dataclasses import replace
from typing import Any

import pytest
from support.data.progress import progress_with_device
from unit.records.test_activation import (
    ACTIVE,
    AGAIN,
    ANSWERED,
    INTERNAL,
    INVALID,
    LOST,
    NOT_PERMITTED,
    PAIR,
    RESYNC,
    SENT,
    STALE,
    UNSENT,
    USER,
    WAITING,
    Story,
    World,
    after,
    fail,
    fail_late,
    hand_back,
    retried,
    tell,
)

from models.reason import Reason
from models.record_states import PairingState
from worker.pace.search import SlotTooFar
from worker.pingone import errors
from worker.pingone.devices import PairedDevice, Pairing
from worker.pingone.errors import Answer
from worker.rules.decisions import NO_TIME
from worker.rules.steps import Active, DeadLetter, PairingProgress, Progress
from worker.tenants import Resync
from worker.vault.otps import Secret, Seed

DEVICE = "0f0b7a52-device"
FREE = PairingProgress(PairingState.UNSENT, was_free=True, is_allowed=True)
PAIRING_SENT = replace(FREE, state=PairingState.SENT, pairings=1)
PAIRING_MISSED = PairingProgress(PairingState.MISSED, pairings=1, is_allowed=True)
MADE = replace(FREE, state=PairingState.PAIRED, device_id=DEVICE, pairings=1, is_made=True)
NOT_OURS = replace(MADE, pairings=0, is_made=False)
# It had a device, which PingOne has not found for a while.
HAD_DEVICE = PairingProgress(device_id=DEVICE, was_free=True, is_allowed=True)
PAIRED = PairedDevice(DEVICE, "ACTIVATION_REQUIRED", Answer(status=201))
PAIRED_ACTIVE = PairedDevice(DEVICE, "ACTIVE", Answer(status=201))
OURS = Pairing(DEVICE, USER)
ALREADY = errors.AlreadyPaired(Answer(status=400, code="INVALID_DATA"))
DONE = errors.OutcomeUnknown(Answer(status=200, correlation_id="3f0c8a52"))
NOT_FOUND, NOT_DELIVERED = errors.NotFound(Answer(status=404)), errors.NotDelivered()


WITHOUT_DEVICE = Progress(pairing=FREE)


def without_device(pairing: PairingProgress = FREE, **fields: int) -> Progress:
    return Progress(pairing=pairing, **fields)


def unpaired(*story: Any, **ends: Any) -> Story:
    return Story(*story, **{"progress": WITHOUT_DEVICE} | ends)


FIND, POST = "slot given back, find", "slot, sending 1, post 1"
READ_FOUND = "answered, slot, read, answered"
PAIRINGS = {
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
        (PAIRED,),
        "pair, answered, settle Retry",
        NOT_PERMITTED,
        UNSENT,
        given={"is_lease_lost": True},
        pairing=PAIRING_SENT,
    ),
    "a device that is active at once gets no OTP": unpaired(
        (PAIRED_ACTIVE,), "pair, settle Active", Active(), UNSENT, pairing=MADE
    ),
    "a pairing whose answer got lost is looked up later and not repeated": unpaired(
        (LOST,), "pair, settle Retry", AGAIN, UNSENT, pairing=PAIRING_SENT
    ),
    # PingOne is done with the request, so nothing can still come of it.
    "an answer that says nothing of the device is looked up at once": unpaired(
        (DONE, OURS, WAITING, ACTIVE),
        f"pair, answered, find, {READ_FOUND}, {POST}, settle Active",
        Active(),
        pairing=MADE,
    ),
    "a look-up gives back the slot that was waited for": unpaired(
        (None,),
        f"{FIND}, settle Retry",
        hand_back("not_found", 5.0),
        UNSENT,
        progress=without_device(PAIRING_SENT),
        pairing=replace(PAIRING_SENT, state=PairingState.MISSED),
    ),
    "a device that was found is written down, read and activated": unpaired(
        (OURS, WAITING, ACTIVE),
        f"{FIND}, {READ_FOUND}, {POST}, settle Active",
        Active(),
        progress=without_device(PAIRING_SENT),
        pairing=MADE,
    ),
    "a device that was found and is active needs no OTP": unpaired(
        (OURS, ACTIVE),
        f"{FIND}, answered, slot, read, settle Active",
        Active(),
        UNSENT,
        progress=without_device(PAIRING_SENT),
        pairing=MADE,
    ),
    "a token that two look-ups find free is paired again under a new mark": unpaired(
        (None, PAIRED, ACTIVE),
        f"{FIND}, answered, slot, pairing, pair, answered, {POST}, settle Active",
        Active(),
        progress=without_device(PAIRING_MISSED),
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
        progress=without_device(PAIRING_MISSED),
        given={"slots": 1},
        pairing=replace(FREE, pairings=1),
    ),
    "our own failure before the pairing went out takes its mark back": unpaired(
        (fail,), "pair, settle Pause", INTERNAL, UNSENT, pairing=FREE, raises=RuntimeError
    ),
    "our own failure after the pairing went out leaves its fate open": unpaired(
        (fail_late,), "pair, settle Pause", INTERNAL, UNSENT, pairing=PAIRING_SENT, raises=RuntimeError
    ),
    "a token that is paired already is looked up in the same attempt": unpaired(
        (ALREADY, OURS, WAITING, ACTIVE),
        f"pair, answered, find, {READ_FOUND}, {POST}, settle Active",
        Active(),
        pairing=NOT_OURS,
    ),
    "a token that is another person's is given up": unpaired(
        (ALREADY, Pairing(DEVICE, "another-user")),
        "pair, answered, find, settle DeadLetter",
        DeadLetter(Reason.TOKEN_TAKEN, evidence="The device belongs to user another-user."),
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
PAIRINGS |= {
    f"a pairing that came to {type(failure).__name__} is unsent again, {name}": unpaired(
        (failure,), f"{journal}, settle Retry", decision, UNSENT, progress=progress, pairing=FREE
    )
    for failure, decision in [
        (NOT_DELIVERED, hand_back("not_delivered", 1.0)),
        (NOT_FOUND, hand_back("not_found", 10.0)),
        (SlotTooFar(4.0), hand_back("hold", 4.0)),
    ]
    for name, progress, journal in [
        ("marked by the claim", without_device(), "pair"),
        ("marked in the attempt", without_device(not_found=1), "pairing, pair"),
    ]
}


@pytest.mark.parametrize("story", PAIRINGS.values(), ids=PAIRINGS)
def test_a_record_without_a_device(story: Story) -> None:
    tell(story)


# Seeds.

# Counters 0, 1 and 2 make the OTPs 308714, 367299 and 262306.
SECRET = Secret(bytes.fromhex("d2f7a4affb163ad95f3593f4c6f9b05b89a8105b"))
HOTP = Seed(secret=SECRET)
TOTP = Seed(secret=SECRET, otp_type="totp", time_step=30)
MINUTES = Seed(secret=SECRET, otp_type="totp", time_step=60)
# The begin of a time step of 30 and of 60 seconds, and the number of the step.
BEGIN = 1_800_000_000
STEP = BEGIN // 30


class Unproved(Resync):
    """An environment of which it is not known yet whether it wants `oathResync` with OTP 1."""

    is_open = True


UNPROVED = {"source": HOTP, "resync": Unproved(False)}


def hotp(*story: Any, next_counter: int = 7, given: Any = {"source": HOTP}, known: Any = {}, **ends: Any) -> Story:  # noqa: B006
    return Story(*story, progress=progress_with_device(next_counter=next_counter, **known), given=given, **ends)


def totp(*story: Any, at: float, next_counter: int = 0, known: Any = {}, **given: Any) -> Story:  # noqa: B006
    """PingOne's time is so many seconds after BEGIN."""
    ends = {name: given.pop(name) for name in Story._fields if name in given}
    progress = progress_with_device(next_counter=next_counter, **known)
    return Story(*story, progress=progress, given={"source": TOTP, "time": BEGIN + at} | given, **ends)


def second_of(seconds: float, *story: Any, **ends: Any) -> Story:
    """Of TOTP, between its OTPs: the first came from the step STEP."""
    return totp(*story, at=seconds, next_counter=STEP + 1, known={"first": ANSWERED, "attempts": 2}, **ends)


def next_step(seconds: float) -> Any:
    return hand_back("time_step", seconds)


REFUSED, SPENT = DeadLetter(Reason.INVALID_OTP), DeadLetter(Reason.BUDGET_SPENT)
ONCE, TWICE = replace(UNSENT, posts=1), replace(UNSENT, posts=2)
NEW_OTP_1, READ = "answered, slot, sending 1, post 1", "post 1, answered, slot, read"
OTP_2 = "answered, slot, sending 2, post 2 with oathResync"
AGAIN_WITH_FLAG = f"{READ}, {NEW_OTP_1} with oathResync"
SEEDS = {
    "a fresh record sends the OTP of its counter": hotp((ACTIVE,), "post 1, settle Active", Active(), counters=(7,)),
    "the second OTP is that of the counter after the first": hotp(
        (RESYNC, ACTIVE), f"post 1, {OTP_2}, settle Active", Active(), second=ANSWERED, counters=(7, 8)
    ),
    # If PingOne asked for a second OTP, and that answer got lost, the next one would be taken for it.
    "an OTP of unknown fate is not sent again and the one after it is left out": hotp(
        (WAITING, ACTIVE),
        f"read, {NEW_OTP_1}, settle Active",
        Active(),
        replace(ANSWERED, posts=2),
        next_counter=8,
        known={"first": SENT, "attempts": 2},
        counters=(9,),
    ),
    "a time step is left out as well": totp(
        (WAITING,),
        "read, answered, settle Retry",
        next_step(25.0),
        ONCE,
        at=5.0,
        next_counter=STEP,
        known={"first": SENT, "attempts": 2},
        unused=STEP + 1,
    ),
    "an OTP that did not go out leaves its counter free": hotp(
        (NOT_DELIVERED,), "post 1, settle Retry", hand_back("not_delivered", 1.0), UNSENT, counters=(7,), unused=7
    ),
    "a second OTP that did not go out leaves its counter free": hotp(
        (RESYNC, NOT_DELIVERED),
        f"post 1, {OTP_2}, settle Retry",
        hand_back("not_delivered", 1.0),
        counters=(7, 8),
        unused=8,
    ),
    "a second OTP still follows the first in another attempt": hotp(
        (ACTIVE,),
        "sending 2, post 2 with oathResync, settle Active",
        Active(),
        second=ANSWERED,
        next_counter=8,
        known={"first": ANSWERED, "attempts": 2},
        counters=(8,),
    ),
    "a second OTP of unknown fate needs a new pair which the budget has no room for": hotp(
        (WAITING,),
        "read, settle DeadLetter",
        SPENT,
        ONCE,
        ONCE,
        next_counter=9,
        known={"first": ANSWERED, "second": SENT, "attempts": 2},
    ),
    "a replayed second OTP of unknown fate begins a new pair": hotp(
        (WAITING, RESYNC, ACTIVE),
        f"read, {NEW_OTP_1}, {OTP_2}, settle Active",
        Active(),
        second=ANSWERED,
        next_counter=9,
        known={"first": replace(ANSWERED, posts=0), "second": replace(SENT, posts=0), "attempts": 2},
        counters=(9, 10),
    ),
    "a seed makes another OTP for each post": hotp(
        (ACTIVE,),
        "sending 1, post 1, settle Active",
        Active(),
        replace(ANSWERED, posts=3),
        known={"first": TWICE, "attempts": 3},
        counters=(7,),
    ),
    "only the budget ends the posts of a seed": hotp(
        (), "settle DeadLetter", SPENT, replace(UNSENT, posts=3), known={"first": replace(UNSENT, posts=3)}
    ),
    "TOTP is made for the time step that is now by PingOne's clock": totp(
        (ACTIVE,), "sending 1, post 1, settle Active", Active(), at=11.0, counters=(STEP,)
    ),
    "a time step may last a minute": totp(
        (ACTIVE,), "sending 1, post 1, settle Active", Active(), at=11.0, source=MINUTES, counters=(BEGIN // 60,)
    ),
    "where PingOne's time is not known yet the device is read first": totp(
        (after(WAITING, time=BEGIN + 1.0), ACTIVE),
        f"read, {NEW_OTP_1}, settle Active",
        Active(),
        at=0.0,
        time=None,
        counters=(STEP,),
    ),
    "where no answer tells the time the device is read twice and the batch pauses": totp(
        (WAITING, WAITING), "read, answered, slot, read, answered, settle Pause", NO_TIME, UNSENT, at=0.0, time=None
    ),
    "where only a second answer tells the time the OTP goes after it": totp(
        (WAITING, after(WAITING, time=BEGIN + 1.0), ACTIVE),
        f"read, answered, slot, read, {NEW_OTP_1}, settle Active",
        Active(),
        at=0.0,
        time=None,
        counters=(STEP,),
    ),
    "no OTP goes out in the last seconds of its step": totp(
        (), "slot given back, settle Retry", next_step(3.0), UNSENT, at=27.0
    ),
    "no OTP goes out in the last moment of its step": totp(
        (), "slot given back, settle Retry", next_step(0.5), UNSENT, at=29.5
    ),
    "the second OTP of TOTP waits uncounted for the next step": totp(
        (RESYNC,), "sending 1, post 1, answered, settle Retry", next_step(18.0), at=12.0, counters=(STEP,)
    ),
    "in the next step the second OTP goes": second_of(
        31.0,
        (ACTIVE,),
        "sending 2, post 2 with oathResync, settle Active",
        Active(),
        second=ANSWERED,
        counters=(STEP + 1,),
    ),
    "where the next step was missed a new pair begins": second_of(
        61.0,
        (RESYNC,),
        "answered, sending 1, post 1, answered, settle Retry",
        next_step(29.0),
        replace(ANSWERED, posts=2),
        counters=(STEP + 2,),
    ),
    "where the next step is nearly over the new pair waits for another": second_of(
        58.0, (), "answered, slot given back, settle Retry", next_step(2.0), ONCE
    ),
    "a new pair that the budget has no room for is not begun": totp(
        (),
        "settle DeadLetter",
        SPENT,
        TWICE,
        at=100.0,
        next_counter=STEP + 1,
        known={"first": replace(ANSWERED, posts=2), "attempts": 2},
    ),
    "a refused OTP of a seed is a refusal like any other": hotp(
        (INVALID, WAITING), f"{READ}, settle DeadLetter", REFUSED, counters=(7,)
    ),
    "where the flag is unproved a refused seed sends its next OTP with it": hotp(
        (INVALID, WAITING, RESYNC, ACTIVE),
        f"{AGAIN_WITH_FLAG}, {OTP_2}, settle Active",
        Active(),
        replace(ANSWERED, posts=2),
        ANSWERED,
        given=UNPROVED,
        counters=(7, 8, 9),
    ),
    "a seed that is refused with the flag as well is given up": hotp(
        (INVALID, WAITING, INVALID, WAITING),
        f"{AGAIN_WITH_FLAG}, answered, slot, read, settle DeadLetter",
        REFUSED,
        replace(ANSWERED, posts=2),
        given=UNPROVED,
        counters=(7, 8),
    ),
    "a refused TOTP seed waits for its next step": totp(
        (INVALID, WAITING),
        "sending 1, post 1, answered, slot, read, answered, settle Retry",
        next_step(25.0),
        ONCE,
        at=5.0,
        resync=Unproved(False),
        counters=(STEP,),
    ),
    "a refused TOTP seed goes with the flag in its next step": totp(
        (WAITING, RESYNC),
        f"read, {NEW_OTP_1} with oathResync, answered, settle Retry",
        next_step(25.0),
        replace(ANSWERED, posts=2),
        at=35.0,
        next_counter=STEP + 1,
        known={"first": ONCE, "verdict": Reason.INVALID_OTP},
        resync=Unproved(False),
        counters=(STEP + 1,),
    ),
    "the flag is not tried where the budget has no room for a second OTP": hotp(
        (INVALID, WAITING),
        "sending 1, post 1, answered, slot, read, settle DeadLetter",
        REFUSED,
        replace(ANSWERED, posts=2),
        known={"first": ONCE},
        given=UNPROVED,
        counters=(7,),
    ),
    "a pair has no other OTP to try the flag with": Story(
        (INVALID, WAITING), f"{READ}, settle DeadLetter", REFUSED, given={"resync": Unproved(False)}
    ),
}


@pytest.mark.parametrize("story", SEEDS.values(), ids=SEEDS)
def test_a_record_with_a_seed(story: Story) -> None:
    world = tell(story)
    made = {HOTP.mint(counter): counter for counter in range(100)}
    for seed in (TOTP, MINUTES):
        around = BEGIN // (seed.time_step or 1)
        made |= {seed.mint(step): step for step in range(around - 50, around + 50)}
    if world.source is not PAIR:
        assert tuple(made[otp] for otp in world.sent) == story.counters
        following = story.counters[-1] + 1 if story.counters else story.progress.next_counter
        assert world.settled[0].next_counter == (story.unused or following)


def test_an_otp_goes_out_until_its_step_ends_and_no_later():
    deadlines = []

    def note(world: World, call: Any) -> Any:
        deadlines.append(call.send_before)
        return ACTIVE

    for second in (10.0, 26.5):
        World(note, progress=progress_with_device(next_counter=0), source=TOTP, time=BEGIN + second).run()
    assert deadlines[0] - deadlines[1] == pytest.approx(4.5, abs=0.4)
