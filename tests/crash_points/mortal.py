"""A process that does what a worker does, and may end by SIGKILL at a step: `python -m crash_points.mortal ORDER`.

The order is JSON: the name of a task, the ids of the records that it is for (for each of them one message comes), the
seconds by which the database's clock is ahead, and the step at whose `time`-th passage the process dies."""

import json
import os
import signal
import sys
from contextlib import suppress

from crash_points import steps
from support.data.moving_clock import MovingDatabase

from worker.records.activation import DeadLettered


def main(task: str, records: list[int], ahead: float, step: str, time: int) -> None:
    passed = 0

    def announce(name: str) -> None:
        nonlocal passed
        sys.stdout.write(f"{name}\n")
        sys.stdout.flush()
        passed += name == step
        if passed == time:
            os.kill(os.getpid(), signal.SIGKILL)

    steps.watch(announce)
    # Only now, since it reads the settings.
    from worker import tasks

    tasks.parts.database = MovingDatabase(tasks.settings.database)
    tasks.parts.database.ahead = ahead
    for record in records:
        with suppress(DeadLettered):
            tasks.activate(record, "default")
    if not records:
        getattr(tasks, task)()


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))
