"""The story of a record whose OTPs are made from a seed: from which counter, and when."""

from __future__ import annotations

import pytest
from support.data.progress import progress_with_device
from unit.records.test_activation import (
    ACTIVE,
    HOTP,
    INVALID,
    MINUTES,
    RESYNC,
    TOTP,
    WAITING,
    World,
)

from models.reason import PauseReason, Reason
from models.record_states import OtpState
from worker.pingone import errors
from worker.rules.progress import Active, DeadLetter, OtpProgress, Retry
from worker.tenants import Resync

STEP = 30
# The begin of a time step of 30 and of 60 seconds.
BEGIN = 1_800_000_000
SENT, ANSWERED, UNSENT = OtpState.SENT, OtpState.ANSWERED, OtpState.UNSENT


class Unproved(Resync):
    """An environment of which it is not known yet whether it wants `oathResync` with OTP 1."""

    is_open = True


def hotp(*answers, next_counter=0, resync=None, **progress):
    known = progress_with_device(next_counter=next_counter, **progress)
    return World(*answers, progress=known, source=HOTP, resync=resync)


def totp(*answers, at, next_counter=0, seed=TOTP, resync=None, **progress):
    known = progress_with_device(next_counter=next_counter, **progress)
    world = World(*answers, progress=known, source=seed, resync=resync)
    world.client.clock.time = at
    return world


