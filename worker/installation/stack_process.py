"""A process of the stack of `run`: `python -m worker.installation.stack_process worker`, or `… beat`. Celery's own
command could start them too, but it imports all of its other commands and Flower, which takes a quarter of the start-up
time."""

import gc
import sys
from contextlib import nullcontext


def main() -> None:
    """Run as a worker, or as beat, until a signal ends the process."""
    # Imported modules stay until the end: collecting garbage among them takes a tenth of the start-up time.
    gc.disable()
    _leave_working_directory_out()
    from worker.celery import app

    match sys.argv[1:]:
        case ["worker"]:
            worker = app.Worker(loglevel="WARNING", quiet=True)
            gc.enable()
            worker.start()
            sys.exit(worker.exitcode)
        case ["beat"]:
            # Beat sends tasks by name. Importing the tasks' own modules would take time and memory.
            app.conf.include = ()
            beat = app.Beat(loglevel="WARNING", quiet=True)
            gc.enable()
            beat.run()
        case arguments:
            sys.exit(f"not a part of a run: {arguments}")


def _leave_working_directory_out() -> None:
    """Keep Celery from putting the working directory into Python's path while it imports modules. Others may be able to
    write there, and a file with the name of a package that some library looks for would run."""
    from celery.utils import imports

    imports.cwd_in_path = nullcontext


if __name__ == "__main__":
    main()
