"""What we changed of Celery, on a real server: the broker's transport, which loses connections and fetches several
messages at once; the worker's consumer, and beat's scheduler."""

import json
import os
import subprocess
import sys
import threading
import tomllib
import weakref
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from queue import SimpleQueue
from types import SimpleNamespace
from typing import Any

import pytest
import redis
from celery import Celery
from celery.schedules import crontab
from celery.worker import state
from celery.worker.consumer import Consumer
from kombu import Connection, Queue
from kombu.asynchronous import Hub, get_event_loop, set_event_loop
from kombu.exceptions import OperationalError
from packaging.specifiers import SpecifierSet
from structlog.testing import capture_logs
from support.servers.valkey import ValkeyServer

from worker.dispatch import AHEAD, USUAL
from worker.process import broker
from worker.process.beat import MOST_WAITING, SteadyScheduler
from worker.process.broker import LONGEST_DELAY, FetchingRoom

QUEUE = Queue("some", routing_key="some")
# What a worker of four threads may have in reserve.
PREFETCH = 4


@pytest.fixture(autouse=True)
def _install(monkeypatch: pytest.MonkeyPatch) -> None:
    # An earlier test may have connected without our transport, and kombu remembers the class that it used.
    monkeypatch.setattr("kombu.transport._transport_cache", {})
    broker.install()


def publish(connection: Connection, *numbers: int, priority: int = 0) -> None:
    with connection.clone() as other:
        for number in numbers:
            other.Producer().publish(number, routing_key="some", priority=priority, retry=False)


def test_what_is_still_to_be_acknowledged_after_a_connection_was_closed_finds_a_lost_connection(
    own_valkey: ValkeyServer,
) -> None:
    """Celery closes a connection that broke and makes another; anything but a lost connection ends the worker."""
    connection = Connection(own_valkey.url)
    QUEUE(connection.default_channel).declare()
    publish(connection, 1)
    message: Any = QUEUE(connection.default_channel).get(no_ack=False)
    own_valkey.kill()
    connection.collect()
    # What is left when it broke while the channel was being closed.
    message.channel._disconnect_pools()
    with pytest.raises(connection.connection_errors):
        message.ack()


def test_a_broker_that_is_away_is_asked_again_soon_and_at_last_every_few_seconds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    app, waits = Celery(broker="redis://127.0.0.1:1/0", amqp=broker.LastingAMQP), list[float]()
    monkeypatch.setattr("kombu.utils.functional.sleep", lambda _: None)
    with pytest.raises(OperationalError), app.connection_for_read() as connection:
        connection.ensure_connection(lambda _, wait: waits.append(wait), 12)
    assert waits == [each / 2 for each in range(1, 11)] + [5.0, 5.0]


# Messages that are fetched several at once.


@contextmanager
def consuming(url: str, take: Callable[[int], object]) -> Iterator[tuple[Connection, Callable[[], None]]]:
    """A consumer as Celery's is, which acknowledges nothing by itself; `take` is called with each body. Yields its
    connection, and what turns the loop once, if there is room."""
    connection, taken = Connection(url, transport_options={"ack_emulation": False}), []

    def note(message: Any) -> None:
        # While it lives, it is in hand.
        taken.append(message)
        take(message.payload)

    def look() -> None:
        with suppress(TimeoutError):
            connection.drain_events(timeout=1)

    channel: Any = connection.default_channel
    consumer = connection.Consumer([QUEUE(channel)], on_message=note)
    consumer.qos(prefetch_count=PREFETCH)
    consumer.consume()
    yield connection, look
    channel.qos.restore_at_shutdown = False
    connection.close()


@pytest.mark.parametrize("priority", [0, 3])
def test_one_fetch_brings_as_many_messages_as_there_is_room_for(valkey_url: str, priority: int) -> None:
    numbers = list[int]()
    with consuming(valkey_url, numbers.append) as (connection, look):
        publish(connection, *range(PREFETCH + 3), priority=priority)
        for _ in range(2):
            look()
            assert numbers == [*range(PREFETCH)]


