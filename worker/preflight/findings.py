"""What comes out of a preflight: its findings, which stop a shipment, have to be accepted by a person, or are good to
know; a verdict on every row; and what a run would do."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from math import ceil
from operator import itemgetter
from typing import Any

from models.person import PERSON
from worker.intake.rows import Row, RowError
from worker.intake.shipment import Switches
from worker.pingone.errors import PingOneError
from worker.rules.hours import DailyHours
from worker.vault.otps import OtpPair

# Serial numbers that a finding names at most; `-o FILE` has them all.
NAMED = 5


class Level(StrEnum):
    """What a finding means for a load."""

    # Nothing of the shipment would become active, or somebody would be harmed.
    STOP = "stop"
    # It goes on only if a person accepts it by name.
    ASK = "ask"
    # Good to know.
    NOTE = "note"


# Findings that a person may accept, by the names that --accept takes, which are these in small letters.
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
    """What was found, in a sentence with the cure. `name` is what --accept takes; `tokens` says how many tokens it
    concerns, `serials` names the first of them."""

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
    """Make the finding about these tokens; none if there are none. `{n}` in the text is how many they are."""
    named = list(serials)
    if not named:
        return []
    return [Finding(name, level, text.format(n=len(named)), len(named), tuple(named[:NAMED]))]


@dataclass(slots=True)
class Verdicts:
    """The rows of a shipment, and what is wrong with those that would not become active."""

    # What the file brings, as far as it can be read: how many tokens of each kind, and the first of each.
    kinds: Counter[str] = field(default_factory=Counter)
    first: dict[str, Row] = field(default_factory=dict)
    # The rows that a load takes, and those that it refuses.
    good: list[Row] = field(default_factory=list)
    refused: list[RowError] = field(default_factory=list)
    # Those of the refused that are so for what our database holds.
    refused_by_database: list[RowError] = field(default_factory=list)
    # Rows that a load leaves out on purpose, since their tokens are active in other batches.
    left_out: list[RowError] = field(default_factory=list)
    # By serial number: the name of the finding, and why this token would not become active.
    doubts: dict[str, tuple[str, str]] = field(default_factory=dict)
    # Rows whose tokens are active in other batches, whether they are refused or left out for it.
    active: list[Row] = field(default_factory=list)
    # By row number: the person whom the row names, or its line of the list.
    persons: dict[int, str] = field(default_factory=dict)
    # Serial numbers of the list that the shipment does not have.
    not_in_box: list[str] = field(default_factory=list)
    # By row number: the id of the person whom PingOne finds by the name that the row gives.
    found_users: dict[int, str] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """How many rows the shipment has."""
        return len(self.good) + len(self.refused) + len(self.left_out)

    @property
    def are_all_left_out(self) -> bool:
        """Whether the load leaves out every row, since its token is active already."""
        return bool(self.left_out) and not (self.good or self.refused)

    def count_kind(self, row: Row) -> None:
        """Count a token that can be read."""
        kind = describe_kind(row)
        self.kinds[kind] += 1
        self.first.setdefault(kind, row)

    def find_user_id(self, row: Row) -> str | None:
        """The id of the person who gets the token of a row, in small letters; None where it is not known."""
        return row.user_id or self.found_users.get(row.row_number)

    def doubt(self, row: Row, name: str, reason: str) -> None:
        """Note why a token would not become active; the first reason stays."""
        self.doubts.setdefault(row.serial_number, (name, reason))

    def doubted(self, name: str) -> list[str]:
        """The serial numbers that stand under this finding."""
        return [serial for serial, (found, _) in self.doubts.items() if found == name]

    def ask_about(self, texts: Mapping[str, str]) -> list[Finding]:
        """Make the findings about doubted tokens, by their names; each is a question."""
        return [
            finding
            for name, text in texts.items()
            for finding in name_tokens(name, Level.ASK, text, self.doubted(name))
        ]

    def list_expected(self, accepted: Collection[str] = ()) -> list[Row]:
        """The rows that would be activated: nothing is asked about them, or it is `accepted`."""
        return [
            row for row in self.good if (doubt := self.doubts.get(row.serial_number)) is None or doubt[0] in accepted
        ]

    def lines(self, listed: Mapping[str, Row]) -> Iterator[tuple[str, ...]]:
        """Every row in the file's order, and what only the list has: the number of the row, and of its line of the
        list, serial number, person, verdict and reason. `listed`: the list's lines, by serial number in lowercase."""
        lines = [(error.row_number, error.serial_number, "refused", error.reason) for error in self.refused]
        lines += [(error.row_number, error.serial_number, "left_out", error.reason) for error in self.left_out]
        for row in self.good:
            lines.append((row.row_number, row.serial_number, *self.doubts.get(row.serial_number, ("ready", ""))))
        for number, serial, verdict, reason in sorted(lines, key=itemgetter(0)):
            line = listed.get((serial or "").lower())
            person = self.persons.get(number) or (name_person(line) if line else "")
            yield str(number), str(line.row_number) if line else "", serial or "", person, verdict, reason
        for serial in self.not_in_box:
            line, reason = listed[serial.lower()], "the box has no such serial number"
            yield "", str(line.row_number), serial, name_person(line), "not_in_box", reason


