"""Beat's scheduler, on a real server, with clocks that tests move."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn

import pytest
import redis
from celery import Celery
from celery.schedules import crontab
from structlog.testing import capture_logs
from support.servers.valkey import ValkeyServer

from worker.process import broker
from worker.process.beat import MOST_WAITING, SteadyScheduler

DISPATCH, REPLAY = "dispatch", "replay"
NIGHT = datetime(2026, 11, 25, 1, 30, tzinfo=UTC)


@dataclass
class Clocks:
    """The steady one, and that of the wall."""

    seconds: float = 1000.0
    wall: datetime = NIGHT

    def go_on(self, seconds: float) -> None:
        self.seconds += seconds
        self.wall += timedelta(seconds=seconds)


class Beat:
    """A scheduler with a tick each second, and a replay at two at night, and what it has sent."""

    def __init__(self, url: str, clocks: Clocks) -> None:
        broker.install()
        app: Any = Celery("beat", broker=url, amqp=broker.LastingAMQP)
        app.now = lambda: clocks.wall
        app.conf.update(
            task_routes={"tick": DISPATCH, "replay": REPLAY},
            broker_transport_options={"queue_order_strategy": "priority"},
            task_publish_retry_policy={"max_retries": 0},
            beat_max_loop_interval=5,
            beat_schedule={
                DISPATCH: {"task": "tick", "schedule": 1.0},
                REPLAY: {"task": "replay", "schedule": crontab.from_string("0 2 * * *")},
            },
        )
        self.clocks = clocks
        self.scheduler = SteadyScheduler(app, clock=lambda: clocks.seconds)
        self._server = redis.Redis.from_url(url)

    def waiting(self, queue: str = DISPATCH) -> int:
        return int(self._server.llen(queue))

    def take(self, queue: str = DISPATCH) -> list[dict[str, Any]]:
        """As a worker takes what was sent."""
        taken = [json.loads(message) for message in self._server.lrange(queue, 0, -1)]
        self._server.delete(queue)
        return taken

    def ticks(self, seconds: float, step: float = 0.25) -> int:
        """How many come in so long a time, each of them taken at once."""
        return sum(len(self._go_on(step)) for _ in range(round(seconds / step)))

    def replays(self, seconds: float, step: float = 5.0) -> int:
        self.ticks(seconds, step)
        return len(self.take(REPLAY))

    def _go_on(self, step: float) -> list[dict[str, Any]]:
        self.clocks.go_on(step)
        self.scheduler.tick()
        return self.take()

    def close(self) -> None:
        self.scheduler.close()
        self._server.close()


@pytest.fixture
def beat(valkey_url: str) -> Iterator[Beat]:
    with closing(Beat(valkey_url, Clocks())) as made:
        yield made


# The ticks.


def test_the_first_tick_is_sent_at_once_and_each_further_one_at_its_interval(beat: Beat) -> None:
    assert beat.scheduler.tick() == 1.0
    assert beat.waiting() == 1
    beat.clocks.go_on(0.75)
    assert beat.scheduler.tick() == 0.25
    assert beat.waiting() == 1
    beat.clocks.go_on(0.25)
    assert beat.scheduler.tick() == 1.0
    assert beat.waiting() == 2


def test_a_tick_that_comes_late_does_not_delay_those_after_it(beat: Beat) -> None:
    beat.scheduler.tick()
    beat.clocks.go_on(1.25)

    assert beat.scheduler.tick() == 0.75


def test_what_was_missed_is_not_made_up_for(beat: Beat) -> None:
    beat.scheduler.tick()
    beat.take()
    beat.clocks.go_on(3600)

    assert beat.scheduler.tick() == 1.0
    assert beat.waiting() == 1


@pytest.mark.parametrize("jump", [timedelta(hours=-1), timedelta(days=-365), timedelta(hours=1), timedelta(days=365)])
def test_ticks_go_on_whatever_the_wall_clock_does(beat: Beat, jump: timedelta) -> None:
    assert beat.ticks(5) == 5
    beat.clocks.wall += jump
    assert beat.ticks(5) == 5


def test_a_tick_carries_no_expiry(beat: Beat) -> None:
    """It would be a time by beat's clock, and to a worker whose clock is ahead of that, long over."""
    beat.scheduler.tick()

    (message,) = beat.take()

    assert (message["headers"]["task"], message["headers"]["expires"]) == ("tick", None)


def test_without_workers_no_more_than_a_few_ticks_wait(beat: Beat) -> None:
    for _ in range(100):
        beat.clocks.go_on(1)
        beat.scheduler.tick()
    assert beat.waiting() == MOST_WAITING

    beat.take()

    assert beat.ticks(5) == 5


def test_while_the_broker_is_away_beat_goes_on_trying(own_valkey: ValkeyServer) -> None:
    with closing(Beat(own_valkey.url, Clocks())) as beat, capture_logs() as told:
        assert beat.ticks(5) == 5
        own_valkey.kill()
        for _ in range(3):
            beat.clocks.go_on(1)
            beat.scheduler.tick()
        own_valkey.start()

        assert beat.ticks(5) == 5

    assert [line["event"] for line in told] == ["broker_out_of_reach"] * 3


# The replay.


@pytest.mark.faults
def test_a_replay_comes_at_its_time_once_a_day(beat: Beat) -> None:
    assert beat.replays(29 * 60) == 0
    assert beat.replays(2 * 60) == 1
    assert beat.replays(23 * 3600, step=60) == 0
    assert beat.replays(3600, step=60) == 1


def test_after_a_jump_over_many_nights_a_replay_comes_once(beat: Beat) -> None:
    beat.clocks.wall += timedelta(days=30)

    assert beat.replays(25 * 60, step=60) == 1


def test_after_the_clock_was_set_back_far_a_replay_comes_at_its_next_time(beat: Beat) -> None:
    """Not only when the clock has come to where it was."""
    beat.clocks.wall += timedelta(days=365)
    assert beat.replays(60) == 1
    beat.clocks.wall -= timedelta(days=365)

    assert beat.replays(60) == 0
    assert beat.replays(3600, step=60) == 1


def test_a_small_correction_of_the_clock_repeats_no_replay(beat: Beat) -> None:
    assert beat.replays(30 * 60) == 1
    beat.clocks.wall -= timedelta(seconds=2)

    assert beat.replays(60, step=1) == 0


def test_a_crontab_whose_next_time_cannot_be_told_does_not_end_the_ticks(
    beat: Beat, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crontab, "is_due", _fail)

    assert beat.ticks(5) == 5


def _fail(*_: object) -> NoReturn:
    raise RuntimeError("no such time")
