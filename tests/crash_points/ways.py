"""The ways of a record, each with the steps that a worker takes on it, and what a death at each step may cost.

These tables are written by hand. The steps that the code really takes are held against them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from support.data.seed_shipments import OtpType
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
    MARK,
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
from crash_points.stage import Stage
from worker.rules.no_effect import NOT_FOUND_READS
from worker.simulator.shipment import Kind

POSTGRESQL, SQLITE = "postgresql", "sqlite"

End = tuple[str, str | None]
ACTIVE: End = ("active", None)
CANCELLED: End = ("cancelled", None)


def dead(reason: str) -> End:
    return ("dead_letter", reason)


@dataclass(frozen=True)
class Stretch:
    """Steps at which a death costs the same: OTP posts that PingOne gets in all, and how the record ends; where they
    are not named, as if nobody had died."""

    steps: tuple[str, ...]
    posts: int | None = None
    end: End | None = None


@dataclass(frozen=True)
class Way:
    """`posts` and `end` are of a record with which nobody died. `prepare` brings every record to where a worker gets
    its message; `mend` ends what stood in the way, before others do the rest. At the end of one that `pauses` its batch
    is paused, so that each record has a batch of its own."""

    stretches: tuple[Stretch, ...]
    kind: Kind = "in_step"
    # Of the seeds that the records bring; None: they bring pairs.
    otp_type: OtpType | None = None
    posts: int = 1
    end: End = ACTIVE
    pauses: bool = False
    settings: Mapping[str, str] = field(default_factory=dict)
    databases: tuple[str, ...] = (POSTGRESQL, SQLITE)
    prepare: Callable[[Stage], list[int]] = Stage.enqueue
    mend: Callable[[Stage], None] = lambda _: None

    @property
    def steps(self) -> list[str]:
        return [step for stretch in self.stretches for step in stretch.steps]

    @property
    def costs(self) -> list[tuple[int, End]]:
        """Posts and end for a death at each step."""
        return [
            (self.posts if stretch.posts is None else stretch.posts, stretch.end or self.end)
            for stretch in self.stretches
            for _ in stretch.steps
        ]


# One more try of a post that PingOne did not act on.
NEXT_TRY = writing("Leases.renew_mark") + SLOT + writing("Leases.renew_mark") + exchange(POST)


WAYS: dict[str, Way] = {
    "in_step": Way((Stretch(BEGINNING + exchange(POST) + SETTLE),)),
    "out_of_step": Way(
        (
            Stretch(BEGINNING + sending(POST)),
            # That OTP 2 is wanted was not written down: OTP 1 goes once more.
            Stretch(hearing(POST) + ANSWERED[:2], posts=3),
            Stretch(ANSWERED[2:] + SLOT + MARK + exchange(POST) + SETTLE),
        ),
        kind="out_of_step",
        posts=2,
    ),
    "wrong_otp": Way(
        (
            Stretch(BEGINNING + sending(POST)),
            Stretch(hearing(POST) + ANSWERED[:2], posts=2),
            Stretch(ANSWERED[2:] + SLOT + reading("Leases.may_read") + exchange(GET) + SETTLE),
            Stretch(JUDGE),
        ),
        kind="wrong_otp",
        end=dead("invalid_otp"),
    ),
    "second_otp_missing": Way(
        (
            Stretch(BEGINNING + sending(POST)),
            Stretch(hearing(POST) + SETTLE[:2], posts=2),
            Stretch(SETTLE[2:] + JUDGE),
        ),
        kind="second_otp_missing",
        end=dead("second_otp_missing"),
    ),
    # The connection breaks, so that no answer can be read.
    "answer_lost": Way(
        (Stretch(BEGINNING + sending(POST) + hearing(POST)[:1] + HOLD + SETTLE + JUDGE),),
        prepare=beginnings.answers_are_lost,
    ),
    "unknown_fate_of_an_active_device": Way(
        (Stretch(BEGINNING_AGAIN + exchange(GET) + SETTLE),), prepare=beginnings.unknown("reset_after")
    ),
    "unknown_fate_of_a_waiting_device": Way(
        (
            Stretch(BEGINNING_AGAIN + exchange(GET) + ANSWERED + SLOT + MARK[:2]),
            # It did not arrive, but that is not known: for all that is written down, this OTP has gone twice.
            Stretch(MARK[2:] + sending(POST), posts=1, end=dead("budget_spent")),
            Stretch(hearing(POST) + SETTLE),
        ),
        posts=2,
        prepare=beginnings.unknown("reset_before"),
    ),
    "cancelled_while_a_read_is_owed": Way(
        (Stretch(BEGINNING_AGAIN + exchange(GET) + ANSWERED + SLOT + MARK + SETTLE),),
        end=CANCELLED,
        prepare=beginnings.unknown("reset_before", lambda stage: stage.fleet.batches.cancel(BATCH)),
    ),
    "cancelled_while_its_device_is_active": Way(
        (Stretch(BEGINNING_AGAIN + exchange(GET) + SETTLE),),
        prepare=beginnings.unknown("reset_after", lambda stage: stage.fleet.batches.cancel(BATCH)),
    ),
    "rate_limited": Way(
        (Stretch(BEGINNING + exchange(POST) + HOLD + NEXT_TRY + HOLD + SETTLE),),
        prepare=beginnings.limited,
        mend=beginnings.unlimited,
    ),
    "access_token_revoked": Way(
        (
            Stretch(SLOT + CLAIM + OPEN + exchange(POST) + exchange("AccessTokens.renew")),
            Stretch(NEXT_TRY + SETTLE),
        ),
        prepare=beginnings.revoked,
        mend=beginnings.not_revoked,
    ),
    "credentials_refused": Way(
        (Stretch(BEGINNING + SETTLE + PAUSE),),
        pauses=True,
        prepare=beginnings.strange,
        mend=beginnings.known_again,
    ),
    "forbidden": Way(
        (
            Stretch(BEGINNING + exchange(POST) + NEXT_TRY + SETTLE[:2], posts=1, end=ACTIVE),
            # Whether it was one too many in a row is asked again when the next record is forbidden.
            Stretch(SETTLE[2:] + JUDGE + PAUSE_JUDGED),
        ),
        posts=0,
        end=dead("forbidden"),
        pauses=True,
        settings={"OATHBULK_BREAKER_FORBIDDEN": "1"},
        prepare=beginnings.forbidden,
        mend=beginnings.permitted,
    ),
    # This pause ends by itself.
    "outage": Way(
        (Stretch(BEGINNING_AGAIN + sending(GET) + hearing(GET)[:1] + HOLD + SETTLE + JUDGE + PAUSE_JUDGED),),
        pauses=True,
        settings={"OATHBULK_BREAKER_UNANSWERED": "2"},
        prepare=beginnings.unknown("reset_after", lambda stage: stage.lose_answer(*stage.ends(), operation="read")),
    ),
    "not_found": Way(
        (Stretch(BEGINNING + exchange(POST) + SETTLE),),
        kind="unknown_device",
        posts=0,
        end=dead("device_not_found"),
    ),
    "not_found_for_the_last_time": Way(
        (Stretch(BEGINNING_AGAIN + exchange(GET) + SETTLE + JUDGE),),
        kind="unknown_device",
        posts=0,
        end=dead("device_not_found"),
        prepare=beginnings.missed(NOT_FOUND_READS),
    ),
    "found_late": Way(
        (Stretch(BEGINNING_AGAIN + exchange(GET) + ANSWERED + SLOT + MARK + exchange(POST) + SETTLE),),
        prepare=beginnings.paired_late,
    ),
    "slot_too_far": Way(
        (Stretch(SLOT + writing("Leases.hand_back")),), prepare=beginnings.held, mend=beginnings.let_go
    ),
    "message_comes_again": Way(
        (Stretch(SLOT + CLAIM_AGAIN + writing("Leases.hand_back_stopped") + reading("Leases.find_foreign_batch")),),
        prepare=beginnings.doubled,
    ),
    # A seed makes another OTP after one of unknown fate. These ways have statements in common, so that some of them on
    # each database go through all; on both each would cost as much time again.
    "hotp_in_step": Way((Stretch(BEGINNING + exchange(POST) + SETTLE),), otp_type="hotp", databases=(SQLITE,)),
    "hotp_out_of_step": Way(
        (
            Stretch(BEGINNING + sending(POST)),
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
            Stretch(BEGINNING_AGAIN + exchange(GET) + ANSWERED + SLOT + MARK + sending(POST)),
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
