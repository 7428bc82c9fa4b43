"""The Celery app, every setting with its reason.

The database decides what runs and when; Celery carries ids and shows the work. So a message that is lost, duplicated or
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

# Aliases of our queues, here and on command lines (`-Q`). In Redis, the installation's id follows each name.
ACTIVATE_QUEUE = "oathbulk.activate"
DISPATCH_QUEUE, PREPARE_QUEUE = broker.TICKS
# Seconds between two tries to read the installation's id while the database is away.
BETWEEN_TRIES = 1.0


@contextmanager
def exit_on_config_error() -> Iterator[None]:
    """End the process with one line if the settings are wrong. Celery would hide that line in a screen of traceback."""
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
    # Only JSON is sent and accepted: a message can carry an id, but no code.
    accept_content=["json"],
    task_serializer="json",
    # Nobody requests a result, since the record's row is the result. This saves a write per task.
    task_ignore_result=True,
    result_backend=None,
    # Messages are acknowledged before the task runs. If a message is lost with its worker, its lease expires.
    task_acks_late=False,
    # Threads begin and end tasks while the consumer cleans up after a lost connection.
    worker_consumer="worker.process.broker:LastingConsumer",
    # A thread waits for the network most of its time; one client per thread keeps httpx cheap.
    worker_pool="worker.process.broker:AheadPool",
    worker_concurrency=settings.concurrency,
    # One message in reserve per thread: a dead worker takes few with it, and few are handed back during a hold.
    worker_prefetch_multiplier=1,
    # A tick of the dispatcher must not wait behind a whole window of activations. Preparations have their own queue
    # too, so that a worker can be reserved for them, or kept free of them.
    task_queues=[Queue(DISPATCH_QUEUE), Queue(PREPARE_QUEUE), Queue(ACTIVATE_QUEUE)],
    task_default_queue=ACTIVATE_QUEUE,
    task_routes={
        "oathbulk.dispatch": DISPATCH_QUEUE,
        "oathbulk.notify": DISPATCH_QUEUE,
        "oathbulk.replay": DISPATCH_QUEUE,
        "oathbulk.prepare": PREPARE_QUEUE,
    },
    # Only Flower reads events, and it requests them from each worker every five seconds. An event for each sent task
    # would be a third of the cost of publishing, and the database knows how many are queued.
    worker_send_task_events=False,
    task_send_sent_event=False,
    # By default, Celery accepts any certificate of a rediss:// server. Options in the URL take precedence.
    broker_use_ssl={"ssl_cert_reqs": ssl.CERT_REQUIRED} if broker_url.startswith("rediss://") else None,
    # Time-outs in seconds, so that a lost server is noticed.
    broker_transport_options={
        "queue_order_strategy": "priority",
        # Keep no copy in Redis of the messages that a worker has fetched and not begun: such a copy would be written
        # and removed with each message. If a worker is killed, its fetched messages are noticed sooner, when their
        # leases expire, like any lost message.
        "ack_emulation": False,
        "socket_timeout": 10,
        "socket_connect_timeout": 5,
        "socket_keepalive": True,
        "health_check_interval": 25,
    },
    # A worker that starts before its broker, or outlives the broker, keeps waiting for it.
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
    # Tasks that were running when the connection broke continue, and settle in the database.
    worker_cancel_long_running_tasks_on_connection_loss=False,
    # Publishing does not keep trying: the dispatcher makes the records pending again, and tries at a later tick.
    task_publish_retry_policy={"max_retries": 1, "interval_start": 0.2},
    # We set up the logs (see observability/logs.py).
    worker_hijack_root_logger=False,
    # This scheduler ticks even if the wall clock is set back, and sends no ticks if nobody takes them. So messages need
    # no expiry, which would be a time by beat's clock, and would stop everything if that clock were slow. It keeps no
    # file of its last runs, since the database says what is due.
    beat_scheduler="worker.process.beat:SteadyScheduler",
    beat_max_loop_interval=5,
    beat_schedule={
        "dispatch": {"task": "oathbulk.dispatch", "schedule": settings.tuning.tick},
        "prepare": {"task": "oathbulk.prepare", "schedule": 2 * settings.tuning.tick},
        # Always sent: beat gets no secrets, so it does not know whether a webhook is set.
        "notify": {"task": "oathbulk.notify", "schedule": 30 * settings.tuning.tick},
    },
)
if settings.replay_cron:
    app.conf.beat_schedule["replay"] = {
        "task": "oathbulk.replay",
        "schedule": crontab.from_string(settings.replay_cron),
    }


# Our defaults for Flower: it is read-only, and lists tasks by token. Flower's own defaults let everybody stop workers.
# These are Flower's variables; a flowerconfig.py and the command line override them. In the list of tasks, `args` are
# batch, row and serial number, `result` is how the attempt ended, and `exception` is the reason of a dead letter.
FLOWERS_VARIABLES = {
    "FLOWER_READ_ONLY": "true",
    "FLOWER_TASKS_COLUMNS": "args,state,result,exception,received,runtime,worker,uuid",
}
if "flower" in sys.argv:
    os.environ.update(FLOWERS_VARIABLES | os.environ)


def name_queues(database: Database) -> None:
    """Use the queues of this database's installation, since another installation may use the same Redis. While the
    database is unavailable or has no schema yet, wait for it, since no work is possible without it."""
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


# Messages that a person sends with `celery -A worker call` go to the installation's queues too.
if "call" in sys.argv:
    _name_queues_of_sender()


@celery.signals.import_modules.connect
def _close_flower(**_: object) -> None:
    """Make Flower listen on loopback only and ask for a password, unless a person set address and password (by command
    line, FLOWER_… variables or flowerconfig.py). By default it listens on every interface, and lets everybody in.

    Flower sends this signal after it has read its options and before it listens; workers send it too. An exception here
    ends the process that sent the signal, so Flower never starts unrestricted."""
    context = click.get_current_context(silent=True)
    if not context or context.info_name != "flower":
        return
    # Imported here, since no other process needs Flower.
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
