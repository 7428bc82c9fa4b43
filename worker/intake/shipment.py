"""A shipment's file: it is checked as a whole when it is opened, and can then be read row by row any number of
times."""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from operator import attrgetter
from pathlib import Path
from typing import BinaryIO, TypeAlias

from models.row_fault import RowFault
from worker.intake.assignment import NO_PERSON, Assignment
from worker.intake.formats.first_lines import HEAD
from worker.intake.formats.format import NO_HINTS, Format, Hints, OpenFile
from worker.intake.formats.table import choose_format, find_format
from worker.intake.identities import explain_missing_ids
from worker.intake.opening import open_file
from worker.intake.rows import COLUMNS, Row, RowError, UnusableFile, explain_invisible, explain_too_long

# Bytes that are read at once of a file that is not taken apart.
_BLOCK = 1 << 20
# Bytes of the digest by which the facts of two rows are compared, and of its key.
_DIGEST = 16

# What two rows of one token have to say alike, beside their OTPs or seed: all that we act on. The lot, like columns of
# a person's own, changes nothing in PingOne.
_FACTS = attrgetter(*(each.attribute for each in COLUMNS if each.attribute != "lot"))
# What only one row of a file may have: what it is, and its value.
Identity: TypeAlias = "tuple[str, str]"

DIFFERING = (
    "the {what} stands on row {row} of this file too, and the rows with it do not all say the same (secret or OTPs,"
    " type, person, device): none of them is loaded; find out which is right, and delete the others"
)
SAME = "the {what} stands on row {row} of this file already, and all is the same there: delete one of the two rows"


def read_clock() -> datetime:
    return datetime.now(UTC)


@dataclass(slots=True)
class Leftovers:
    """What a shipment and its list do not have in common, found while the rows are read. `unassigned`: tokens of the
    shipment without a person, `not_in_box`: serial numbers of the list that the shipment does not have."""

    unassigned: int = 0
    not_in_box: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Switches:
    """What a person allows us to create in the tenant: tokens in its inventory, devices."""

    may_import: bool = False
    may_pair: bool = False


NO_SWITCHES = Switches()


@dataclass(frozen=True, slots=True)
class Repeat:
    """An identity that stands on several rows: the number of the first of them, and of the first one that does not say
    the same; None if all say the same."""

    first: int
    differing: int | None


@dataclass(frozen=True)
class Shipment:
    """A file that can be used, and the list of who gets what, if there is one. `columns` are the names, as written, of
    the columns that an export repeats; `digest` is the SHA-256 of the file's bytes."""

    path: Path
    format: Format
    hints: Hints
    columns: list[str]
    digest: str
    assignment: Assignment | None = None
    # Whether tokens without a person, and those that are active in another batch, are left out instead of refused.
    only_assigned: bool = False
    only_new: bool = False
    switches: Switches = NO_SWITCHES
    clock: Callable[[], datetime] = field(default=read_clock, repr=False)

    @property
    def fingerprint(self) -> str:
        """What a shipment is recognised by when it is loaded again: a SHA-256 of file, list and switches together, and
        the file's own where it is alone. It says nothing to a person, who is told each file's own digest."""
        parts = [self.digest]
        if self.assignment is not None:
            parts.append(self.assignment.digest)
        # Rows that were refused for want of a switch make another batch with it.
        parts += ["pair"] * self.switches.may_pair + ["import"] * self.switches.may_import
        return hashlib.sha256(" ".join(parts).encode()).hexdigest() if len(parts) > 1 else self.digest

    def rows(self, leftovers: Leftovers | None = None) -> Iterator[Row | RowError]:
        """Read every row, good or refused, as `tokens` does. A good one names its user, and its device unless that may
        be made."""
        return map(self.require_ids, self.tokens(leftovers))

    def require_ids(self, row: Row | RowError) -> Row | RowError:
        """The row as `tokens` reads it, or its error if it does not say whose the token is, or on which device. A row
        that mends a batch need not: its record may."""
        missing = None
        if isinstance(row, Row) and not self.hints.mends:
            missing = explain_missing_ids(row, may_pair=self.switches.may_pair)
        return RowError(row.row_number, missing, row.serial_number, RowFault.PERSON_UNFIT) if missing else row

    def tokens(self, leftovers: Leftovers | None = None) -> Iterator[Row | RowError]:
        """Read every row, good or refused, in the file's order; each call reads the file from its beginning.
        `leftovers` is told what file and list do not have in common.

        Rows of one token or one device that do not say the same are all refused, since nothing tells which is right; of
        those that say the same, all but the first.

        Raises UnusableFile if the file is gone, or has changed since it was opened. Whether it has changed is known
        only at its end: commit nothing before.
        """
        repeats = self._repeats
        for known, row in self._read(leftovers or Leftovers()):
            if row is not None:
                yield (_refuse_repeated(known, repeats) if known else None) or _refuse_unfit(row)

    @cached_property
    def _repeats(self) -> Mapping[Identity, Repeat]:
        """What stands on several rows of the file. Looked for once, since that costs a pass through the file."""
        return _find_repeats(known for known, _ in self._read(Leftovers()) if known)

    def _read(self, leftovers: Leftovers) -> Iterator[tuple[Row | None, Row | RowError | None]]:
        """Read every row of the file: what is known of it, which is nothing where it cannot be read; and what becomes
        of it, which is nothing where it is left out."""
        digest = hashlib.sha256()
        in_box: set[str] = set()
        with open_file(self.path) as stream:
            file = OpenFile(self.path, stream, digest, self.hints)
            for row in self.format.read_rows(file, self.clock()):
                if row.serial_number is not None:
                    in_box.add(row.serial_number)
                joined = self._join(row, leftovers)
                yield next((each for each in (joined, row) if isinstance(each, Row)), None), joined
        if digest.hexdigest() != self.digest:
            cure = "Nothing of it should be kept: let the program that writes it finish, and load it again"
            raise UnusableFile(self.path, "the file changed while it was read", cure)
        if self.assignment is not None:
            leftovers.not_in_box += [serial for serial in self.assignment.lines if serial not in in_box]

    def _join(self, row: Row | RowError, leftovers: Leftovers) -> Row | RowError | None:
        """Join a row with its line of the list; None if it is to be left out."""
        if isinstance(row, RowError) or self.assignment is None:
            return row
        joined = self.assignment.assign(row)
        if isinstance(joined, RowError) and joined.reason == NO_PERSON:
            leftovers.unassigned += 1
            return None if self.only_assigned else joined
        return joined


