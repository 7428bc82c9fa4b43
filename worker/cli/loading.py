"""`oathbulk load` turns a file of tokens into a batch, and `oathbulk mend` brings corrected rows into one. `run` loads
a file as `load` does."""

import shlex
import time
from dataclasses import asdict, replace
from pathlib import Path
from shlex import quote
from typing import Annotated, Any

import typer

from models.record_states import FINAL, Status
from models.refused_row import NOT_LOADED
from worker.audit import this_person
from worker.batches.finding import find_environment
from worker.batches.loading import AllActive, Loaded, Loader, NameTaken, describe_known
from worker.batches.mending import Mended, Mender, allow_as_before
from worker.batches.mending import give as give_token
from worker.cli.batches import print_waves
from worker.cli.check import (
    describe_all_active,
    examine,
    find_loaded_as,
    findings_to_json,
    print_refused_rows,
    refused_to_json,
)
from worker.cli.console import console, print_json
from worker.cli.exit_codes import ALL_ACTIVE, SOME_FAILED, WAITING_FOR_A_PERSON
from worker.cli.homes import find_rehearsal, open_installation_with
from worker.cli.options import AsJson, BatchName, File, Offline, Ticket, parse_zone
from worker.cli.progress_line import showing_progress
from worker.cli.shipment_options import (
    Accept,
    LoadOptions,
    SourceOptions,
    takes_option_sets,
    write_command,
    write_listing_command,
    write_words,
)
from worker.installation.installation import Installation, read_fleet, read_histories, read_statuses
from worker.intake.rows import RowErrors, UnusableFile
from worker.intake.shipment import Shipment
from worker.observability.wording import agree, count_things
from worker.preflight.findings import Report
from worker.reports.command_results import describe_unattended
from worker.reports.cures import write_export
from worker.reports.export import describe_sign_on
from worker.reports.outlook import describe_dates
from worker.reports.stall import Fleet

# Seconds between two checks of a token that was given out.
LOOK_EVERY = 0.5


@takes_option_sets
def load(
    file: File,
    asked: LoadOptions,
    as_json: AsJson = False,
) -> None:
    """Load a shipment into the database, for workers that run elsewhere."""
    installation = Installation(makes_home=True)
    shipment, found = open_examined(installation, file, asked, as_json=as_json)
    if (done := load_shipment(installation, shipment, asked, found, as_json=as_json)) is None:
        raise typer.Exit(ALL_ACTIVE)
    loaded, refused = done
    if as_json:
        findings = findings_to_json(found) if found else {}
        print_json(_to_json(loaded) | {"refused": refused_to_json(refused)} | findings)
    else:
        print_loaded(loaded, asked)
        print_refused(installation, loaded, refused)
    raise typer.Exit(SOME_FAILED if loaded.rows_refused else ALL_ACTIVE)


@takes_option_sets
def mend(
    batch: BatchName,
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="A corrected export of the batch, the vendor's file, or the list of who gets what.",
            show_default=False,
        ),
    ],
    source: SourceOptions,
    offline: Offline = False,
    accept: Accept = None,
    ticket: Ticket = None,
    as_json: AsJson = False,
) -> None:
    """Apply corrected rows to their batch, from a corrected export, or from the vendor's file or the list of who gets
    what."""
    installation = open_installation_with(batch)
    environment = find_environment(installation.database, batch, installation.environment).name
    with installation.database.reading() as connection:
        shipment = allow_as_before(connection, batch, source.open(file, only_assigned=True, mends=True))
    asked = LoadOptions(environment=environment, offline=offline, accept=accept)
    found, refused = examine(installation, shipment, asked, as_json=as_json, mends=batch), RowErrors()
    with showing_progress("Nothing was mended.", is_quiet=as_json) as progress:
        mender = Mender(
            installation.database,
            installation.keyring,
            this_person(installation.settings, ticket),
            totp_max_age=installation.settings.tuning.totp_max_age,
            on_refused=refused.add,
            on_progress=progress,
        )
        mended = mender.mend(shipment, batch, found.choose_accepted(asked.accepted))
    if as_json:
        rows = {"refused": refused_to_json(refused), "rows_refused": mended.refused}
        print_json({"batch": batch} | asdict(mended) | rows | findings_to_json(found))
    else:
        # A second mend changes nothing, and lists these rows one by one.
        print_refused_rows(refused, shlex.join(["oathbulk", "mend", batch, str(file), *write_words(source), "--json"]))
        console.print(describe_mended(batch, mended, read_fleet(installation, batch)), soft_wrap=True)
        print_waves(installation, batch)
    raise typer.Exit(SOME_FAILED if mended.refused else ALL_ACTIVE)


