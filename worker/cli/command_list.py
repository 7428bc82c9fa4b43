"""The commands of `oathbulk` and their help lines, known without importing one; answers `oathbulk --help` and
`oathbulk --version`.

Imports neither typer nor rich nor any command, each of which takes longer to import than Python takes to start. A test
compares every line with the command itself."""

import os
import sys
from collections.abc import Sequence
from textwrap import fill

from migrations import HEAD
from worker import __version__
from worker.cli.exit_codes import ALL_ACTIVE, WRONG_USAGE

SUMMARY = "Activates whole shipments of hardware OATH tokens in PingOne MFA."
# Columns, where stdout is no terminal.
_USUAL_WIDTH = 80
# Columns; longer lines are hard to read.
_WIDEST = 120


class Place:
    """Where a command is, and what the list of commands says of it, which is its docstring."""

    # No dataclass and no named tuple: importing what makes them would double what the list of commands takes.
    def __init__(self, module: str, attribute: str, help: str) -> None:
        self.module, self.attribute, self.help = module, attribute, help


# By headings of `oathbulk --help`, and there by name.
HEADINGS: dict[str, dict[str, Place]] = {
    "A shipment on this machine": {
        "rehearse": Place(
            "rehearse",
            "rehearse",
            "Rehearse the whole job against the built-in simulator: no accounts, no servers.",
        ),
        "run": Place(
            "run",
            "run",
            "Load a shipment and activate it here, and nothing else, until it is finished, also through a person's"
            " pause. Run again, by the file or by the name of its batch, it goes on where it was; without a name, all"
            " batches that run go on.",
        ),
    },
    "Before a run": {
        "formats": Place("check", "formats", "List the file formats that are read."),
        "check": Place(
            "check",
            "check",
            "Tell what a shipment is, what a run would do, and everything that can be found before a call is spent;"
            " change nothing.",
        ),
    },
    "Batches": {
        "load": Place("loading", "load", "Load a shipment into the database, for workers that run elsewhere."),
        "mend": Place(
            "loading",
            "mend",
            "Bring corrected rows into the batch that they belong to: an export of it, the vendor's file or the list"
            " once more.",
        ),
        "give": Place("loading", "give", "Say who gets a token that waits to be given out, and wait for its end."),
        "status": Place(
            "status",
            "status",
            "Show counts, pace, time left and reasons; and what will happen if nobody does anything.",
        ),
        "pause": Place("batches", "pause", "Start no new call, or keep rows back past their date."),
        "resume": Place(
            "batches",
            "resume",
            "Let a paused batch run again; with --window or --no-window, in other hours from now on.",
        ),
        "cancel": Place(
            "batches",
            "cancel",
            "Close what is to do, or, with --where, what failed or has not begun.",
        ),
        "replay": Place(
            "batches",
            "replay",
            "Put dead letters, and cancelled records, back to pending, and the batch to running.",
        ),
        "pace": Place(
            "pace",
            "pace",
            "Show or set how many requests a second a license's workers make; what is set holds from the next second "
            "on.",
        ),
    },
    "What became of them": {
        "show": Place(
            "show",
            "show",
            "Tell all that is known of one token, and what happens next; or list the tokens that begin so. No OTP is "
            "shown.",
        ),
        "export": Place(
            "export",
            "export",
            "Write a batch as CSV: its own columns, and how each row ended. Corrected, the file mends the batch.",
        ),
        "report": Place(
            "export",
            "report",
            "Write the desk's page of a batch, as of now, as one file of HTML for those who ask. It holds no OTP.",
        ),
        "verify": Place(
            "undo",
            "verify_command",
            "Read every device and token of a batch back from PingOne, at the pace, and report each difference.",
        ),
        "undo": Place(
            "undo",
            "undo",
            "Take away what a batch made: its devices, then the tokens that it imported and that nobody has. Without "
            "--yes, say which those are.",
        ),
    },
    "This installation": {
        "config": Place(
            "config",
            "config",
            "Print every setting: its value, where that comes from, and its default. Of a secret it says only whether "
            "it is set.",
        ),
        "doctor": Place(
            "doctor",
            "doctor",
            "Check all that a run needs, and name the cure of what is wrong: settings, keys, disk, database, workers,"
            " broker, proxy, TLS, access token, roles, clock, backup.",
        ),
        "metrics": Place(
            "metrics",
            "metrics",
            "Serve metrics for Prometheus at /metrics, until Ctrl-C; the database is read at each scrape.",
        ),
        "desk": Place(
            "desk",
            "desk",
            "Serve pages to look at shipments and tokens, and to command batches, until Ctrl-C. A link lets you in.",
        ),
        "audit": Place("audit", "audit_command", "Show what persons did, and check that no line was changed since."),
        "db": Place("database", "app", "The database: its schema, its keys, a backup, and what follows a restore."),
        "keygen": Place(
            "database",
            "keygen",
            "Print a new key for OATHBULK_ENCRYPTION_KEYS, alone on stdout.",
        ),
        "purge": Place(
            "purge",
            "purge",
            "Remove the records of batches that finished long ago, or a person's names; without --yes, say what would"
            " go.",
        ),
        "simulator": Place(
            "simulator",
            "simulator",
            "Serve a simulated PingOne over HTTP, until Ctrl-C.",
        ),
    },
}
COMMANDS = {name: place for commands in HEADINGS.values() for name, place in commands.items()}

