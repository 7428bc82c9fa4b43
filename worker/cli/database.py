"""`oathbulk db upgrade`, `db reencrypt` and `db backup`, and `oathbulk keygen`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from models.encrypted import generate_key
from worker.cli.console import console
from worker.cli.options import Ticket
from worker.cli.output_files import STDOUT, put_in_place, refuse_unfit
from worker.cli.progress import showing_progress
from worker.cli.written_otps import refuse_to_lose_otps
from worker.config.settings import Settings
from worker.database.backup import back_up
from worker.installation.installation import Installation
from worker.observability.counting import agree, count_things
from worker.vault.key_files import AUDIT, ENCRYPTION

app = typer.Typer(help="The database's schema and keys.", add_completion=False)


@app.command()
def upgrade(ticket: Ticket = None) -> None:
    """Bring the database's schema up to date."""
    revision = Installation().upgrade_database(ticket)
    console.print(f"The database is at revision {revision}.")


@app.command(name="reencrypt")
def reencrypt_command(ticket: Ticket = None) -> None:
    """Encrypt every stored OTP with the first key; older keys can be dropped from OATHBULK_ENCRYPTION_KEYS then."""
    with showing_progress("What is encrypted again stays so. Go on with: oathbulk db reencrypt") as progress:
        count = Installation().reencrypt(ticket, progress)
    console.print(f"{count_things(count, 'record')} {agree(count, 'is', 'are')} encrypted with the first key now.")


@app.command()
def backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The file to write.", show_default=False)],
) -> None:
    """Write a copy of the SQLite database, also while others work with it. The keys are not in it."""
    if file == STDOUT:
        raise typer.BadParameter("name a file: SQLite writes no database to standard output", param_hint="FILE")
    refuse_unfit(file)
    refuse_to_lose_otps(file)
    installation = Installation()
    put_in_place(file, lambda draft: back_up(installation.database, draft))
    console.print(f"Wrote a backup of the database to {file}. {_name_keys(installation.settings)}", soft_wrap=True)


def _name_keys(settings: Settings) -> str:
    """Say where the keys are, without which a backup is of no use, and which are not in it."""
    keys = (ENCRYPTION, settings.encryption_keys), (AUDIT, settings.audit_key)
    places = [each.variable if setting else str(settings.home / each.file) for each, setting in keys]
    return f"Keep the keys elsewhere, they are not in it: {' and '.join(places)}."


def keygen() -> None:
    """Print a new key for OATHBULK_ENCRYPTION_KEYS or OATHBULK_AUDIT_KEY, alone on stdout."""
    typer.echo(generate_key())
