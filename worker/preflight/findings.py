"""What comes out of a preflight: its findings, which stop a shipment, have to be accepted by a person, or are good to
know; a verdict on every row; and what a run would do."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from math import ceil
from typing import Any

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

    def lines(self) -> list[tuple[int, str, str, str]]:
        """Every row in the file's order: its number, its serial number, its verdict and the reason."""
        lines = [(error.row_number, error.serial_number or "", "refused", error.reason) for error in self.refused]
        lines += [(error.row_number, error.serial_number or "", "left_out", error.reason) for error in self.left_out]
        for row in self.good:
            name, reason = self.doubts.get(row.serial_number, ("ready", ""))
            lines.append((row.row_number, row.serial_number, name, reason))
        return sorted(lines)


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
    # Seconds that the batch takes at `rate` requests a second: those that it begins with, or the license's if it has
    # fewer (`is_rate_bought`).
    seconds: float = 0.0
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
        """Count the seconds at the requests a second that the license has, if these are fewer. None: not known."""
        if bought and bought < self.rate:
            self.seconds *= self.rate / bought
            self.rate, self.is_rate_bought = bought, True

    def choose_accepted(self, accepted: frozenset[str]) -> list[str]:
        """Of the findings that a person accepts, those that were made and asked about."""
        return [finding.name for finding in self.findings if finding.level == Level.ASK and finding.name in accepted]


@dataclass(frozen=True, slots=True)
class ExpectedWork:
    """What a run would do. `tokens` become active, unless something is wrong that was not found. `imports` and
    `devices`, the tokens to be imported and the devices to be made, are upper limits unless `is_exact`: then the rows
    were compared with PingOne's inventory. `days`: on how many days it works where the batch has hours."""

    tokens: int
    imports: int
    devices: int
    is_exact: bool
    requests: int
    days: int | None


def expect_work(report: Report, switches: Switches, hours: DailyHours | None) -> ExpectedWork:
    """Count what a run would do with the rows that a load takes."""
    good = report.verdicts.good
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
    return ExpectedWork(
        tokens=len(good) - len(report.verdicts.doubts),
        imports=imports if switches.may_import else 0,
        devices=min(devices, without_device) if switches.may_pair else 0,
        is_exact=is_exact,
        requests=round(report.seconds * report.rate),
        days=max(1, ceil(report.seconds / hours.seconds)) if hours else None,
    )
