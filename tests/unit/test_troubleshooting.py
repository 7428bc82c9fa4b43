"""docs/troubleshooting.md has every reason, cause, finding and check that a person may meet, and no message that nobody
prints."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from functools import cache

import pytest
from support.pages.reading import CHECKOUT, read_page

from models.reason import PASSING, PauseReason, Reason
from models.row_fault import RowFault
from worker.preflight.findings import Question
from worker.preflight.tenant import DEVICE_TEXTS, PERSON_TEXTS, TOKEN_TEXTS
from worker.reports.stall import Cause

PAGE = read_page("docs/troubleshooting.md")
SECTIONS = dict(re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))
# Functions whose first argument is the name of a finding of preflight.
MAKES_FINDING = ("Finding", "name_tokens", "_name_rows")


def read_first_column(heading: str) -> list[str]:
    """What stands between backticks in the first column of a section's tables."""
    rows = re.findall(r"^\| (.*?) \| ", SECTIONS[heading], re.MULTILINE)
    return [span for row in rows for span in re.findall(r"`([^`]+)`", row)]


def parse(folder: str) -> Iterator[ast.AST]:
    for path in sorted((CHECKOUT / folder).rglob("*.py")):
        yield from ast.walk(ast.parse(path.read_text(encoding="utf-8")))


def find_names(folder: str, functions: Iterable[str]) -> set[str]:
    """The texts that are the first argument of these functions, in the code of a folder."""
    calls = (node for node in parse(folder) if isinstance(node, ast.Call) and node.args)
    firsts = [node.args[0] for node in calls if isinstance(node.func, ast.Name) and node.func.id in functions]
    return {first.value for first in firsts if isinstance(first, ast.Constant) and isinstance(first.value, str)}


@cache
def read_texts() -> str:
    """Every text in the code, with a break where a value is put in."""
    texts = (node.value for node in [*parse("worker"), *parse("models")] if isinstance(node, ast.Constant))
    return "\n".join(text.replace("`", "") for text in texts if isinstance(text, str))


def test_every_cause_of_a_stall_is_there() -> None:
    assert set(Cause) <= set(read_first_column("Nothing moves"))


def test_every_reason_of_a_pause_is_there() -> None:
    assert sorted(read_first_column("A batch is paused")) == sorted(PauseReason)
    (first,) = re.findall(r"^`Paused.*go on by themselves", SECTIONS["A batch is paused"], re.MULTILINE)
    assert set(re.findall(r"\((\w+)\)", first)) == PASSING


def test_every_reason_of_a_dead_letter_is_there() -> None:
    assert sorted(read_first_column("A token is a dead letter")) == sorted(Reason)


def test_every_fault_of_a_row_is_there() -> None:
    assert sorted(read_first_column("A row was refused")) == sorted(RowFault)


def test_every_finding_of_preflight_is_there() -> None:
    names = find_names("worker/preflight", MAKES_FINDING).union(DEVICE_TEXTS, TOKEN_TEXTS, PERSON_TEXTS)
    assert set(read_first_column("Before a load")) == names


def test_what_accept_takes_is_what_is_asked_and_nothing_else() -> None:
    calls = [node for node in parse("worker/preflight") if isinstance(node, ast.Call) and len(node.args) > 1]
    asked = [call.args[0] for call in calls if ast.unparse(call.args[1]) == "Level.ASK"]
    names = {each.value for each in asked if isinstance(each, ast.Constant)}
    assert names.union(DEVICE_TEXTS, TOKEN_TEXTS, PERSON_TEXTS) == set(Question)


def test_every_check_of_doctor_is_there() -> None:
    checks = ast.parse((CHECKOUT / "worker/cli/doctor.py").read_text(encoding="utf-8"))
    pairs = [node.value for node in ast.walk(checks) if isinstance(node, ast.Yield)]
    names = {ast.literal_eval(pair.elts[0]) for pair in pairs if isinstance(pair, ast.Tuple)}
    assert "configuration" in names
    table = read_page("docs/commands.md#doctor")
    assert set(re.findall(r"^\| `(.*?)` \|", table, re.MULTILINE)) == names


@pytest.mark.parametrize("heading", ["Nothing moves", "A command ends at once"])
def test_every_message_is_one_that_is_printed(heading: str) -> None:
    column = 1 if heading == "Nothing moves" else 0
    rows = re.findall(r"^\| (.*) \|$", SECTIONS[heading], re.MULTILINE)[2:]
    messages = [span for row in rows for span in re.findall(r"`([^`]+)`", row.split(" | ")[column])]
    assert len(messages) >= len(rows)
    pieces = {piece.strip() for message in messages for piece in message.split("…")} - {"", ")."}
    assert [piece for piece in sorted(pieces) if piece not in read_texts()] == []


def test_every_event_of_a_log_is_one_that_is_logged() -> None:
    logged = {
        node.args[0].value
        for node in parse("worker")
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args
        if node.func.attr in ("warning", "error", "exception") and isinstance(node.args[0], ast.Constant)
    }
    assert set(read_first_column("In a log")) <= logged
