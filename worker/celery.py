"""The Celery app, every setting with its reason.

The database decides what runs and when; Celery carries ids and shows the work. So a message that is lost, doubled or
late costs at worst a no-op or a queue lease that runs out.
"""

import os
import secrets
import ssl
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from time import sleep

import celery.signals
import click
from celery import Celery
from celery.schedules import crontab
from kombu.entity import Queue
from sqlalchemy.exc import DBAPIError

from worker.config.settings import UNUSABLE_SETUP, ConfigError
from worker.config.sources import load_settings
from worker.database.engine import Database
from worker.database.errors import explain
from worker.database.schema import read_installation_id
from worker.observability.logs import configure_logs
from worker.observability.wording import escape_line
from worker.process import broker

# What our queues are called here and on command lines (`-Q`); in Redis the installation's id stands behind each.
ACTIVATE_QUEUE = "oathbulk.activate"
DISPATCH_QUEUE, PREPARE_QUEUE = broker.TICKS
# Seconds between two tries to read the installation's id while the database is away.
BETWEEN_TRIES = 1.0


@contextmanager
def exit_on_config_error() -> Iterator[None]:
    """End the process with one line where the settings are wrong. Celery would bury it under a screen of traceback."""
    try:
        yield
    except ConfigError as error:
        print(f"oathbulk: {escape_line(str(error))}", file=sys.stderr, flush=True)  # noqa: T201
        sys.exit(UNUSABLE_SETUP)


with exit_on_config_error():
    settings = load_settings()
    broker_url = settings.redis
broker.install()

app = Celery("oathbulk", broker=broker_url, include=["worker.tasks"], amqp=broker.LastingAMQP)
app.conf.update(
    # Only JSON goes in and out: a message can carry an id, and no code.
    accept_content=["json"],
    task_serializer="json",
    # Nobody asks for a result, since the record's row is the result. This saves a write a task.
    task_ignore_result=True,
    result_backend=None,
    # Acknowledged before it runs. A message lost with its worker is noticed by its lease.
    task_acks_late=False,
    # Threads begin and end tasks while it cleans up after a lost connection.
    worker_consumer="worker.process.broker:LastingConsumer",
    # A thread waits for the network most of its time; a client per thread is what makes httpx cheap.
    worker_pool="worker.process.broker:AheadPool",
    worker_concurrency=settings.concurrency,
    # One message in reserve a thread: a dead worker takes few with it, and a hold hands few back.
    worker_prefetch_multiplier=1,
    # A tick of the dispatcher must not wait behind a whole window of activations. Preparations have a queue too, so
    # that a worker can be kept for them, or from them.
    task_queues=[Queue(DISPATCH_QUEUE), Queue(PREPARE_QUEUE), Queue(ACTIVATE_QUEUE)],
    task_default_queue=ACTIVATE_QUEUE,
    task_routes={
        "oathbulk.dispatch": DISPATCH_QUEUE,
        "oathbulk.notify": DISPATCH_QUEUE,
        "oathbulk.replay": DISPATCH_QUEUE,
        "oathbulk.prepare": PREPARE_QUEUE,
    },
    # Only Flower reads events, and it asks each worker for them every five seconds. An event for the sending of a task
    # would be a third of the cost of publishing, and the database says how many are queued.
    worker_send_task_events=False,
    task_send_sent_event=False,
    # Celery by itself would accept any certificate of a rediss:// server. What the URL itself says has precedence.
    broker_use_ssl={"ssl_cert_reqs": ssl.CERT_REQUIRED} if broker_url.startswith("rediss://") else None,
    # The time-outs are in seconds, so that a server that went away is noticed.
    broker_transport_options={
        "queue_order_strategy": "priority",
        # No copy in Redis of what a worker has fetched and not begun, written and taken back with each message: what
        # a killed worker had fetched is noticed by its lease, as any lost message is, and sooner.
        "ack_emulation": False,
        "socket_timeout": 10,
        "socket_connect_timeout": 5,
        "socket_keepalive": True,
        "health_check_interval": 25,
    },
    # A worker that starts before its broker, or goes on after the broker's end, waits for it without end.
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
    # Tasks that were running when the connection broke go on, and settle in the database.
    worker_cancel_long_running_tasks_on_connection_loss=False,
    # Publishing does not try for ever: the dispatcher makes the records pending again, and tries at a later tick.
    task_publish_retry_policy={"max_retries": 1, "interval_start": 0.2},
    # Logs are ours (see observability/logs.py).
    worker_hijack_root_logger=False,
    # It ticks even if the wall clock is set back, and sends no ticks where nobody takes them. So no message needs an
    # expiry, a time by beat's clock that would stop everything if that clock is behind. It keeps no file of its last
    # runs, since the database says what is due.
    beat_scheduler="worker.process.beat:SteadyScheduler",
    beat_max_loop_interval=5,
    beat_schedule={
        "dispatch": {"task": "oathbulk.dispatch", "schedule": settings.tuning.tick},
        "prepare": {"task": "oathbulk.prepare", "schedule": 2 * settings.tuning.tick},
        # Always sent: beat gets no secrets, and so does not know whether a webhook is set.
        "notify": {"task": "oathbulk.notify", "schedule": 30 * settings.tuning.tick},
    },
)
if settings.replay_cron:
    app.conf.beat_schedule["replay"] = {
        "task": "oathbulk.replay",
        "schedule": crontab.from_string(settings.replay_cron),
    }


