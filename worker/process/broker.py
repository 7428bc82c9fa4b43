"""The worker's connection to its broker.

It survives whatever the broker does or sends: errors that would make kombu and Celery end the worker count as a lost
connection, which is soon restored. A message that none of our processes can have sent is dropped before it reaches
Celery, which would fail on it again and again. The connection fetches as many messages at once as the worker has room
for, because fetching them one by one, as kombu does, takes half of a record's processor time."""

import json
import re
from base64 import b64decode
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from threading import Semaphore
from time import monotonic
from typing import Any

import redis
import structlog
from celery.app.amqp import AMQP
from celery.concurrency.base import apply_target
from celery.concurrency.thread import ApplyResult, TaskPool
from celery.worker.consumer import Consumer
from kombu.asynchronous import get_event_loop
from kombu.connection import Connection
from kombu.transport import TRANSPORT_ALIASES, virtual
from kombu.transport.redis import Channel, Transport
from kombu.utils.json import loads
from tenacity import retry, retry_if_exception_type, stop_after_attempt

from worker.clocks import LogInterval

log = structlog.get_logger()

# A write that changes nothing, since there is no such key. A replica and a loading server refuse it.
PROBE = ("PEXPIRE", "oathbulk:probe", 1)

# Seconds between tries to connect. Celery leaves this to kombu, which waits 2, 4, up to 30: that lengthens an outage by
# about half.
INTERVALS = {"interval_start": 0.5, "interval_step": 0.5, "interval_max": 5.0}

# Errors of kombu 5.7 and Celery 5.7 that a new connection fixes. A command to all workers that they cannot read raises
# any of them except AttributeError, which is raised if a message is acknowledged after its connection was closed.
# RuntimeError is also raised if a task ends while Celery reconnects (see LastingConsumer).
_MENDED_BY_RECONNECTING = (ValueError, TypeError, LookupError, AttributeError, RuntimeError)

# Seconds after which a worker with little room fetches anyway: longer than the time between two messages worth fetching
# together, and too short to notice.
LONGEST_DELAY = 0.05

# A worker's threads for urgent tasks, in addition to those of its concurrency.
SPARE_THREADS = 8

# Number of tries to drop the messages of a lost connection: threads change a set during a few of them, but not during
# ten.
CLOSE_TRIES = 10


# Prefixes of the queues to which beat sends one message at a time. Looking for more would cost a trip to the server,
# during which no activations are fetched.
TICKS = ("oathbulk.dispatch", "oathbulk.prepare")
# The prefix of our queues' names. Celery handles everything else that is fetched (answers to remote control).
QUEUES = b"oathbulk."
# Maximum bytes of a message. Ours have about a thousand, and more for a long batch name.
LARGEST_MESSAGE = 16 * 1024
# Our tasks, with the types of their arguments.
TASKS: Mapping[str, list[type]] = {
    "oathbulk.activate": [int, str],
    "oathbulk.dispatch": [],
    "oathbulk.notify": [],
    "oathbulk.prepare": [],
    "oathbulk.replay": [],
}
# The largest id in the database.
_LARGEST_ID = 2**63 - 1
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
# The contents of our messages, as Celery 5.7 and kombu 5.7 write them: for each key its permitted types, patterns, and
# values.
_MESSAGE: Mapping[str, tuple[Any, ...]] = {
    "body": (str,),
    "content-encoding": ("utf-8",),
    "content-type": ("application/json",),
    "headers": (dict,),
    "properties": (dict,),
}
_HEADERS: Mapping[str, tuple[Any, ...]] = {
    "lang": ("py",),
    "task": (*TASKS,),
    "id": (_UUID,),
    "root_id": (_UUID,),
    "parent_id": (_UUID, None),
    "argsrepr": (str,),
    "kwargsrepr": (str,),
    "origin": (str,),
    "ignore_result": (bool, None),
    "retries": (0,),
    "replaced_task_nesting": (0,),
    "timelimit": ([None, None],),
    "stamps": ({},),
    **dict.fromkeys(("shadow", "eta", "expires", "group", "group_index", "stamped_headers"), (None,)),
}
_PROPERTIES: Mapping[str, tuple[Any, ...]] = {
    "correlation_id": (_UUID,),
    "reply_to": (_UUID, ""),
    "delivery_mode": (2,),
    "delivery_info": (dict,),
    "priority": (0, 3),
    "body_encoding": ("base64",),
    "delivery_tag": (_UUID,),
}
_DELIVERY: Mapping[str, tuple[Any, ...]] = {"exchange": ("",), "routing_key": (str,)}
_EMBEDDED: Mapping[str, tuple[Any, ...]] = dict.fromkeys(("callbacks", "errbacks", "chain", "chord"), (None,))
# Keys that only some of our messages have: those that a worker gave back, those from beat, and those with a label.
_SOMETIMES: Mapping[str, tuple[Any, ...]] = {
    "redelivered": (bool,),
    "celery_beat_task": (True,),
    "argsrepr": (str,),
    "kwargsrepr": (str,),
}


