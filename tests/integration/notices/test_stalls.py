"""How often batches are looked at, and which may stall, on both databases."""

from __future__ import annotations

from sqlalchemy import event
from support.data.batches import make_batch
from support.data.notice_desk import NoticeDesk

from models.batch import BatchState
from models.record_states import Status
from worker.notices.outbox import Recorder
from worker.reports.facts import LONGEST_REST, REST, take_environment_for_license
from worker.reports.stall import STILL_AFTER, UNPREPARED_AFTER


class Clock:
    """Says what it was set to; each reading takes `step` seconds."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.step = 0.0

    def __call__(self) -> float:
        self.now += self.step
        return self.now


def look(desk: NoticeDesk, recorder: Recorder) -> list[tuple[str, str]]:
    """What a look writes down, each batch and its event."""
    before = len(desk.notices())
    recorder.record()
    return [(notice.batch, notice.event) for notice in desk.notices()[before:]]


def test_running_batches_with_work_left_may_stall_and_no_others(desk: NoticeDesk) -> None:
    make_batch(desk.database, 2, name="running")
    make_batch(desk.database, [{"user_id": ""}], name="unprepared")
    make_batch(desk.database, 2, name="paused", state=BatchState.PAUSED)
    make_batch(desk.database, [{"status": Status.ACTIVE}], name="finished")
    desk.database.ahead += UNPREPARED_AFTER + 1

    told = look(desk, desk.make_recorder())

    assert [name for name, what in told if what == "stalled"] == ["running", "unprepared"]


def test_a_run_of_one_batch_tells_of_no_other(desk: NoticeDesk) -> None:
    worked_on = make_batch(desk.database, 2, name="worked-on")
    make_batch(desk.database, 2, name="other")
    desk.database.ahead += STILL_AFTER + 1
    recorder = Recorder(desk.database, take_environment_for_license, only_batch=worked_on.batch_id)
    assert look(desk, recorder) == [("worked-on", "stalled")]


def test_a_look_goes_through_the_records_once_however_many_batches_run(desk: NoticeDesk) -> None:
    statements = list[str]()
    event.listen(desk.database.engine, "before_cursor_execute", lambda *given: statements.append(given[2]))
    counts = []
    for name in ("first", "second", "third"):
        make_batch(desk.database, 2, name=name)
        statements.clear()
        desk.make_recorder().record()
        counts.append(sum("GROUP BY record.batch_id" in statement for statement in statements))
    assert counts == [1, 1, 1]


def test_after_a_look_that_took_long_it_rests_a_hundred_times_as_long(desk: NoticeDesk) -> None:
    clock = Clock()
    recorder = Recorder(desk.database, take_environment_for_license, clock)
    clock.step = 0.25
    assert look(desk, recorder) == []
    clock.step = 0.0
    make_batch(desk.database, [{"status": Status.ACTIVE}], name="july")
    clock.now += 0.25 * REST - 1
    assert look(desk, recorder) == []
    clock.now += 1
    assert look(desk, recorder) == [("july", "finished")]


def test_no_look_is_put_off_for_more_than_a_minute(desk: NoticeDesk) -> None:
    clock = Clock()
    recorder = Recorder(desk.database, take_environment_for_license, clock)
    clock.step = 10.0
    recorder.record()
    clock.step = 0.0
    make_batch(desk.database, [{"status": Status.ACTIVE}], name="july")
    clock.now += LONGEST_REST
    assert look(desk, recorder) == [("july", "finished")]
