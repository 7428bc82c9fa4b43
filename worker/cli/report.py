"""`oathbulk report`: writes the desk's page of a batch as one file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from worker.cli.console import console
from worker.cli.homes import find_rehearsal, open_installation_with
from worker.cli.options import BatchName
from worker.cli.output_files import STDOUT, refuse_unfit, write_output
from worker.cli.written_otps import refuse_to_lose_otps
from worker.installation.lookups import read_statuses
from worker.reports.overview import read_overview
from worker.reports.sentences import describe_outcome


def report(
    batch: BatchName,
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="FILE", help="The file to write; - is standard output.")
    ],
) -> None:
    """Write the desk's page of a batch, as of now, as one file of HTML for those who ask. It holds no OTP."""
    # Not at the top: importing Jinja takes longer than to say what was typed wrongly.
    from worker.pages.batch_page import write_file

    refuse_unfit(output)
    if output != STDOUT:
        refuse_to_lose_otps(output)
    installation = open_installation_with(batch)
    (status,) = read_statuses(installation, batch)
    status = replace(status, rehearsal=find_rehearsal(installation))
    overview = read_overview(installation.database, status)
    write_output(output, lambda file: file.write(write_file(status, overview)))
    if output != STDOUT:
        console.print(describe_outcome(status))
        console.print(f"Wrote the page of {batch} to {output}.")
