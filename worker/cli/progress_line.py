"""A command's progress, on stderr: a line that is redrawn on a terminal, or an occasional line in a log."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress as Steps
from rich.text import Text

from worker.cli.console import can_redraw, error_console
from worker.observability.wording import format_duration

# Seconds between two lines without a terminal, so that a log does not overflow.
LINE_EVERY = 10.0
# Seconds over which the pace is measured, since PingOne's limit and the search for it may change it.
PACE_SECONDS = 30.0
# Redraws per second.
REDRAWN = 4


class ProgressLine(Steps):
    """Shows the progress of a command's steps; the last one is under way. `is_quiet`: it shows nothing. `read_clock`
    counts seconds."""

    def __init__(
        self, console: Console, *, is_quiet: bool = False, read_clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(
            console=console,
            refresh_per_second=REDRAWN,
            speed_estimate_period=PACE_SECONDS,
            transient=True,
            # A command's output on stdout stays there.
            redirect_stdout=False,
            redirect_stderr=False,
            get_time=read_clock,
            disable=is_quiet or not can_redraw(console),
        )
        self._is_quiet = is_quiet
        self._next_line_at = 0.0

    def __call__(self, what: str, done: int, total: int | None = None) -> None:
        """Show how many items this step has completed."""
        now = self.get_time()
        if not self.tasks or self.tasks[-1].description != what:
            self.add_task(what, total=total, completed=done)
            self._next_line_at = now
        self.update(self.task_ids[-1], completed=done, total=total)
        if not self.disable:
            if not self.live.is_started:
                self.live.start(refresh=True)
                # A killed command must not leave a terminal without a cursor.
                self.console.show_cursor(True)
        elif not self._is_quiet and now >= self._next_line_at:
            self.console.print(self.describe())
            self._next_line_at = now + LINE_EVERY

    def describe(self, *, is_over: bool = False) -> str:
        """Say how far along the current step is, how fast it goes, and how much time is left; omit pace and time if
        `is_over`. Empty before the first step."""
        if not self.tasks:
            return ""
        step = self.tasks[-1]
        return describe_step(step.description, step.completed, step.total, None if is_over else step.speed)

    def get_renderable(self) -> Text:
        """Draw the present step in one line."""
        return Text(self.describe(), no_wrap=True, overflow="ellipsis")


def describe_step(what: str, done: float, total: float | None, pace: float | None = None) -> str:
    """Say how far along a step is. `pace`: things a second; None if unknown."""
    if total is None and not done:
        return what
    parts = [f"{what}: {done}" if total is None else f"{what}: {done} of {total}"]
    if pace:
        parts.append(f"{pace:.1f}/s" if pace < 100 else f"{pace:.0f}/s")
        if total is not None:
            parts.append(f"{format_duration(max(total - done, 0) / pace)} left")
    return ", ".join(parts)


@contextmanager
def showing_progress(when_interrupted: str, *, is_quiet: bool = False) -> Iterator[ProgressLine]:
    """Yield a display of a command's progress. After Ctrl-C, prints one line: how far the command got, then the
    sentence `when_interrupted`: the result and, if needed, how to continue."""
    progress = ProgressLine(error_console, is_quiet=is_quiet)
    try:
        yield progress
    except KeyboardInterrupt:
        progress.live.stop()
        step = progress.describe(is_over=True)
        error_console.print(f"Interrupted. {step}. {when_interrupted}" if step else f"Interrupted. {when_interrupted}")
        raise
    finally:
        progress.live.stop()
