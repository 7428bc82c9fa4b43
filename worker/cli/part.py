"""One part of `run`, as a process: `python -m worker.cli.part worker|beat`.

Celery's own command would do; but it imports all its others too, Flower with them, which is a quarter of a start."""

from __future__ import annotations

import sys

from worker.cli import importing


def main() -> None:
    with importing():
        from worker.celery import app

        if sys.argv[1] == "worker":
            run = app.Worker(loglevel="WARNING", quiet=True, without_gossip=True, without_mingle=True).start
        else:
            run = app.Beat(loglevel="WARNING", quiet=True).run
    run()


if __name__ == "__main__":
    main()
