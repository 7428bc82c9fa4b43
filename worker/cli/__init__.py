"""The commands of `oathbulk`: arguments in, printing out; one module for each command, or for a few that belong
together.

Begin with `command_list`, which lists the commands, and `application`, which imports a command's module when the
command is called, so that no command waits for the others. `options` has what several commands share, `failures` says
which failure has which exit code."""

import os
import re
import sys
from io import TextIOWrapper


def main() -> None:
    """Run the command in this process's arguments."""
    # Neither this nor what follows is imported at the top: importing a single command would import it too, and the list
    # of commands would wait for typer.
    from worker.cli.command_list import answer

    _write_what_is_not_encodable()
    _forget_odd_sizes()
    # A shell that asks for completions sets a variable instead of giving arguments.
    code = None if "_OATHBULK_COMPLETE" in os.environ else answer(sys.argv[1:])
    if code is not None:
        sys.exit(code)
    from worker.cli.application import run_command

    run_command()


def _write_what_is_not_encodable() -> None:
    """Let a terminal that cannot show a character, as in the C locale, print it as `\xb7` instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _forget_odd_sizes() -> None:
    """Let the terminal report its own size if the variables for it are impossible; rich takes any digits for a number,
    and fills lines of any length."""
    for name in ("COLUMNS", "LINES"):
        if not re.fullmatch("[1-9][0-9]{0,3}", os.environ.get(name, "80"), re.ASCII):
            del os.environ[name]
