"""The result of a preflight: findings that stop a shipment, need a person's acceptance, or are good to know; a verdict
on every row; and what a run would do."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from math import ceil
from typing import Any, Literal, NamedTuple
from weakref import finalize

from models.person import PERSON
from worker.intake.rows import Row, RowError, RowErrors
from worker.intake.shipment import Switches, open_scratch
from worker.pingone.devices import fold_case
from worker.pingone.errors import PingOneError
from worker.rules.hours import DailyHours
from worker.vault.otps import OtpPair, Seed

# Maximum serial numbers in a finding; `-o FILE` has them all.
NAMED = 5


class Level(StrEnum):
    """What a finding means for a load."""

    # No token of the shipment would become active, or somebody would be harmed.
    STOP = "stop"
    # The load continues only if a person accepts the finding by name.
    ASK = "ask"
    # Good to know.
    NOTE = "note"


# Findings that a person may accept. --accept takes these names in lower case.
Question = StrEnum(
    "Question",
    [
        "CLOCK",
        "ACCOUNT_NOT_USABLE",
        "COLUMN_ALIKE",
        "DEVICE_NOT_FOUND",
        "DEVICES_EXPIRE",
        "DEVICES_OLD",
        "LIST_LINES",
        "LOCKS_EARLY",
        "NOT_CONSECUTIVE",
        "NOT_IN_BOX",
        "NOTIFICATION",
        "OTHER_PERSON",
        "OTP_TYPE_MISSING",
        "PERSON_TWICE",
        "STALE_OTP",
        "TOKEN_DIFFERS",
        "TOKEN_NOT_IN_INVENTORY",
        "TOKEN_NOT_PAIRED",
        "TOKEN_TAKEN",
        "TOO_MANY_DEVICES",
        "USER_AMBIGUOUS",
        "USER_NOT_FOUND",
    ],
)


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found, in a sentence with the cure. `name` is the value for --accept; `tokens` counts the tokens
    concerned, `serials` names the first ones."""

    name: str
    level: Level
    text: str
    tokens: int = 0
    serials: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "level": self.level,
            "text": self.text,
            "tokens": self.tokens,
            "serials": list(self.serials),
        }


def name_tokens(name: str, level: Level, text: str, serials: Iterable[str]) -> list[Finding]:
    """Make the finding about these tokens, if there are any. `{n}` in the text is their number."""
    total, named = 0, list[str]()
    for total, serial in enumerate(serials, 1):
        if total <= NAMED:
            named.append(serial)
    return [Finding(name, level, text.format(n=total), total, tuple(named))] if total else []


class GoodRow(NamedTuple):
    """The values kept from a row that a load accepts: its person, its device, and its seed's parameters, which are None
    for a pair. `found_user_id`: the id of the person whom PingOne finds by name."""

    id: int
    row_number: int
    serial_number: str
    user_id: str | None
    found_user_id: str | None
    device_id: str | None
    username: str | None
    email: str | None
    external_id: str | None
    otp_type: str
    digits: int | None
    hash_algorithm: str | None
    time_step: int | None

    @property
    def known_user_id(self) -> str | None:
        """The id of the person who gets the token, in lower case; None if unknown."""
        return self.user_id or self.found_user_id


