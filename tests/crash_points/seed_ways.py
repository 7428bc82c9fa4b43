"""The ways of a record that brings a seed: it makes another OTP after one of unknown fate, and never twice the same.

They have their statements in common, so that a few of them on each database go through all of these.
"""

from __future__ import annotations

from crash_points import beginnings
from crash_points.names import (
    ANSWERED,
    BEGINNING,
    BEGINNING_AGAIN,
    GET,
    MARK,
    POST,
    SETTLE,
    SLOT,
    exchange,
    hearing,
    sending,
)
from crash_points.way import POSTGRESQL, SQLITE, Stretch, Way, dead, known

SEED_WAYS: dict[str, Way] = {
    "hotp_in_step": Way((Stretch(BEGINNING + exchange(POST) + SETTLE),), otp_type="hotp", databases=(SQLITE,)),
    "hotp_out_of_step": Way(
        (
            known(BEGINNING),
            Stretch(sending(POST)),
            # That OTP 2 is wanted was not written down: the seed makes a new pair.
            Stretch(hearing(POST) + ANSWERED[:2], posts=3),
            Stretch(ANSWERED[2:] + SLOT + MARK[:2]),
            # OTP 2 did not arrive, but that is not known, and a new pair would be more than the budget.
            Stretch(MARK[2:] + sending(POST), posts=1, end=dead("budget_spent")),
            Stretch(hearing(POST) + SETTLE),
        ),
        kind="out_of_step",
        otp_type="hotp",
        posts=2,
        databases=(POSTGRESQL,),
    ),
    "hotp_of_unknown_fate_and_a_waiting_device": Way(
        (Stretch(BEGINNING_AGAIN + exchange(GET) + ANSWERED + SLOT + MARK + exchange(POST) + SETTLE),),
        otp_type="hotp",
        posts=2,
        databases=(SQLITE,),
        prepare=beginnings.unknown("reset_before"),
    ),
    # Each process has to learn PingOne's time first, by reading the device.
    "totp_in_step": Way(
        (Stretch(BEGINNING_AGAIN + exchange(GET) + ANSWERED + SLOT + MARK + exchange(POST) + SETTLE),),
        otp_type="totp",
        databases=(POSTGRESQL,),
    ),
    "totp_out_of_step": Way(
        (
            known(BEGINNING_AGAIN + exchange(GET) + ANSWERED + SLOT + MARK),
            Stretch(sending(POST)),
            Stretch(hearing(POST) + ANSWERED[:2], posts=3),
            # The record waits for the next time step.
            Stretch(ANSWERED[2:] + SETTLE),
        ),
        kind="out_of_step",
        otp_type="totp",
        posts=2,
        databases=(SQLITE,),
    ),
    "totp_with_otp_2_in_the_next_time_step": Way(
        (
            # When the next comes its time step is over: the seed makes a new pair.
            Stretch(BEGINNING_AGAIN + exchange(GET) + ANSWERED + SLOT + MARK[:2], posts=3),
            Stretch(MARK[2:] + sending(POST), posts=1, end=dead("budget_spent")),
            Stretch(hearing(POST) + SETTLE),
        ),
        kind="out_of_step",
        otp_type="totp",
        posts=2,
        databases=(POSTGRESQL,),
        prepare=beginnings.half_done,
    ),
}
