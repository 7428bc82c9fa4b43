"""What takes long to import and programs of tests have in common: imported once, by the process that forks them."""

import gc
from importlib import import_module

# Nothing that reads settings or the terminal as it is imported, for each program has its own.
MODULES = (
    "celery.app.amqp",
    "celery.app.control",
    "celery.bin.beat",
    "celery.bin.celery",
    "celery.bin.worker",
    "kombu.transport.redis",
    "psycopg",
    "support.simulator.server",
    "worker.embedded.valkey",
    "worker.process.worker_parts",
    "worker.reports.export",
    "worker.database.schema",
    "worker.reports.verification",
)

# All of it stays: there is no garbage to look for. And a program that looked through it later would copy it all.
gc.disable()
for module in MODULES:
    import_module(module)
gc.freeze()
