"""How batches, tokens and what was undone are displayed, where the golden files show no such case: bars and names of
any length, terminals of any size, text from outside, one thing and many. What stands on a terminal and in a pipe: texts
are broken between words, and a command at their end stays whole, so that it can be pasted; columns and labels are laid
out; and how far a command is, as a person and a log see it."""

import io
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from fnmatch import fnmatch
from types import FrameType
from typing import Any

import pytest
from rich.console import Console, RenderableType
from support.data.facts import (
    DEVICE,
    LOADED,
    NOW,
    PAUSED,
    RUNNING,
    SOME_LEFT,
    USER,
    batch,
    history_of,
    make_row,
    past_record,
    refused_line,
)

from models.reason import CURES, SEED_CURES, Reason
from models.row_fault import RowFault
from worker.batches.removal import DefaultChange, End, Heir
from worker.batches.undo import DeviceCounts, Kept, Loss, TokenCounts, Undone
from worker.cli import progress_line
from worker.cli.console import PIPE, Room, align, break_lines, console, label_text, name_program
from worker.cli.progress_line import ProgressLine, describe_step, showing_progress
from worker.cli.show import draw_findings, draw_history
from worker.cli.status import draw_batch, draw_batches, draw_failed
from worker.cli.undo import describe
from worker.reports.cures import LONGEST, SHORT_CURES, SHORT_SEED_CURES
from worker.reports.facts import BatchStatus
from worker.reports.search import SearchResult, Sought
from worker.reports.token_history import NextStep

NARROW = Room(width=80, height=23)


def seen(picture: RenderableType, width: int = 400) -> list[str]:
    """Render the drawing as text, as a terminal without colors shows it."""
    page = io.StringIO()
    Console(file=page, width=width, highlight=False, markup=False).print(picture)
    return [line.rstrip() for line in page.getvalue().splitlines()]


# One batch.


@pytest.mark.parametrize(
    ("status", "bar"),
    [
        (batch(active=588, dead_letter=12), "━" * 39 + "╍"),
        (batch(active=999, pending=1), "━" * 39 + "─"),
        (batch(active=998, dead_letter=1, pending=1), "━" * 39 + "╍"),
        (batch(dead_letter=2), "╍" * 40),
        (batch(active=2), "━" * 40),
        (batch(), "─" * 40),
        # Whatever is given up, in one of three ways.
        (
            replace(batch(active=5, dead_letter=2, cancelled=1, pending=9), rows_refused=3),
            "━" * 10 + "╍" * 10 + "─" * 20,
        ),
    ],
)
def test_a_few_that_failed_are_seen_in_the_bar_and_it_is_full_of_active_ones_at_the_end_only(
    status: BatchStatus, bar: str
) -> None:
    in_ascii = bar.translate(str.maketrans("━╍─", "=x-"))
    for room, drawn in ((NARROW, bar), (replace(NARROW, is_ascii=True), in_ascii)):
        head, *_ = seen(draw_batch(status, room), 80)
        assert drawn in head.split()
        assert head.endswith(f"{status.active} of {status.rows} active")


@pytest.mark.parametrize("name", ["[bold]", "[/]", "pallet [7]", ":smile:"])
def test_a_name_is_shown_as_it_is(name: str) -> None:
    named = replace(PAUSED, name=name, detail=f"{name} is no environment.")
    for drawing in (draw_batch(named), draw_batches([named])):
        assert "\n".join(seen(drawing)).count(name) == 3


def test_when_the_run_that_worked_on_it_has_ended_no_time_is_left_and_the_commands_that_go_on_are_named() -> None:
    again = "Continue with: oathbulk run pallet-7"
    page = "\n".join(seen(draw_batch(RUNNING, stopped=again)))
    left = f"No worker here is working on it anymore; 600 rows are to do. {again}"
    assert (left in page, "at this pace" in page) == (True, False)
    page = "\n".join(seen(draw_batch(PAUSED, stopped=again)))
    both = "This run has ended. Continue with: oathbulk resume pallet-7, then oathbulk run pallet-7"
    assert (f"Check them. {both}" in page, page.count("Continue with")) == (True, 1)