def test_behind_a_tick_no_other_is_looked_for(monkeypatch: pytest.MonkeyPatch, valkey_url: str) -> None:
    """Each look would take a trip to the server, during which no activations are fetched."""
    monkeypatch.setattr(broker, "TICKS", (QUEUE.name,))
    numbers = list[int]()
    with consuming(valkey_url, numbers.append) as (connection, look), redis.Redis.from_url(valkey_url) as client:
        publish(connection, 1, 2)
        look()
        assert (numbers, client.llen(QUEUE.name)) == ([1], 1)


def test_what_goes_ahead_is_fetched_first(valkey_url: str) -> None:
    numbers = list[int]()
    with consuming(valkey_url, numbers.append) as (connection, look):
        publish(connection, 1, 2, priority=3)
        publish(connection, 7)
        look()
        look()
    assert numbers == [7, 1, 2]


def test_a_server_that_refuses_to_give_several_is_asked_for_one_after_the_other(own_valkey: ValkeyServer) -> None:
    numbers = list[int]()
    with consuming(own_valkey.let_in("limited", "~* &* +@all -rpop"), numbers.append) as (connection, look):
        publish(connection, 1, 2)
        look()
        assert numbers == [1]
        look()
    assert numbers == [1, 2]


def test_a_message_that_nobody_can_read_or_take_up_takes_none_of_the_others_along(valkey_url: str) -> None:
    numbers = list[int]()

    def take(number: int) -> None:
        if number == 3:
            raise redis.ConnectionError("broken")
        numbers.append(number)

    with consuming(valkey_url, take) as (connection, _), redis.Redis.from_url(valkey_url) as client:
        publish(connection, 1)
        client.lpush("some", "{no message", b"\xff")
        publish(connection, 2)
        # Which counts as a lost connection.
        with pytest.raises(connection.connection_errors):
            connection.drain_events(timeout=5)
        assert numbers == [1, 2]
    with consuming(valkey_url, take) as (connection, _):
        publish(connection, 5, 3, 4)
        with pytest.raises(redis.ConnectionError, match="broken"):
            connection.drain_events(timeout=5)
    assert numbers == [1, 2, 5, 4]


def make_room(taken: int, prefetch: int = PREFETCH, fetched_at: float = float("inf")) -> FetchingRoom:
    """The room of a worker that has so many messages; nothing is given back when it ends."""
    room = FetchingRoom(SimpleNamespace(fetched_at=fetched_at, do_restore=False), prefetch)
    for number in range(taken):
        room.append(object(), str(number))
    return room


@pytest.mark.parametrize(
    ("room", "may"),
    [
        # Room for half of what it may have.
        *((make_room(taken), taken < 3) for taken in range(5)),
        # Where messages come slowly, none waits for others.
        (make_room(3, fetched_at=-LONGEST_DELAY), True),
        (make_room(4, fetched_at=-LONGEST_DELAY), False),
        # Whoever may have any number.
        (make_room(100, prefetch=0), True),
    ],
)
def test_a_worker_fetches_where_there_is_much_room_or_a_little_for_long(room: FetchingRoom, may: bool) -> None:
    assert room.can_consume() is may


def test_the_thread_that_makes_enough_room_wakes_the_loop() -> None:
    former, loop, room, woken = get_event_loop(), Hub(), make_room(PREFETCH), []
    set_event_loop(loop)
    for tag in ("0", "1"):
        thread = threading.Thread(target=room.ack, args=(tag,))
        thread.start()
        thread.join()
        woken.append(bool(loop._ready))
    set_event_loop(former)
    assert woken == [False, True]


def test_what_is_urgent_waits_behind_nothing_that_was_fetched_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker, "SPARE_THREADS", 1)
    pool, may_end, begun = broker.AheadPool(1), threading.Event(), SimpleQueue[str]()

    def apply(name: str, priority: int) -> Any:
        def run(*_: Any) -> None:
            begun.put(name)
            may_end.wait(60)

        return pool.on_apply(run, (name, "id", {"delivery_info": {"priority": priority}}))

    names = {"usual": USUAL, "usual, too": USUAL, "urgent": AHEAD, "urgent, too": AHEAD}
    tasks = [apply(name, priority) for name, priority in names.items()]
    assert {begun.get(timeout=60), begun.get(timeout=60)} == {"usual", "urgent"}
    may_end.set()
    for task in tasks:
        task.wait(60)
    # The one that found no spare thread free kept its place among the usual ones.
    assert [begun.get(), begun.get()] == ["usual, too", "urgent, too"]
    pool.on_stop()


