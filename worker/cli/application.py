"""The command `oathbulk`: what is typed before the name of a command, and how each of them ends."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from worker.cli.command_list import OPTIONS
from worker.cli.lazy_commands import LazyGroup
from worker.cli.top_help import SUMMARY, print_version
from worker.cli.usage_errors import UsageError, exit_for_usage

app = typer.Typer(
    name="oathbulk",
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
)

# Commands that read and make no home.
_WITHOUT_HOME = ("simulator", "keygen", "formats")


def _tell_version(is_asked: bool) -> None:
    if is_asked:
        print_version()
        raise typer.Exit


@app.callback(help=SUMMARY)
def name_env_file(
    context: typer.Context,
    env_file: Annotated[Path | None, typer.Option(metavar="FILE", help=OPTIONS["--env-file FILE"])] = None,
    _version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_tell_version, help=OPTIONS["--version"])
    ] = False,
) -> None:
    """Note which file the settings are read from, and say where a home of an earlier version is used."""
    # Not at the top: whoever asks for help, a completion or the version waits for neither rich nor dotenv.
    from worker.cli.homes import print_earlier_home
    from worker.config.settings import ENV_FILE

    if context.invoked_subcommand not in _WITHOUT_HOME:
        print_earlier_home()
    if env_file is not None:
        # Every part of this process looks for it there, and so do the processes that it starts.
        os.environ[ENV_FILE] = str(env_file.absolute())


def run_command() -> None:
    """Run the command of this process's arguments, and exit with a code that says how it ended."""
    try:
        sys.exit(typer.main.get_command(app)(prog_name="oathbulk", standalone_mode=False))
    except UsageError as error:
        exit_for_usage(error)
    except (Exception, KeyboardInterrupt) as error:
        # Not at the top: to know the failures of every part is to import every part.
        from worker.cli.failures import exit_for

        exit_for(error)
