"""The live progress of `oathbulk run`: shows its batches again and again until nothing more will happen to them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from rich.console import Group, RenderableType
from rich.live import Live
from rich.text import Text

from models.batch import BatchState
from models.reason import PASSING, PauseReason
from models.record_states import Status
from worker.cli.batch_display import draw_batch
from worker.cli.batch_table import draw_batches
from worker.cli.console import Folded, can_redraw, error_console
from worker.cli.homes import find_rehearsal
from worker.cli.room import Room, measure_room
from worker.installation.installation import Installation
from worker.reports.facts import BatchStatus, read_statuses
from worker.reports.sentences import format_log_line

# Seconds between two looks at the batch.
LOOK_EVERY = 0.5
# Seconds between two lines where stderr is no terminal, so that a log does not overflow.
LINE_EVERY = 5.0


class LiveProgress:
    """Shows the batches of these names while they are worked on, on stderr: as a live display on a terminal, else by a
    line for each now and then. `is_quiet`: it shows nothing."""

    def __init__(self, installation: Installation, names: Sequence[str], *, is_quiet: bool = False) -> None:
        self._installation = installation
        self._names = names
        self._is_quiet = is_quiet
        self._next_line_at = 0.0

    def read_statuses(self) -> list[BatchStatus]:
        """Read how each batch stands now."""
        rehearsal = find_rehearsal(self._installation)
        return [
            replace(status, rehearsal=rehearsal)
            for name in self._names
            for status in read_statuses(self._installation.database, name, self._installation.license_of)
        ]

    def show_until_over(self, restart_ended: Callable[[], str | None]) -> str | None:
        """Show the batches until all are over, and call `restart_ended` between two looks. Returns None; or at once
        what `restart_ended` returned, if that names a part of the stack that keeps failing."""
        is_live = can_redraw(error_console) and not self._is_quiet
        with Live(console=error_console, auto_refresh=False, transient=True) as live:
            while not all(map(is_over, statuses := self.read_statuses())):
                if failing_part := restart_ended():
                    return failing_part
                if is_live:
                    live.update(Folded(draw_any(statuses, measure_room(error_console))), refresh=True)
                else:
                    self._print_lines(statuses)
                time.sleep(LOOK_EVERY)
        return None

    def _print_lines(self, statuses: Sequence[BatchStatus]) -> None:
        now = time.monotonic()
        if not self._is_quiet and now >= self._next_line_at:
            for status in statuses:
                error_console.print(format_log_line(status))
            self._next_line_at = now + LINE_EVERY


def draw_any(statuses: Sequence[BatchStatus], room: Room | None, *, stopped: str | None = None) -> RenderableType:
    """Draw one batch whole, or several in a table. `stopped`: how to go on, if the run ended before all were
    finished."""
    if len(statuses) == 1:
        return draw_batch(statuses[0], room, stopped=stopped)
    drawn = draw_batches(statuses, room)
    return drawn if stopped is None else Group(drawn, Text(stopped))


def is_over(status: BatchStatus) -> bool:
    """Whether a run is done with the batch: every record is final; or the batch paused by itself for what only a person
    can mend, and no worker has a record of it in hand."""
    if status.state == BatchState.PAUSED:
        if status.reason in PASSING or status.reason == PauseReason.PERSON:
            # Such a pause ends by itself, or the person who paused it lets it go on.
            return False
        return not status.counts[Status.ACTIVATING]
    return not status.left
