"""How a command ends that was typed wrongly: with one line that says what is wrong, and one that names its help."""

from __future__ import annotations

import sys
from typing import Any, NoReturn

import typer

from worker.cli.exit_codes import WRONG_USAGE
from worker.cli.missing_output import complete_command

# The class of all that typer finds wrong with arguments. Typer itself names only the one that commands raise.
UsageError: Any = typer.BadParameter.__base__


def exit_for_usage(error: Any) -> NoReturn:
    """Say on stderr what is wrong with the arguments, and which help to read; end the process."""
    # Not at the top: rich takes as long to import as typer, and most commands are typed well.
    from worker.cli.console import print_failure, print_hint

    # Typer passes on pydantic's words for a value that is none of a choice.
    print_failure(error.format_message().replace(": Value error, ", ": ", 1) + _name_whole_command(error))
    if error.ctx is not None:
        print_hint(f"Try '{error.ctx.command_path} --help' for help.")
    sys.exit(WRONG_USAGE)


def _name_whole_command(error: Any) -> str:
    """Say what to type where only the file to write to is missing; nothing where something else is wrong."""
    parameter = getattr(error, "param", None)
    if error.ctx is None or parameter is None or parameter.name != "output":
        return ""
    whole = complete_command(error.ctx.info_name, sys.argv[1:], error.ctx.params)
    return f" Such as: {whole}" if whole else ""
