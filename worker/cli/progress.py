"""How far a command is, on stderr: a line that is drawn again on a terminal, or a line now and then in a log."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.live import Live
from rich.text import Text

from worker.cli.console import can_redraw, error_console
from worker.observability.counting import format_duration

# Seconds between two lines where nothing can be drawn over, so that a log does not overflow.
LINE_EVERY = 10.0
# Seconds over which the pace is measured, as PingOne's limit and the search for it may change it.
PACE_SECONDS = 30.0
# Seconds between two marks by which the pace is measured.
MARK_EVERY = 1.0
# Redrawings a second.
REDRAWN = 4


class Progress:
    """Shows how far the steps of a command are. `is_quiet`: it shows nothing. `read_clock` counts seconds."""

    def __init__(
        self, console: Console, *, is_quiet: bool = False, read_clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._console = console
        self._is_quiet = is_quiet
        self._read_clock = read_clock
        self._step = ""
        self._done = 0
        self._total: int | None = None
        # Times, and how many things were done then: the first is that from which the pace is measured.
        self._marks = deque([(0.0, 0)])
        self._next_line_at = 0.0
        self._live: Live | None = None

    def __call__(self, what: str, done: int, total: int | None = None) -> None:
        """Show that of this step so many things are done."""
        now = self._read_clock()
        if what != self._step:
            # Another deque, since the thread that draws may look at it at any moment: it is never empty.
            self._marks = deque([(now, done)])
            self._next_line_at = now
        self._step, self._done, self._total = what, done, total
        self._mark(now)
        if self._is_quiet:
            return
        if can_redraw(self._console):
            self._draw_live()
        elif now >= self._next_line_at:
            self._console.print(self.describe())
            self._next_line_at = now + LINE_EVERY

    def describe(self) -> str:
        """Say how far the present step is, how fast it goes, and how long it will take."""
        return describe_step(self._step, self._done, self._total, self._measure_pace())

    def describe_interruption(self) -> str:
        """Say how far the present step was when it was interrupted; a pace and a time left there are no more."""
        return f"Interrupted. {describe_step(self._step, self._done, self._total)}." if self._step else "Interrupted."

    def close(self) -> None:
        """Remove the line from the terminal."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _mark(self, now: float) -> None:
        """Remember how many things are done now, and forget what is too old to tell the pace."""
        if now - self._marks[-1][0] >= MARK_EVERY:
            self._marks.append((now, self._done))
        while len(self._marks) > 1 and now - self._marks[1][0] >= PACE_SECONDS:
            self._marks.popleft()

    def _measure_pace(self) -> float | None:
        """Measure how many things are done a second, lately; None while that is not known yet."""
        began_at, done_then = self._marks[0]
        seconds = self._read_clock() - began_at
        return (self._done - done_then) / seconds if seconds >= MARK_EVERY and self._done > done_then else None

    def _draw_live(self) -> None:
        if self._live is None:
            self._live = Live(
                console=self._console,
                get_renderable=lambda: Text(self.describe(), no_wrap=True, overflow="ellipsis"),
                refresh_per_second=REDRAWN,
                transient=True,
                # What a command prints on stdout stays there.
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._live.start(refresh=True)
            # A command that is killed leaves no terminal without a cursor.
            self._console.show_cursor(True)


def describe_step(what: str, done: int, total: int | None, pace: float | None = None) -> str:
    """Say how far a step is. `pace`: things a second; None where that is not known."""
    if total is None and not done:
        return what
    parts = [f"{what}: {done}" if total is None else f"{what}: {done} of {total}"]
    if pace:
        parts.append(f"{pace:.1f}/s" if pace < 100 else f"{pace:.0f}/s")
        if total is not None:
            parts.append(f"{format_duration(max(total - done, 0) / pace)} left")
    return ", ".join(parts)


@contextmanager
def showing_progress(when_interrupted: str, *, is_quiet: bool = False) -> Iterator[Progress]:
    """Yield what shows how far a command is. After Ctrl-C, one line says how far it was, and `when_interrupted`, a
    sentence: what became of it, and which command goes on."""
    progress = Progress(error_console, is_quiet=is_quiet)
    try:
        yield progress
    except KeyboardInterrupt:
        progress.close()
        error_console.print(f"{progress.describe_interruption()} {when_interrupted}")
        raise
    finally:
        progress.close()