class NotOurs(Exception):
    """No process of ours sends such a message."""


def is_ours(text: bytes) -> bool:
    """Whether a process of ours can have sent this message: it has exactly our keys, with values of their types, and
    requests one of our tasks with its arguments."""
    try:
        _check_message(text)
    # RecursionError: deeply nested JSON.
    except (NotOurs, ValueError, RecursionError):
        return False
    return True


def _check_message(text: bytes) -> None:
    """Raises NotOurs, ValueError, RecursionError."""
    if len(text) > LARGEST_MESSAGE:
        raise NotOurs
    message = json.loads(text)
    _check(message, _MESSAGE)
    headers, properties = message["headers"], message["properties"]
    _check(headers, _HEADERS)
    _check(properties, _PROPERTIES)
    _check(properties["delivery_info"], _DELIVERY)
    match json.loads(b64decode(message["body"], validate=True)):
        case [list(arguments), dict(named), embedded] if not named:
            _check(embedded, _EMBEDDED)
        case _:
            raise NotOurs
    types = TASKS[headers["task"]]
    if [type(each) for each in arguments] != types or not all(0 < each <= _LARGEST_ID for each in arguments[:1]):
        raise NotOurs


def _check(found: Any, known: Mapping[str, tuple[Any, ...]]) -> None:
    """Check that exactly the known keys are there, each with a permitted value. Raises NotOurs."""
    if type(found) is not dict or not known.keys() <= found.keys():
        raise NotOurs
    for key, value in found.items():
        if not any(_fits(value, each) for each in known.get(key) or _SOMETIMES.get(key, ())):
            raise NotOurs


def _fits(value: Any, allowed: Any) -> bool:
    """Whether a value has the allowed type, matches the allowed pattern, or equals the allowed value: 0 equals neither
    False nor 0.0."""
    if isinstance(allowed, type):
        return type(value) is allowed
    if isinstance(allowed, re.Pattern):
        return type(value) is str and allowed.fullmatch(value) is not None
    return type(value) is type(allowed) and value == allowed


class DroppedMessages:
    """The messages on our queues that this process has dropped because they are not ours."""

    def __init__(self) -> None:
        self.count = 0
        self._interval = LogInterval()

    def keep_ours(self, queue: bytes, text: bytes) -> bool:
        """Whether to work on this message from this queue. If not, count it; one log line a minute says how many were
        dropped."""
        if not queue.startswith(QUEUES) or is_ours(text):
            return True
        self.count += 1
        if self._interval.begin_if_over():
            cure = "find out who else writes to the server of OATHBULK_REDIS_URL"
            log.warning("message_dropped", dropped=self.count, bytes=len(text), cure=cure)
        return False


# The messages that this process dropped; a global, since kombu makes its channels by itself.
dropped = DroppedMessages()


class LastingConnection(Connection):
    """A connection to the broker that is retried at our intervals."""

    def ensure_connection(self, *args: Any, **options: Any) -> Any:
        return super().ensure_connection(*args, **(INTERVALS | options))


class LastingAMQP(AMQP):  # type: ignore[misc]
    """Makes Celery use LastingConnection."""

    Connection = LastingConnection


class FetchingRoom(virtual.QoS):
    """Decides when the worker fetches messages: as soon as half of its places are free, or, a moment after the last
    message, as soon as one is. Until then its loop sleeps, which leaves the processor to its threads."""

    def can_consume(self) -> bool:
        """Whether to fetch now."""
        room: int | None = self.can_consume_max_estimate()
        if room is None or 2 * room >= self.prefetch_count:
            return True
        return room > 0 and monotonic() - self.channel.fetched_at >= LONGEST_DELAY

    def ack(self, delivery_tag: str) -> None:
        """Free this message's place, and wake the loop if it is time to fetch others."""
        super().ack(delivery_tag)
        loop = get_event_loop()
        if loop is not None and self.can_consume():
            loop.call_soon(lambda: None)