# Rows that a load accepts; the other rows; why a token would not become active, by serial number; and names of people
# who already have a token of the shipment.
_TABLES = """
    CREATE TABLE good (
        id INTEGER PRIMARY KEY, row_number INTEGER, serial_number TEXT, otp_type TEXT, lacks_type INTEGER,
        user_id TEXT, device_id TEXT, username TEXT, email TEXT, external_id TEXT, generated_at TEXT, not_before TEXT,
        hash_algorithm TEXT, digits INTEGER, time_step INTEGER, found_user_id TEXT, inventory TEXT
    );
    CREATE TABLE other (row_number INTEGER, serial_number TEXT, person TEXT, verdict TEXT, reason TEXT);
    CREATE TABLE doubt (serial_number TEXT PRIMARY KEY, finding TEXT, reason TEXT);
    CREATE TABLE owner (name TEXT);
"""
_COLUMNS = ", ".join(f"good.{name}" for name in GoodRow._fields)
# sqlite3 looks for an adapter for each None and each bool, which takes longer than everything else.
_INSERT = """
    INSERT INTO good VALUES (
        ?, ?, ?, ?, ?, nullif(?, ''), nullif(?, ''), nullif(?, ''), nullif(?, ''), nullif(?, ''), nullif(?, ''),
        nullif(?, ''), nullif(?, ''), nullif(?, 0), nullif(?, 0), NULL, NULL
    )
"""
# The order of names for a person: the id only if there is no name.
_NAMES = (*PERSON[1:], PERSON[0])
# Rows of people whom an earlier row names, or who own a token. Ids are in lower case already.
_FOLDED = {name: f"fold({name})" for name in PERSON} | {"user_id": "user_id"}
_NAMED = " UNION ALL ".join(
    f"SELECT id, '{name} ' || {folded} FROM good WHERE {name} IS NOT NULL" for name, folded in _FOLDED.items()
)
_SECOND = f"""
    id IN (
        SELECT id FROM (
            SELECT id, min(id) OVER (PARTITION BY name) AS first
            FROM (SELECT 0 AS id, name FROM owner UNION ALL {_NAMED})
        ) WHERE id > first
    )
"""
_LINES = f"""
    SELECT row_number, serial_number, person, verdict, reason FROM other
    UNION ALL
    SELECT row_number, serial_number, coalesce({", ".join(_NAMES)}, ''), coalesce(finding, 'ready'),
        coalesce(reason, '')
    FROM good LEFT JOIN doubt USING (serial_number)
    ORDER BY row_number
"""