# Those of `oathbulk` itself, before a command.
OPTIONS = {
    "--env-file FILE": "Read settings from it. Default: .env in OATHBULK_HOME.",
    "--version": "Print the versions of oathbulk, its schema and Python, and exit.",
    "--install-completion": "Install completion for the current shell.",
    "--show-completion": "Show completion for the current shell, to copy it or customize the installation.",
    "-h, --help": "Show this message and exit.",
}


def answer(arguments: Sequence[str]) -> int | None:
    """Print what these arguments ask for, if that is the list of commands or the version, and return the exit code;
    None if it is something else. Without any argument the list goes to stderr, as nothing was asked for."""
    if not arguments:
        _print(write_help(_measure_width()), is_asked_for=False)
        return WRONG_USAGE
    if list(arguments) in (["--help"], ["-h"]):
        _print(write_help(_measure_width()))
        return ALL_ACTIVE
    if list(arguments) == ["--version"]:
        print_version()
        return ALL_ACTIVE
    return None


def print_version() -> None:
    """Print the version, and those of the database's schema and of Python."""
    _print(f"oathbulk {__version__}, schema {HEAD}, Python {'.'.join(map(str, sys.version_info[:3]))}\n")


def write_help(width: int) -> str:
    """Write the list of commands, in lines of at most so many columns."""
    sections = {"Options": OPTIONS}
    for heading, commands in HEADINGS.items():
        sections[heading] = {name: place.help for name, place in commands.items()}
    column = max(len(name) for lines in sections.values() for name in lines) + 4
    blocks = [f"Usage: oathbulk [OPTIONS] COMMAND [ARGS]...\n\n{SUMMARY}"]
    for heading, lines in sections.items():
        blocks.append("\n".join([f"{heading}:", *(_write_line(*line, column, width) for line in lines.items())]))
    blocks.append("oathbulk COMMAND --help tells more of each.")
    return "\n\n".join(blocks) + "\n"


def _print(text: str, *, is_asked_for: bool = True) -> None:
    """Print to stdout what was asked for, else to stderr. It may be closed, or its reader have seen enough, as `head`
    has."""
    stream = sys.stdout if is_asked_for else sys.stderr
    if stream is None:
        return
    try:
        stream.write(text)
        stream.flush()
    except BrokenPipeError:
        # Python would try once more as it ends, and complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _write_line(name: str, text: str, column: int, width: int) -> str:
    indented = f"  {name}".ljust(column)
    return fill(text, width, initial_indent=indented, subsequent_indent=" " * column, break_on_hyphens=False)


def _measure_width() -> int:
    try:
        return min(os.get_terminal_size(sys.stdout.fileno()).columns, _WIDEST)
    except (AttributeError, OSError, ValueError):
        return _USUAL_WIDTH
