"""A shipment's file: it is checked as a whole when it is opened, and can then be read row by row any number of
times."""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from operator import attrgetter
from pathlib import Path
from typing import TypeAlias

from models.row_fault import RowFault
from worker.intake.files import HEAD, NO_HINTS, Hints, OpenFile, open_file
from worker.intake.formats import Format, choose_format, find_format, open_table
from worker.intake.lists import NO_PERSON, Assignment
from worker.intake.rows import COLUMNS, Row, RowError, UnusableFile, explain_missing_ids, refuse_unfit
from worker.vault.otps import Seed

# Bytes of the digest that compares the facts of two rows, and of its key.
_DIGEST = 16
# Fields in which two rows of one token must agree, like their OTPs or seed: everything that we act on. The lot and a
# person's own columns change nothing in PingOne.
_FACTS = attrgetter(*(each.attribute for each in COLUMNS if each.attribute != "lot"))
# An identity that only one row of a file may have: its kind, which is one of _IDENTITIES or SHARED, and its value.
Identity: TypeAlias = "tuple[str, str]"
_IDENTITIES = ("serial number", "device", "file_row")
# The kind of a serial number that has the same secret as another one. Its Repeat has the other one's row in place of
# the first row.
SHARED = "secret of another"
# For an identity on several rows: the number of the first row, and of the first row that disagrees with it; None if all
# agree.
Repeat: TypeAlias = "tuple[int, int | None]"


def open_scratch(tables: str) -> sqlite3.Connection:
    """Open a temporary database with these tables, for data that would fill the memory. SQLite writes what its cache
    cannot hold to a nameless file (https://www.sqlite.org/inmemorydb.html), which disappears with this process at the
    latest. It is not encrypted: do not put secrets into it."""
    scratch = sqlite3.connect("", check_same_thread=False)
    scratch.executescript(f"PRAGMA temp_store = FILE; PRAGMA journal_mode = OFF; {tables}")
    return scratch


def read_clock() -> datetime:
    return datetime.now(UTC)


@dataclass(slots=True)
class Leftovers:
    """What only the shipment or only its list has, counted while the rows are read. `unassigned`: tokens of the
    shipment without a person; `not_in_box`: serial numbers of the list that the shipment lacks, of which
    `without_zeros` would fit with leading zeros; `broken`: rows that a mend skips, since they are unreadable and the
    list names none of their tokens."""

    unassigned: int = 0
    not_in_box: list[str] = field(default_factory=list)
    without_zeros: int = 0
    broken: int = 0


@dataclass(frozen=True, slots=True)
class Switches:
    """What a person allows us to create in the tenant: tokens in its inventory, and devices."""

    may_import: bool = False
    may_pair: bool = False


NO_SWITCHES = Switches()