def open_shipment(
    path: Path,
    *,
    format_name: str | None = None,
    hints: Hints = NO_HINTS,
    assignment: Assignment | None = None,
    only_assigned: bool = False,
    only_new: bool = False,
    switches: Switches = NO_SWITCHES,
    clock: Callable[[], datetime] = read_clock,
) -> Shipment:
    """Read the file once, to its end, so that what makes it unusable as a whole is known before a row is used.

    `assignment`: the list of who gets what. `format_name`: the format of this name reads the file, whatever it looks
    like; None: its first bytes tell. `clock` returns the time, with its zone, that a `generated_at` is compared with.
    Raises UnusableFile.
    """
    digest = hashlib.sha256()
    with open_file(path) as stream:
        chosen = _choose_format(path, stream, format_name)
        columns = chosen.read_columns(OpenFile(path, stream, digest, hints))
    if assignment is not None:
        columns = list(dict.fromkeys([*columns, *assignment.columns]))
    return Shipment(
        path, chosen, hints, columns, digest.hexdigest(), assignment, only_assigned, only_new, switches, clock
    )


def recognise_shipment(
    path: Path,
    *,
    format_name: str | None = None,
    hints: Hints = NO_HINTS,
    assignment: Assignment | None = None,
    only_assigned: bool = False,
    only_new: bool = False,
    switches: Switches = NO_SWITCHES,
) -> Shipment:
    """Open a file that cannot be read, for want of its key, so that its fingerprint is known: it has no columns, and
    its rows cannot be read. Raises UnusableFile."""
    digest = hashlib.sha256()
    with open_file(path) as stream:
        chosen = _choose_format(path, stream, format_name)
        while block := stream.read(_BLOCK):
            digest.update(block)
    return Shipment(path, chosen, hints, [], digest.hexdigest(), assignment, only_assigned, only_new, switches)


def _find_repeats(rows: Iterable[Row]) -> dict[Identity, Repeat]:
    """Find what stands on several rows. Of each row a digest of its facts is kept meanwhile, and no secret; its key
    goes with this call."""
    key = os.urandom(_DIGEST)
    seen = defaultdict[str, dict[str, tuple[int, bytes]]](dict)
    repeats: dict[Identity, Repeat] = {}
    for row in rows:
        here = (row.row_number, _digest_facts(row, key))
        for what, value in _identify(row):
            first = seen[what].setdefault(value, here)
            if first is not here:
                before = repeats.get((what, value))
                differing = before.differing if before else None
                if differing is None and first[1] != here[1]:
                    differing = row.row_number
                repeats[what, value] = Repeat(first[0], differing)
    return repeats


def _identify(row: Row) -> Iterator[Identity]:
    """What only this row may have. PingOne may write a serial number in other letters than the file; an export that
    comes back may have lost the zeros before one."""
    yield "serial number", row.serial_number.lower()
    if row.device_id:
        yield "device", row.device_id
    if row.file_row:
        yield "file_row", str(row.file_row)


def _digest_facts(row: Row, key: bytes) -> bytes:
    """Make a digest of all that we act on. Names that differ in capitals alone are one person's."""
    facts = [each.lower() if isinstance(each, str) else each for each in _FACTS(row)]
    digest = hashlib.blake2b(repr(facts).encode(), digest_size=_DIGEST, key=key)
    digest.update(row.otps.to_plaintext() if row.otps else b"")
    return digest.digest()


def _refuse_repeated(row: Row, repeats: Mapping[Identity, Repeat]) -> RowError | None:
    """The error of a row whose token or device another row of the file has too; None if it is loaded all the same."""
    number, reason = row.row_number, None
    found = [(what, repeats[what, value]) for what, value in _identify(row) if (what, value) in repeats]
    for what, repeat in found:
        if repeat.differing is not None:
            other = repeat.differing if number == repeat.first else repeat.first
            reason = DIFFERING.format(what=what, row=other)
            break
        if number != repeat.first:
            reason = reason or SAME.format(what=what, row=repeat.first)
    return RowError(number, reason, row.serial_number, RowFault.REPEATED) if reason else None


def _refuse_unfit(row: Row | RowError) -> Row | RowError:
    """The row, or its error if a value of it or of the list is too long to be kept, or names nobody: the others can be
    loaded."""
    if isinstance(row, RowError):
        return row
    if problem := explain_too_long(row):
        return RowError(row.row_number, problem, row.serial_number, RowFault.ROW_UNREADABLE)
    if problem := explain_invisible(row):
        return RowError(row.row_number, problem, row.serial_number, RowFault.PERSON_UNFIT)
    return row


def _choose_format(path: Path, stream: BinaryIO, name: str | None) -> Format:
    """Choose the format of this name, or the one that the first bytes tell. Leaves the stream at its beginning."""
    head = stream.read(HEAD)
    stream.seek(0)
    return find_format(path, name) if name else choose_format(path, head)
