"""All commands, put together under the name `oathbulk`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from worker.cli import (
    audit,
    batches,
    check,
    database,
    desk,
    doctor,
    export,
    inspect,
    load,
    metrics,
    pace,
    plan,
    reconcile,
    rehearse,
    report,
    run,
    search,
    show,
    simulator,
    status,
    undo,
    verify,
)
from worker.cli.failures import exit_on_failure
from worker.cli.homes import print_earlier_home
from worker.config.env_file import ENV_FILE

app = typer.Typer(
    name="oathbulk",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (
    rehearse.rehearse,
    run.run,
    check.check,
    plan.plan,
    inspect.inspect,
    inspect.formats,
    load.load,
    status.status,
    show.show,
    search.search,
    metrics.metrics,
    batches.pause,
    batches.resume,
    batches.cancel,
    batches.replay,
    undo.unpair,
    undo.revoke,
    pace.pace,
    export.export,
    report.report,
    desk.desk,
    doctor.doctor,
    reconcile.reconcile,
    simulator.simulator,
    database.keygen,
):
    app.command()(command)
app.command("verify")(verify.verify_command)
app.command("audit")(audit.audit_command)
app.add_typer(database.app, name="db")

# Commands that read and make no home.
_WITHOUT_HOME = ("simulator", "keygen", "formats", "inspect")


@app.callback()
def name_env_file(
    context: typer.Context,
    env_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Read settings from it. Default: .env in OATHBULK_HOME.")
    ] = None,
) -> None:
    """Activates whole shipments of hardware OATH tokens in PingOne MFA."""
    if context.invoked_subcommand not in _WITHOUT_HOME:
        print_earlier_home()
    if env_file is not None:
        # Every part of this process looks for it there, and so do the processes that it starts.
        os.environ[ENV_FILE] = str(env_file.absolute())


def run_command() -> None:
    """Run the command of this process's arguments, and exit with a code that says how it ended."""
    with exit_on_failure():
        app()