def give(
    batch: BatchName,
    serial: Annotated[
        str, typer.Argument(metavar="SERIAL", help="The serial number of the token.", show_default=False)
    ],
    person: Annotated[
        str,
        typer.Argument(
            metavar="PERSON",
            help="The person who gets it: a username, email address, or id, whichever the batch uses.",
            show_default=False,
        ),
    ],
    second: Annotated[bool, typer.Option("--second", help="Give the person a second token.")] = False,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Do not wait until the token is active.")] = False,
    ticket: Ticket = None,
) -> None:
    """Give someone a token that is waiting to be given out, and wait until it is active."""
    installation = Installation()
    actor = this_person(installation.settings, ticket)
    record = f"#{give_token(installation.database, actor, batch, serial, person, may_have_two=second)}"
    console.print(f"Token {serial} now belongs to {person}. {batch} works on it before its other tokens.")
    while True:
        ((history, _),), fleet = read_histories(installation, record), read_fleet(installation, batch)
        if history.latest.status in FINAL:
            break
        if read_statuses(installation, batch)[0].waits_for_a_person:
            console.print(_name_resume(batch), soft_wrap=True)
            raise typer.Exit(ALL_ACTIVE if no_wait else WAITING_FOR_A_PERSON)
        if no_wait or not fleet.alive:
            if not fleet.alive:
                console.print(describe_unattended(batch, fleet), soft_wrap=True)
            raise typer.Exit(ALL_ACTIVE)
        time.sleep(LOOK_EVERY)
    if history.latest.status == Status.ACTIVE:
        console.print(f"It is active. {describe_sign_on(history.latest)}", soft_wrap=True)
        raise typer.Exit(ALL_ACTIVE)
    console.print(f"It failed ({history.latest.reason}). {history.latest.meaning}", soft_wrap=True)
    raise typer.Exit(SOME_FAILED)


def _name_resume(batch: str) -> str:
    """Say that a batch is paused, and which command continues it."""
    return f"{batch} is paused. Continue with: oathbulk resume {quote(batch)}"


def open_examined(
    installation: Installation, file: Path, asked: LoadOptions, *, as_json: bool, needs_pingone: bool = False
) -> tuple[Shipment, Report | None]:
    """Open a shipment's file, and examine it as `examine` does; no report if it is a batch already. Raises what
    `examine` raises."""

    def is_loaded(shipment: Shipment) -> bool:
        return find_loaded_as(installation, shipment, asked.environment) is not None

    shipment = asked.open(file, is_loaded)
    if is_loaded(shipment):
        return shipment, None
    return shipment, examine(installation, shipment, asked, as_json=as_json, needs_pingone=needs_pingone)


def load_shipment(
    installation: Installation,
    shipment: Shipment,
    asked: LoadOptions,
    found: Report | None,
    *,
    as_json: bool = False,
    command: str = "load",
) -> tuple[Loaded, RowErrors] | None:
    """Load the shipment as a batch, unless it is one already. Returns the batch and the refused rows; or None, after
    saying so, if every token is active already. `found`: its preflight; `command`: the command that was typed. Raises
    UnusableFile, NameTaken, OtherHours."""
    environment, settings = installation.environment(asked.environment), installation.settings
    refused = RowErrors()
    rows = found.verdicts.rows if found else None
    try:
        with showing_progress("Nothing was loaded.", is_quiet=as_json) as progress:
            loaded = Loader(
                installation.database,
                installation.keyring,
                environment,
                this_person(settings, asked.ticket),
                totp_max_age=settings.tuning.totp_max_age,
                first_records=settings.tuning.first_records,
                on_refused=refused.add,
                on_progress=lambda what, done, _=None: progress(what, done, rows),
            ).load(
                shipment,
                asked.name_batch(shipment.path),
                asked.canary,
                asked.hours,
                found.choose_accepted(asked.accepted) if found else [],
            )
    except AllActive as nothing_left:
        _print_all_active(shipment.path, nothing_left.rows, as_json=as_json)
        return None
    except UnusableFile:
        # The error says that no row is left; the refused rows say why.
        print_refused_rows(refused, write_listing_command(shipment.path, asked))
        raise
    except NameTaken as taken:
        renamed = write_command(command, shipment.path, write_words(replace(asked, batch=taken.free)))
        raise NameTaken(taken.name, taken.free, renamed) from taken
    # Last, so that a refused load does not change the pace.
    if asked.share is not None:
        installation.pace_commands(asked.ticket).set_share(environment.license, asked.share)
    return loaded, refused


