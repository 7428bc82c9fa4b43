"""The story of a record that gets its device: paired, looked up, and activated in one attempt."""

from __future__ import annotations

import pytest
from unit.records.test_activation import (
    ACTIVE,
    BATCH,
    HOTP,
    INVALID,
    RESYNC,
    SERIAL_NUMBER,
    SETTINGS,
    USER,
    WAITING,
    World,
)

from models.reason import PauseReason, Reason
from models.record_states import OtpState, PairingState
from worker.pace.errors import SlotTooFar
from worker.pingone import errors
from worker.pingone.devices import PairedDevice, Pairing
from worker.pingone.errors import Answer
from worker.rules.progress import Active, DeadLetter, OtpProgress, PairingProgress, Pause, Progress, Retry

DEVICE = "0f0b7a52-device"
FREE = PairingProgress(PairingState.UNSENT, was_free=True, is_allowed=True)
PAIRED = PairedDevice(DEVICE, "ACTIVATION_REQUIRED", Answer(status=201))
PAIRED_ACTIVE = PairedDevice(DEVICE, "ACTIVE", Answer(status=201))
OURS = Pairing(DEVICE, USER)
ALREADY = errors.AlreadyPaired(Answer(status=400, code="INVALID_DATA"))
LOST = errors.OutcomeUnknown()


def unpaired(*answers: object, pairing: PairingProgress = FREE, **progress: object) -> World:
    return World(*answers, progress=Progress(pairing=pairing, **progress))


def sent(pairings: int = 1) -> PairingProgress:
    return PairingProgress(PairingState.SENT, pairings=pairings, was_free=True, is_allowed=True)


def test_a_record_is_paired_and_activated_in_one_lease_with_a_slot_for_each_call():
    world = unpaired(PAIRED, ACTIVE)
    assert world.run() == ["slot", "claim", "pair", "answered", "slot", "sending 1", "post 1", "settle Active"]
    assert world.progress.pairing == PairingProgress(
        PairingState.PAIRED, DEVICE, pairings=1, is_made=True, was_free=True, is_allowed=True
    )
    assert world.told == [(BATCH, Active())]
    assert world.record.settled[2].requests == 2


def test_the_second_otp_goes_in_the_same_lease_too():
    world = unpaired(PAIRED, RESYNC, ACTIVE)
    assert world.run() == [
        *("slot", "claim", "pair", "answered"),
        *("slot", "sending 1", "post 1", "answered", "slot", "sending 2", "post 2 with oathResync", "settle Active"),
    ]


def test_the_device_s_id_is_written_down_before_otp_1_is_marked():
    world = unpaired(PAIRED)
    world.record.fails_at = "sending 1"
    with pytest.raises(RuntimeError):
        world.run()
    assert world.record.progress.pairing.device_id == DEVICE
    assert world.record.progress.first == OtpProgress()


def test_a_device_that_cannot_be_written_down_gets_no_otp():
    world = unpaired(PAIRED)
    world.record.is_lease_lost = True
    assert world.run() == ["slot", "claim", "pair", "answered", "settle Retry"]


def test_a_device_that_is_active_at_once_gets_no_otp():
    world = unpaired(PAIRED_ACTIVE)
    assert world.run() == ["slot", "claim", "pair", "settle Active"]
    assert (world.client.sent, world.progress.posts) == ([], 0)
    assert world.record.progress.pairing.device_id == DEVICE


def test_a_pairing_whose_answer_got_lost_is_looked_up_later_and_not_repeated():
    world = unpaired(LOST)
    assert world.run() == ["slot", "claim", "pair", "settle Retry"]
    assert world.decision.delay >= SETTINGS.tuning.read_delay
    assert world.progress.pairing == sent()


def test_an_answer_that_says_nothing_of_the_device_is_looked_up_at_once():
    """PingOne is done with the request, so nothing can still come of it."""
    done = errors.OutcomeUnknown(Answer(status=200, correlation_id="3f0c8a52"))
    world = unpaired(done, OURS, WAITING, ACTIVE)
    assert [event for event in world.run() if event in ("pair", "find", "read", "post 1")] == [
        *("pair", "find", "read", "post 1")
    ]


def test_a_look_up_gives_back_the_slot_that_was_waited_for():
    world = unpaired(None, pairing=sent())
    assert world.run() == ["slot", "claim", "slot given back", "find", "settle Retry"]


def test_a_device_that_was_found_is_written_down_read_and_activated():
    world = unpaired(OURS, WAITING, ACTIVE, pairing=sent())
    assert world.run() == [
        *("slot", "claim", "slot given back", "find", "answered"),
        *("slot", "read", "answered", "slot", "sending 1", "post 1", "settle Active"),
    ]
    assert world.progress.pairing.is_made


def test_a_device_that_was_found_and_is_active_needs_no_otp():
    world = unpaired(OURS, ACTIVE, pairing=sent())
    world.run()
    assert (world.decision, world.client.sent) == (Active(), [])
    assert world.record.progress.pairing.device_id == DEVICE


