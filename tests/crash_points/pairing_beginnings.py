"""How records without a device come to where a way begins."""

from __future__ import annotations

from collections.abc import Callable

from support.fleets.real_fleet import BATCH

from crash_points.names import PAIRED
from crash_points.stage import Stage
from crash_points.whole_stage import WholeStage
from worker.rules.decisions import NOT_FOUND_READS

# The user to whom somebody else gave a token.
ANOTHER = "0a7b0000-5e1f-4c0d-8000-0000000000ff"


def lost(fault: str, meanwhile: Callable[[WholeStage], object] = lambda _: None) -> Callable[[Stage], list[int]]:
    """A request to pair had no answer, and the look-up that is owed is due."""

    def prepare(stage: Stage) -> list[int]:
        assert isinstance(stage, WholeStage)
        ids = stage.enqueue()
        stage.lose_pairing(*ids, fault=fault)
        stage.work(*ids)
        meanwhile(stage)
        stage.go_on()
        return stage.enqueue()

    return prepare


def missed(stage: Stage) -> list[int]:
    """Besides, a first look-up has found the token free."""
    stage.work(*lost("reset_before")(stage))
    stage.go_on()
    return stage.enqueue()


def cancel(stage: WholeStage) -> None:
    stage.fleet.batches.cancel(BATCH)


def paired_meanwhile(user_id: str | None = None) -> Callable[[Stage], list[int]]:
    """Somebody else has paired the tokens since we saw them free: with this user, or with the right ones. The batch has
    run for longer than that."""

    def prepare(stage: Stage) -> list[int]:
        assert isinstance(stage, WholeStage)
        stage.go_on()
        devices = stage.unpaired.paired.world.devices
        stage.pair_as_another(*(device.model_copy(update={"user_id": user_id or device.user_id}) for device in devices))
        return stage.enqueue()

    return prepare


def deleted(stage: Stage) -> list[int]:
    """A worker died when it had paired a token; a day later its device is gone, and not found often enough."""
    assert isinstance(stage, WholeStage)
    for record_id in stage.enqueue():
        assert stage.work(record_id, dies_at=len(PAIRED) - 1).steps == list(PAIRED)
    stage.age_devices()
    for _ in range(NOT_FOUND_READS):
        stage.go_on()
        stage.work(*stage.enqueue())
    stage.go_on()
    return stage.enqueue()
