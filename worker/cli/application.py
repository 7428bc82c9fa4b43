"""The command `oathbulk`: its commands, each imported when it is called; the options before a command; and usage
errors."""

import gc
import os
import sys
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperCommand, TyperGroup

from worker.cli.command_list import COMMANDS, OPTIONS, SUMMARY, print_version, write_help
from worker.cli.exit_codes import WRONG_USAGE

# The class of all faults that typer finds in arguments. Typer itself exports only the one that commands raise.
UsageError: Any = typer.BadParameter.__base__


class LazyGroup(TyperGroup):
    """The command `oathbulk`, which lists and completes its commands from their help lines alone. Only the called
    command is imported."""

    def __init__(self, **attributes: Any) -> None:
        commands = {name: TyperCommand(name, help=place.help) for name, place in COMMANDS.items()}
        super().__init__(**attributes | {"commands": commands})

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command that was typed, and import it. Raises UsageError."""
        name, _, others = super().resolve_command(ctx, args)
        return name, make_command(name) if name else None, others

    def format_help(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002 - typer passes it
        """Write the list of commands."""
        formatter.write(write_help(formatter.width))


def make_command(name: str) -> Any:
    """Import a command and make it."""
    place = COMMANDS[name]
    # What is imported here stays until the end. Collecting garbage in it, during the import and at the end of the
    # process, would take a quarter of a short command's time.
    gc.disable()
    found = getattr(import_module(f"worker.cli.{place.module}"), place.attribute)
    gc.freeze()
    gc.enable()
    if isinstance(found, typer.Typer):
        group = found
    else:
        group = typer.Typer(add_completion=False)
        group.command(name)(found)
    command = typer.main.get_command(group)
    command.name = name
    for each in (command, *getattr(command, "commands", {}).values()):
        _hide_types_of_flags(each)
    return command


def _hide_types_of_flags(command: Any) -> None:
    """Hide the type of options without a value in a command's help."""
    context = typer.Context(command, **_SETTINGS)
    for option in (*command.params, command.get_help_option(context)):
        if getattr(option, "is_bool_flag", False):
            option.metavar = ""


_SETTINGS: dict[str, Any] = {"help_option_names": ["-h", "--help"]}
app = typer.Typer(name="oathbulk", cls=LazyGroup, context_settings=_SETTINGS)


def _tell_version(is_asked: bool) -> None:
    if is_asked:
        print_version()
        raise typer.Exit


@app.callback(help=SUMMARY)
def name_env_file(
    env_file: Annotated[Path | None, typer.Option(metavar="FILE", help=OPTIONS["--env-file FILE"])] = None,
    _version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_tell_version, help=OPTIONS["--version"])
    ] = False,
) -> None:
    """Note which file the settings are read from."""
    if env_file is not None:
        # Not at the top: help, completion, and version do not need dotenv.
        from worker.config.settings import ENV_FILE

        # Every part of this process looks for it there, and so do the processes that it starts.
        os.environ[ENV_FILE] = str(env_file.absolute())


def run_command() -> None:
    """Run the command in this process's arguments, and exit with a code that says how it ended."""
    try:
        sys.exit(typer.main.get_command(app)(prog_name="oathbulk", standalone_mode=False))
    except UsageError as error:
        _exit_for_usage(error)
    except (Exception, KeyboardInterrupt) as error:
        # Not at the top: knowing the failures of every part means importing every part.
        from worker.cli.failures import exit_for

        exit_for(error)


def _exit_for_usage(error: Any) -> NoReturn:
    """Say on stderr, in one line each, what is wrong with the arguments, and which help to read; end the process."""
    # Not at the top: rich takes as long to import as typer, and most commands are typed correctly.
    from worker.cli.console import error_console, print_failure

    # Typer passes on pydantic's words for a value that is not one of the allowed ones.
    print_failure(error.format_message().replace(": Value error, ", ": ", 1))
    if error.ctx is not None:
        error_console.print(f"Try '{error.ctx.command_path} --help' for help.", style="dim")
    sys.exit(WRONG_USAGE)
