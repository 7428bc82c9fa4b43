"""All commands under one name."""

from __future__ import annotations

import typer

from worker.cli import (
    audit,
    batches,
    database,
    doctor,
    export,
    load,
    pace,
    reconcile,
    rehearse,
    run,
    simulator,
    status,
    verify,
)
from worker.cli.failures import failing_clearly

app = typer.Typer(
    name="oathbulk",
    help="Activates whole shipments of hardware OATH tokens in PingOne MFA.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (
    rehearse.rehearse,
    run.run,
    load.load,
    status.status,
    batches.pause,
    batches.resume,
    batches.cancel,
    batches.replay,
    pace.pace,
    export.export,
    doctor.doctor,
    reconcile.reconcile,
    simulator.simulator,
    database.keygen,
):
    app.command()(command)
app.command("verify")(verify.verify_command)
app.command("audit")(audit.audit_command)
app.add_typer(database.app, name="db")


def run_command() -> None:
    """That of this process's arguments."""
    with failing_clearly():
        app()
