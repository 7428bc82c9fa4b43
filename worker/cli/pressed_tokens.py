"""Fresh OTPs for a file that was exported: the tokens of a simulator that runs are pressed, as a help desk presses real
ones, and their OTPs are written into the file."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO
from urllib.parse import urlsplit

import httpx

from worker.cli.output_files import refuse_unfit, write_file
from worker.intake import ORIGIN, canonical_column, normalise
from worker.intake.formats.header_csv import split_header

# Seconds that the simulator may take for an answer, on a busy machine.
TIMEOUT = 30.0
# The columns that a file must have.
_NEEDED = ("serial", "otp1", "otp2")


class NotPressed(Exception):
    """No token was pressed, and the file is as it was; the message says why, and what to do."""


@dataclass(frozen=True, slots=True)
class Pressed:
    """How many tokens of a file were pressed, and the serial numbers of those that were not."""

    tokens: int
    others: Sequence[str]


def press_tokens_of(path: Path, url: str) -> Pressed:
    """Press each token of a file twice at the simulator that listens at this URL, and write the OTPs into the file, in
    place of those that it has. Raises NotPressed, typer.BadParameter."""
    refuse_unfit(path)
    delimiter, header, rows = _read(path)
    names = [canonical_column(name) for name in header]
    if missing := [name for name in _NEEDED if name not in names]:
        raise NotPressed(
            f"{path} has no column {missing[0]}: give the file of `oathbulk export`, of a batch of OTP pairs"
        )
    # A shipment's own OTPs are kept: with others, it would be another file to the next load.
    if normalise(ORIGIN) not in map(normalise, header):
        raise NotPressed(
            f"{path} is no export, for it has no column {ORIGIN}: its OTPs stay. Give the file of `oathbulk export`, "
            "with all its columns"
        )
    serial, otp1, otp2 = map(names.index, _NEEDED)
    shown = _press(url, [row[serial] for row in rows])
    for row in rows:
        row[otp1], row[otp2] = shown.get(row[serial], (row[otp1], row[otp2]))
    if not shown:
        raise NotPressed(f"no token of {path} was pressed: the simulator has none of them, or none with a button")
    write_file(path, lambda file: _write(file, delimiter, [header, *rows]))
    return Pressed(len(shown), [row[serial] for row in rows if row[serial] not in shown])


def _read(path: Path) -> tuple[str, list[str], list[list[str]]]:
    """Read delimiter, header and rows of a CSV; each row has a cell for each column. Raises NotPressed."""
    try:
        # A spreadsheet may have put a byte order mark in front.
        with path.open(encoding="utf-8-sig", newline="") as file:
            delimiter, _ = split_header(file.readline())
            file.seek(0)
            header, *rows = list(csv.reader(file, delimiter=delimiter)) or [[]]
    except OSError as error:
        raise NotPressed(f"{path} cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise NotPressed(f"{path} is no CSV in UTF-8: give the file of `oathbulk export`") from error
    return delimiter, header, [row + [""] * (len(header) - len(row)) for row in rows if any(row)]


def _write(file: TextIO, delimiter: str, rows: Sequence[Sequence[str]]) -> int:
    csv.writer(file, delimiter=delimiter, lineterminator="\n").writerows(rows)
    return len(rows)


def _press(url: str, serials: Sequence[str]) -> Mapping[str, tuple[str, str]]:
    """Press these tokens, and return the OTPs of those that have a button, by serial number. Raises NotPressed."""
    named = urlsplit(url)
    # Only a simulator is called without TLS, and no other PingOne is to hear of these tokens.
    if named.scheme != "http":
        raise NotPressed(f"{named.hostname or url} is no simulator: PINGONE_API_URL leads there; see docs/simulator.md")
    try:
        # Not through a proxy, whatever is set: it is on this machine.
        with httpx.Client(base_url=f"http://{named.netloc}", trust_env=False, timeout=TIMEOUT) as http:
            answer = http.post("/simulator/tokens/press", json={"serials": serials}).raise_for_status()
        return {serial: (first, second) for serial, (first, second) in answer.json()["otps"].items()}
    except (httpx.HTTPStatusError, ValueError, KeyError, TypeError) as error:
        raise NotPressed(f"what answers at {named.netloc} is no simulator that can be controlled") from error
    except httpx.TransportError as error:
        raise NotPressed(
            f"no simulator answers at {named.netloc}: start it as before, in another terminal, and let it run"
        ) from error
