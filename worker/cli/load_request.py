"""What a person asks for when a shipment is loaded, as the options of `load`, `run` and `check` say it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer

from worker.cli.options import (
    Canary,
    EnvironmentName,
    Hours,
    NewBatchName,
    Offline,
    Share,
    Ticket,
    Zone,
    parse_hours,
)
from worker.cli.source_options import SourceOptions
from worker.config.environment import DEFAULT_ENVIRONMENT
from worker.preflight.findings import Question
from worker.rules.hours import DailyHours

# Here and not among the other options: what it takes is known where shipments are read, which few commands do.
Accept = Annotated[
    list[Question] | None, typer.Option("--accept", metavar="NAME", help="Go on in spite of this finding; repeatable.")
]


@dataclass(frozen=True, slots=True)
class LoadRequest:
    """What a person asks for when a shipment is loaded: what the options of `load`, `run` and `check` say. `share` is a
    part of the ceiling, above 0 and up to 1; `canary` the number of records after which the batch pauses. `offline`:
    PingOne is asked nothing before; `accepted`: findings of the preflight that do not keep it from being loaded;
    `source`: how the file is read."""

    name: str
    environment: str = DEFAULT_ENVIRONMENT
    canary: int | None = None
    ticket: str | None = None
    hours: DailyHours | None = None
    share: float | None = None
    offline: bool = False
    accepted: frozenset[str] = frozenset()
    source: SourceOptions = field(default_factory=SourceOptions)

    def to_words(self) -> list[str]:
        """Write these options as they are typed, but for those that have their defaults."""
        words = ["--batch", self.name, *self._name_environment()]
        if self.canary is not None:
            words += ["--canary", str(self.canary)]
        if self.share is not None:
            words += ["--share", f"{self.share!r}"]
        if self.hours is not None:
            words += ["--window", self.hours.hours, "--zone", self.hours.zone]
        words += ["--offline"] * self.offline
        for name in sorted(self.accepted):
            words += ["--accept", name]
        return words + (["--ticket", self.ticket] if self.ticket else []) + self.source.to_words()

    def to_check_words(self) -> list[str]:
        """Write those of these options that `oathbulk check` takes and that say what it finds."""
        return [*self._name_environment(), *["--offline"] * self.offline, *self.source.to_words()]

    def _name_environment(self) -> list[str]:
        return [] if self.environment == DEFAULT_ENVIRONMENT else ["--environment", self.environment]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadOptions:
    """The options of `load`, `run` and `check` that say what is asked for, a field each, as they are typed."""

    batch: NewBatchName = None
    environment: EnvironmentName = DEFAULT_ENVIRONMENT
    canary: Canary = None
    share: Share = None
    window: Hours = None
    zone: Zone = None
    offline: Offline = False
    accept: Accept = None
    ticket: Ticket = None

    def read(self, file: Path, source: SourceOptions) -> LoadRequest:
        """Read what is asked for of this file, which is read as `source` says. Raises typer.BadParameter."""
        return LoadRequest(
            # Nobody sees the blanks around a name, and nobody would type them again.
            name=(self.batch or file.stem).strip(),
            environment=self.environment,
            canary=self.canary,
            ticket=self.ticket,
            hours=parse_hours(self.window, self.zone),
            share=self.share,
            offline=self.offline,
            accepted=frozenset(map(str, self.accept or ())),
            source=source,
        )
