"""`oathbulk report`: writes what became of a batch, as a page for people or as a file for machines."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, TextIO

import typer

from worker.cli.console import console
from worker.cli.homes import open_installation_with
from worker.cli.options import BatchName
from worker.cli.output_files import refuse_unfit, write_file
from worker.database.engine import Database
from worker.pages.report_files import Form, render, write_checksum_line
from worker.pages.sentences import describe_outcome
from worker.reports.batch_report.contents import Report
from worker.reports.batch_report.reading import open_snapshot, read_report, read_tokens

# What stands for standard output in `-o`.
STDOUT = Path("-")


def report(
    batch: BatchName,
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="FILE", help="The file to write; - is standard output.")
    ],
    form: Annotated[
        Form | None, typer.Option("--format", help="Default: as the file's name ends, and html for -.")
    ] = None,
) -> None:
    """Write what became of a batch: a page for manager, auditor and engineer, or JSON or CSV. It holds no OTP."""
    form = form or _tell_form(output)
    if output == STDOUT:
        _write(open_installation_with(batch).database, batch, form, lambda text: sys.stdout.buffer.write(text.encode()))
        return
    checksum = output.with_name(f"{output.name}.sha256")
    refuse_unfit(output)
    refuse_unfit(checksum)
    made, sha256 = _write_file(open_installation_with(batch).database, batch, form, output)
    write_file(checksum, lambda file: file.write(write_checksum_line(sha256, output.name)))
    console.print(describe_outcome(made.counts))
    console.print(f"Wrote the report of {batch} to {output}, and its SHA-256 to {checksum.name}.")


def _tell_form(output: Path) -> Form:
    """Tell the form by how the file's name ends. Raises typer.BadParameter."""
    if output == STDOUT:
        return Form.HTML
    try:
        return Form(output.suffix.removeprefix(".").lower())
    except ValueError:
        known = ", ".join(f".{form}" for form in Form)
        raise typer.BadParameter(f"{output} ends in none of {known}: say --format", param_hint="--output") from None


def _write_file(database: Database, batch: str, form: Form, output: Path) -> tuple[Report, str]:
    """Write the file, and return the report with the SHA-256 of what was written. Raises UnknownBatch,
    typer.BadParameter."""
    digest, made = hashlib.sha256(), list[Report]()

    def write(file: TextIO) -> int:
        def write_piece(text: str) -> None:
            digest.update(text.encode())
            file.write(text)

        made.append(_write(database, batch, form, write_piece))
        return made[0].counts.rows

    write_file(output, write)
    return made[0], digest.hexdigest()


def _write(database: Database, batch: str, form: Form, write: Callable[[str], object]) -> Report:
    """Write the report piece by piece, all from one snapshot of the database. Raises UnknownBatch."""
    with open_snapshot(database) as connection:
        made = read_report(database, connection, batch)
        for piece in render(form, made, lambda: read_tokens(connection, batch)):
            write(piece)
    return made
