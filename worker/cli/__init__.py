"""The commands: arguments in, printing out. Which failure has which exit code stands in `failures`."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


def main() -> None:
    # Not at the top: who needs one command alone would import what all of them need, four times as much.
    with importing():
        from worker.cli.application import run_command
    run_command()


@contextmanager
def importing() -> Iterator[None]:
    """What is imported here stays until the end. Looking for garbage in it, while it comes and once more as the process
    ends, would take a quarter of a short command's time."""
    gc.disable()
    yield
    gc.freeze()
    gc.enable()
