"""How the history of a token is displayed: its records with their attempts, and what happens next."""

from __future__ import annotations

from collections.abc import Iterator

from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.text import Text

from models.record_states import Status
from worker.cli.labelled_lines import LabelledLine
from worker.observability.escaping import escape_line
from worker.reports.token_history import TokenHistory
from worker.reports.token_sentences import NextStep, describe_origin, list_attempts, list_facts

STATUS_STYLES: dict[str, str] = {Status.ACTIVE: "green", Status.DEAD_LETTER: "red", Status.CANCELLED: "red"}
# Columns by which what belongs to a record is indented.
_INDENT = 2
# Columns of a label with the gap behind it: at least, and at most, where a column of the file has a long name.
_NARROWEST, _WIDEST = 10, 26


def draw_history(token: TokenHistory, step: NextStep) -> RenderableType:
    """Draw all records of a token, the oldest first, and below them what happens next."""
    place_of_token = f" in environment {token.environment} ({token.environment_id})"
    head = Text.assemble((escape_line(token.serial_number), "bold"), escape_line(place_of_token))
    parts: list[RenderableType] = [head, Text("")]
    for line in token.refused:
        parts += [LabelledLine("Refused", str(line), style="red"), Text("")]
    for record in token.records:
        parts.append(Text(describe_origin(record), style="bold"))
        parts += _draw_record([*list_facts(record), *list_attempts(record)])
        parts.append(Text(""))
    parts.append(LabelledLine("Next", step.sentence, style="bold"))
    if step.why:
        parts.append(LabelledLine("", step.why))
    if step.command:
        parts.append(LabelledLine("Command", step.command, style="cyan"))
    return Group(*parts)


def _draw_record(facts: list[tuple[str, str]]) -> Iterator[RenderableType]:
    """Draw what is said of a record, each text behind its label."""
    widest = max(cell_len(escape_line(label)) for label, _ in facts) + 2
    for label, text in facts:
        style = STATUS_STYLES.get(text.split()[0], "") if label == "status" else ""
        yield LabelledLine(label, text, _INDENT, min(max(widest, _NARROWEST), _WIDEST), style)