@dataclass(frozen=True)
class Shipment:
    """A usable file, and the list of who gets what, if there is one. `columns` are the names, as written, of the
    columns that an export repeats; `digest` is the SHA-256 of the file's bytes."""

    path: Path
    format: Format
    hints: Hints
    columns: list[str]
    digest: str
    assignment: Assignment | None = None
    # Whether tokens without a person, and tokens that are active in another batch, are skipped instead of refused.
    only_assigned: bool = False
    only_new: bool = False
    # Whether tokens without a person are loaded, to be given out later.
    gives_out: bool = False
    switches: Switches = NO_SWITCHES
    clock: Callable[[], datetime] = field(default=read_clock, repr=False)
    # Identities that several rows of the file have.
    repeats: Mapping[Identity, Repeat] = field(default_factory=dict, repr=False)

    @property
    def fingerprint(self) -> str:
        """Identifies a shipment that is loaded again: a SHA-256 over file, list and switches, or the file's own digest
        if there is nothing else. People are shown each file's own digest instead."""
        parts = [self.digest]
        if self.assignment is not None:
            parts.append(self.assignment.digest)
        # Once a missing switch is given, the rows that were refused for lack of it make another batch.
        parts += ["pair"] * self.switches.may_pair + ["import"] * self.switches.may_import
        parts += ["give-out"] * self.gives_out
        return hashlib.sha256(" ".join(parts).encode()).hexdigest() if len(parts) > 1 else self.digest

    def rows(self, leftovers: Leftovers | None = None) -> Iterator[Row | RowError]:
        """Read every row, good or refused, as `tokens` does. A good row names its user, and its device unless the
        device may be created."""
        return map(self.require_ids, self.tokens(leftovers))

    def require_ids(self, row: Row | RowError) -> Row | RowError:
        """Return the row, or an error if it lacks its person or device. A row that mends a batch may lack them: its
        record may have them."""
        missing = None
        is_for_the_table = self.gives_out and isinstance(row, Row) and not row.names_somebody
        if isinstance(row, Row) and not self.hints.mends and not is_for_the_table:
            missing = explain_missing_ids(row, may_pair=self.switches.may_pair)
        return RowError(row.row_number, missing, row.serial_number, RowFault.PERSON_UNFIT) if missing else row

    def tokens(self, leftovers: Leftovers | None = None) -> Iterator[Row | RowError]:
        """Read every row, good or refused, in the file's order; each call reads the file from its beginning.
        `leftovers` counts what only the file or only the list has. If rows of one token or device differ, all are
        refused, since nothing shows which is right; if they are equal, all but the first are.

        Raises UnusableFile if the file is gone, or has changed since it was opened. Whether it has changed is known
        only at its end: commit nothing before that."""
        leftovers = leftovers or Leftovers()
        missing = set(self.assignment.lines) if self.assignment else set[str]()
        # The list's serial numbers, stripped of leading zeros, and those of them that the shipment has.
        bare_lines, bare = {key.lstrip("0") for key in missing}, set[str]()
        with self._opened() as (file, _, rows):
            for row in rows:
                if bare_lines and row.serial_number is not None:
                    key = row.serial_number.lower()
                    missing.discard(key)
                    bare |= {key.lstrip("0")} & bare_lines
                joined = self._join(row)
                is_unassigned = isinstance(joined, RowError) and joined.reason == NO_PERSON
                leftovers.unassigned += is_unassigned
                if is_unassigned and self.gives_out:
                    joined, is_unassigned = row, False
                is_of_others = self._is_of_others(row)
                leftovers.broken += is_of_others
                if not (is_unassigned and self.only_assigned) and not is_of_others:
                    known = _find_known(row, joined)
                    yield (known and _refuse_repeated(known, self.repeats)) or refuse_unfit(joined)
            digest = file.digest()
        if digest != self.digest:
            raise UnusableFile(
                self.path,
                "the file changed while it was being read",
                "Wait until the program that is writing it has finished, then load it again",
            )
        if self.assignment is not None:
            lines = self.assignment.lines
            leftovers.not_in_box += [lines[key].serial_number for key in lines if key in missing] if missing else []
            leftovers.without_zeros += sum(key.lstrip("0") in bare for key in missing)

    def read_through(self) -> Shipment:
        """Read the file once, to its end, for its columns, its digest, and repeated identities. Raises UnusableFile."""
        with self._opened() as (file, columns, rows):
            known = (_find_known(row, self._join(row)) for row in rows)
            repeats = _find_repeats(row for row in known if row is not None)
            digest = file.digest()
        if self.assignment is not None:
            columns = list(dict.fromkeys([*columns, *self.assignment.columns]))
        return replace(self, columns=columns, digest=digest, repeats=repeats)

    @contextmanager
    def _opened(self) -> Iterator[tuple[OpenFile, list[str], Iterator[Row | RowError]]]:
        """Open the file, and yield it with its columns and its rows. Raises UnusableFile."""
        with open_file(self.path) as stream:
            file = OpenFile(self.path, stream, self.hints)
            yield (file, *open_table(self.format, file, self.clock()))

    def _is_of_others(self, row: Row | RowError) -> bool:
        """Whether an unreadable row of a mend's file belongs to no token of the list."""
        if isinstance(row, Row) or self.assignment is None or not self.hints.mends:
            return False
        return (row.serial_number or "").lower() not in self.assignment.lines

    def _join(self, row: Row | RowError) -> Row | RowError:
        """Join a row with its line of the list."""
        return row if isinstance(row, RowError) or self.assignment is None else self.assignment.assign(row)


def open_shipment(
    path: Path,
    *,
    format_name: str | None = None,
    hints: Hints = NO_HINTS,
    assignment: Assignment | None = None,
    only_assigned: bool = False,
    only_new: bool = False,
    gives_out: bool = False,
    switches: Switches = NO_SWITCHES,
    clock: Callable[[], datetime] = read_clock,
    must_read: bool = True,
) -> Shipment:
    """Read the file once, to its end, so that anything that makes it unusable as a whole is found before a row is used.

    `assignment`: the list of who gets what. `format_name`: read the file as this format, whatever it looks like; None:
    its first bytes decide. `clock` returns the time, with its zone, to compare `generated_at` with. `must_read`: False
    to fingerprint a file whose key is missing: the Shipment has no columns, and its rows cannot be read. Raises
    UnusableFile."""
    with open_file(path) as stream:
        head = stream.read(HEAD)
        stream.seek(0)
        digest = "" if must_read else OpenFile(path, stream).digest()
    chosen = find_format(path, format_name) if format_name else choose_format(path, head)
    shipment = Shipment(
        path, chosen, hints, [], digest, assignment, only_assigned, only_new, gives_out, switches, clock, repeats={}
    )
    return shipment.read_through() if must_read else shipment


