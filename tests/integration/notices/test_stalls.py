"""How often batches are looked at for stalls, on both databases."""

from __future__ import annotations

from support.data.batches import make_batch
from support.data.notice_desk import NoticeDesk

from models.batch import BatchState
from models.record_states import Status
from worker.notices.recording import LOOK_EVERY, TIMES_AS_LONG, StallWatch
from worker.reports.facts import take_environment_for_license
from worker.reports.stall import STILL_AFTER


class Clock:
    """Says what it was set to; each reading takes `step` seconds."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.step = 0.0

    def __call__(self) -> float:
        self.now += self.step
        return self.now


def test_running_batches_with_work_left_are_looked_at_and_no_others(desk: NoticeDesk) -> None:
    running = make_batch(desk.database, 2, name="running")
    unprepared = make_batch(desk.database, [{"user_id": ""}], name="unprepared")
    make_batch(desk.database, 2, name="paused", state=BatchState.PAUSED)
    make_batch(desk.database, [{"status": Status.ACTIVE}], name="finished")
    desk.database.ahead += STILL_AFTER + 1

    found = StallWatch(desk.database, take_environment_for_license).find()

    assert set(found) == {running.batch_id, unprepared.batch_id}
    assert found[running.batch_id] is not None


def test_a_run_of_one_batch_tells_of_no_others_stall(desk: NoticeDesk) -> None:
    worked_on = make_batch(desk.database, 2, name="worked-on")
    make_batch(desk.database, 2, name="other")
    desk.database.ahead += STILL_AFTER + 1
    watch = StallWatch(desk.database, take_environment_for_license, only_batch=worked_on.batch_id)
    assert set(watch.find()) == {worked_on.batch_id}


def test_it_does_not_look_again_too_soon(desk: NoticeDesk) -> None:
    make_batch(desk.database, 1)
    clock = Clock()
    watch = StallWatch(desk.database, take_environment_for_license, clock)
    assert watch.find()
    clock.now += LOOK_EVERY - 1
    assert not watch.find()
    clock.now += 1
    assert watch.find()


def test_after_a_look_that_took_long_it_waits_a_hundred_times_as_long(desk: NoticeDesk) -> None:
    make_batch(desk.database, 1)
    clock = Clock()
    watch = StallWatch(desk.database, take_environment_for_license, clock)
    clock.step = 1.0
    assert watch.find()
    clock.step = 0.0
    clock.now += TIMES_AS_LONG - 1
    assert not watch.find()
    clock.now += 1
    assert watch.find()