# Celery's consumer, whose sets of tasks in hand threads change.


class Request:
    """As far as a set of them is concerned."""

    id = "id"


class ChangingSet(set[Any]):
    """The references in a WeakSet, to which a thread adds one when somebody goes through them for the first time."""

    late: Any = None

    def __iter__(self) -> Iterator[Any]:
        for reference in super().__iter__():
            yield reference
            if self.late is None:
                self.late = Request()
                self.add(weakref.ref(self.late))


@pytest.fixture(params=["reserved_requests", "active_requests"])
def in_hand(request: pytest.FixtureRequest) -> Iterator[list[Request]]:
    """Two requests of a worker, in one of Celery's sets; a third comes while Celery goes through it."""
    requests, in_set = [Request(), Request()], getattr(state, request.param)
    in_set.data = ChangingSet(map(weakref.ref, requests))
    yield requests
    in_set.data = set()
    state.reserved_requests.clear()


def make_consumer(kind: type[Consumer]) -> Any:
    """As much of a consumer as drops what it has when a connection is lost."""
    consumer = object.__new__(kind)
    consumer.controller, consumer.pool, consumer.task_buckets = None, None, {}
    return consumer


@pytest.mark.usefixtures("in_hand")
def test_a_connection_that_is_lost_while_threads_begin_and_end_tasks_ends_no_worker() -> None:
    make_consumer(broker.LastingConsumer).on_close()
    assert {*state.reserved_requests} == {*state.active_requests}


@pytest.mark.usefixtures("in_hand")
def test_celery_s_own_consumer_needs_that_as_long_as_a_python_before_3_14_may_run_it() -> None:
    """Once it fails, LastingConsumer may go, with `worker_consumer` in worker/celery.py."""
    try:
        make_consumer(Consumer).on_close()
        is_raised = False
    except RuntimeError:
        is_raised = True
    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]
    assert "3.13" in SpecifierSet(project["requires-python"])
    assert is_raised is (sys.version_info < (3, 14))


def test_an_error_that_a_new_connection_mends_counts_as_a_lost_connection() -> None:
    """Celery goes through the same sets when it connects again."""
    assert issubclass(RuntimeError, Connection("redis://").connection_errors)


# Beat's scheduler, with clocks that tests move.

DISPATCH, REPLAY = "dispatch", "replay"
NIGHT = datetime(2026, 11, 25, 1, 30, tzinfo=UTC)


class Beat:
    """A scheduler with a tick each second, and a replay at two at night; the steady clock, and that of the wall."""

    def __init__(self, url: str) -> None:
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


# What beat ticks by in an installation, the expiries that its messages carry, and a worker's consumer and pool.
OUR_PROGRAMS = """
from celery.utils.imports import symbol_by_name
from worker.celery import app
beat = app.Beat()
made = beat.Service(app=app, scheduler_cls=beat.scheduler_cls).scheduler
print(type(made).__name__, made._clock.__name__, *{each.options.get("expires") for each in made.schedule.values()})
print(symbol_by_name(app.conf.worker_consumer).__name__, symbol_by_name(app.conf.worker_pool).__name__)
"""


def test_every_beat_of_ours_has_that_scheduler_with_a_clock_that_nobody_can_set_and_every_worker_that_consumer(
    tmp_path: Path,
) -> None:
    """Those of `celery -A worker` and those that `run` starts are made of the app's settings."""
    variables = os.environ | {"OATHBULK_HOME": str(tmp_path), "OATHBULK_REDIS_URL": "redis://127.0.0.1:1/0"}
    told = subprocess.run(
        [sys.executable, "-c", OUR_PROGRAMS], env=variables, capture_output=True, text=True, check=True
    )
    assert told.stdout == "SteadyScheduler boot_time None\nLastingConsumer AheadPool\n"


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
