"""`oathbulk show`: prints the whole history of one token and what happens next; or lists the tokens that match, in a
table that has fewer columns on a narrow terminal."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated

import typer
from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.text import Text

from models.reason import Reason
from models.record_states import KEPT_BACK, UNTIL_LET_GO, Status
from worker.cli.console import GAP, Cell, Room, align, console, cut_line, label_text, measure_room, print_json
from worker.cli.homes import find_rehearsal, open_installation_with
from worker.cli.options import AsJson, RowStatus, Where, complete_batch
from worker.installation.installation import Installation, Told, look_up
from worker.observability.wording import agree, count_things, escape_line, format_moment
from worker.reports.search import (
    Read,
    SearchResult,
    Sought,
    describe_former,
    describe_nothing_found,
    describe_refused,
    name_user,
    search,
)
from worker.reports.token_history import NextStep, TokenHistory, describe_origin, list_facts, list_history

# Number of records listed unless --limit says otherwise: people seldom read more than a screen.
LISTED = 50
STATUS_STYLES: dict[str, str] = {Status.ACTIVE: "green", Status.DEAD_LETTER: "red", Status.CANCELLED: "red"}
# Number of columns by which a record's facts are indented.
_INDENT = 2
# Minimum and maximum columns of a label with the gap after it: a label may be the long name of a column in the file.
_NARROWEST, _WIDEST = 10, 26
_COLUMNS = ("token", "batch", "row", "user", "status", "reason", "when (UTC)")
# The place of the row's number, which is right-aligned in its column.
_ROW = 2
# Places of the columns that are shown: all of them; on a narrow terminal, without batch and row; on a narrower one,
# also without the time.
_SHOWN_COLUMNS = ((0, 1, 2, 3, 4, 5, 6), (0, 3, 4, 5, 6), (0, 3, 4, 5))


def show(
    text: Annotated[
        str | None,
        typer.Argument(
            metavar="[TEXT]",
            help="A serial number, a PingOne device id, or a record number such as '#123'; or the first characters of "
            "a serial number, device id, user id, name, email address, lot, or value in one of your own columns.",
            show_default=False,
        ),
    ] = None,
    batch: Annotated[
        str | None, typer.Option(metavar="BATCH", autocompletion=complete_batch, help="List tokens of this batch.")
    ] = None,
    status: Annotated[
        RowStatus | None, typer.Option(help="List tokens with this status, or rows that were not loaded.")
    ] = None,
    reason: Annotated[Reason | None, typer.Option(help="List tokens with this reason.")] = None,
    user: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="List tokens of people whose id, name, or email address starts with this."),
    ] = None,
    where: Where = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, metavar="N", help="List at most N.")] = LISTED,
    as_json: AsJson = False,
) -> None:
    """Show everything known about one token, and what happens next; or list the tokens that match. Never shows an
    OTP."""
    text = (text and text.strip()) or None
    sought = Sought(text=text, batch=batch, status=status, reason=reason, user=user, where=tuple(where or ()))
    if where and batch is None:
        raise typer.BadParameter("name the batch that has these columns, with --batch", param_hint="--where")
    if sought == Sought():
        raise typer.BadParameter("name a token, or list some with --batch, --status, --reason or --user")
    installation = open_installation_with(batch)
    # The answer for a batch, a status, a reason or a user is a list, however long, so that scripts can rely on it.
    is_token_asked = text is not None and sought == Sought(text=text)
    found = look_up(installation, text or "", limit) if is_token_asked else search(installation.database, sought, limit)
    if isinstance(found, SearchResult):
        print_json(found.to_json()) if as_json else console.print(draw_findings(found, sought, measure_room(console)))
    else:
        _print_tokens(installation, found, as_json=as_json)


def _print_tokens(installation: Installation, looked_up: Told, *, as_json: bool) -> None:
    """Print the whole history of a token, in each environment that has it."""
    tokens = looked_up.tokens
    if rehearsal := find_rehearsal(installation):
        ended = rehearsal.describe_end()
        tokens = [(each, replace(step, why=ended, command=None) if step.command else step) for each, step in tokens]
    if as_json:
        histories = [history.to_json() | {"next": step.to_json()} for history, step in tokens]
        print_json({"tokens": histories, "others": looked_up.others})
        return
    for place, (history, step) in enumerate(tokens):
        if place:
            console.print(Text(""))
        console.print(draw_history(history, step, measure_room(console)))
    if looked_up.others:
        others = count_things(looked_up.others, "other serial number")
        begin = f"{others} {agree(looked_up.others, 'begins', 'begin')} with that"
        console.print(Text(f"{begin}: list them with --batch, --status, --reason, or --user.", style="dim"))


def draw_history(token: TokenHistory, step: NextStep, room: Room) -> RenderableType:
    """Draw all records of a token, the oldest first, and below them what happens next."""
    place_of_token = f" in environment {token.environment} ({token.environment_id})"
    lines = [Text.assemble((escape_line(token.serial_number), "bold"), escape_line(place_of_token)), Text("")]
    for line in token.refused:
        lines += [*label_text("Not loaded", describe_refused(line), room, style="red"), Text("")]
    for record in token.records:
        facts = [*list_facts(record), *list_history(record)]
        widest = max(cell_len(escape_line(label)) for label, _ in facts) + len(GAP)
        width = min(max(widest, _NARROWEST), _WIDEST)
        lines.append(Text(describe_origin(record), style="bold"))
        for label, text in facts:
            style = STATUS_STYLES.get(text.split()[0], "") if label == "status" else ""
            lines += label_text(label, text, room, indent=_INDENT, width=width, style=style)
        lines.append(Text(""))
    lines += label_text("Next", step.sentence, room, style="bold")
    lines += label_text("", step.why, room) if step.why else []
    lines += label_text("Command", step.command, room, style="cyan") if step.command else []
    return Group(*lines)


def draw_findings(findings: SearchResult, sought: Sought, room: Room) -> RenderableType:
    """Draw the records that were found, and say how many more there are; or that nothing matches."""
    if not findings.found and not findings.refused:
        return Text(escape_line(describe_nothing_found(sought)))
    lines = _draw_found(findings.found, room) if findings.found else []
    for line in findings.refused:
        lines += label_text(line.serial_number or "no serial", describe_refused(line), room)
    for line in findings.former:
        lines += label_text("Former", describe_former(line), room)
    if findings.more:
        lines.append(Text(f"… and {findings.more:,} more: list them with --limit, or narrow the search."))
    if findings.is_by_serial_number:
        lines.append(Text("Only serial numbers were searched, because these match.", style="dim"))
    return Group(*lines)


def _draw_found(found: Sequence[Read], room: Room) -> list[Text]:
    """Draw a line for each record, with as many columns as there is room for."""
    rows: list[Sequence[Cell]] = [_COLUMNS, *map(_describe, found)]
    lines = list[Text]()
    for places in _SHOWN_COLUMNS:
        lines = align(
            [[row[place] for place in places] for row in rows], right=[places.index(_ROW)] if _ROW in places else ()
        )
        if max(line.cell_len for line in lines) <= room.width:
            break
    lines[0].stylize("bold")
    return [cut_line(line, room.width) for line in lines]


def _describe(found: Read) -> list[Cell]:
    """The cells of a record's line."""
    when = format_moment(found.finalized_at)
    if not when and found.status == Status.PENDING:
        is_kept_back = found.scheduled_at >= UNTIL_LET_GO
        when = KEPT_BACK if is_kept_back else f"due {format_moment(found.scheduled_at)}"
    status = (found.status, STATUS_STYLES.get(found.status, ""))
    token, batch, user = map(escape_line, (found.serial_number, found.batch, name_user(found)))
    return [token, batch, str(found.row), user, status, found.reason or "", when]
