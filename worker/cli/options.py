"""Arguments and options that several commands share, and how their values are read."""

import os
import signal
import sys
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import Annotated
from zoneinfo import ZoneInfo

import typer

from models.audit import LONGEST_TICKET
from models.record_states import Status
from models.refused_row import NOT_LOADED
from worker.rules.hours import DailyHours, UnfitHours, check_zone

# Seconds to look for names; by then, the person has typed the name anyway.
_PATIENCE = 2


def complete_batch(context: typer.Context) -> list[str]:
    """List the names of batches, the latest first, for typer to offer those that match; none without a database, or if
    anything is wrong, since a shell has no place for errors. Neither home nor schema is created or changed for it."""
    # Otherwise a server that does not answer would keep the shell waiting.
    signal.signal(signal.SIGALRM, lambda *_: sys.exit())
    signal.alarm(_PATIENCE)
    names = list[str]()
    with suppress(Exception):
        # Not at the top: every command imports this module, and few are run for a completion.
        from worker.batches.finding import list_names
        from worker.config.settings import ENV_FILE
        from worker.database.engine import Database
        from worker.installation.installation import Installation

        if context.parent is not None and (env_file := context.parent.params.get("env_file")):
            os.environ[ENV_FILE] = str(env_file)
        installation = Installation()
        if not installation.is_empty:
            names = list_names(Database(installation.settings.database))
    # The names must be printed, however long this process takes to end.
    signal.alarm(0)
    return names


class RowStatus(StrEnum):
    """The values of `--status`: the statuses of records, and rows that were not loaded."""

    PENDING = Status.PENDING
    QUEUED = Status.QUEUED
    ACTIVATING = Status.ACTIVATING
    ACTIVE = Status.ACTIVE
    DEAD_LETTER = Status.DEAD_LETTER
    CANCELLED = Status.CANCELLED
    NOT_LOADED = NOT_LOADED


def _check_ticket(ticket: str | None) -> str | None:
    """Refuse a ticket that is too long for the audit. Raises typer.BadParameter."""
    if ticket is not None and len(ticket) > LONGEST_TICKET:
        raise typer.BadParameter(f"is longer than {LONGEST_TICKET} characters")
    return ticket


def _parse_share(text: str) -> float:
    """Read a share of the ceiling: `60%` or `0.6` becomes 0.6. Raises typer.BadParameter."""
    try:
        part = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        part = 0.0
    if not 0 < part <= 1:
        raise typer.BadParameter(f"{text!r} is not a part of the ceiling: give 60% or 0.6, above 0 and up to 100%")
    return part


# For `load` and `run`, which turn a shipment into a batch.
File = Annotated[
    Path,
    typer.Argument(
        metavar="FILE",
        help="OTP pairs, or a vendor's seed file: see `oathbulk formats`.",
        show_default=False,
    ),
]
EnvironmentName = Annotated[
    str, typer.Option(metavar="NAME", help="The PingOne environment: `default`, or a section of oathbulk.toml.")
]
Share = Annotated[
    float | None,
    typer.Option(
        metavar="60%",
        parser=_parse_share,
        help="Use at most this part of what the license permits; sign-ons need the rest.",
    ),
]
Hours = Annotated[
    str | None,
    typer.Option("--window", metavar="HH:MM-HH:MM", help="Run only in these hours of each day."),
]
Zone = Annotated[
    str | None,
    typer.Option(metavar="ZONE", help="The time zone of --window and of dates in files, such as Europe/Berlin or UTC."),
]
WindowZone = Annotated[
    str | None,
    typer.Option("--zone", metavar="ZONE", help="The time zone of --window, such as Europe/Berlin or UTC."),
]

# For commands that examine a shipment before an OTP is spent.
Offline = Annotated[bool, typer.Option("--offline", help="Skip the checks that ask PingOne.")]

# For commands on a loaded batch.
BatchName = Annotated[
    str,
    typer.Argument(metavar="BATCH", help="The batch's name.", show_default=False, autocompletion=complete_batch),
]

By = Annotated[
    str | None,
    typer.Option(metavar="COLUMN", help="Show the counts for each value of this column, such as site or lot."),
]
Where = Annotated[
    list[str] | None,
    typer.Option(
        metavar="COLUMN=VALUE", help="Only rows with this value, such as site=Basel; repeatable: all must match."
    ),
]

# For commands that write a file.
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace FILE if it exists.")]

# Ticket: for every command that changes something. AsJson: for every listing.
Ticket = Annotated[
    str | None,
    typer.Option(metavar="TEXT", help="The ticket for this work, for the audit.", callback=_check_ticket),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def parse_zone(zone: str | None) -> ZoneInfo | None:
    """Read the time zone of --zone; None if it is not given. Raises typer.BadParameter."""
    try:
        return ZoneInfo(check_zone(zone.strip())) if zone is not None else None
    except UnfitHours as error:
        raise typer.BadParameter(str(error), param_hint="--zone") from error


def parse_hours(hours: str | None, zone: str | None) -> DailyHours | None:
    """Read the hours of --window in the time zone of --zone; None if neither is given. Raises typer.BadParameter if
    only one is: the zone is not guessed, since a machine's location says little about it."""
    if hours is None and zone is None:
        return None
    if hours is None:
        raise typer.BadParameter("is the time zone of --window: give both", param_hint="--zone")
    if zone is None:
        raise typer.BadParameter("needs --zone, such as --zone Europe/Berlin or --zone UTC", param_hint="--window")
    try:
        return DailyHours.parse(hours, zone)
    except UnfitHours as error:
        raise typer.BadParameter(str(error), param_hint="--window and --zone") from error
