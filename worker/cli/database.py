"""`oathbulk db upgrade`, `oathbulk db reencrypt` and `oathbulk keygen`."""

from __future__ import annotations

import typer

from models.encrypted import generate_key
from worker.cli.console import console
from worker.cli.options import Ticket
from worker.cli.progress import showing_progress
from worker.installation.installation import Installation

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
    console.print(f"{count} records are encrypted with the first key now.")


def keygen() -> None:
    """Print a new key for OATHBULK_ENCRYPTION_KEYS or OATHBULK_AUDIT_KEY, alone on stdout."""
    typer.echo(generate_key())
