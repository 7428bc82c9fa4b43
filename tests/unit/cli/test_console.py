"""What stands on a terminal and in a pipe: texts are broken between words, and a command in them stays whole, so that
it can be pasted; columns and labels are laid out; and how far a command is, as a person and a log see it."""

import io
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest
from rich.console import Console
from rich.text import Text

from worker.cli import progress_line
from worker.cli.console import PIPE, Folded, Room, align, console, label_text, name_program, wrap
from worker.cli.progress_line import ProgressLine, describe_step, showing_progress

EXPORT = "oathbulk export july --left -o july-left.csv"


@pytest.mark.parametrize(
    ("called", "is_on_path", "named"),
    [
        ("/usr/bin/oathbulk", True, "oathbulk"),
        (".venv/bin/oathbulk", True, "oathbulk"),
        (".venv/bin/oathbulk", False, ".venv/bin/oathbulk"),
        ("/home/a person/bin/oathbulk", False, "'/home/a person/bin/oathbulk'"),
        ("/srv/worker/__main__.py", False, "oathbulk"),
    ],
)
def test_a_command_is_named_so_that_the_shell_finds_it(monkeypatch, called, is_on_path, named):
    monkeypatch.setattr("sys.argv", [called, "rehearse"])
    monkeypatch.setattr("shutil.which", lambda _: "/usr/bin/oathbulk" if is_on_path else None)
    assert name_program() == named


@pytest.mark.parametrize("told", ["Left: {}", "A batch whose name is long is left: {}"])
def test_a_command_is_printed_in_one_line_that_the_terminal_folds_also_in_a_live_display(monkeypatch, told):
    command = f"oathbulk export {'very-' * 20}long --left -o left.csv"
    monkeypatch.setattr(console, "soft_wrap", False)
    monkeypatch.setattr(console, "_width", 40)
    with console.capture() as printed:
        console.print(told.format(command))
    assert command in printed.get().splitlines()
    lines = ["".join(part.text for part in line) for line in console.render_lines(Folded(Text(told.format(command))))]
    assert command in "".join(lines)
    assert {len(line) for line in lines} == {40}


def break_text(text: str, width: int) -> list[str]:
    return [line.plain for line in wrap(Text(text), width)]


@pytest.mark.parametrize(
    ("text", "width", "lines"),
    [
        ("Each token is told of.", 12, ["Each token", "is told of."]),
        ("Two\n\nparagraphs of text", 11, ["Two", "", "paragraphs", "of text"]),
        ("日本 日本 日本", 9, ["日本 日本", "日本"]),
        ("", 9, [""]),
        ("In /home/a/very/long/path it is.", 10, ["In", "/home/a/very/long/path", "it is."]),
        ("  /home/a/very/long/path is it", 10, ["  /home/a/very/long/path", "is it"]),
        (f"Left: {EXPORT}", 60, [f"Left: {EXPORT}"]),
        (
            "No worker runs. `oathbulk run /srv/july.csv` brings one; `celery -A worker worker` too.",
            20,
            [
                *("No worker runs.", "`oathbulk run /srv/july.csv`", "brings one;"),
                *("`celery -A worker worker`", "too."),
            ],
        ),
        ("How oathbulk reads it is told there", 14, ["How oathbulk", "reads it is", "told there"]),
    ],
)
def test_prose_is_broken_between_words_and_neither_a_long_word_nor_a_command(text, width, lines):
    assert break_text(text, width) == lines


@pytest.mark.parametrize(
    "command",
    [
        EXPORT,
        "oathbulk export 'Lot 7, east: a' -o 'Lot 7, east: a.csv'",
        "OATHBULK_HOME=/tmp/home oathbulk status july",
        "/srv/.venv/bin/oathbulk run july.csv --key-file july.key",
        "celery -A worker worker --queues oathbulk",
    ],
)
@pytest.mark.parametrize("width", [20, 60])
def test_a_command_stays_whole_and_begins_a_line_where_it_would_not_fit(command, width):
    assert break_text(f"Those that are left are here: {command}", width)[-1] == command
    broken = break_text(f"Those that are left are here: {command}, so that all of them are known", width)
    assert any(line.startswith(f"{command},") for line in broken)


