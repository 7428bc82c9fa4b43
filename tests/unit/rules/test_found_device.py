"""A device that was found, or made without its status being told, is read before anything is believed of it."""

from __future__ import annotations

from models.record_states import PairingState
from worker.pingone.devices import Device, PairedDevice, Pairing
from worker.pingone.errors import Answer, OutcomeUnknown
from worker.rules.decisions import choose_first_step, decide_after_pairing, decide_after_read, decide_after_search
from worker.rules.progress import Active, DeadLetter, Limits, PairingProgress, Progress, ReadDevice, Retry, SendOtp

LIMITS = Limits()
USER, DEVICE = "6f1d3c1e-user", "0f0b7a52-device"
LOST = Progress(pairing=PairingProgress(PairingState.SENT, pairings=1, was_free=True, is_allowed=True))
FOUND, _ = decide_after_search(LOST, Pairing(DEVICE, USER), USER, LIMITS)


def device(status: str) -> Device:
    return Device(status=status, is_locked=False, is_blocked=False, answer=Answer(status=200))


def test_a_read_is_owed_until_the_device_was_read() -> None:
    assert FOUND.needs_read
    assert choose_first_step(FOUND, LIMITS) == (FOUND, ReadDevice())


def test_a_read_that_tells_nothing_leaves_it_owed() -> None:
    progress, step = decide_after_read(FOUND, OutcomeUnknown(), LIMITS)
    assert isinstance(step, Retry)
    assert progress.needs_read


def test_it_may_be_active_already() -> None:
    progress, step = decide_after_read(FOUND, device("ACTIVE"), LIMITS)
    assert step == Active()
    assert progress.pairing.state == PairingState.PAIRED


def test_if_it_waits_its_otp_goes() -> None:
    progress, step = decide_after_read(FOUND, device("ACTIVATION_REQUIRED"), LIMITS)
    assert step == SendOtp(1)
    assert not progress.needs_read


def test_a_device_whose_status_the_pairing_did_not_tell_is_owed_a_read() -> None:
    progress, step = decide_after_pairing(LOST, PairedDevice(DEVICE, None, Answer(status=201)), LIMITS)
    assert step == ReadDevice()
    assert progress.needs_read


def test_a_token_of_another_person_leaves_no_pairing_open() -> None:
    progress, step = decide_after_search(LOST, Pairing(DEVICE, "9a2b4d6e-other"), USER, LIMITS)
    assert isinstance(step, DeadLetter)
    assert not progress.needs_read
