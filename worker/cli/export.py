"""`oathbulk export` writes a batch as a CSV file; `oathbulk report` writes the desk's page of a batch."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from shlex import quote
from typing import Annotated

import typer

from models.reason import Reason
from models.record_states import Status
from models.refused_row import NOT_LOADED
from worker.cli.console import console, error_console
from worker.cli.homes import find_rehearsal, open_installation_with
from worker.cli.options import BatchName, By, Overwrite, RowStatus, Ticket, Where
from worker.cli.output_files import STDOUT, refuse_unfit, write_output
from worker.cli.progress_line import showing_progress
from worker.installation.installation import Installation, read_statuses
from worker.observability.wording import agree, count_things
from worker.reports import export as reports
from worker.reports.batch_history import read_batch_history
from worker.reports.cures import describe_seed_mend
from worker.reports.facts import describe_outcome


def export(
    batch: BatchName,
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="FILE", help="The CSV file to write; - is standard output.")
    ],
    status: Annotated[RowStatus | None, typer.Option(help="Only rows with this status.")] = None,
    reason: Annotated[list[Reason] | None, typer.Option(help="Only dead letters with this reason; repeatable.")] = None,
    failed: Annotated[bool, typer.Option("--failed", help="Only rows that failed.")] = False,
    where: Where = None,
    ticket: Ticket = None,
    with_otps: Annotated[bool, typer.Option(help="Include OTPs that are still kept.")] = False,
    hand_out: Annotated[
        bool, typer.Option("--hand-out", help="List who has which active token, and how many times to press it first.")
    ] = False,
    overwrite: Overwrite = False,
) -> None:
    """Write a batch as CSV: your columns, and how each row ended. The corrected file can mend the batch."""
    given = {"--failed": failed, "--hand-out": hand_out, "--with-otps": with_otps, "--status": status is not None}
    given |= {"--reason": bool(reason), "--where": bool(where)}
    _refuse_contradictions(given)
    refuse_unfit(output, overwrite=overwrite)
    installation = open_installation_with(batch)
    keyring = None
    if with_otps:
        keyring = installation.keyring
        # Noted in the audit before the first OTP is written: an export that fails halfway was requested too.
        installation.batches(ticket).note_export(batch, str(output))
    with showing_progress("No file was written.") as progress:
        if hand_out:
            write = partial(reports.write_hand_out, installation.database, batch, where=where or ())
        else:
            write = partial(
                reports.export,
                *(installation.database, batch),
                status=status,
                reasons=reason,
                failed=failed,
                where=where or (),
                keyring=keyring,
            )
        count = write_output(output, partial(write, on_progress=progress))
    thing = "active token" if hand_out else "failed row" if failed else "row"
    done = f"Wrote {count_things(count, thing)} of {batch}"
    if output == STDOUT:
        # On stderr, to keep it out of the CSV on standard output.
        error_console.print(f"{done}.")
        return
    console.print(f"{done} to {output}.")
    if hand_out and (to_do := read_statuses(installation, batch)[0].to_do):
        console.print(f"Not included: {count_things(to_do, 'row')} of {batch} {agree(to_do, 'is', 'are')} still to do.")
    if count and (failed or reason or status in (NOT_LOADED, Status.DEAD_LETTER)):
        (now,) = read_statuses(installation, batch)
        refused = count if status == NOT_LOADED else sum(now.refused.values()) if failed else 0
        for line in describe_way_back(installation, batch, output, count, refused, now.seed_file):
            console.print(line, soft_wrap=True)


def _refuse_contradictions(given: Mapping[str, bool]) -> None:
    """Refuse contradictory options of an export. `given`: which of them were typed. Raises typer.BadParameter."""
    hand_out = "it lists all active tokens, without OTPs"
    for option, excluded, why in (
        ("--failed", ("--hand-out", "--status", "--reason"), "it lists all rows that failed"),
        ("--hand-out", ("--with-otps", "--status", "--reason"), hand_out),
    ):
        if given[option] and (other := next((name for name in excluded if given[name]), None)):
            raise typer.BadParameter(f"omit {other}: {why}", param_hint=option)


def describe_way_back(
    installation: Installation, batch: str, file: Path, rows: int, refused: int = 0, seed_file: str | None = None
) -> list[str]:
    """Say what to do with an export's file of `rows`; `refused` of them were not loaded, and the batch was loaded from
    `seed_file` or, if None, from OTP pairs. One string per line."""
    if rehearsal := find_rehearsal(installation):
        return [rehearsal.describe_end()]
    mend = f"Correct it (fresh OTPs, or other ids), then: oathbulk mend {quote(batch)} {quote(str(file))}"
    lines = [mend] if rows > refused or not seed_file else []
    if refused and seed_file:
        lines.append(describe_seed_mend(batch, seed_file))
    elif refused:
        lines.append(
            f"Of the {count_things(refused, 'row')} that {agree(refused, 'was', 'were')} not loaded, only the serial "
            "number is kept: enter the other cells again."
        )
    return lines


def report(
    batch: BatchName,
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="FILE", help="The file to write; - is standard output.")
    ],
    by: By = None,
    overwrite: Overwrite = False,
) -> None:
    """Write the desk's page of a batch to one HTML file. It holds no OTP."""
    # Not at the top: importing Jinja takes longer than reporting a mistyped option.
    from worker.desk.batch_page import write_file

    refuse_unfit(output, overwrite=overwrite)
    installation = open_installation_with(batch)
    (status,) = read_statuses(installation, batch)
    status = replace(status, rehearsal=find_rehearsal(installation))
    history = read_batch_history(installation.database, status, by)
    write_output(output, lambda file: file.write(write_file(status, history)))
    if output != STDOUT:
        console.print(describe_outcome(status))
        console.print(f"Wrote the page of {batch} to {output}.")