class FetchingChannel(Channel):
    """A channel that fetches, with each message, those behind it in the queue, as many as the worker has room for."""

    QoS: Any

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.fetched_at = monotonic()
        if not self.ack_emulation:
            self.QoS = FetchingRoom
        self.client.set_response_callback("BRPOP", self._keep_ours)

    @staticmethod
    def _keep_ours(fetched: list[bytes] | None) -> list[bytes] | None:
        """Drop foreign messages, so that kombu never sees them."""
        return fetched if fetched and dropped.keep_ours(*fetched) else None

    def basic_consume(
        self, queue: str, no_ack: bool, callback: Callable[[Any], object], *rest: Any, **more: Any
    ) -> Any:
        def take(message: Any) -> None:
            self.fetched_at = monotonic()
            callback(message)
            # An ExitStack calls all its callbacks, the last one first, even if one raises.
            with ExitStack() as others:
                for text in reversed(self._fetch(queue, message)):
                    others.callback(take_text, text)

        def take_text(text: bytes) -> None:
            message = self.Message(loads(text.decode()), channel=self)
            self.qos.append(message, message.delivery_tag)
            callback(message)

        return super().basic_consume(queue, no_ack, take, *rest, **more)

    def _fetch(self, queue: str, first: Any) -> list[bytes]:
        """Fetch the messages behind the first one, as many as the worker has room for; none behind a tick. kombu has a
        list for each priority; the list of priority 0 has the queue's own name."""
        room = self.qos.can_consume_max_estimate()
        if self.ack_emulation or not room or queue.startswith(TICKS):
            return []
        priority = first.properties.get("priority")
        name = f"{queue}{self.sep}{priority}" if priority else queue
        # If the server is older than this command, or forbids it, kombu fetches one by one.
        with self.conn_or_acquire() as client, suppress(redis.ResponseError):
            return [text for text in client.rpop(name, room) or [] if dropped.keep_ours(name.encode(), text)]
        return []


class LastingTransport(Transport):
    """A transport that counts more errors as a lost connection than kombu does, since any other error ends the worker.
    Every refusal by the server counts: in a failover, the server may be a replica (READONLY, MASTERDOWN) or be loading
    (LOADING); its memory or disk may be full (OOM, MISCONF); and redis-py has no names for some of these errors. An
    unreadable command to all workers counts too."""

    Channel = FetchingChannel
    connection_errors = (*Transport.connection_errors, redis.ResponseError, *_MENDED_BY_RECONNECTING)

    def establish_connection(self) -> Any:
        """Connect to a server that accepts writes. Without this check a worker would connect to a replica again and
        again, without a pause."""
        connection = super().establish_connection()
        try:
            channel = self.create_channel(connection)
            with channel.conn_or_acquire() as client:
                client.execute_command(*PROBE)
            channel.close()
        except Exception:
            self.close_connection(connection)
            raise
        return connection


class LastingConsumer(Consumer):  # type: ignore[misc]
    """Celery's consumer of messages, which survives a lost connection while threads begin and end tasks. When a
    connection is lost, Celery iterates over its sets of current tasks, and before Python 3.14 that raises RuntimeError
    if a thread changes one meanwhile: https://github.com/celery/celery/issues/7162,
    https://github.com/python/cpython/issues/123089.

    Workers do not ask each other for clocks and revoked tasks (mingle), nor listen to each other (gossip): the database
    has what they need to know, and gossip ends in a traceback if the server dies."""

    def __init__(self, *arguments: Any, worker_options: Mapping[str, Any] | None = None, **options: Any) -> None:
        alone = {"without_gossip": True, "without_mingle": True}
        super().__init__(*arguments, worker_options={**(worker_options or {}), **alone}, **options)

    def shutdown(self) -> None:
        """End, but first send how the last tasks ended; otherwise Flower would show them as started forever."""
        with suppress(*LastingTransport.connection_errors):
            self._flush_events()
        super().shutdown()

    @retry(retry=retry_if_exception_type(RuntimeError), stop=stop_after_attempt(CLOSE_TRIES), reraise=True)
    def on_close(self) -> None:
        """Drop the messages of the lost connection."""
        super().on_close()


class AheadPool(TaskPool):  # type: ignore[misc]
    """Threads for tasks, and SPARE_THREADS more for urgent ones: a tick, a preparation, a record that somebody waits
    for. Otherwise urgent tasks would wait behind everything that the worker has fetched in reserve, as they do while no
    spare thread is free."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._spare = ThreadPoolExecutor(SPARE_THREADS)
        self._free = Semaphore(SPARE_THREADS)

    def on_stop(self) -> None:
        """End once the running tasks have ended."""
        self._spare.shutdown(cancel_futures=True)
        super().on_stop()

    def on_apply(
        self,
        target: Callable[..., Any],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        callback: Callable[..., Any] | None = None,
        accept_callback: Callable[..., Any] | None = None,
        **_: Any,
    ) -> ApplyResult:
        """Run a task. The third of `args` is the headers of its message. kombu gives a message the priority 0, which is
        the highest, unless another is given."""
        is_urgent = not args[2]["delivery_info"]["priority"] and self._free.acquire(blocking=False)
        executor = self._spare if is_urgent else self.executor
        applied = executor.submit(apply_target, target, args, kwargs, callback, accept_callback)
        if is_urgent:
            applied.add_done_callback(lambda _: self._free.release())
        return ApplyResult(applied)


def install() -> None:
    """Use LastingTransport for redis:// and rediss:// from here on."""
    for scheme in ("redis", "rediss"):
        TRANSPORT_ALIASES[scheme] = f"{__name__}:{LastingTransport.__name__}"