def _find_known(row: Row | RowError, joined: Row | RowError) -> Row | None:
    """Return a row with its line of the list, or the row alone if they cannot be joined; None if the row cannot be
    read."""
    return next((each for each in (joined, row) if isinstance(each, Row)), None)


_SEEN = """
    CREATE TABLE seen (
        "serial number" TEXT, device TEXT, file_row TEXT, row_number INTEGER, facts TEXT, secret TEXT
    )
"""
_SEE = "INSERT INTO seen VALUES (?, nullif(?, ''), nullif(?, ''), ?, ?, nullif(?, ''))"
# Repeated identities, in the file's order.
_TWICE = """
    SELECT "{what}", row_number, {other} FROM seen WHERE "{what}" IN (
        SELECT "{what}" FROM seen WHERE "{what}" IS NOT NULL GROUP BY "{what}" HAVING count(*) > 1
    ) ORDER BY rowid
"""


def _find_repeats(rows: Iterable[Row]) -> dict[Identity, Repeat]:
    """Find the identities that several rows have. Meanwhile, each row's facts and its secret are kept only as keyed
    digests, and the key is forgotten afterwards."""
    key = os.urandom(_DIGEST)
    repeats: dict[Identity, Repeat] = {}
    with closing(open_scratch(_SEEN)) as scratch:
        scratch.executemany(_SEE, (_describe_row(row, key) for row in rows))
        # By the digest of each secret, the first row with it, and that row's token.
        secrets: dict[str, tuple[int, str]] = {}
        for secret, number, serial in scratch.execute(_TWICE.format(what="secret", other='"serial number"')):
            first, other = secrets.setdefault(secret, (number, serial))
            if other != serial:
                repeats[SHARED, serial] = first, number
                repeats.setdefault((SHARED, other), (number, first))
        for what in _IDENTITIES:
            seen: dict[str, tuple[int, str]] = {}
            for value, number, facts in scratch.execute(_TWICE.format(what=what, other="facts")):
                first, facts_of_first = seen.setdefault(value, (number, facts))
                if first != number:
                    _, differing = repeats.get((what, value), (0, None))
                    if differing is None and facts != facts_of_first:
                        differing = number
                    repeats[what, value] = first, differing
    return repeats


def _describe_row(row: Row, key: bytes) -> tuple[int | str, ...]:
    """List the values for `_SEE`."""
    secret = row.otps.secret.reveal() if isinstance(row.otps, Seed) else b""
    digest = hashlib.blake2b(secret, digest_size=_DIGEST, key=key).hexdigest() if secret else ""
    return *_list_identities(row), row.row_number, _digest_facts(row, key), digest


def _list_identities(row: Row) -> tuple[str, str, str]:
    """List the values of _IDENTITIES, empty where the row has none. PingOne may change the case of a serial number; its
    leading zeros may be missing in an export that comes back."""
    return row.serial_number.lower(), row.device_id or "", str(row.file_row or "")


def _digest_facts(row: Row, key: bytes) -> str:
    """Make a digest of everything that we act on. Names that differ only in case are the same person's."""
    facts = [each.lower() if isinstance(each, str) else each for each in _FACTS(row)]
    digest = hashlib.blake2b(repr(facts).encode(), digest_size=_DIGEST, key=key)
    digest.update(row.otps.to_plaintext() if row.otps else b"")
    return digest.hexdigest()


def _refuse_repeated(row: Row, repeats: Mapping[Identity, Repeat]) -> RowError | None:
    """Make the error for a row whose token or device another row of the file also has; None if the row is loaded
    anyway."""
    if not repeats:
        return None
    number, reason = row.row_number, None
    if shared := repeats.get((SHARED, row.serial_number.lower())):
        reason = (
            f"its secret also belongs to another serial number, on row {shared[0]}, so one of the two is wrong: "
            f"neither is loaded; ask the vendor which token has it"
        )
        return RowError(number, reason, row.serial_number, RowFault.REPEATED)
    identities = zip(_IDENTITIES, _list_identities(row), strict=True)
    found = [(identity[0], repeats[identity]) for identity in identities if identity in repeats]
    for what, (first, differing) in found:
        if differing is not None:
            reason = (
                f"the {what} is on row {differing if number == first else first} of this file too, and these "
                f"rows differ (secret or OTPs, type, person, device): none of them is loaded; find out which is "
                f"right, and delete the others"
            )
            break
        if number != first:
            same = f"the {what} is on row {first} of this file already, with the same values"
            reason = reason or f"{same}: delete one of the two rows"
    return RowError(number, reason, row.serial_number, RowFault.REPEATED) if reason else None
