"""Text from outside on a terminal and in a log: shown, it neither steers the one nor feigns a line of the other."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.table import Table
from rich.text import Text
from support.data.batches import make_batch
from support.data.moving_clock import MovingDatabase
from support.processes.command_desk import CommandDesk
from support.processes.scripts import run_on_a_terminal, run_piped

from models.audit import Action
from models.batch import BatchState
from models.record_states import Status
from worker import audit
from worker.audit import Actor
from worker.cli.console import console, print_json
from worker.observability.wording import escape, escape_line
from worker.reports.export import export

# The title of the window, the whole screen, colours, a line painted over, the same in one byte, and right to left.
EVIL = "\x1b]0;owned\x07\x1b[2J\x1b[31m\rpaid\x9b2J\x08\u202egnihton\x00"
# rich's own: colours, cursor and erased lines of a live display.
OURS = re.compile(r"\x1b\[[0-9;]*m|\x1b\[\?25[hl]|\x1b\[[0-9]*A|\x1b\[2K")


def steers(printed: str) -> list[str]:
    """What of it a terminal would obey, beyond what rich says by itself."""
    return re.findall(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]", OURS.sub("", printed))


def test_controls_are_shown_and_lines_kept_or_shown() -> None:
    assert escape("a\tb\nc\x1b[2J") == "a\tb\nc\\u001b[2J"
    assert escape_line("a\tb\nc\x9b") == "a\tb\\nc\\u009b"
    assert escape("Zürich — 東京 🙂 ‏עברית") == "Zürich — 東京 🙂 ‏עברית"


def test_nothing_that_is_printed_steers_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table("batch")
    table.add_row(EVIL)
    table.add_row(Text(EVIL, style="bold"))
    for shown in (EVIL, Text(EVIL), table):
        console.print(shown)
    console.print(f"[bold]{EVIL}", "and", EVIL)
    printed = capsys.readouterr().out
    assert "owned" in printed
    assert steers(printed) == []


def test_json_stays_json(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"name": f"{EVIL}\x7f\n"})
    printed = capsys.readouterr().out
    assert json.loads(printed) == {"name": f"{EVIL}\x7f\n"}
    assert steers(printed) == []


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[CommandDesk]:
    with CommandDesk(tmp_path / "desk") as desk:
        yield desk


def test_what_stands_in_the_database_does_not_steer_the_terminal_of_who_looks(desk: CommandDesk) -> None:
    """Names that were loaded before they were looked at, and what somebody wrote past oathbulk."""
    desk.make_home()
    database = MovingDatabase(f"sqlite:///{desk.home / 'oathbulk.db'}")
    make_batch(database, 2, name=f"evil{EVIL}", state=BatchState.PAUSED)
    with database.writing() as connection:
        audit.append(database, connection, Actor(EVIL, EVIL), Action.PAUSE, EVIL, {"file": EVIL})
    database.close()
    for command in (["status"], ["audit"], ["resume", f"evil{EVIL[:-1]}"]):
        terminal = desk.start_on_terminal(*command, columns=200)
        terminal.wait()
        # A terminal turns each line feed into two characters.
        printed = terminal.read().replace("\r\n", "\n")
        assert "owned" in printed, command
        assert steers(printed) == [], command


def test_an_export_does_not_steer_the_terminal_of_who_looks(sqlite_url: str) -> None:
    database = MovingDatabase(sqlite_url)
    lines = {"extra": {"address": f"one\r\ntwo\nthree{EVIL}"}, "lot": EVIL, "detail": EVIL, "correlation_id": EVIL}
    made = make_batch(database, [lines | {"status": Status.DEAD_LETTER, "reason": "rejected"}])
    out = io.StringIO(newline="")
    export(database, made.name, out)
    database.close()
    assert "owned" in out.getvalue()
    assert steers(out.getvalue().replace("\r\n", "\n")) == []


FEIGNED = "owned\n2026-03-01 00:00:00 [info] all is well\r\n\x1b[2J\x1b]0;owned\x07"
EVENTS = f"""
import logging
import structlog
from worker.observability.logs import configure_logs

configure_logs("INFO")
evil = {FEIGNED!r}
structlog.get_logger("worker.somewhere").warning("rescued", batch=evil, nested=[evil])
logging.getLogger("celery.somewhere").warning("Received unregistered task of type %s", evil)
try:
    raise ValueError(evil)
except ValueError:
    structlog.get_logger("worker.somewhere").exception("failed", **{{evil: 1}})
    logging.getLogger("celery.somewhere").exception("task failed: %s", evil)
"""


def test_a_log_has_a_line_an_event_whatever_its_words() -> None:
    printed = run_piped(EVENTS)
    assert [json.loads(line)["event"].partition("owned")[0] for line in printed.splitlines()] == [
        *("rescued", "Received unregistered task of type ", "failed", "task failed: ")
    ]
    assert steers(printed) == []


def test_a_log_on_a_terminal_is_not_steered_and_no_line_is_feigned() -> None:
    printed = run_on_a_terminal(EVENTS).replace("\r\n", "\n")
    assert printed.count("rescued") == 1
    assert steers(printed) == []
    before_tracebacks = printed.partition("Traceback")[0]
    assert "owned" in before_tracebacks
    assert [line for line in before_tracebacks.splitlines() if line.startswith("2026-03-01 00:00:00 [info]")] == []