class Verdicts:
    """The rows of a shipment, and what is wrong with those that would not become active. They are in a temporary
    database, so that memory does not grow with the file. It has neither secrets nor the file's own columns."""

    def __init__(self) -> None:
        # The readable contents of the file: how many tokens of each kind, and the first of each.
        self.kinds = Counter[str]()
        self.first: dict[str, Row] = {}
        # How many rows a load accepts.
        self.good = 0
        # The refused rows, and those refused because of our database.
        self.refused = RowErrors()
        self.refused_by_database = RowErrors()
        # Rows that are skipped on purpose, since their tokens are active in other batches.
        self.left_out = RowErrors()
        # Serial numbers of the list that the shipment lacks.
        self.not_in_box: list[str] = []
        self._scratch = open_scratch(_TABLES)
        self._scratch.create_function("fold", 1, fold_case, deterministic=True)
        finalize(self, self._scratch.close)

    @property
    def rows(self) -> int:
        """How many rows the shipment has."""
        return self.good + self.refused.total + self.left_out.total

    @property
    def are_all_left_out(self) -> bool:
        """Whether the load skips every row, since its token is active already."""
        return bool(self.left_out.total) and not (self.good or self.refused.total)

    def count_kind(self, row: Row) -> None:
        """Count a token that can be read."""
        kind = describe_kind(row)
        self.kinds[kind] += 1
        self.first.setdefault(kind, row)

    def take(self, rows: Sequence[Row]) -> None:
        """Note rows that a load accepts."""
        self._scratch.executemany(_INSERT, map(_list_values, range(self.good + 1, self.good + len(rows) + 1), rows))
        self.good += len(rows)

    def refuse(self, errors: Sequence[RowError], persons: Mapping[int, str], verdict: str = "refused") -> None:
        """Note rows that a load refuses, or skips if that is the verdict. `persons`: by row number, who is named by the
        row or by its line of the list."""
        values = (
            (error.row_number, error.serial_number, persons.get(error.row_number, ""), verdict, error.reason)
            for error in errors
        )
        self._scratch.executemany("INSERT INTO other VALUES (?, ?, ?, ?, ?)", values)
        (self.refused if verdict == "refused" else self.left_out).add(*errors)

    def find_commonest_reason(self) -> tuple[str, int]:
        """Find the most frequent reason of refused rows, and how many rows have it."""
        reasons = "SELECT reason, count(*) FROM other WHERE verdict = 'refused' GROUP BY reason"
        reason, times = self._scratch.execute(f"{reasons} ORDER BY count(*) DESC, min(rowid) LIMIT 1").fetchone()
        return reason, times

    def note_owners(self, names: Iterable[tuple[str, str]]) -> None:
        """Note the names of people who have an active token of the shipment, each with its kind."""
        self._scratch.executemany("INSERT INTO owner VALUES (?)", ((f"{kind} {name}",) for kind, name in names))

    def doubt(self, serial_number: str, name: str, reason: str) -> None:
        """Note why a token would not become active; the first reason stays."""
        self._scratch.execute("INSERT OR IGNORE INTO doubt VALUES (?, ?, ?)", (serial_number, name, reason))

    def doubt_where(self, condition: str, name: str, reason: str, *values: str) -> None:
        """Note why the tokens of all accepted rows that meet a condition would not become active, in the file's
        order."""
        doubts = f"SELECT serial_number, ?, ? FROM good WHERE {condition} ORDER BY id"
        self._scratch.execute(f"INSERT OR IGNORE INTO doubt {doubts}", (name, reason, *values))

    def doubt_second_tokens(self, reason: str) -> None:
        """Note which rows are for people who have an active token of the shipment, or get one by an earlier row. Names
        that differ only in case are the same person's."""
        self.doubt_where(_SECOND, "person_twice", reason)

    def forget_doubts(self, names: Iterable[str]) -> None:
        """Forget what was noted under these findings, because not all rows were checked."""
        self._scratch.executemany("DELETE FROM doubt WHERE finding = ?", ((name,) for name in names))

    def doubted(self, name: str) -> Iterator[str]:
        """The serial numbers under this finding."""
        found = self._scratch.execute("SELECT serial_number FROM doubt WHERE finding = ? ORDER BY rowid", (name,))
        return (serial for (serial,) in found)

    @property
    def doubts(self) -> int:
        """How many tokens would not become active."""
        return self._count("doubt", "true")

    def ask_about(self, texts: Mapping[str, str]) -> list[Finding]:
        """Make the findings about doubted tokens, by their names; each is a question."""
        return [
            finding
            for name, text in texts.items()
            for finding in name_tokens(name, Level.ASK, text, self.doubted(name))
        ]

    def count_where(self, condition: str) -> int:
        """Count the rows that a load accepts and that meet a condition."""
        return self._count("good", condition)

    def list_good(self, condition: str = "true", *values: str) -> Iterator[GoodRow]:
        """List the rows that a load accepts, in the file's order."""
        found = self._scratch.execute(f"SELECT {_COLUMNS} FROM good WHERE {condition} ORDER BY id", values)
        return map(GoodRow._make, found)

    def list_by_name(self, kind: str, condition: str) -> Iterator[GoodRow]:
        """List rows by this kind of name of their person, in the order in which the names first appear in the file."""
        order = f"min(id) OVER (PARTITION BY {kind}), id"
        found = self._scratch.execute(f"SELECT {_COLUMNS} FROM good WHERE {condition} ORDER BY {order}")
        return map(GoodRow._make, found)

    def count_names(self, kind: str, condition: str) -> Iterator[tuple[str, int]]:
        """List the names of this kind in the order in which they first appear in the file, and how many rows have
        each."""
        found = f"SELECT {kind}, count(*) FROM good WHERE {condition} GROUP BY {kind} ORDER BY min(id)"
        return iter(self._scratch.execute(found))

    def note_user(self, row: GoodRow, user_id: str) -> None:
        """Note the id of the person whom PingOne finds by the name that a row gives."""
        self._scratch.execute("UPDATE good SET found_user_id = ? WHERE id = ?", (user_id, row.id))

    def note_in_inventory(self, serial_number: str, state: Literal["free", "paired"]) -> list[GoodRow]:
        """Note whether a token of the inventory is free or paired. Returns the rows with its serial number, compared
        without regard to case, since PingOne may write it in a different case."""
        self._scratch.execute("CREATE INDEX IF NOT EXISTS good_by_serial ON good (lower(serial_number))")
        key = serial_number.lower()
        if rows := [*self.list_good("lower(serial_number) = ?", key)]:
            self._scratch.execute("UPDATE good SET inventory = ? WHERE lower(serial_number) = ?", (state, key))
        return rows

    def list_user_ids(self) -> Iterator[str]:
        """List the ids of all known people, each once, in the file's order."""
        known = "SELECT id, coalesce(user_id, found_user_id) AS person FROM good"
        known = f"SELECT person FROM ({known}) WHERE person IS NOT NULL GROUP BY person ORDER BY min(id)"
        return (person for (person,) in self._scratch.execute(known))

    def count_expected(self, accepted: Collection[str] = ()) -> tuple[int, int, int]:
        """Count the rows that would be activated, because there is no finding about them, or an `accepted` one. Also
        count those whose tokens would be imported, and those whose tokens would be paired, as far as the inventory is
        known."""
        is_paired = "device_id IS NULL AND inventory IS NOT 'paired'"
        counts = f"count(*), count(*) - count(inventory), count(*) FILTER (WHERE {is_paired})"
        ((total, imports, devices),) = self._select_expected(counts, accepted)
        return total, imports, devices

    def count_dates(self, accepted: Collection[str] = ()) -> Counter[datetime | None]:
        """Count the rows that would be activated by their start date."""
        counts = self._select_expected("not_before, count(*)", accepted, "GROUP BY not_before")
        return Counter({datetime.fromisoformat(date) if date else None: count for date, count in counts})

    def lines(self, listed: Mapping[str, Row]) -> Iterator[tuple[str, ...]]:
        """Every row in the file's order, then the lines that only the list has. Each has the numbers of the row and of
        its line in the list, serial number, person, verdict, and reason. `listed`: the list's lines, by serial number
        in lowercase."""
        for number, serial, person, verdict, reason in self._scratch.execute(_LINES):
            line = listed.get((serial or "").lower())
            person = person or (name_person(line) if line else "")
            yield str(number), str(line.row_number) if line else "", serial or "", person, verdict, reason
        for serial in self.not_in_box:
            line, reason = listed[serial.lower()], "the box has no such serial number"
            yield "", str(line.row_number), serial, name_person(line), "not_in_box", reason

    def _count(self, table: str, condition: str) -> int:
        (count,) = self._scratch.execute(f"SELECT count(*) FROM {table} WHERE {condition}").fetchone()
        return int(count)

    def _select_expected(self, columns: str, accepted: Collection[str], group: str = "") -> Iterable[Any]:
        is_accepted = f"finding IS NULL OR finding IN ({', '.join('?' * len(accepted))})"
        expected = f"SELECT {columns} FROM good LEFT JOIN doubt USING (serial_number) WHERE {is_accepted} {group}"
        return self._scratch.execute(expected, (*accepted,))


