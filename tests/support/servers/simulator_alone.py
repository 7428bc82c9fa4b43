"""`oathbulk simulator` without the other commands, whose imports take longer than everything that it does."""

import typer

from worker.cli.simulator import simulator

typer.run(simulator)
