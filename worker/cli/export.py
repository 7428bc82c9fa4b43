"""`oathbulk export`: writes a batch as a CSV file."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, TextIO

import typer

from models.record import Status
from worker.cli.console import console
from worker.cli.options import BatchName, Ticket
from worker.installation.installation import Installation
from worker.reports import export as reports
from worker.reports.hand_out import write_hand_out


def export(
    batch: BatchName,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="The CSV file to write.")],
    status: Annotated[Status | None, typer.Option(help="Only records of this status.")] = None,
    ticket: Ticket = None,
    with_otps: Annotated[bool, typer.Option(help="OTPs too, where they are still kept.")] = False,
    hand_out: Annotated[
        bool, typer.Option("--hand-out", help="Who has which active token, and how often to press it first.")
    ] = False,
) -> None:
    """Write a batch as CSV: its own columns, and how each row ended. Once mended, the file can be loaded again."""
    if hand_out and (with_otps or status is not None):
        other = "--with-otps" if with_otps else "--status"
        raise typer.BadParameter(f"leave out {other}: it has all active tokens, and no OTPs", param_hint="--hand-out")
    _refuse_unfit(output)
    installation = Installation()
    if hand_out:
        count = export_hand_out(installation, batch, output)
        console.print(f"Wrote the {count} active tokens of {batch} to {output}.")
        return
    keyring = None
    if with_otps:
        keyring = installation.keyring
        # Noted in the audit before the first OTP leaves: an export that fails half-way was asked for, too.
        installation.batches(ticket).note_export(batch, str(output))
    count = _write_file(
        output, lambda file: reports.export(installation.database, batch, file, status=status, keyring=keyring)
    )
    console.print(f"Wrote {count} records of {batch} to {output}.")


def export_hand_out(installation: Installation, batch: str, output: Path) -> int:
    """Write the hand-out of a batch, and return how many tokens it has. Raises UnknownBatch, typer.BadParameter."""
    return _write_file(output, lambda file: write_hand_out(installation.database, batch, file))


def _write_file(output: Path, write: Callable[[TextIO], int]) -> int:
    """Write a file that only its owner may read. It is put in its place when it is complete, so that nobody finds half
    of one. Returns what `write` returns. Raises typer.BadParameter."""
    # Under a name that nobody can guess: in a directory that others may write to, a file or link could wait for us.
    draft = output.with_name(f"{output.name}.{secrets.token_hex(8)}.part")
    try:
        with open(draft, "x", newline="", encoding="utf-8", opener=_open_private) as file:
            count = write(file)
        draft.replace(output)
    except OSError as error:
        raise typer.BadParameter(f"{output} cannot be written: {error.strerror}") from error
    finally:
        draft.unlink(missing_ok=True)
    return count


def _refuse_unfit(output: Path) -> None:
    """Refuse to write where no plain file is: a rename puts the file in its place, and would replace a link or a
    device, such as /dev/stdout. Raises typer.BadParameter."""
    if output.is_symlink() or (output.exists() and not output.is_file()):
        raise typer.BadParameter(f"{output} is a link, a device or a directory: name a file")


def _open_private(path: str, flags: int) -> int:
    """Open a file that only its owner may read and write."""
    return os.open(path, flags, 0o600)
