"""The ways of a record that brings no device: its token is paired and activated under one lease.

They have their statements in common, so that a few of them on each database go through all of these.
"""

from __future__ import annotations

from crash_points import pairing_beginnings
from crash_points.names import (
    ANSWERED,
    BEGINNING_AGAIN,
    BEGINNING_UNPAIRED,
    CLAIM_UNPAIRED,
    GET,
    JUDGE,
    LOOK_UP,
    LOOK_UP_FREE,
    MARK,
    PAIR,
    PAIR_AGAIN,
    PAIRED,
    POST,
    READ_DEVICE,
    SEND,
    SETTLE,
    SLOT,
    exchange,
    reading,
)
from crash_points.way import CANCELLED, POSTGRESQL, SQLITE, Stretch, Way, dead, known

# From here on the request to pair is marked as sent.
MARKED = len(SLOT + CLAIM_UNPAIRED) - 1
REFUSED = BEGINNING_UNPAIRED + exchange(PAIR)
# Each ends with a device that waits for its OTP.
FOUND = LOOK_UP + ANSWERED + READ_DEVICE + ANSWERED
MADE_AGAIN = LOOK_UP_FREE + ANSWERED + PAIR_AGAIN + ANSWERED


PAIRING_WAYS: dict[str, Way] = {
    "paired": Way((Stretch(PAIRED + SEND),), lacks_device=True, databases=(POSTGRESQL,)),
    # The answer to the pairing has told PingOne's time, so that nothing has to be read first.
    "totp_paired": Way(
        (known(BEGINNING_UNPAIRED), Stretch(exchange(PAIR) + ANSWERED + SLOT + MARK), known(exchange(POST) + SETTLE)),
        otp_type="totp",
        lacks_device=True,
        databases=(SQLITE,),
    ),
    "pairing_lost_and_device_made": Way(
        (Stretch(BEGINNING_AGAIN + FOUND), known(SEND)),
        otp_type="hotp",
        lacks_device=True,
        databases=(SQLITE,),
        prepare=pairing_beginnings.lost("reset_after"),
    ),
    "pairing_lost_and_no_device_seen_once": Way(
        (known(BEGINNING_AGAIN), Stretch(LOOK_UP_FREE + SETTLE)),
        lacks_device=True,
        databases=(SQLITE,),
        prepare=pairing_beginnings.lost("reset_before"),
    ),
    "pairing_lost_and_no_device_seen_twice": Way(
        (known(BEGINNING_AGAIN), Stretch(MADE_AGAIN), known(SEND)),
        otp_type="hotp",
        lacks_device=True,
        databases=(POSTGRESQL,),
        prepare=pairing_beginnings.missed,
    ),
    "paired_with_this_user_meanwhile": Way(
        (
            known(REFUSED[:MARKED]),
            # The refusal was not written down: our request may have made the device.
            Stretch(REFUSED[MARKED:] + ANSWERED[:2], is_unclear=True),
            Stretch(ANSWERED[2:]),
            # Somebody else paired it: whether that was since the batch began to run, and how often, is asked.
            known(FOUND + SEND[: -len(SETTLE)] + reading("Leases.ran")),
            Stretch(SETTLE + reading("Upkeep.look_for_others")),
        ),
        otp_type="hotp",
        lacks_device=True,
        databases=(POSTGRESQL,),
        prepare=pairing_beginnings.paired_meanwhile(),
    ),
    "paired_with_another_user_meanwhile": Way(
        (known(BEGINNING_UNPAIRED), Stretch(exchange(PAIR) + ANSWERED + LOOK_UP + SETTLE + JUDGE)),
        posts=0,
        end=dead("token_taken"),
        lacks_device=True,
        databases=(SQLITE,),
        prepare=pairing_beginnings.paired_meanwhile(pairing_beginnings.ANOTHER),
    ),
    # The device is ACTIVE at once: nothing is proved, and no OTP is sent.
    "unproved": Way(
        (known(BEGINNING_UNPAIRED), Stretch(exchange(PAIR) + SETTLE)),
        otp_type="totp",
        posts=0,
        lacks_device=True,
        settings={"PINGONE_PAIRING_STATUS": "ACTIVE"},
        databases=(SQLITE,),
    ),
    "device_deleted": Way(
        (known(BEGINNING_AGAIN), Stretch(exchange(GET) + ANSWERED), known(MADE_AGAIN + SEND)),
        otp_type="hotp",
        lacks_device=True,
        databases=(SQLITE,),
        prepare=pairing_beginnings.deleted,
    ),
    "cancelled_while_a_look_up_is_owed": Way(
        (known(BEGINNING_AGAIN + FOUND), Stretch(SLOT + MARK + SETTLE)),
        posts=0,
        end=CANCELLED,
        lacks_device=True,
        databases=(POSTGRESQL,),
        prepare=pairing_beginnings.lost("reset_after", pairing_beginnings.cancel),
    ),
}