LETTERS = {str(reason): 100 - number for number, reason in enumerate(Reason)}
FULL = replace(
    batch(pace=9.8, pending=48000, queued=100, activating=40, active=1204, dead_letter=656),
    dead_letters=LETTERS,
    imported=400,
    paired=390,
)
LONG = replace(FULL, state="paused", reason="person", detail="Someone paused it. " * 20)
LONG_NAME = replace(PAUSED, name="a name that is " + "very " * 20 + "long")
CONTROLS = replace(PAUSED, name="\x1b" * 70, detail="\x1b" * 70)


@pytest.mark.parametrize(
    "status", [FULL, LONG, replace(FULL, state="finished", finished_at=LOADED), LONG_NAME, CONTROLS]
)
@pytest.mark.parametrize("room", [NARROW, Room(60, 23), Room(120, 39)])
def test_a_drawing_is_never_higher_or_wider_than_the_terminal_and_keeps_the_count(
    status: BatchStatus, room: Room
) -> None:
    lines = seen(draw_batch(status, room), room.width)
    assert len(lines) <= room.height
    assert max(map(len, [*lines, *seen(draw_batches([status], room), room.width)])) <= room.width
    assert lines[0].endswith(f"{status.active} of {status.rows} active")


def test_the_outlook_and_the_fleet_stand_above_the_reasons_and_the_last_line_tells_how_many_are_hidden() -> None:
    lines = seen(draw_batch(FULL, NARROW, notes=["No worker is running."]), 80)
    head = lines.index("failed  reason                  what to do")
    assert max(lines.index("Done in about 1 h 21 min at this pace."), lines.index("No worker is running.")) < head
    shown = len(lines) - head - 2
    assert lines[-1] == f"and {len(Reason) - shown} more reasons: oathbulk status pallet-7 --cures"
    assert len(lines) == NARROW.height


# The reasons of dead letters.


GIVEN_UP = replace(batch(pending=1, dead_letter=3), dead_letters={"locked": 1, "invalid_otp": 12345}, name="pallet 7")
MANY = replace(GIVEN_UP, dead_letters=LETTERS)


def draw_letters(status: BatchStatus, room: Room = NARROW, left: int = 20, *, with_cures: bool = False) -> list[str]:
    return [line.plain for line in draw_failed(status, room, left, with_cures=with_cures)]


def test_each_reason_has_a_line_with_a_short_cure_the_most_frequent_first() -> None:
    assert draw_letters(batch(active=1)) == []
    assert draw_letters(GIVEN_UP) == [
        "failed  reason       what to do",
        f" 12345  invalid_otp  {SHORT_CURES[Reason.INVALID_OTP]}",
        f"     1  locked       {SHORT_CURES[Reason.LOCKED]}",
        "What to do, in full: oathbulk status 'pallet 7' --cures",
    ]
    lines = draw_letters(GIVEN_UP, Room(40, 23))
    assert (max(map(len, lines)) <= 40, fnmatch(lines[1], " 12345  invalid_otp  check token*…")) == (True, True)


def test_every_reason_has_a_short_cure_that_80_columns_have_room_for() -> None:
    assert set(SHORT_CURES) == set(SHORT_SEED_CURES) == {*Reason, *RowFault}
    assert max(map(len, [*SHORT_CURES.values(), *SHORT_SEED_CURES.values()])) <= LONGEST
    assert "…" not in "".join(draw_letters(replace(MANY, dead_letters=LETTERS | {"locked": 99999}), left=1000))


