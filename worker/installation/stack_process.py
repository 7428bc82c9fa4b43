"""One part of `run`, as a process: `python -m worker.installation.stack_process worker|beat`.

Celery's own command would do; but it imports all its others too, Flower with them, which is a quarter of a start."""

from __future__ import annotations

import gc
import sys


def main() -> None:
    # What a start imports stays to the end: looking for garbage in it meanwhile takes a tenth of its time.
    gc.disable()
    from worker.celery import app

    match sys.argv[1:]:
        case ["worker"]:
            worker = app.Worker(loglevel="WARNING", quiet=True, without_gossip=True, without_mingle=True)
            gc.enable()
            worker.start()
            sys.exit(worker.exitcode)
        case ["beat"]:
            # It sends by name; what a task needs takes time and memory, and is for workers.
            app.conf.include = ()
            beat = app.Beat(loglevel="WARNING", quiet=True)
            gc.enable()
            beat.run()
        case arguments:
            sys.exit(f"not a part of a run: {arguments}")


if __name__ == "__main__":
    main()
