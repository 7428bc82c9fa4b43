"""How far a command is, as a person and a log see it."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest
from rich.console import Console

from worker.cli import progress
from worker.cli.progress import Progress, describe_step, showing_progress


class Clock:
    """A clock that stands still until it is set."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


def open_console(*, is_terminal: bool = False, term: str = "xterm") -> tuple[Console, Callable[[], str]]:
    page = io.StringIO()
    environ = {"TERM": term, "COLUMNS": "80", "LINES": "24"}
    console = Console(file=page, force_terminal=is_terminal, width=80, height=24, highlight=False, _environ=environ)
    return console, page.getvalue


@pytest.mark.parametrize(
    ("step", "said"),
    [
        (("Waiting for the end of imports", 0, None), "Waiting for the end of imports"),
        (("Reading the inventory", 4000, None), "Reading the inventory: 4000"),
        (("Reading the inventory", 4000, None, 250.4), "Reading the inventory: 4000, 250/s"),
        (("Removing devices", 0, 50000), "Removing devices: 0 of 50000"),
        (("Removing devices", 1200, 50000, 9.76), "Removing devices: 1200 of 50000, 9.8/s, 1 h 23 min left"),
        (("Removing devices", 10, 10, 5.0), "Removing devices: 10 of 10, 5.0/s, 0 s left"),
    ],
)
def test_a_step_is_said_in_a_line(step, said):
    assert describe_step(*step) == said


@pytest.mark.parametrize("kind", [{}, {"is_terminal": True, "term": "dumb"}], ids=["a log", "a dumb terminal"])
def test_where_nothing_can_be_drawn_over_a_line_comes_at_the_beginning_and_every_ten_seconds(kind):
    console, read = open_console(**kind)
    clock = Clock()
    shown = Progress(console, read_clock=clock)
    for done in range(26):
        shown("Removing devices", done * 10, 1000)
        clock.seconds += 1
    shown("Reading the inventory", 100)

    assert read().splitlines() == [
        "Removing devices: 0 of 1000",
        "Removing devices: 100 of 1000, 10.0/s, 1 min 30 s left",
        "Removing devices: 200 of 1000, 10.0/s, 1 min 20 s left",
        "Reading the inventory: 100",
    ]


def test_the_pace_is_that_of_the_last_half_minute():
    console, _ = open_console()
    clock = Clock()
    shown = Progress(console, read_clock=clock)
    done = 0
    for pace in (100, 10):
        for _ in range(60):
            shown("Removing devices", done, 100_000)
            done, clock.seconds = done + pace, clock.seconds + 1
    shown("Removing devices", done, 100_000)

    assert "10.0/s" in shown.describe()


def test_a_terminal_shows_one_line_that_is_removed_in_the_end_and_keeps_its_cursor():
    console, read = open_console(is_terminal=True)
    shown = Progress(console)
    shown("Removing devices", 3, 10)
    assert "Removing devices: 3 of 10" in read()
    # A command may be killed at any moment.
    assert read().rindex("\x1b[?25h") > read().rindex("\x1b[?25l")
    shown.live.stop()
    assert read().endswith("\x1b[2K")


@pytest.mark.parametrize("is_terminal", [True, False])
def test_with_json_nothing_is_shown(is_terminal):
    console, read = open_console(is_terminal=is_terminal)
    Progress(console, is_quiet=True)("Removing devices", 3, 10)
    assert read() == ""


@pytest.mark.parametrize("is_quiet", [True, False])
def test_ctrl_c_ends_with_one_line_that_says_how_far_it_was_and_what_goes_on(monkeypatch, is_quiet):
    console, read = open_console()
    monkeypatch.setattr(progress, "error_console", console)

    def work():
        with showing_progress("Give it again.", is_quiet=is_quiet) as shown:
            shown("Removing devices", 0, 10)
            shown("Removing devices", 3, 10)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work()

    assert read().splitlines()[-1] == "Interrupted. Removing devices: 3 of 10. Give it again."


def test_what_is_interrupted_before_its_first_step_says_so_as_well(monkeypatch):
    console, read = open_console()
    monkeypatch.setattr(progress, "error_console", console)
    with pytest.raises(KeyboardInterrupt), showing_progress("Nothing was changed."):
        raise KeyboardInterrupt

    assert read() == "Interrupted. Nothing was changed.\n"


def test_a_step_may_begin_while_another_thread_draws():
    """On a terminal rich draws from a thread of its own, which may come between any two lines."""
    shown = Progress(open_console()[0], is_quiet=True)
    shown("Reading the inventory", 100)
    drawn = list[str]()

    def draw_at_each_line(frame: FrameType, event: str, _: object) -> Any:
        if event == "line":
            drawn.append(shown.describe())
        return draw_at_each_line if frame.f_code.co_filename == progress.__file__ else None

    tracing = sys.gettrace()
    sys.settrace(draw_at_each_line)
    try:
        shown("Removing devices", 10, 50)
    finally:
        sys.settrace(tracing)
    assert set(drawn) == {"Reading the inventory: 100", "Removing devices: 10 of 50"}
