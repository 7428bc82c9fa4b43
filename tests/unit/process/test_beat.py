"""Beat's scheduler, on a real server, with clocks that tests move."""

import json
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

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


class Beat:
    """A scheduler with a tick each second, and a replay at two at night; the steady clock, and that of the wall."""

    def __init__(self, url: str) -> None:
        broker.install()
        self.seconds, self.wall = 1000.0, NIGHT
        app: Any = Celery("beat", broker=url, amqp=broker.LastingAMQP)
        app.now = lambda: self.wall
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
        self.scheduler = SteadyScheduler(app, clock=lambda: self.seconds)
        self._server = redis.Redis.from_url(url)

    def go_on(self, seconds: float) -> float:
        """Let time pass; return in how many seconds the scheduler has something to do."""
        self.seconds += seconds
        self.wall += timedelta(seconds=seconds)
        return self.scheduler.tick()

    def take(self, queue: str = DISPATCH) -> list[dict[str, Any]]:
        """As a worker takes what was sent."""
        taken = [json.loads(message) for message in self._server.lrange(queue, 0, -1)]
        self._server.delete(queue)
        return taken

    def ticks(self, seconds: float, step: float = 0.25) -> int:
        """How many come in so long a time, each of them taken at once."""
        count = 0
        for _ in range(round(seconds / step)):
            self.go_on(step)
            count += len(self.take())
        return count

    def replays(self, seconds: float, step: float = 5.0) -> int:
        self.ticks(seconds, step)
        return len(self.take(REPLAY))

    def close(self) -> None:
        self.scheduler.close()
        self._server.close()


@pytest.fixture
def beat(valkey_url: str) -> Iterator[Beat]:
    with closing(Beat(valkey_url)) as made:
        yield made


# The ticks.


def test_ticks_are_sent_at_their_interval_though_one_is_late_and_what_was_missed_is_not_made_up_for(beat: Beat) -> None:
    """The first one at once. None carries an expiry: it would be a time by beat's clock, and to a worker whose clock is
    ahead of that, long over."""
    told = [(beat.go_on(seconds), len(beat.take())) for seconds in (0, 0.75, 0.25, 1.25, 0.75, 3600)]
    assert told == [(1.0, 1), (0.25, 0), (1.0, 1), (0.75, 1), (1.0, 1), (1.0, 1)]
    beat.go_on(1)
    (message,) = beat.take()
    assert (message["headers"]["task"], message["headers"]["expires"]) == ("tick", None)


@pytest.mark.parametrize("jump", [timedelta(hours=-1), timedelta(days=-365), timedelta(hours=1), timedelta(days=365)])
def test_ticks_go_on_whatever_the_wall_clock_does(beat: Beat, jump: timedelta) -> None:
    assert beat.ticks(5) == 5
    beat.wall += jump
    assert beat.ticks(5) == 5


def test_without_workers_no_more_than_a_few_ticks_wait(beat: Beat) -> None:
    for _ in range(100):
        beat.go_on(1)
    assert len(beat.take()) == MOST_WAITING
    assert beat.ticks(5) == 5


def test_while_the_broker_is_away_beat_goes_on_trying(own_valkey: ValkeyServer) -> None:
    with closing(Beat(own_valkey.url)) as beat, capture_logs() as told:
        assert beat.ticks(5) == 5
        own_valkey.kill()
        for _ in range(3):
            beat.go_on(1)
        own_valkey.start()
        assert beat.ticks(5) == 5
    assert [line["event"] for line in told] == ["broker_out_of_reach"] * 3


# The replay.


def test_a_replay_comes_at_its_time_once_a_day(beat: Beat) -> None:
    assert beat.replays(29 * 60, step=60) == 0
    assert beat.replays(2 * 60) == 1
    assert beat.replays(23 * 3600, step=600) == 0
    assert beat.replays(3600, step=600) == 1


def test_after_a_jump_over_many_nights_a_replay_comes_once_and_after_one_back_at_its_next_time(beat: Beat) -> None:
    """Not only when the clock has come to where it was."""
    beat.wall += timedelta(days=365)
    assert beat.replays(25 * 60, step=60) == 1
    beat.wall -= timedelta(days=365)
    assert beat.replays(60) == 0
    assert beat.replays(3600, step=60) == 1


def test_a_small_correction_of_the_clock_repeats_no_replay(beat: Beat) -> None:
    assert beat.replays(30 * 60, step=60) == 1
    beat.wall -= timedelta(seconds=2)
    assert beat.replays(60, step=1) == 0
