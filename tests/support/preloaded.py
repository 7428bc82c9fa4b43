"""What takes long to import and programs of tests have in common: imported once, by the process that forks them.

Nothing that reads settings as it is imported, for each program has its own."""

import gc

# All of it stays: there is no garbage to look for.
gc.disable()

import celery.app.amqp  # noqa: E402
import celery.app.control  # noqa: E402
import celery.bin.beat  # noqa: E402
import celery.bin.celery  # noqa: E402
import celery.bin.worker  # noqa: E402, F401
import kombu.transport.redis  # noqa: E402, F401
import psycopg  # noqa: E402, F401

import worker.cli.simulator  # noqa: E402
import worker.embedded.valkey  # noqa: E402
import worker.parts  # noqa: E402
import worker.reports.export  # noqa: E402
import worker.schema  # noqa: E402
import worker.simulator.server  # noqa: E402
import worker.verification  # noqa: E402, F401

# A program that looked through it later would have a copy of all its memory.
gc.freeze()
