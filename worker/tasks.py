"""The tasks: an id in and one call out."""

from __future__ import annotations

import gc
from contextlib import suppress
from typing import Any

from celery.signals import worker_init, worker_ready, worker_shutdown, worker_shutting_down
from sqlalchemy.exc import DBAPIError

from worker.celery import ACTIVATE_QUEUE, DISPATCH_QUEUE, app, exit_on_config_error, settings
from worker.dispatch.publishing import CeleryBroker
from worker.fleet.fitness import ConsumerQueues
from worker.process import affinity, request_sets
from worker.process.threads import Threads
from worker.process.worker_parts import WorkerParts

parts = WorkerParts(settings, CeleryBroker(app, "oathbulk.activate", ACTIVATE_QUEUE))


@worker_init.connect
def check_settings(**_signal: object) -> None:
    """Without these a worker would take up message after message in vain, beside others that could do the work."""
    with exit_on_config_error():
        _ = parts.keyring, parts.leases, parts.replays


@worker_init.connect
def install_request_sets(**_: object) -> None:
    """Celery's sets of tasks in hand are gone through while threads change them."""
    request_sets.install()


@worker_ready.connect
def watch_threads(sender: Any, **_: object) -> None:
    """As many as PingOne's answers take."""
    Threads(
        sender.pool.executor, parts.paces.known, settings.find_thread_limit, lambda: parts.database.waiting.seconds
    ).watch()


@worker_ready.connect
def start_fitness_watch(sender: Any, **_: object) -> None:
    """Say every few seconds that this process lives, and take it out of work where it fails alone."""
    parts.fitness.start_watching(ConsumerQueues(sender, (DISPATCH_QUEUE, ACTIVATE_QUEUE)))


@worker_ready.connect
def keep_threads_on_one_processor(**_: object) -> None:
    """All threads on one processor."""
    if settings.one_processor:
        affinity.start()


@worker_ready.connect
def freeze_loaded_objects(**_: object) -> None:
    """What is loaded by now stays for good; looking through it again and again takes a thirtieth of a worker's time."""
    gc.collect()
    gc.freeze()


@worker_shutting_down.connect
def stop(**_: object) -> None:
    """SIGTERM or Ctrl-C: threads that wait for a slot hand their record back."""
    parts.stopping.set()


@worker_shutdown.connect
def sign_off(**_: object) -> None:
    """Nobody counts on this process any more. Where the database is away, that shows after a while by itself."""
    with suppress(DBAPIError):
        parts.processes.leave()


@app.task(name="oathbulk.activate")
def activate(record_id: int, environment: str) -> None:
    """Take one record a step further."""
    parts.activations.run(record_id, environment)


@app.task(name="oathbulk.dispatch")
def dispatch() -> None:
    """Put onto the queue what is due."""
    parts.dispatcher.tick()


@app.task(name="oathbulk.replay")
def replay() -> None:
    """Replay the dead letters that time alone may mend."""
    parts.replays.replay_transient()
