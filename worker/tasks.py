"""The Celery tasks, each of which only makes one call; and what a worker process does when it starts and ends."""

import logging
import os
from contextlib import suppress
from typing import Any

from celery.signals import celeryd_init, worker_init, worker_ready, worker_shutdown, worker_shutting_down
from sqlalchemy.exc import DBAPIError

from models.encrypted import DecryptionError
from worker.celery import ACTIVATE_QUEUE, app, exit_on_config_error, name_queues, settings
from worker.config.settings import ONLY_BATCH
from worker.dispatch import CeleryBroker
from worker.fleet import FAILS_ALONE
from worker.process import affinity
from worker.process.worker_parts import AwayLines, WorkerParts, end_if_unfit, end_if_unusable, end_without_authorities
from worker.records.activation import DeadLettered

# The only batch that this process works on, since it belongs to `run BATCH`; None: it works on all batches.
only_batch = int(os.environ[ONLY_BATCH]) if ONLY_BATCH in os.environ else None
parts = WorkerParts(settings, CeleryBroker(app, "oathbulk.activate", ACTIVATE_QUEUE), only_batch=only_batch)


@celeryd_init.connect
def begin(**_signal: object) -> None:
    """End a process that could not work, since it would take messages from workers that can: if settings are missing;
    if the database is a standby, lacks the schema, or is unusable for another lasting reason; or if this process fails
    where others work. Then use the queues of its installation."""
    with exit_on_config_error():
        _ = parts.keyring, parts.leases, parts.replays
    end_if_unusable(parts.database)
    end_without_authorities(parts.processes)
    name_queues(parts.database)
    end_if_unfit(parts.database, parts.processes, parts.environments, parts.clients, settings.tuning.call_deadline)


@worker_init.connect
def hear_failures(**_signal: object) -> None:
    """Keep failures that are reported elsewhere out of the log."""
    # The logger in which Celery reports failed tasks.
    logging.getLogger("celery.app.trace").addFilter(AwayLines())


@worker_ready.connect
def show_life(**_: object) -> None:
    """Record every few seconds that this process is alive, and keep its threads on one processor."""
    parts.fitness.start_watching()
    affinity.start()


@worker_shutting_down.connect
def stop(**_: object) -> None:
    """Begin to stop, after SIGTERM or Ctrl-C: threads that wait for a slot hand back their records."""
    parts.stopping.set()


@worker_shutdown.connect
def sign_off(sender: Any, **_: object) -> None:
    """Record that this process has ended. A process that failed alone stays listed, and ends with its own exit code. If
    the database is unavailable, others notice the end after a while."""
    if parts.fitness.is_sick:
        sender.exitcode = FAILS_ALONE
        return
    with suppress(DBAPIError):
        parts.processes.leave()


# Celery logs no traceback for `throws`. A dead letter is not the worker's fault; after a wrong key, the pause of the
# batch or the end of this process says what to do.
@app.task(name="oathbulk.activate", throws=(DeadLettered, DecryptionError))
def activate(record_id: int, environment: str) -> str:
    """Make an attempt at one record in the environment with this name, and return how it ended, for Flower."""
    return parts.activations.activate_record(record_id, environment)


# Ticks send no events: otherwise Flower would list hundreds of them for each token.
@app.task(name="oathbulk.dispatch", send_events=False)
def dispatch() -> None:
    """Run a tick of the dispatcher: put due records onto the queue."""
    parts.dispatcher.tick()


@app.task(name="oathbulk.prepare", send_events=False)
def prepare() -> None:
    """Prepare a batch for a while: look up its people, find or import its tokens."""
    parts.preparation.prepare_next()


@app.task(name="oathbulk.notify", send_events=False)
def notify() -> None:
    """Send due notices about batches to the webhook of the settings."""
    parts.notifier.send_notices()


@app.task(name="oathbulk.replay")
def replay() -> None:
    """Replay the dead letters that may succeed after a while without a change."""
    parts.replay_by_schedule()