def counters(world):
    """The counters that the OTPs which went out were made from."""
    made = {HOTP.mint(counter): counter for counter in range(100)}
    for seed in (TOTP, MINUTES):
        made |= {seed.mint(step): step for step in range(BEGIN // 60 - 50, BEGIN // 60 + 50)}
        made |= {seed.mint(step): step for step in range(BEGIN // STEP - 50, BEGIN // STEP + 50)}
    return [made[otp] for otp in world.client.sent]


def test_a_fresh_record_sends_the_otp_of_its_next_counter_and_moves_it():
    world = hotp(ACTIVE, next_counter=7)
    assert world.run() == ["slot", "claim", "post 1", "settle Active"]
    assert counters(world) == [7]
    assert world.progress.next_counter == 8


def test_the_second_otp_is_that_of_the_counter_after_the_first():
    world = hotp(RESYNC, ACTIVE, next_counter=7)
    world.run()
    assert counters(world) == [7, 8]
    assert world.progress.next_counter == 9


def test_an_otp_of_unknown_fate_is_not_sent_again_and_the_one_after_it_is_left_out():
    """If PingOne asked for a second OTP, and that answer got lost, the next one would be taken for it."""
    world = hotp(WAITING, ACTIVE, next_counter=8, first=OtpProgress(SENT, 1), attempts=2)
    assert world.run() == ["slot", "claim", "read", "answered", "slot", "sending 1", "post 1", "settle Active"]
    assert counters(world) == [9]


def test_a_time_step_is_left_out_as_well():
    lost = {"next_counter": BEGIN // STEP, "first": OtpProgress(SENT, 1), "attempts": 2}
    world = totp(WAITING, at=BEGIN + 5.0, **lost)
    world.run()
    assert world.decision == Retry(25.0, is_counted=False, why="time_step")
    later = totp(
        ACTIVE, at=BEGIN + STEP + 5.0, **(lost | {"next_counter": BEGIN // STEP + 1, "first": OtpProgress(UNSENT, 1)})
    )
    later.run()
    assert counters(later) == [BEGIN // STEP + 1]


def test_an_otp_that_did_not_go_out_leaves_its_counter_free():
    world = hotp(errors.NotDelivered(), next_counter=7)
    world.run()
    assert isinstance(world.decision, Retry)
    assert (world.progress.first, world.progress.next_counter) == (OtpProgress(UNSENT, 0), 7)


def test_a_second_otp_that_did_not_go_out_still_follows_the_first():
    world = hotp(RESYNC, errors.NotDelivered(), next_counter=7)
    world.run()
    assert world.progress.is_half_done
    again = hotp(ACTIVE, next_counter=world.progress.next_counter, first=OtpProgress(ANSWERED, 1), attempts=2)
    again.run()
    assert counters(again) == [8]


def test_a_second_otp_of_unknown_fate_needs_a_new_pair_which_the_budget_has_no_room_for():
    lost = {"first": OtpProgress(ANSWERED, 1), "second": OtpProgress(SENT, 1)}
    world = hotp(WAITING, next_counter=9, attempts=2, **lost)
    world.run()
    assert world.decision == DeadLetter(Reason.BUDGET_SPENT)
    lost = {"first": OtpProgress(ANSWERED, 0), "second": OtpProgress(SENT, 0)}
    replayed = hotp(WAITING, RESYNC, ACTIVE, next_counter=9, attempts=2, **lost)
    replayed.run()
    assert counters(replayed) == [9, 10]
    assert replayed.decision == Active()


def test_a_seed_makes_another_otp_for_each_post_so_only_the_budget_ends_them():
    world = hotp(ACTIVE, next_counter=9, first=OtpProgress(UNSENT, 2), attempts=3)
    world.run()
    assert counters(world) == [9]
    spent = hotp(next_counter=9, first=OtpProgress(UNSENT, 3), attempts=3)
    spent.run()
    assert spent.decision == DeadLetter(Reason.BUDGET_SPENT)


@pytest.mark.parametrize(("seed", "step"), [(TOTP, 30), (MINUTES, 60)])
def test_totp_is_made_for_the_time_step_that_is_now_by_pingones_clock(seed, step):
    world = totp(ACTIVE, at=BEGIN + 11.0, seed=seed)
    assert world.run() == ["slot", "claim", "sending 1", "post 1", "settle Active"]
    assert counters(world) == [BEGIN // step]
    assert world.progress.next_counter == BEGIN // step + 1


def test_where_pingones_time_is_not_known_yet_the_device_is_read_first():
    world = totp(WAITING, ACTIVE, at=None)

    def tell(call):
        world.client.clock.time = BEGIN + 1.0
        return WAITING

    world.client.answers[0] = tell
    assert world.run() == ["slot", "claim", "read", "answered", "slot", "sending 1", "post 1", "settle Active"]


def test_where_no_answer_tells_the_time_the_device_is_read_once_and_the_batch_pauses():
    world = totp(WAITING, at=None)
    assert world.run() == ["slot", "claim", "read", "answered", "settle Pause"]
    assert world.decision.reason == PauseReason.PROTOCOL
    assert "Date" in world.decision.detail


@pytest.mark.parametrize(("second", "delay"), [(27.0, 3.0), (29.5, 0.5)])
def test_no_otp_goes_out_in_the_last_seconds_of_its_step(second, delay):
    world = totp(at=BEGIN + second)
    assert world.run() == ["slot", "claim", "slot given back", "settle Retry"]
    assert world.decision == Retry(delay, is_counted=False, why="time_step")
    assert world.progress == progress_with_device(next_counter=0)


def test_an_otp_goes_out_until_its_step_ends_and_no_later():
    deadlines = []

    def note(call):
        deadlines.append(call.send_before)
        return ACTIVE

    for second in (10.0, 26.5):
        world = totp(note, at=BEGIN + second)
        world.run()
    assert deadlines[0] - deadlines[1] == pytest.approx(4.5, abs=0.4)


def test_the_second_otp_of_totp_waits_uncounted_for_the_next_step():
    world = totp(RESYNC, at=BEGIN + 12.0)
    assert world.run() == ["slot", "claim", "sending 1", "post 1", "answered", "settle Retry"]
    assert world.decision == Retry(18.0, is_counted=False, why="time_step")
    assert world.progress.is_half_done


def half_done(*answers, at):
    return totp(*answers, at=at, next_counter=BEGIN // STEP + 1, first=OtpProgress(ANSWERED, 1), attempts=2)


def test_in_the_next_step_the_second_otp_goes():
    world = half_done(ACTIVE, at=BEGIN + STEP + 1.0)
    assert world.run() == ["slot", "claim", "sending 2", "post 2 with oathResync", "settle Active"]
    assert counters(world) == [BEGIN // STEP + 1]


@pytest.mark.parametrize("late", [2 * STEP + 1.0, 1000.0])
def test_where_the_next_step_was_missed_a_new_pair_begins(late):
    world = half_done(RESYNC, at=BEGIN + late)
    assert world.run() == ["slot", "claim", "answered", "sending 1", "post 1", "answered", "settle Retry"]
    assert world.decision.why == "time_step"
    assert world.progress.posts == 2
    assert counters(world) == [(BEGIN + int(late)) // STEP]


def test_where_the_next_step_is_nearly_over_the_new_pair_waits_for_another():
    world = half_done(at=BEGIN + STEP + 28.0)
    assert world.run() == ["slot", "claim", "answered", "slot given back", "settle Retry"]
    assert world.decision == Retry(2.0, is_counted=False, why="time_step")
    assert world.progress.first == OtpProgress(UNSENT, 1)


def test_a_new_pair_that_the_budget_has_no_room_for_is_not_begun():
    world = totp(
        at=BEGIN + 100.0,
        next_counter=BEGIN // STEP + 1,
        first=OtpProgress(ANSWERED, 2),
        attempts=2,
    )
    world.run()
    assert world.decision == DeadLetter(Reason.BUDGET_SPENT)
    assert counters(world) == []


def test_a_refused_otp_of_a_seed_is_a_refusal_like_any_other():
    world = hotp(INVALID, WAITING, next_counter=3)
    world.run()
    assert world.decision == DeadLetter(Reason.INVALID_OTP)


def test_where_the_flag_is_unproved_a_refused_seed_sends_its_next_otp_with_it():
    world = hotp(INVALID, WAITING, RESYNC, ACTIVE, next_counter=3, resync=Unproved(False))
    assert [line for line in world.run() if line.startswith("post")] == [
        "post 1",
        "post 1 with oathResync",
        "post 2 with oathResync",
    ]
    assert counters(world) == [3, 4, 5]
    assert world.decision == Active()
    assert (world.progress.verdict, world.progress.posts) == (None, 3)


def test_a_seed_that_is_refused_with_the_flag_as_well_is_given_up():
    world = hotp(INVALID, WAITING, INVALID, WAITING, next_counter=3, resync=Unproved(False))
    world.run()
    assert world.decision == DeadLetter(Reason.INVALID_OTP)
    assert counters(world) == [3, 4]


def test_a_refused_totp_seed_waits_for_its_next_step_and_goes_with_the_flag_then():
    world = totp(INVALID, WAITING, at=BEGIN + 5.0, resync=Unproved(False))
    world.run()
    assert world.decision == Retry(25.0, is_counted=False, why="time_step")
    known = world.progress
    later = totp(
        *(WAITING, RESYNC),
        at=BEGIN + STEP + 5.0,
        next_counter=known.next_counter,
        first=known.first,
        verdict=known.verdict,
        resync=Unproved(False),
    )
    assert "post 1 with oathResync" in later.run()
    assert later.progress.is_half_done


@pytest.mark.parametrize("first", [OtpProgress(UNSENT, 1), OtpProgress(UNSENT, 2)])
def test_the_flag_is_not_tried_where_the_budget_has_no_room_for_a_second_otp(first):
    world = hotp(INVALID, WAITING, next_counter=3, first=first, resync=Unproved(False))
    world.run()
    assert world.decision == DeadLetter(Reason.INVALID_OTP)


def test_a_pair_has_no_other_otp_to_try_the_flag_with():
    world = World(INVALID, WAITING, resync=Unproved(False))
    world.run()
    assert world.decision == DeadLetter(Reason.INVALID_OTP)
