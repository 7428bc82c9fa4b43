"""Shows batches again and again until nothing more will happen to them: drawn again on a terminal, elsewhere a line for
each now and then."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext

from rich.console import Console, RenderableType
from rich.live import Live

from models.batch import BatchState
from models.reason import PASSING, PauseReason
from models.record_states import Status
from worker.cli.console import Folded, can_redraw
from worker.reports.facts import BatchStatus
from worker.reports.sentences import format_log_line

# Seconds between two lines where nothing can be drawn over, so that a log does not overflow.
LINE_EVERY = 5.0


def watch(
    shown_on: Console,
    read: Callable[[], Sequence[BatchStatus]],
    draw: Callable[[Sequence[BatchStatus]], RenderableType],
    is_over: Callable[[BatchStatus], bool],
    *,
    look_every: float,
    is_quiet: bool = False,
    stays: bool = True,
    restart_ended: Callable[[], str | None] = lambda: None,
) -> str | None:
    """Show what is read of the batches until all are over. `stays`: how they stand then is shown too, and stays on the
    terminal. `restart_ended` is called between two looks. Returns None; or at once what `restart_ended` returned, if
    that names a part of the stack that keeps failing."""
    is_live, next_line_at = can_redraw(shown_on) and not is_quiet, 0.0
    display = Live(console=shown_on, auto_refresh=False, transient=not stays)
    with display if is_live else nullcontext():
        while True:
            statuses = read()
            are_over = all(map(is_over, statuses))
            if are_over and not stays:
                return None
            if is_live:
                display.update(Folded(draw(statuses)), refresh=True)
            elif not is_quiet and (are_over or time.monotonic() >= next_line_at):
                for status in statuses:
                    shown_on.print(format_log_line(status))
                next_line_at = time.monotonic() + LINE_EVERY
            if are_over:
                return None
            if failing_part := restart_ended():
                return failing_part
            time.sleep(look_every)


def is_over(status: BatchStatus) -> bool:
    """Whether a run is done with the batch: every record is final; or the batch paused by itself for what only a person
    can mend, and no worker has a record of it in hand."""
    if status.state == BatchState.PAUSED:
        if status.reason in PASSING or status.reason == PauseReason.PERSON:
            # Such a pause ends by itself, or the person who paused it lets it go on.
            return False
        return not status.counts[Status.ACTIVATING]
    return not status.left
