"""The live progress of `oathbulk run`: shows a batch again and again until nothing more will happen to it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from rich.live import Live

from models.batch import BatchState
from models.reason import PASSING
from models.record_states import Status
from worker.cli.batch_display import draw_batch
from worker.cli.console import can_redraw, error_console
from worker.cli.homes import find_rehearsal
from worker.cli.room import measure_room
from worker.installation.installation import Installation
from worker.reports.batch_status import BatchStatus
from worker.reports.sentences.outlook import format_log_line
from worker.reports.status import read_statuses

# Seconds between two looks at the batch.
LOOK_EVERY = 0.5
# Seconds between two lines where stderr is no terminal, so that a log does not overflow.
LINE_EVERY = 5.0


class LiveProgress:
    """Shows one batch while it is worked on, on stderr: as a live display on a terminal, else by a line now and then.
    `is_quiet`: it shows nothing."""

    def __init__(self, installation: Installation, name: str, *, is_quiet: bool = False) -> None:
        self._installation = installation
        self._name = name
        self._is_quiet = is_quiet
        self._next_line_at = 0.0

    def read_status(self) -> BatchStatus:
        """Read how the batch stands now."""
        (status,) = read_statuses(self._installation.database, self._name, self._installation.license_of)
        return replace(status, rehearsal=find_rehearsal(self._installation))

    def show_until_over(self, restart_ended: Callable[[], str | None]) -> str | None:
        """Show the batch until it is over, and call `restart_ended` between two looks. Returns None; or at once what
        `restart_ended` returned, if that names a part of the stack that keeps failing."""
        is_live = can_redraw(error_console) and not self._is_quiet
        with Live(console=error_console, auto_refresh=False, transient=True) as live:
            while not is_over(status := self.read_status()):
                if failing_part := restart_ended():
                    return failing_part
                if is_live:
                    live.update(draw_batch(status, measure_room(error_console)), refresh=True)
                else:
                    self._print_line(status)
                time.sleep(LOOK_EVERY)
        return None

    def _print_line(self, status: BatchStatus) -> None:
        now = time.monotonic()
        if not self._is_quiet and now >= self._next_line_at:
            error_console.print(format_log_line(status))
            self._next_line_at = now + LINE_EVERY


def is_over(status: BatchStatus) -> bool:
    """Whether nothing more will happen to the batch by itself: every record is final; or the batch waits for a person,
    and no worker has a record of it in hand."""
    if status.state == BatchState.PAUSED:
        if status.reason in PASSING:
            # Such a pause ends by itself.
            return False
        return not status.counts[Status.ACTIVATING]
    return not status.left