def _list_values(number: int, row: Row) -> tuple[int | str, ...]:
    """List the values for `_INSERT`, without None."""
    seed = row.otps if isinstance(row.otps, Seed) else None
    return (
        *(number, row.row_number, row.serial_number, row.otp_type, int(row.lacks_type)),
        *(row.user_id or "", row.device_id or "", row.username or "", row.email or "", row.external_id or ""),
        *(write_date(row.generated_at), write_date(row.not_before), seed.hash_algorithm if seed else ""),
        *(seed.digits if seed else 0, seed.time_step or 0 if seed else 0),
    )


def write_date(date: datetime | None) -> str:
    """Write a date in UTC so that earlier ones sort first; empty if there is none."""
    return date.isoformat(timespec="microseconds") if date else ""


def name_person(row: Row) -> str:
    """The name by which a row says who gets its token, the id only if it has no other; empty if it names nobody."""
    return next((value for name in _NAMES if (value := getattr(row, name))), "")


def describe_kind(row: Row) -> str:
    """Describe what a row brings: `HOTP seed, 6 digits` or `TOTP pair`."""
    otps = row.otps
    if otps is None:
        return f"{row.otp_type.upper()} token that comes back, without OTPs"
    if isinstance(otps, OtpPair):
        return f"{row.otp_type.upper()} pair" + ("" if otps.second else " without a second OTP")
    step = f", {otps.time_step} s, {otps.hash_algorithm.upper().replace('SHA', 'SHA-')}" if otps.time_step else ""
    return f"{otps.otp_type.upper()} seed, {otps.digits} digits{step}"


