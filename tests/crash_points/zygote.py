"""Processes to be killed, without the seconds that each would take to start: `python -m crash_points.zygote`.

The zygote has imported everything. For an installation it forks a second one, which has its parts put together as well;
and that forks a process for every order. They have one thread and no connection, so that what they fork is as good as
new. Orders and installations come as lines of JSON on the standard input, what became of each goes to the standard
output; all of them end with whoever gives the orders.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, NoReturn
from urllib.request import Request, urlopen

# What a worker imports only when it is at work is imported once, here.
import celery.app.amqp  # noqa: F401
import httpcore  # noqa: F401
import kombu.transport.redis  # noqa: F401
import psycopg  # noqa: F401
from support.data.moving_clock import MovingDatabase

import worker.process.worker_parts  # noqa: F401
from crash_points.orders import Order
from crash_points.steps import Steps
from worker.audit import Actor
from worker.batches.commands import Batches
from worker.pingone import client
from worker.records import DeadLettered

STEPS = Steps()
# Where the steps of a frozen process can be read, by its pid.
FROZEN: dict[int, int] = {}


def main() -> None:
    STEPS.watch()
    hasten()
    gc.freeze()
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            serve_installation(json.loads(line))
        os.waitpid(pid, 0)
        answer({})


def hasten() -> None:
    """What has no setting: a call that is not acted on makes a second try at once, and no third."""
    client.SHORTEST_HOLD = 0.01
    client.RetryPolicy = partial(client.RetryPolicy, tries=2, sleep=lambda _: None)  # type: ignore[misc, assignment]


def serve_installation(variables: dict[str, str]) -> NoReturn:
    """Until an empty order."""
    os.environ.update(variables)
    # Only now, since it reads the settings.
    from worker import tasks

    tasks.parts.database = database = MovingDatabase(tasks.settings.database)
    # The message of a record that is not there: the first run of a process takes twenty times as long as its second.
    tasks.activate(0, "default")
    _ = tasks.parts.preparation
    database.close()
    tasks.parts.redis.close()
    gc.freeze()
    answer({})
    while order := json.loads(sys.stdin.readline() or "{}"):
        answer(perform(Order(**order), tasks, database))
    os._exit(0)


def perform(order: Order, tasks: Any, database: MovingDatabase) -> dict[str, Any]:
    """The steps that were passed, and the exit status; negative is a signal."""
    if order.thaws is not None:
        os.kill(order.thaws, signal.SIGCONT)
        return follow(order.thaws, FROZEN.pop(order.thaws))
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        # What it prints is no answer.
        os.dup2(2, 1)
        if order.revokes is not None:
            revoke_access_token(order.revokes, tasks)
        STEPS.begin(announcing(writer, order.dies_at), signal.SIGSTOP if order.is_frozen else signal.SIGKILL)
        live(order, tasks, database)
    os.close(writer)
    if order.is_frozen:
        os.waitpid(pid, os.WUNTRACED)
        FROZEN[pid] = reader
        return {"pid": pid, "steps": os.read(reader, 65536).decode().splitlines(), "exit_code": None}
    return follow(pid, reader)


def revoke_access_token(simulator: str, tasks: Any) -> None:
    tasks.parts.clients.access_tokens(tasks.parts.environments.get("default")).get()
    urlopen(Request(f"{simulator}/simulator/access_tokens/revoke", method="POST")).close()


def follow(pid: int, reader: int) -> dict[str, Any]:
    """A process to its end."""
    with os.fdopen(reader) as announced:
        steps = announced.read().splitlines()
    _, status = os.waitpid(pid, 0)
    return {"pid": pid, "steps": steps, "exit_code": os.waitstatus_to_exitcode(status)}


def announcing(writer: int, dies_at: int | None) -> Callable[[str], bool]:
    passed = 0

    def announce(step: str) -> bool:
        nonlocal passed
        os.write(writer, f"{step}\n".encode())
        passed += 1
        return passed - 1 == dies_at

    return announce


def live(order: Order, tasks: Any, database: MovingDatabase) -> NoReturn:
    """The whole life of a process."""
    database.ahead = order.ahead
    try:
        if order.ticks:
            tasks.dispatch()
        for _ in range(order.preparations):
            tasks.prepare()
        for record_id in order.records:
            with suppress(DeadLettered):
                tasks.activate(record_id, "default")
        if order.command is not None:
            getattr(Batches(database, Actor("a person")), order.command)(order.batch)
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def answer(told: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(told) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