@pytest.mark.parametrize(("left", "hidden"), [(20, 5), (len(Reason) + 1, 1), (3, 22), (2, 23), (1, 23)])
def test_where_there_is_no_room_the_last_line_tells_how_many_are_hidden(left: int, hidden: int) -> None:
    lines = draw_letters(MANY, left=left)
    more = "1 more reason" if hidden == 1 else f"{hidden} more reasons"
    assert (len(lines) <= left, lines[-1]) == (True, f"and {more}: oathbulk status 'pallet 7' --cures")


@pytest.mark.parametrize(
    ("status", "room", "left", "with_cures", "cures"),
    [
        # Of a finished batch, if there is room; otherwise if asked for, whatever the room; in a pipe.
        (SOME_LEFT, NARROW, 20, False, [CURES[Reason.INVALID_OTP], CURES[Reason.LOCKED]]),
        (replace(GIVEN_UP, has_seeds=True), NARROW, 20, True, [SEED_CURES[Reason.INVALID_OTP]]),
        (MANY, NARROW, 3, True, CURES.values()),
        (replace(MANY, state="finished"), PIPE, PIPE.height, False, CURES.values()),
    ],
)
def test_cures_are_written_out(status, room, left, with_cures, cures) -> None:
    lines = draw_letters(status, room, left, with_cures=with_cures)
    text = " ".join(" ".join(lines).split())
    assert [cure for cure in cures if cure not in text] == []
    assert max(map(len, lines)) <= 80 if room is NARROW else len(lines) == 1 + len(Reason)


def test_a_batch_of_seeds_has_the_short_cures_of_seeds_and_a_finished_one_too_where_there_is_no_room() -> None:
    of_seeds = draw_letters(replace(GIVEN_UP, has_seeds=True))
    assert f" 12345  invalid_otp  {SHORT_SEED_CURES[Reason.INVALID_OTP]}" in of_seeds
    assert CURES[Reason.INVALID_OTP] not in " ".join(" ".join(draw_letters(SOME_LEFT, left=5)).split())


# Tokens.


FIELDS = {
    **{"record": 1, "serial_number": "MADE0000001", "batch": "july", "row": 2, "environment": "default"},
    **{"user_id": USER, "username": None, "email": None, "external_id": None, "device_id": DEVICE, "lot": None},
    **{"status": "pending", "reason": None, "scheduled_at": NOW, "finalized_at": None},
}
GIVEN = {"username": "alice", "status": "dead_letter", "reason": "locked", "finalized_at": NOW}
WAITING, LETTER = make_row(FIELDS), make_row(FIELDS | GIVEN | {"serial_number": "MADE2", "row": 345})
SAID = "Row 17 of july was not loaded: otp1 is missing: write it there"


def test_what_a_file_brought_cannot_pass_for_a_line_of_ours_nor_take_the_place_of_one() -> None:
    extra = {"a\nb": "[bold]c", "device": "blue", "Cost center": "4711"}
    record = past_record(username="eve\nNext  nothing: it is active", extra=extra, device_id=DEVICE)
    lines = seen(draw_history(history_of(record), NextStep("nothing"), Room(400, 24)))
    columns = ("a\\nb         [bold]c", f"device       {DEVICE}", "device       blue", "Cost center  4711")
    drawn = (*columns, "username     eve\\nNext  nothing: it is active")
    assert [line for line in drawn if f"  {line}" not in lines] == []
    found = make_row(FIELDS | {"username": "eve\nMADE3  july"})
    assert len(seen(draw_findings(SearchResult([found], 0), Sought(text="MADE"), Room(400, 24)))) == 2


def test_a_refused_row_is_told_above_the_records_or_alone() -> None:
    record = past_record(batch={"name": "july-2", "file": "july-2.csv"})
    above, alone = (
        "\n".join(seen(draw_history(history, NextStep("nothing"), Room(400, 24))))
        for history in (history_of(record, refused=[refused_line()]), history_of(refused=[refused_line()]))
    )
    assert (above.index(SAID) < above.index("july-2.csv"), SAID in alone) == (True, True)
    found = draw_findings(SearchResult([], 0, refused=[refused_line(serial_number=None)]), Sought(text="MADE"), PIPE)
    assert seen(found) == [f"no serial {SAID}"]