def name_person(row: Row) -> str:
    """The name by which a row says who gets its token, the id only if it has no other; empty where it names nobody."""
    return next((value for name in (*PERSON[1:], PERSON[0]) if (value := getattr(row, name))), "")


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
    """A shipment is not loaded, for what its preflight has found; the message says what to do."""


class NotPingOne(Exception):
    """What should be PingOne answers nothing as PingOne does, so that nothing would become of a load; the message says
    what to look at. `place`: the setting with the URL that was asked, and the URL."""

    def __init__(self, place: str, failure: PingOneError) -> None:
        super().__init__(
            f"PingOne answered no read: at {place} came {failure}. Look at this URL, the proxy and the network with"
            " `oathbulk doctor`, or leave PingOne out with --offline"
        )


@dataclass(slots=True)
class Report:
    """What a preflight has found. `unknown` says what could not be read, and why; `is_complete` is False where PingOne
    should have been asked, and could not be. `batch`: the name of the batch that this very file is already."""

    verdicts: Verdicts
    findings: list[Finding] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    requests: int = 0
    is_complete: bool = True
    # Requests a second that the batch begins with, or the license's if it has fewer (`is_rate_bought`).
    rate: float = 0.0
    is_rate_bought: bool = False
    batch: str | None = None

    def blocking(self, accepted: frozenset[str]) -> list[Finding]:
        """What keeps the shipment from being loaded: all that stops it, and what is asked and not accepted."""
        return [
            finding
            for finding in self.findings
            if finding.level == Level.STOP or (finding.level == Level.ASK and finding.name not in accepted)
        ]

    def keep_to_license(self, bought: float | None) -> None:
        """Count with the requests a second that the license has, if these are fewer. None: not known."""
        if bought and bought < self.rate:
            self.rate, self.is_rate_bought = bought, True

    def choose_accepted(self, accepted: frozenset[str]) -> list[str]:
        """Of the findings that a person accepts, those that were made and asked about."""
        return [finding.name for finding in self.findings if finding.level == Level.ASK and finding.name in accepted]


@dataclass(frozen=True, slots=True)
class ExpectedWork:
    """What a run would do. `tokens` become active, unless something is wrong that was not found. `imports` and
    `devices`, the tokens to be imported and the devices to be made, are upper limits unless `is_exact`: then the rows
    were compared with PingOne's inventory. `seconds`: how long the requests take at the report's rate. `days`: on how
    many days it works where the batch has hours."""

    tokens: int
    imports: int
    devices: int
    is_exact: bool
    requests: int
    seconds: float
    days: int | None


# Requests of a record: one post if the token is in step, two if not, as usually a fifth of them.
REQUESTS_PER_RECORD = 1.2
# Requests before that, if it has no device.
REQUESTS_PER_PAIRING = 1.0


def expect_work(
    report: Report, switches: Switches, hours: DailyHours | None, accepted: Collection[str] = ()
) -> ExpectedWork:
    """Count what a run would do with the rows that would be activated. `accepted`: findings that a person accepts."""
    good = report.verdicts.list_expected(accepted)
    without_device = sum(row.device_id is None for row in good)
    noted = {finding.name: finding.tokens for finding in report.findings if finding.level == Level.NOTE}
    # Whether the rows were compared with PingOne's inventory.
    is_exact = (
        report.is_complete
        and report.requests > 0
        and not any(text.startswith("the inventory:") for text in report.unknown)
    )
    imports = noted.get("token_not_in_inventory", 0) if is_exact else len(good)
    devices = noted.get("token_not_paired", 0) + imports if is_exact else without_device
    requests = len(good) * REQUESTS_PER_RECORD + without_device * REQUESTS_PER_PAIRING
    seconds = requests / report.rate
    return ExpectedWork(
        tokens=len(good),
        imports=min(imports, len(good)) if switches.may_import else 0,
        devices=min(devices, without_device) if switches.may_pair else 0,
        is_exact=is_exact,
        requests=round(requests),
        seconds=seconds,
        days=max(1, ceil(seconds / hours.seconds)) if hours else None,
    )
