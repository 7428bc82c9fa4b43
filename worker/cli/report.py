"""`oathbulk report`: writes what became of a batch, as a page for people or as a file for machines."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from worker.cli.checksummed_files import (
    WritePiece,
    name_checksum,
    refuse_unfit_pair,
    tell_form,
    write_checksummed,
)
from worker.cli.console import console
from worker.cli.homes import open_installation_with
from worker.cli.options import BatchName
from worker.cli.output_files import STDOUT
from worker.cli.written_otps import refuse_to_lose_otps
from worker.database.engine import Database
from worker.pages.report_files import Form, render
from worker.pages.sentences import describe_shipment
from worker.reports.batch_report.contents import Report
from worker.reports.batch_report.reading import open_snapshot, read_report, read_tokens


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
    form = form or tell_form(output, Form, "--format")
    refuse_unfit_pair(output)
    if output != STDOUT:
        refuse_to_lose_otps(output)
    database = open_installation_with(batch).database
    made = write_checksummed(output, lambda write: _write(database, batch, form, write))
    if output != STDOUT:
        console.print(describe_shipment(made.batch, made.counts, made.taken_over))
        console.print(f"Wrote the report of {batch} to {output}, and its SHA-256 to {name_checksum(output).name}.")


def _write(database: Database, batch: str, form: Form, write: WritePiece) -> Report:
    """Write the report piece by piece, all from one snapshot of the database. Raises UnknownBatch."""
    with open_snapshot(database) as connection:
        made = read_report(database, connection, batch)
        for piece in render(form, made, lambda: read_tokens(connection, batch)):
            write(piece)
    return made
