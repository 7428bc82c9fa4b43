"""`oathbulk export`: writes a batch as a CSV file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from models.reason import Reason
from models.record_states import Status
from models.refused_row import REFUSED
from worker.cli.console import console, error_console
from worker.cli.homes import open_installation_with
from worker.cli.options import BatchName, RowStatus, Ticket
from worker.cli.output_files import STDOUT, refuse_unfit, write_output
from worker.cli.progress import showing_progress
from worker.cli.typed_commands import describe_way_back
from worker.cli.written_otps import refuse_to_lose_otps
from worker.installation.installation import Installation
from worker.installation.lookups import read_statuses
from worker.observability.counting import count_things
from worker.reports import export as reports
from worker.reports.export import write_hand_out
from worker.reports.search import NotKept

# What is said after Ctrl-C.
NOT_WRITTEN = "No file was written."


def export(
    batch: BatchName,
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="FILE", help="The CSV file to write; - is standard output.")
    ],
    status: Annotated[
        RowStatus | None, typer.Option(help="Only records of this status, or the rows that were refused.")
    ] = None,
    reason: Annotated[
        list[Reason] | None, typer.Option(help="Only dead letters of this reason; may be given several times.")
    ] = None,
    left: Annotated[
        bool,
        typer.Option("--left", help="Only tokens that are given up, cancelled or refused."),
    ] = False,
    ticket: Ticket = None,
    with_otps: Annotated[bool, typer.Option(help="OTPs too, where they are still kept.")] = False,
    hand_out: Annotated[
        bool, typer.Option("--hand-out", help="Who has which active token, and how often to press it first.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace FILE even if it holds OTPs or seeds.")
    ] = False,
) -> None:
    """Write a batch as CSV: its own columns, and how each row ended. Corrected, the file mends the batch."""
    given = {"--with-otps": with_otps, "--hand-out": hand_out, "--status": status is not None, "--reason": bool(reason)}
    _refuse_what_excludes(given, is_left=left, is_refused=status == REFUSED)
    refuse_unfit(output)
    if output != STDOUT and not overwrite:
        refuse_to_lose_otps(output, can_overwrite=True)
    installation = open_installation_with(batch)
    if hand_out:
        count = export_hand_out(installation, batch, output)
        _report(f"Wrote {count_things(count, 'active token')} of {batch}", output)
        return
    keyring = None
    if with_otps:
        keyring = installation.keyring
        # Noted in the audit before the first OTP leaves: an export that fails half-way was asked for, too.
        installation.batches(ticket).note_export(batch, str(output))
    with showing_progress(NOT_WRITTEN) as progress:
        export_to = partial(reports.export, installation.database, batch, keyring=keyring, on_progress=progress)
        count = write_output(output, lambda file: export_to(file, status=status, reasons=reason, is_left=left))
    _report(f"Wrote {_name_rows(count, status, is_left=left)} of {batch}", output)
    if count and (left or reason or status in (REFUSED, Status.DEAD_LETTER)) and output != STDOUT:
        refused = count if status == REFUSED else _count_refused_left(installation, batch) if left else 0
        for line in describe_way_back(installation, batch, output, refused):
            console.print(line, soft_wrap=True)
    if left:
        _tell_unknown_rows(installation, batch)


def _refuse_what_excludes(given: Mapping[str, bool], *, is_left: bool, is_refused: bool) -> None:
    """Refuse options that exclude each other. Raises typer.BadParameter."""
    if is_left:
        _refuse_beside("--left", given, ("--hand-out", "--status", "--reason"), "it has all tokens that are left")
    if given["--hand-out"]:
        others = ("--with-otps", "--status", "--reason")
        _refuse_beside("--hand-out", given, others, "it has all active tokens, and no OTPs")
    if is_refused:
        _refuse_beside("--status", given, ("--with-otps", "--reason"), "refused rows have no OTPs, and other reasons")


def _refuse_beside(option: str, given: Mapping[str, bool], others: Sequence[str], why: str) -> None:
    """Refuse the first of these other options that is given. Raises typer.BadParameter."""
    if other := next((name for name in others if given[name]), None):
        raise typer.BadParameter(f"leave out {other}: {why}", param_hint=option)


def export_hand_out(installation: Installation, batch: str, output: Path) -> int:
    """Write the hand-out of a batch, and return how many tokens it has. Raises UnknownBatch, typer.BadParameter."""
    with showing_progress(NOT_WRITTEN) as progress:
        return write_output(output, lambda file: write_hand_out(installation.database, batch, file, progress))


def _name_rows(count: int, status: str | None, *, is_left: bool) -> str:
    """Say how many rows were exported, and of which kind they are."""
    if is_left:
        return f"{count_things(count, 'token')} that {'is' if count == 1 else 'are'} left"
    return count_things(count, "refused row" if status == REFUSED else "record")


def _count_refused_left(installation: Installation, batch: str) -> int:
    """Count the refused rows of a batch that are kept."""
    (status,) = read_statuses(installation, batch)
    return sum((status.refused or {}).values())


def _tell_unknown_rows(installation: Installation, batch: str) -> None:
    """Say on stderr how many refused rows are not in the file, since the batch was loaded before they were kept."""
    (status,) = read_statuses(installation, batch)
    if status.refused is None:
        error_console.print(f"Not in the file: {NotKept(batch, status.rows_refused)}")


def _report(done: str, output: Path) -> None:
    """Say what was written where; beside a CSV on standard output, on stderr."""
    if output == STDOUT:
        error_console.print(f"{done}.")
    else:
        console.print(f"{done} to {output}.")
