"""The ways of a record that brings a pair of OTPs.

These tables are written by hand. The steps that the code really takes are held against them. They have their
statements in common, so that three of them on both databases go through most of these.
"""

from __future__ import annotations

from support.fleets.real_fleet import BATCH

from crash_points import beginnings
from crash_points.names import (
    ANSWERED,
    BEGINNING,
    BEGINNING_AGAIN,
    CLAIM,
    CLAIM_AGAIN,
    GET,
    HOLD,
    JUDGE,
    JUDGE_ALONE,
    MARK,
    NOT_SPARED,
    OPEN,
    PAUSE,
    PAUSE_JUDGED,
    POST,
    SETTLE,
    SLOT,
    exchange,
    hearing,
    reading,
    sending,
    writing,
)
from crash_points.way import ACTIVE, BOTH, CANCELLED, POSTGRESQL, SQLITE, Stretch, Way, dead, known
from worker.rules.decisions import NOT_FOUND_READS

# One more try of a post that PingOne did not act on.
NEXT_TRY = writing("Leases.renew_mark") + SLOT + writing("Leases.renew_mark") + exchange(POST)


WAYS: dict[str, Way] = {
    "in_step": Way((Stretch(BEGINNING + exchange(POST) + SETTLE),), databases=BOTH),
    "out_of_step": Way(
        (
            Stretch(BEGINNING + sending(POST)),
            # That OTP 2 is wanted was not written down: OTP 1 goes once more.
            Stretch(hearing(POST) + ANSWERED[:2], posts=3),
            Stretch(ANSWERED[2:] + SLOT + MARK + exchange(POST) + SETTLE),
        ),
        kind="out_of_step",
        posts=2,
        databases=BOTH,
    ),
    "wrong_otp": Way(
        (
            known(BEGINNING),
            Stretch(sending(POST)),
            Stretch(hearing(POST) + ANSWERED[:2], posts=2),
            Stretch(ANSWERED[2:] + SLOT + reading("Leases.may_read") + exchange(GET) + SETTLE),
            Stretch(JUDGE),
        ),
        kind="wrong_otp",
        end=dead("invalid_otp"),
        databases=(POSTGRESQL,),
    ),
    "second_otp_missing": Way(
        (
            known(BEGINNING),
            Stretch(sending(POST)),
            Stretch(hearing(POST) + SETTLE[:2], posts=2),
            Stretch(SETTLE[2:] + JUDGE),
        ),
        kind="second_otp_missing",
        end=dead("second_otp_missing"),
        databases=(SQLITE,),
    ),
    # The connection breaks, so that no answer can be read.
    "answer_lost": Way(
        (known(BEGINNING), Stretch(sending(POST) + hearing(POST)[:1] + HOLD + SETTLE + JUDGE_ALONE + JUDGE)),
        databases=(POSTGRESQL,),
        prepare=beginnings.answers_are_lost,
    ),
    "unknown_fate_of_an_active_device": Way(
        (known(BEGINNING_AGAIN), Stretch(exchange(GET) + SETTLE)),
        databases=(SQLITE,),
        prepare=beginnings.unknown("reset_after"),
    ),
    "unknown_fate_of_a_waiting_device": Way(
        (
            Stretch(BEGINNING_AGAIN + exchange(GET) + ANSWERED + SLOT + MARK[:2]),
            # It did not arrive, but that is not known: for all that is written down, this OTP has gone twice.
            Stretch(MARK[2:] + sending(POST), posts=1, end=dead("budget_spent")),
            Stretch(hearing(POST) + SETTLE),
        ),
        posts=2,
        databases=BOTH,
        prepare=beginnings.unknown("reset_before"),
    ),
    "cancelled_while_a_read_is_owed": Way(
        (Stretch(BEGINNING_AGAIN + exchange(GET) + ANSWERED + SLOT + MARK + SETTLE),),
        end=CANCELLED,
        databases=(POSTGRESQL,),
        prepare=beginnings.unknown("reset_before", lambda stage: stage.fleet.batches.cancel(BATCH)),
    ),
    "cancelled_while_its_device_is_active": Way(
        (known(BEGINNING_AGAIN), Stretch(exchange(GET) + SETTLE)),
        databases=(SQLITE,),
        prepare=beginnings.unknown("reset_after", lambda stage: stage.fleet.batches.cancel(BATCH)),
    ),
    "rate_limited": Way(
        (known(BEGINNING), Stretch(exchange(POST) + HOLD + NEXT_TRY + HOLD + SETTLE)),
        databases=(SQLITE,),
        prepare=beginnings.limited,
        mend=beginnings.unlimited,
    ),
    "access_token_revoked": Way(
        (
            known(SLOT + CLAIM + OPEN),
            Stretch(exchange(POST) + exchange("AccessTokens.renew")),
            Stretch(NEXT_TRY + SETTLE),
        ),
        databases=(POSTGRESQL,),
        prepare=beginnings.revoked,
        mend=beginnings.not_revoked,
    ),
    "credentials_refused": Way(
        (known(BEGINNING), Stretch(SETTLE + NOT_SPARED + PAUSE)),
        pauses=True,
        databases=(SQLITE,),
        prepare=beginnings.strange,
        mend=beginnings.known_again,
    ),
    "forbidden": Way(
        (
            known(BEGINNING),
            Stretch(exchange(POST) + NEXT_TRY + SETTLE[:2], posts=1, end=ACTIVE),
            # Whether it was one too many in a row is asked again when the next record is forbidden.
            Stretch(SETTLE[2:] + JUDGE + PAUSE_JUDGED),
        ),
        posts=0,
        end=dead("forbidden"),
        pauses=True,
        settings={"_OATHBULK_TUNING__breaker__forbidden": "1"},
        databases=(POSTGRESQL,),
        prepare=beginnings.forbidden,
        mend=beginnings.permitted,
    ),
    # This pause ends by itself.
    "outage": Way(
        (
            known(BEGINNING_AGAIN),
            Stretch(sending(GET) + hearing(GET)[:1] + HOLD + SETTLE + JUDGE_ALONE + JUDGE + PAUSE_JUDGED),
        ),
        pauses=True,
        settings={"_OATHBULK_TUNING__breaker__unanswered": "2"},
        databases=(SQLITE,),
        prepare=beginnings.unknown("reset_after", lambda stage: stage.lose_answer(*stage.ends(), operation="read")),
    ),
    "not_found": Way(
        (known(BEGINNING), Stretch(exchange(POST) + SETTLE)),
        kind="unknown_device",
        posts=0,
        end=dead("device_not_found"),
        databases=(POSTGRESQL,),
    ),
    "not_found_for_the_last_time": Way(
        (Stretch(BEGINNING_AGAIN + exchange(GET) + SETTLE + JUDGE),),
        kind="unknown_device",
        posts=0,
        end=dead("device_not_found"),
        databases=(SQLITE,),
        prepare=beginnings.missed(NOT_FOUND_READS),
    ),
    "found_late": Way(
        (known(BEGINNING_AGAIN), Stretch(exchange(GET) + ANSWERED + SLOT + MARK + exchange(POST) + SETTLE)),
        databases=(POSTGRESQL,),
        prepare=beginnings.paired_late,
    ),
    "slot_too_far": Way(
        (Stretch(SLOT + writing("Leases.hand_back")),),
        databases=(SQLITE,),
        prepare=beginnings.held,
        mend=beginnings.let_go,
    ),
    "message_comes_again": Way(
        (Stretch(SLOT + CLAIM_AGAIN + writing("Leases.hand_back_stopped") + reading("Leases.find_foreign_batch")),),
        databases=(POSTGRESQL,),
        prepare=beginnings.doubled,
    ),
}