class NotReady(Exception):
    """A shipment is not loaded because of its preflight's findings; the message says what to do."""


class NotPingOne(Exception):
    """Something else answers in PingOne's place, so a load would be useless; the message says what to check. `place`:
    the setting with the URL, and the URL."""

    def __init__(self, place: str, failure: PingOneError) -> None:
        super().__init__(
            f"PingOne answered none of the reads: the answer from {place} was {failure}. Check this URL, the proxy, "
            f"and the network with `oathbulk doctor`, or skip PingOne with --offline"
        )


@dataclass(slots=True)
class Report:
    """The findings of a preflight. `unknown` says what could not be read, and why; `is_complete` is False if PingOne
    should have been asked but could not be. `batch`: the name of the batch that was already loaded from this file."""

    verdicts: Verdicts
    findings: list[Finding] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    requests: int = 0
    is_complete: bool = True
    # Requests a second that the batch begins with, or the license's if lower (`is_rate_bought`).
    rate: float = 0.0
    is_rate_bought: bool = False
    batch: str | None = None

    def blocking(self, accepted: frozenset[str]) -> list[Finding]:
        """What prevents the load: everything that stops it, and questions that were not accepted."""
        return [
            finding
            for finding in self.findings
            if finding.level == Level.STOP or (finding.level == Level.ASK and finding.name not in accepted)
        ]

    def keep_to_license(self, bought: float | None) -> None:
        """Use the license's requests a second if lower. None: unknown."""
        if bought and bought < self.rate:
            self.rate, self.is_rate_bought = bought, True

    def choose_accepted(self, accepted: frozenset[str]) -> list[str]:
        """The names of the questions that were asked and that a person accepts."""
        return [finding.name for finding in self.findings if finding.level == Level.ASK and finding.name in accepted]


@dataclass(frozen=True, slots=True)
class ExpectedWork:
    """What a run would do. `tokens` become active, unless an unknown problem comes up. `imports` and `devices`, the
    tokens to import and the devices to make, are upper limits unless `is_exact`: then the rows were compared with
    PingOne's inventory. `seconds`: how long the requests take at the report's rate. `days`: on how many days the batch
    works, if it has hours."""

    tokens: int
    imports: int
    devices: int
    is_exact: bool
    requests: int
    seconds: float
    days: int | None


# Requests per record: one post if the token is in step, two if it is not, as is usual for a fifth of the tokens.
REQUESTS_PER_RECORD = 1.2
# Requests before that for a record without a device.
REQUESTS_PER_PAIRING = 1.0


def expect_work(
    report: Report, switches: Switches, hours: DailyHours | None, accepted: Collection[str] = ()
) -> ExpectedWork:
    """Count what a run would do with the rows that would be activated. `accepted`: findings that a person accepts."""
    tokens, imports, devices = report.verdicts.count_expected(accepted)
    # Whether the rows were compared with PingOne's inventory.
    is_exact = (
        report.is_complete
        and report.requests > 0
        and not any(text.startswith("the inventory:") for text in report.unknown)
    )
    requests = tokens * REQUESTS_PER_RECORD + devices * REQUESTS_PER_PAIRING
    seconds = requests / report.rate
    return ExpectedWork(
        tokens=tokens,
        imports=imports if switches.may_import else 0,
        devices=devices if switches.may_pair else 0,
        is_exact=is_exact,
        requests=round(requests),
        seconds=seconds,
        days=max(1, ceil(seconds / hours.seconds)) if hours else None,
    )
