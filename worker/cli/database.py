"""`oathbulk db upgrade`, `db backup`, `db restored` and `db reencrypt`, and `oathbulk keygen`."""

from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from models.encrypted import generate_key
from worker import audit
from worker.batches.commands import distrust_all
from worker.cli.console import console, error_console
from worker.cli.options import Overwrite, Ticket
from worker.cli.output_files import STDOUT, put_in_place, refuse_unfit
from worker.cli.progress_line import showing_progress
from worker.config.settings import Settings
from worker.database.engine import back_up
from worker.installation.installation import Installation
from worker.observability.wording import agree, count_things, format_duration
from worker.vault.keys import KEY_FILE

app = typer.Typer(
    help="The database: its schema, its keys, a backup, and what follows a restore.", add_completion=False
)


@app.command()
def upgrade(ticket: Ticket = None) -> None:
    """Upgrade the database's schema."""
    revision = Installation().upgrade_database(ticket)
    console.print(f"The database is at revision {revision}.")


@app.command(name="reencrypt")
def reencrypt_command(ticket: Ticket = None) -> None:
    """Encrypt every stored OTP with the first key. Then you can remove older keys from OATHBULK_ENCRYPTION_KEYS."""
    with showing_progress("What was re-encrypted stays that way. Continue with: oathbulk db reencrypt") as progress:
        count = Installation().reencrypt(ticket, progress)
    console.print(f"{count_things(count, 'record')} {agree(count, 'is', 'are')} encrypted with the first key now.")


@app.command()
def backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The file to write.", show_default=False)],
    overwrite: Overwrite = False,
) -> None:
    """Write a copy of the SQLite database, even while others use it. The keys are not in it."""
    if file == STDOUT:
        raise typer.BadParameter("name a file: SQLite writes no database to standard output", param_hint="FILE")
    refuse_unfit(file, overwrite=overwrite)
    installation = Installation()
    put_in_place(file, partial(back_up, installation.database))
    console.print(f"Wrote a backup of the database to {file}. {_name_keys(installation.settings)}", soft_wrap=True)


@app.command()
def restored(ticket: Ticket = None) -> None:
    """Run after a restore, so that each unfinished record is looked up in PingOne before an OTP is sent."""
    installation = Installation()
    settings = installation.settings
    lacking = _describe_lacking_heads(installation)
    actor = audit.this_person(settings, ticket)
    with showing_progress("What was marked stays marked. Continue with: oathbulk db restored") as progress:
        count, waiting = distrust_all(installation.database, settings, actor, progress)
    console.print(describe_distrust(count, settings.tuning.over_after), soft_wrap=True)
    if waiting:
        console.print(describe_trusted(waiting), soft_wrap=True)
    if lacking:
        error_console.print(lacking, soft_wrap=True)


def describe_distrust(count: int, seconds: float) -> str:
    """Say what follows for marked records, and what it may cost. `seconds`: until the first is due."""
    if not count:
        return (
            "Nothing is left to mark: oathbulk looks up each record that is not final in PingOne before it sends"
            " anything."
        )
    may_have = agree(count, "record that is not final may", "records that are not final may")
    return (
        f"{count:,} {may_have} have been worked on since the backup: oathbulk looks each up in PingOne before it "
        f"sends anything, in {format_duration(seconds)} at the earliest. An OTP that PingOne answered since the "
        f"backup, without making its device ACTIVE, may be sent once more. Now start the workers, or continue with "
        f"oathbulk run."
    )


def describe_trusted(waiting: int) -> str:
    """Say that records that wait for a date are not marked, and what to do if a person resumed some of them."""
    wait = agree(waiting, "is waiting for a date, and is treated", "are waiting for a date, and are treated")
    return (
        f"{count_things(waiting, 'record')} {wait} as never sent: if you resumed some since the backup, resume them "
        f"again (oathbulk resume BATCH --where …), then run this command again, before any worker starts."
    )


def _describe_lacking_heads(installation: Installation) -> str:
    """Say which audit lines the restored database lacks, according to the heads noted outside it; empty if it lacks
    none."""
    path = audit.find_heads_file(installation.settings)
    with suppress(audit.UnusableHead), installation.database.reading() as connection:
        if missing := audit.find_missing(connection, audit.read_noted_heads(path)):
            belong = agree(len(missing), "belongs to a line", "belong to lines")
            return (
                f"{count_things(len(missing), 'head')} in {path} {belong} that this database lacks, so oathbulk audit"
                " exits with code 1: docs/operating.md says what to do."
            )
    return ""


def _name_keys(settings: Settings) -> str:
    """Say where the keys are: a backup is useless without them, and does not contain them."""
    place = "OATHBULK_ENCRYPTION_KEYS" if settings.encryption_keys else settings.home / KEY_FILE
    return f"The backup does not contain the keys ({place}). Back them up separately."


def keygen() -> None:
    """Print only a new key for OATHBULK_ENCRYPTION_KEYS on stdout."""
    typer.echo(generate_key())
