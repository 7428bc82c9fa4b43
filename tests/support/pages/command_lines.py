"""What pages type behind `oathbulk`, read by the parser that reads it when it is typed."""

import re
import shlex
from collections.abc import Iterator
from typing import Any

import typer
from support.pages.reading import find_code, find_spans

from worker.cli.application import UsageError, app, make_command
from worker.cli.command_list import COMMANDS

# Where a command begins: alone, behind another program that starts it (docker compose run, sudo), or by its path.
_BEGINNING = re.compile(r"(?:^|[\s/(;])oathbulk (?=-|[a-z]+\b(?!:))")
# What ends it.
_END = re.compile(r"\s#|;|&&|\||>|\)|'|$")
# A page writes what may be left out in brackets, and what it does not care for as dots.
_SIGNS = re.compile(r"[\[\]…]")
# Lines in which `oathbulk` is the name of an image, a role, a service of a keyring, a dump.
_OTHERS = re.compile(r"docker (?:build|compose exec)|ALTER ROLE|keyring set|^User=")

_OATHBULK: Any = typer.main.get_command(app)
_OATHBULK.commands = {name: make_command(name) for name in COMMANDS}


def find_command_lines(text: str) -> Iterator[str]:
    """Find what is typed behind `oathbulk` on a page; and what stands there of a command alone, as `resume --now`."""
    for whole in find_code(text):
        line = whole.partition(" # ")[0].replace("oathbulk oathbulk ", "oathbulk ")
        if not _OTHERS.search(line):
            for found in _BEGINNING.finditer(line):
                rest = line[found.end() :]
                yield rest[: _END.search(rest).start()].strip()  # type: ignore[union-attr] - the end of the line is one
    yield from (span for span in find_spans(text) if " " in span and span.split()[0] in COMMANDS)


def explain_unknown(line: str) -> str | None:
    """Say what the parser does not know in a line: a command, an option, or an argument too many. None if it knows all
    of it. What is missing is no fault: a page may leave it out."""
    words, command = shlex.split(_SIGNS.sub(" ", line)), _OATHBULK
    while True:
        try:
            _, words, _ = command.make_parser(command.context_class(command)).parse_args(args=words)
        except UsageError as error:
            return None if "requires an argument" in str(error) else str(error)
        if not words or not hasattr(command, "commands"):
            return f"no place for {' '.join(words)}" if words else None
        name, *words = words
        if name not in command.commands:
            return f"no command {name}"
        command = command.commands[name]


def find_options(text: str) -> set[str]:
    """Find the options that a page names by themselves, as `--pair`."""
    return {span.split()[0].partition("=")[0] for span in find_spans(text) if span.startswith("--")}


def _collect_options(command: Any) -> set[str]:
    own = {option for each in command.params for option in (*each.opts, *each.secondary_opts)}
    return own.union(*map(_collect_options, getattr(command, "commands", {}).values()), {"--help"})


# All that any command has.
OPTIONS = _collect_options(_OATHBULK)