@pytest.mark.parametrize(
    ("width", "lines"),
    [
        (
            100,
            [
                "token        user                                  status       reason  when (UTC)",
                f"MADE0000001  {USER}  pending              due 2026-11-28 12:30:00",
                "MADE2        alice                                 dead_letter  locked  2026-11-28 12:30:00",
            ],
        ),
        (
            80,
            [
                "token        user                                  status       reason",
                f"MADE0000001  {USER}  pending",
                "MADE2        alice                                 dead_letter  locked",
            ],
        ),
    ],
)
def test_on_a_narrow_terminal_the_list_has_fewer_columns_and_no_id_is_cut(width: int, lines: list[str]) -> None:
    found = draw_findings(SearchResult([WAITING, LETTER], 0), Sought(text="MADE"), Room(width, 23))
    assert seen(found, width) == lines


# What was undone.

STAY = "{}. In PingOne's console, remove those that must no longer work:"


@pytest.mark.parametrize(
    ("undone", "is_done", "said"),
    [
        (
            Undone(
                DeviceCounts(1, 1, 1, Counter({End.THERE: 1, End.GONE: 1})),
                TokenCounts(own=1, gone=2, not_ours=1, open_imports=1, earlier=1),
                {"user": DefaultChange(2, "MADE1", "user", Heir.NEXT)},
                losses=[Loss(place, f"MADE{place}", "ann@x.test", "device and token") for place in range(12)],
            ),
            False,
            [
                "1 person would lose 12 tokens:",
                *(f"  row {place} (MADE{place}), ann@x.test: device and token" for place in range(10)),
                "  and 2 more: -o FILE lists all",
                "1 device of box would be removed; 1 is gone already. 1 was removed by an earlier run.",
                "The outcome of 1 pairing is unknown: with --yes it is looked up first.",
                "The default device of 1 person changes: 1 has another active device, which becomes the default;*",
                "1 token of box would be revoked; 2 are gone already. 1 was revoked by an earlier run.",
                "1 token was in the inventory before the batch: it stays there.",
                "1 import is still running: --yes waits for it first.",
                "Nothing was changed. To do it: oathbulk undo box --yes",
            ],
        ),
        (
            Undone(DeviceCounts(earlier=2), TokenCounts(earlier=2)),
            False,
            [
                "0 devices of box would be removed; 0 are gone already. 2 were removed by an earlier run.",
                "0 tokens of box would be revoked; 0 are gone already. 2 were revoked by an earlier run.",
            ],
        ),
        (
            Undone(DeviceCounts(earlier=2), TokenCounts(own=1, revoked=1, earlier=1)),
            True,
            [
                "2 devices of box: 0 removed now, 2 by an earlier run; 0 were gone already.",
                "2 tokens of box: 1 revoked now, 1 by an earlier run; 0 were gone already.",
                "*oathbulk mend box FILE --assign LIST",
            ],
        ),
        (
            Undone(tokens=TokenCounts()),
            False,
            [
                "box has made no device, so there is none to remove.",
                "box has imported no token, so there is none to revoke.",
            ],
        ),
        (
            Undone(
                DeviceCounts(1, ends=Counter({End.REMOVED: 1})),
                TokenCounts(obstacle="Give it the role."),
                kept={"MADE1": Kept(2, "MADE1", "it is paired")},
            ),
            True,
            [
                STAY.format("1 stays as it is"),
                "  row 2 (MADE1): it is paired",
                "1 device of box was removed; 0 were gone already.",
                "0 tokens of box were revoked; 0 were gone already.",
                "Tokens stay in the inventory. Give it the role.",
            ],
        ),
    ],
    ids=["one of each", "looked at again", "done again", "nothing", "not the tokens"],
)
def test_what_was_undone_is_told(undone: Undone, is_done: bool, said: list[str]) -> None:
    lines = describe("box", undone, "oathbulk undo box", is_done=is_done, is_partial=False)
    assert [line for line, like in zip(lines, said, strict=True) if not fnmatch(line, like)] == []


