"""What a plan holds: everything that its page and its JSON tell. The command fills it in; nothing here is secret."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Source:
    """The files that are loaded. `format` is the name of the file's format; of the list of who gets what, both are None
    where there is none."""

    file: str
    sha256: str
    format: str
    list_file: str | None = None
    list_sha256: str | None = None


@dataclass(frozen=True, slots=True)
class Target:
    """Where the batch goes. Hosts are those of the API and of the token endpoint."""

    batch: str
    environment: str
    environment_id: str
    api_host: str
    token_host: str
    license: str


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the file with few values, and how many tokens have each of them."""

    name: str
    values: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Numbers:
    """How many rows there are of each kind, and what is done for them.

    `tokens` are the rows that the load takes, `ready` those of them against which nothing was found. `imports` and
    `pairings` are counts at most, unless `is_exact`: then PingOne's inventory was compared. `hotp_seeds` are HOTP
    tokens whose OTPs are made from their seeds."""

    tokens: int
    ready: int
    refused: int
    already_active: int
    imports: int
    pairings: int
    hotp_seeds: int
    is_exact: bool
    post_budget: int
    max_attempts: int


@dataclass(frozen=True, slots=True)
class FindingLine:
    """A finding of the preflight. `level` is stop, ask or note; `serials` names some of the tokens."""

    name: str
    level: str
    text: str
    serials: tuple[str, ...] = ()
    is_accepted: bool = False

    @property
    def is_blocking(self) -> bool:
        """Whether nothing is loaded because of it."""
        return self.level == "stop" or (self.level == "ask" and not self.is_accepted)


@dataclass(frozen=True, slots=True)
class Preflight:
    """What the preflight found, and what it could not find out. `is_asked`: PingOne was asked, and answered."""

    findings: tuple[FindingLine, ...]
    unknown: tuple[str, ...]
    is_asked: bool
    is_complete: bool

    def find(self, name: str) -> FindingLine | None:
        """Find the finding of this name."""
        return next((finding for finding in self.findings if finding.name == name), None)

    @property
    def blocking(self) -> list[str]:
        """The names of the findings because of which nothing is loaded."""
        return [finding.name for finding in self.findings if finding.is_blocking]


@dataclass(frozen=True, slots=True)
class Timing:
    """How long it takes. `requests` and `seconds` are estimates at `rate` requests a second, which is all that the
    license has if `is_rate_bought`; `hours` is how the daily hours are written, and `hours_seconds` how long they
    last."""

    requests: int
    seconds: float
    rate: float
    share: float | None = None
    canary: int | None = None
    hours: str | None = None
    hours_seconds: float | None = None
    is_rate_bought: bool = False


@dataclass(frozen=True, slots=True)
class SettingLine:
    """A setting that is in force: its variable, its value (of a secret, whether it is set), where it comes from, and
    whether the hash of the plan covers it."""

    name: str
    value: str
    origin: str
    is_hashed: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """A plan. `hash` is the fingerprint of `parts`; `command` is what to type next: it starts the batch, or makes
    the plan anew if something blocks it."""

    hash: str
    parts: Mapping[str, object]
    made_at: datetime
    made_by: str
    version: str
    command: str
    ticket: str | None
    may_import: bool
    may_pair: bool
    source: Source
    target: Target
    numbers: Numbers
    columns: tuple[Column, ...]
    preflight: Preflight
    timing: Timing
    settings: tuple[SettingLine, ...]