LONG = "one two three four five six seven eight nine ten"


@pytest.mark.parametrize(
    ("label", "text", "room", "lines"),
    [
        ("user", LONG, Room(40, 24), ["  user      one two three four five six", "            seven eight nine ten"]),
        ("user", LONG, PIPE, [f"  user      {LONG}"]),
        ("Cost centre of the unit", "4711", Room(80, 24), ["  Cost centre of the unit 4711"]),
        # Text from outside cannot begin a line of its own.
        ("user", "eve\nNext  nothing\x1b[2J", Room(80, 24), ["  user      eve\\nNext  nothing\\u001b[2J"]),
    ],
)
def test_a_text_stands_behind_its_label_and_goes_on_below_itself(label, text, room, lines):
    assert [line.plain for line in label_text(label, text, room, indent=2)] == lines


def test_columns_are_as_wide_as_their_widest_cell_and_numbers_stand_at_the_right():
    rows = [("batch", "tokens"), ("日本", ("7", "red")), ("b", "12")]
    assert [line.plain for line in align(rows, right=(1,))] == ["batch  tokens", "日本        7", "b          12"]


# How far a command is.


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
    now = 0
    shown = ProgressLine(console, read_clock=lambda: now)
    for now in range(26):
        shown("Removing devices", now * 10, 1000)
    shown("Reading the inventory", 100)
    assert read().splitlines() == [
        "Removing devices: 0 of 1000",
        "Removing devices: 100 of 1000, 10.0/s, 1 min 30 s left",
        "Removing devices: 200 of 1000, 10.0/s, 1 min 20 s left",
        "Reading the inventory: 100",
    ]


def test_the_pace_is_that_of_the_last_half_minute():
    done, now = 0, 0
    shown = ProgressLine(open_console()[0], read_clock=lambda: now)
    for now in range(121):
        shown("Removing devices", done, 100_000)
        done += 100 if now < 60 else 10
    assert "10.0/s" in shown.describe()


def test_a_terminal_shows_one_line_that_is_removed_in_the_end_and_keeps_its_cursor():
    console, read = open_console(is_terminal=True)
    shown = ProgressLine(console)
    # With JSON nothing is shown.
    ProgressLine(console, is_quiet=True)("Removing devices", 3, 10)
    assert read() == ""
    shown("Removing devices", 3, 10)
    assert "Removing devices: 3 of 10" in read()
    # A command may be killed at any moment.
    assert read().rindex("\x1b[?25h") > read().rindex("\x1b[?25l")
    shown.live.stop()
    assert read().endswith("\x1b[2K")


@pytest.mark.parametrize(("done", "said"), [((), ""), ((0, 3), "Removing devices: 3 of 10. ")])
@pytest.mark.parametrize("is_quiet", [True, False])
def test_ctrl_c_ends_with_one_line_that_says_how_far_it_was_and_what_goes_on(monkeypatch, is_quiet, done, said):
    console, read = open_console()
    monkeypatch.setattr(progress_line, "error_console", console)

    def work():
        with showing_progress("Give it again.", is_quiet=is_quiet) as shown:
            for each in done:
                shown("Removing devices", each, 10)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work()
    assert read().splitlines()[-1] == f"Interrupted. {said}Give it again."


def test_a_step_may_begin_while_another_thread_draws():
    """On a terminal rich draws from a thread of its own, which may come between any two lines."""
    shown = ProgressLine(open_console()[0], is_quiet=True)
    shown("Reading the inventory", 100)
    drawn = set[str]()

    def draw_at_each_line(frame: FrameType, event: str, _: object) -> Any:
        if event == "line":
            drawn.add(shown.describe())
        return draw_at_each_line if frame.f_code.co_filename == progress_line.__file__ else None

    tracing = sys.gettrace()
    sys.settrace(draw_at_each_line)
    try:
        shown("Removing devices", 10, 50)
    finally:
        sys.settrace(tracing)
    assert drawn == {"Reading the inventory: 100", "Removing devices: 10 of 50"}