# Flower's defaults here: it changes nothing, and lists tasks by token. By itself it lets everybody stop workers. These
# are Flower's variables, which a person's flowerconfig.py and command line override. In the list of tasks `args` are
# batch, row and serial number, `result` is how the attempt ended, and `exception` the reason of a dead letter.
FLOWERS_VARIABLES = {
    "FLOWER_READ_ONLY": "true",
    "FLOWER_TASKS_COLUMNS": "args,state,result,exception,received,runtime,worker,uuid",
}
if "flower" in sys.argv:
    os.environ.update(FLOWERS_VARIABLES | os.environ)


def name_queues(database: Database) -> None:
    """Use the queues of this database's installation: another one may use the same Redis. While the database is away,
    or has no schema yet, wait for it, since nothing can be done without it."""
    is_told = False
    while True:
        try:
            installation = read_installation_id(database)
            break
        except DBAPIError as error:
            if not is_told:
                # Celery has not set up its log yet.
                print(f"oathbulk: waiting for the database: {explain(error)}", file=sys.stderr, flush=True)  # noqa: T201
            is_told = True
            sleep(BETWEEN_TRIES)
    app.amqp.queues = [
        Queue(f"{name}.{installation}", alias=name) for name in (DISPATCH_QUEUE, PREPARE_QUEUE, ACTIVATE_QUEUE)
    ]


@celery.signals.beat_init.connect
def _name_queues_of_sender(**_: object) -> None:
    with closing(Database(settings.database, connections=1)) as database:
        name_queues(database)


# What a person sends by `celery -A worker call` goes to the installation's queues too.
if "call" in sys.argv:
    _name_queues_of_sender()


@celery.signals.import_modules.connect
def _close_flower(**_: object) -> None:
    """Let Flower listen on loopback only and ask for a password, unless a person set address and password (by command
    line, FLOWER_… variables or flowerconfig.py). By itself it listens on every interface, and lets everybody in.

    Flower sends this signal when it has read its options, before it listens; workers send it too. An exception here
    ends the process that sent it, so Flower never starts unrestricted."""
    context = click.get_current_context(silent=True)
    if not context or context.info_name != "flower":
        return
    # Not at the top: no other process needs Flower.
    from flower.options import options

    options.address = options.address or "127.0.0.1"
    # Flower reads an empty FLOWER_BASIC_AUTH as a list with one empty entry.
    if not options.auth and not any(options.basic_auth or []):
        password = secrets.token_urlsafe(18)
        options.basic_auth = [f"oathbulk:{password}"]
        print(  # noqa: T201
            f"oathbulk: Flower asks for user oathbulk and password {password}, made up for this start. Set "
            f"FLOWER_BASIC_AUTH=user:password to choose them.",
            file=sys.stderr,
            flush=True,
        )


@celery.signals.setup_logging.connect
def _setup_logging(loglevel: int | str | None = None, **_: object) -> None:
    configure_logs(loglevel or "WARNING", settings.log_format)