def test_a_token_that_two_look_ups_find_free_is_paired_again_under_a_new_mark():
    missed = PairingProgress(PairingState.MISSED, pairings=1, is_allowed=True)
    world = unpaired(None, PAIRED, ACTIVE, pairing=missed)
    assert world.run() == [
        *("slot", "claim", "slot given back", "find", "answered"),
        *("slot", "pairing", "pair", "answered", "slot", "sending 1", "post 1", "settle Active"),
    ]
    assert world.progress.pairing.pairings == 2


def test_a_pairing_that_did_not_go_out_is_unsent_again():
    for failure in (errors.NotDelivered(), SlotTooFar(4.0)):
        world = unpaired(failure)
        assert world.run() == ["slot", "claim", "pair", "settle Retry"]
        assert world.record.progress.pairing == FREE


@pytest.mark.parametrize("failure", [errors.NotDelivered(), errors.NotFound(), SlotTooFar(4.0)])
def test_a_pairing_that_was_marked_in_the_attempt_and_made_nothing_is_unsent_in_the_database(failure):
    """As before the attempt, and yet to be written: the mark stands in the database."""
    world = unpaired(failure, not_found=1)
    assert world.run() == ["slot", "claim", "pairing", "pair", "settle Retry"]
    assert world.record.progress.pairing == FREE


def test_a_device_that_is_deleted_and_found_after_all_is_written_down():
    before = PairingProgress(device_id=DEVICE, was_free=True, is_allowed=True)
    gone = errors.NotFound(Answer(status=404))
    world = unpaired(gone, None, ALREADY, OURS, ACTIVE, pairing=before, not_found=3)
    world.run()
    assert world.decision == Active()
    assert world.record.progress.pairing == before


def test_a_pause_between_claim_and_pairing_takes_the_mark_back():
    def pause(call):
        world.record.may_work = False
        call.permit()
        raise AssertionError("it may not go on")

    world = unpaired(pause)
    assert world.run() == ["slot", "claim", "pair", "still sending?", "settle Retry"]
    assert world.record.progress.pairing == FREE
    assert world.decision == Retry(0.0, is_counted=False, why="not_permitted")


def test_a_pairing_that_may_not_be_marked_does_not_go_out():
    world = unpaired(not_found=1)
    world.record.may_send = False
    assert world.run() == ["slot", "claim", "pairing", "settle Retry"]
    assert world.progress.pairing == FREE


def test_without_a_near_slot_a_pairing_is_not_marked():
    missed = PairingProgress(PairingState.MISSED, pairings=1, is_allowed=True)
    world = unpaired(None, pairing=missed)
    world.pace.slots = 1
    assert world.run() == ["slot", "claim", "slot given back", "find", "answered", "no slot", "settle Retry"]
    assert world.progress.pairing.state == PairingState.UNSENT


def test_our_own_failure_before_the_pairing_went_out_takes_its_mark_back():
    def fail(call):
        raise RuntimeError("a fault of our own")

    world = unpaired(fail)
    with pytest.raises(RuntimeError):
        world.run()
    assert world.record.progress.pairing == FREE
    assert world.decision == Pause(PauseReason.INTERNAL, delay=SETTINGS.tuning.read_delay)


def test_our_own_failure_after_the_pairing_went_out_leaves_its_fate_open():
    def fail(call):
        call.requests += 1
        raise RuntimeError("a fault of our own")

    world = unpaired(fail)
    with pytest.raises(RuntimeError):
        world.run()
    assert world.record.progress.pairing == sent()


def test_a_token_that_is_paired_already_is_looked_up_in_the_same_attempt():
    world = unpaired(ALREADY, OURS, WAITING, ACTIVE)
    assert [event for event in world.run() if event in ("pair", "find", "read", "post 1")] == [
        *("pair", "find", "read", "post 1")
    ]
    assert not world.progress.pairing.is_made


def test_a_token_that_is_another_person_s_is_given_up():
    world = unpaired(ALREADY, Pairing(DEVICE, "another-user"))
    world.run()
    assert world.decision == DeadLetter(Reason.TOKEN_TAKEN, told="It is the device of user another-user.")
    assert world.record.progress.pairing == FREE
    assert world.client.sent == []


def test_a_seed_s_otps_go_to_the_device_of_its_pairing():
    world = World(PAIRED, INVALID, WAITING, progress=Progress(next_counter=7, pairing=FREE), source=HOTP)
    world.run()
    assert world.client.sent == [HOTP.mint(7)]
    assert world.decision == DeadLetter(Reason.INVALID_OTP)


def test_a_stale_record_without_a_device_is_not_paired():
    world = unpaired()
    world.record.is_stale = True
    world.run()
    assert world.decision == DeadLetter(Reason.STALE_OTP, is_counted=False)
    assert "pair" not in world.journal


def test_the_otp_state_of_a_record_that_is_only_paired_is_unsent():
    world = unpaired(LOST)
    world.run()
    assert world.progress.first.state == OtpState.UNSENT
    assert SERIAL_NUMBER not in repr(world.record.settled)
