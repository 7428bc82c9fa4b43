"""Live progress: looks at a batch until it is over."""

from __future__ import annotations

import time
from collections.abc import Callable

from rich.live import Live

from models.batch import BatchState
from models.reason import PASSING
from models.record import Status
from worker.cli.batch_display import draw_batch, plain_line
from worker.cli.console import error_console
from worker.installation.installation import Installation
from worker.reports.batch_status import BatchStatus
from worker.reports.status import read_statuses

# Seconds between looks, and between lines where nobody watches a terminal.
LOOK = 0.5
LINE = 5.0


class Watch:
    """Shows one batch while it is worked on: live on a terminal, a line now and then elsewhere."""

    def __init__(self, installation: Installation, name: str, *, is_quiet: bool = False) -> None:
        self._installation = installation
        self._name = name
        self._is_quiet = is_quiet
        self._next_line_at = 0.0

    def look(self) -> BatchStatus:
        (status,) = read_statuses(self._installation.database, self._name, self._installation.license_of)
        return status

    def follow(self, mend: Callable[[], str | None]) -> str | None:
        """Until the batch is over, or a part of the stack keeps failing: its name then."""
        is_live = error_console.is_terminal and not error_console.is_dumb_terminal and not self._is_quiet
        with Live(console=error_console, auto_refresh=False, transient=True) as live:
            while not is_over(status := self.look()):
                if broken := mend():
                    return broken
                if is_live:
                    live.update(draw_batch(status), refresh=True)
                else:
                    self._print_line(status)
                time.sleep(LOOK)
        return None

    def _print_line(self, status: BatchStatus) -> None:
        now = time.monotonic()
        if not self._is_quiet and now >= self._next_line_at:
            error_console.print(plain_line(status))
            self._next_line_at = now + LINE


def is_over(status: BatchStatus) -> bool:
    """Finished; or paused or cancelled, and no worker holds a record any more."""
    if status.state == BatchState.PAUSED:
        if status.reason in PASSING:
            # It goes on by itself.
            return False
        return not status.counts[Status.ACTIVATING]
    return not status.left