def test_serial_numbers_of_the_list_that_are_nothing_to_the_batch_are_named() -> None:
    kept = {f"A{number}": Kept(None, f"A{number}", "no row of this batch has it") for number in range(21)}
    undone = Undone(tokens=TokenCounts(), kept=kept)
    *lines, devices, tokens = describe("box", undone, "oathbulk undo box", is_done=False, is_partial=True)
    assert devices == "box has made no device of these tokens, so there is none to remove."
    assert tokens == "box has imported none of these tokens, so there is none to revoke."
    assert lines[:2] == [STAY.format("21 stay as they are"), "  A0: no row of this batch has it"]
    assert lines[-1] == "  and 1 more: --json names them"


# Texts on a terminal and in a pipe.

EXPORT = "oathbulk export july --failed -o july-failed.csv"


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


def test_a_command_is_printed_in_one_line_that_the_terminal_folds(monkeypatch):
    command = f"oathbulk export {'very-' * 20}long --failed -o left.csv"
    monkeypatch.setattr(console, "_force_terminal", True)
    monkeypatch.setattr(console, "_width", 40)
    with console.capture() as printed:
        console.print(f"Those whose batch has a very long name are left: {command}")
    assert [line.rstrip() for line in printed.get().splitlines()] == [
        *("Those whose batch has a very long name", "are left:"),
        command,
    ]


def break_text(text: str, width: int) -> list[str]:
    return [line.plain for line in break_lines(text, Room(width, 24))]


@pytest.mark.parametrize(
    ("text", "width", "lines"),
    [
        ("Each token is told of by one line.", 20, ["Each token is told", "of by one line."]),
        ("Two\n\nparagraphs of a long text", 20, ["Two", "", "paragraphs of a long", "text"]),
        ("", 20, [""]),
        (f"Left: {EXPORT}", 60, [f"Left: {EXPORT}"]),
        ("What oathbulk reads is told there", 20, ["What oathbulk reads", "is told there"]),
    ],
)
def test_prose_is_broken_between_words(text, width, lines):
    assert break_text(text, width) == lines


@pytest.mark.parametrize(
    "command",
    [
        EXPORT,
        "oathbulk export 'Lot 7, east: a' -o 'Lot 7, east: a.csv'",
        "OATHBULK_HOME='/my home' oathbulk status july",
        "/srv/.venv/bin/oathbulk run july.csv --key-file july.key",
        "celery -A worker worker --queues oathbulk",
    ],
)
@pytest.mark.parametrize("width", [20, 60])
def test_a_command_stays_whole_and_begins_a_line_where_it_would_not_fit(command, width):
    assert break_text(f"Those that are left are here: {command}", width)[-1] == command
    assert break_text(command, width) == [command]
    lines = break_text(f"Those that are left are here: {command}\nAnd this is the paragraph behind it.", width)
    assert (command in lines, "behind it." in lines[-1]) == (True, True)


LONG_TEXT = "one two three four five six seven eight nine ten"


@pytest.mark.parametrize(
    ("label", "text", "room", "lines"),
    [
        (
            "user",
            LONG_TEXT,
            Room(40, 24),
            ["  user      one two three four five six", "            seven eight nine ten"],
        ),
        ("user", LONG_TEXT, PIPE, [f"  user      {LONG_TEXT}"]),
        ("Cost center of the unit", "4711", Room(80, 24), ["  Cost center of the unit 4711"]),
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
        (("Waiting for imports to end", 0, None), "Waiting for imports to end"),
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