def print_loaded(loaded: Loaded, asked: LoadOptions) -> None:
    """Say in a sentence or two what was loaded, with the options that were given."""
    if not loaded.is_new:
        console.print(f"{describe_known(loaded)} It was not loaded again.")
        return
    refused, left_out = loaded.rows_refused, loaded.left_out
    rows = f"{count_things(refused, 'row')} failed"
    console.print(f"Loaded {count_things(loaded.total, 'record')} as batch {loaded.name}; {rows}.")
    if left_out:
        whose, was = agree(left_out, "its token is", "their tokens are"), agree(left_out, "was", "were")
        console.print(f"{count_things(left_out, 'row')} {was} left out: {whose} active already.")
    if dates := describe_dates(loaded.dates, parse_zone(asked.source.zone), gives_out=asked.gives_out):
        console.print(dates)
    if loaded.out_of_hours is not None:
        console.print(f"It is {loaded.out_of_hours}.")


def print_refused(installation: Installation, loaded: Loaded, refused: RowErrors) -> None:
    """Print the refused rows, and the command that lists each of them."""
    listing, rehearsal = write_export(loaded.name, f"--status {NOT_LOADED}", NOT_LOADED), find_rehearsal(installation)
    print_refused_rows(refused, rehearsal.write(listing) if rehearsal else listing)


def _to_json(loaded: Loaded) -> dict[str, Any]:
    return {
        "batch": loaded.name,
        "total": loaded.total,
        "rows_refused": loaded.rows_refused,
        "left_out": loaded.left_out,
        "is_new": loaded.is_new,
    }


def _print_all_active(file: Path, rows: int, *, as_json: bool) -> None:
    """Say that a file has nothing to load. The JSON has the same keys as after a load, but `batch` is null."""
    if as_json:
        nothing = Loaded(0, "", 0, 0, is_new=False, left_out=rows)
        print_json(_to_json(nothing) | {"batch": None, "refused": []})
    else:
        console.print(f"{describe_all_active(file, rows)} No batch was made from it.", soft_wrap=True)


def describe_mended(batch: str, mended: Mended, fleet: Fleet) -> str:
    """Say in one line each what a mend did with the rows of its file, and what keeps them from being worked on, if
    anything does."""
    going = [
        (mended.again, "will be tried again"),
        (mended.added, f"{agree(mended.added, 'was', 'were')} added"),
        (mended.given, "will be given out"),
        (mended.dated, "will start on a different date"),
        (mended.refused, "failed"),
    ]
    staying = [
        (mended.active, "active"),
        (mended.in_work, "still to do"),
        (mended.taken_back, "taken back by an undo or closed, and the file names no other person"),
        (mended.left_out, "active in other batches"),
    ]
    changed, left = (", ".join(f"{number:,} {what}" for number, what in ends if number) for ends in (going, staying))
    lines = [f"{batch}: of the rows in the file, {changed or 'none will be tried again'}."]
    if left:
        lines.append(f"Unchanged: {left}.")
    if not (mended.again or mended.added or mended.given or mended.dated):
        lines.append("Nothing was changed.")
    elif mended.is_paused:
        lines.append(_name_resume(batch))
    elif not fleet.alive:
        lines.append(describe_unattended(batch, fleet))
    return "\n".join(lines)
