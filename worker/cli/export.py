"""`oathbulk export`: writes a batch as a CSV file."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Annotated

import typer

from models.record import Status
from worker.cli.console import console
from worker.cli.options import BatchName, Ticket
from worker.installation.installation import Installation
from worker.reports import export as reports


def export(
    batch: BatchName,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="The CSV file to write.")],
    status: Annotated[Status | None, typer.Option(help="Only records of this status.")] = None,
    ticket: Ticket = None,
    with_otps: Annotated[bool, typer.Option(help="OTPs too, where they are still kept.")] = False,
) -> None:
    """Write a batch as CSV: its own columns, and how each row ended. Once mended, the file can be loaded again."""
    if output.is_symlink() or (output.exists() and not output.is_file()):
        # The file is put in its place by a rename, which would replace a link or a device, such as /dev/stdout.
        raise typer.BadParameter(f"{output} is a link, a device or a directory: name a file")
    installation = Installation()
    keyring = None
    if with_otps:
        keyring = installation.keyring
        # Noted in the audit before the first OTP leaves: an export that fails half-way was asked for, too.
        installation.batches(ticket).note_export(batch, str(output))
    # Under a name that nobody can guess: in a directory that others may write to, a file or link could wait for us.
    draft = output.with_name(f"{output.name}.{secrets.token_hex(8)}.part")
    try:
        # Only its owner may read it. It is renamed when it is complete, so that nobody finds half an export.
        with open(draft, "x", newline="", encoding="utf-8", opener=_open_private) as file:
            count = reports.export(installation.database, batch, file, status=status, keyring=keyring)
        draft.replace(output)
    except OSError as error:
        raise typer.BadParameter(f"{output} cannot be written: {error.strerror}") from error
    finally:
        draft.unlink(missing_ok=True)
    console.print(f"Wrote {count} records of {batch} to {output}.")


def _open_private(path: str, flags: int) -> int:
    """Open a file that only its owner may read and write."""
    return os.open(path, flags, 0o600)
