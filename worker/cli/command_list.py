"""The commands of `oathbulk` and their help lines, known without importing any of them; answers `oathbulk --help` and
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
# Columns, if stdout is not a terminal.
_USUAL_WIDTH = 80
# Columns; longer lines are hard to read.
_WIDEST = 120


class Place:
    """Where a command is, and its line in the list of commands, which equals the command's docstring."""

    # Not a dataclass or a named tuple: importing their modules would double the time of the list.
    def __init__(self, module: str, attribute: str, help: str) -> None:
        self.module, self.attribute, self.help = module, attribute, help


# The commands by heading of `oathbulk --help`, and under each heading by name.
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
            "Load a shipment and work only on its batch until the batch finishes; if someone pauses it, wait until it "
            "is resumed. To continue, run the command again with the file or the batch's name. Without a name, "
            "continue all running batches.",
        ),
    },
    "Before a run": {
        "formats": Place("check", "formats", "List the file formats that oathbulk can read."),
        "check": Place(
            "check",
            "check",
            "Show what a shipment is, what a run would do, and every problem that can be found before a run. "
            "Change nothing.",
        ),
    },
    "Batches": {
        "load": Place("loading", "load", "Load a shipment into the database, for workers that run elsewhere."),
        "mend": Place(
            "loading",
            "mend",
            "Apply corrected rows to their batch, from a corrected export, or from the vendor's file or the list of "
            "who gets what.",
        ),
        "give": Place(
            "loading", "give", "Give someone a token that is waiting to be given out, and wait until it is active."
        ),
        "status": Place(
            "status",
            "status",
            "Show counts, pace, time left, reasons, and what happens if nobody does anything.",
        ),
        "pause": Place(
            "batches", "pause", "Pause a batch, so that no new call starts; with --where, only keep matching rows back."
        ),
        "resume": Place(
            "batches",
            "resume",
            "Continue a paused batch; with --window or --no-window, also change the hours that it runs in.",
        ),
        "cancel": Place(
            "batches",
            "cancel",
            "Close the rows still to do; with --where, only rows that failed or have not begun.",
        ),
        "replay": Place(
            "batches",
            "replay",
            "Send dead letters and cancelled records again.",
        ),
        "pace": Place(
            "pace",
            "pace",
            "Show or set how many requests per second a license's workers make. A change takes effect within a second.",
        ),
    },
    "Results": {
        "show": Place(
            "show",
            "show",
            "Show everything known about one token, and what happens next; or list the tokens that match. Never "
            "shows an OTP.",
        ),
        "export": Place(
            "export",
            "export",
            "Write a batch as CSV: your columns, and how each row ended. The corrected file can mend the batch.",
        ),
        "report": Place(
            "export",
            "report",
            "Write the desk's page of a batch to one HTML file. It holds no OTP.",
        ),
        "verify": Place(
            "undo",
            "verify_command",
            "Read every device and token of a batch back from PingOne, and report each difference.",
        ),
        "undo": Place(
            "undo",
            "undo",
            "Remove what a batch made: its devices, then the tokens that it imported and that nobody has. Without "
            "--yes, only list them.",
        ),
    },
    "This installation": {
        "config": Place(
            "config",
            "config",
            "Print every setting: its value, its source, and its default. For a secret, print only whether it is set.",
        ),
        "doctor": Place(
            "doctor",
            "doctor",
            "Check everything a run needs, and say how to fix what is wrong: settings, keys, disk, database, "
            "workers, broker, proxy, TLS, access token, roles, clock, backup.",
        ),
        "metrics": Place(
            "metrics",
            "metrics",
            "Serve metrics for Prometheus at /metrics, until Ctrl-C. Reads the database at each scrape.",
        ),
        "desk": Place(
            "desk",
            "desk",
            "Serve web pages for viewing tokens and controlling batches, until Ctrl-C. Print a link to open.",
        ),
        "audit": Place("audit", "audit_command", "Show who did what, and check that no line has been changed since."),
        "db": Place("database", "app", "The database: its schema, its keys, a backup, and what follows a restore."),
        "keygen": Place(
            "database",
            "keygen",
            "Print only a new key for OATHBULK_ENCRYPTION_KEYS on stdout.",
        ),
        "purge": Place(
            "purge",
            "purge",
            "Remove the records of batches that finished long ago, or a person's names. Without --yes, only list what "
            "would be removed.",
        ),
        "simulator": Place(
            "simulator",
            "simulator",
            "Serve a simulated PingOne over HTTP, until Ctrl-C.",
        ),
    },
}
COMMANDS = {name: place for commands in HEADINGS.values() for name, place in commands.items()}

# Options of `oathbulk` itself, before a command.
OPTIONS = {
    "--env-file FILE": "Read settings from this file. Default: .env in OATHBULK_HOME.",
    "--version": "Print the versions of oathbulk, its schema, and Python, and exit.",
    "--install-completion": "Install completion for the current shell.",
    "--show-completion": "Show completion for the current shell, to copy it or customize the installation.",
    "-h, --help": "Show this message and exit.",
}


def answer(arguments: Sequence[str]) -> int | None:
    """Print what these arguments ask for, if that is the list of commands or the version, and return the exit code;
    None for anything else. Without any argument the list is printed to stderr, since nothing was requested."""
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
    """Write the list of commands, in lines of at most `width` columns."""
    sections = {"Options": OPTIONS}
    for heading, commands in HEADINGS.items():
        sections[heading] = {name: place.help for name, place in commands.items()}
    column = max(len(name) for lines in sections.values() for name in lines) + 4
    blocks = [f"Usage: oathbulk [OPTIONS] COMMAND [ARGS]...\n\n{SUMMARY}"]
    for heading, lines in sections.items():
        blocks.append("\n".join([f"{heading}:", *(_write_line(*line, column, width) for line in lines.items())]))
    blocks.append("Run oathbulk COMMAND --help for more about each.")
    return "\n\n".join(blocks) + "\n"


def _print(text: str, *, is_asked_for: bool = True) -> None:
    """Print requested output to stdout, anything else to stderr. The stream may be closed, or its reader may stop
    early, as `head` does."""
    stream = sys.stdout if is_asked_for else sys.stderr
    if stream is None:
        return
    try:
        stream.write(text)
        stream.flush()
    except BrokenPipeError:
        # Otherwise Python would try to write again as it exits, and complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _write_line(name: str, text: str, column: int, width: int) -> str:
    indented = f"  {name}".ljust(column)
    return fill(text, width, initial_indent=indented, subsequent_indent=" " * column, break_on_hyphens=False)


def _measure_width() -> int:
    try:
        return min(os.get_terminal_size(sys.stdout.fileno()).columns, _WIDEST)
    except (AttributeError, OSError, ValueError):
        return _USUAL_WIDTH
