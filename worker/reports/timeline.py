"""When the tokens of a batch became active, and when it was paused, as far as the audit tells. Pure.

The audit has a line for each command of a person. A batch that paused by itself leaves none; but the command that let
it run again names the reason. Then the pause began at some moment after the last token that was settled before."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from models.audit import Action
from models.batch import BatchState
from worker.reports.audited import Command
from worker.reports.curve import Curve
from worker.reports.facts import BatchStatus

# States in which nothing more is settled.
_OVER = ("finished", BatchState.CANCELLED)
# Commands that end a pause.
_ENDING = (Action.RESUME, Action.REPLAY, Action.CANCEL)


@dataclass(frozen=True, slots=True)
class Pause:
    """A time in which no call started, as far as the audit tells. Where `is_start_known` is False, the batch paused by
    itself, at some moment after `start`, when it last settled a token."""

    start: datetime
    # None: it still lasts.
    end: datetime | None
    why: str
    is_start_known: bool = True


@dataclass(frozen=True, slots=True)
class Timeline:
    """Tokens that are active now, by the time at which they became so: `moments` are times with the number of tokens
    that were active by then. `until` is when the last token was settled; while some are not, when this was read."""

    since: datetime
    until: datetime
    moments: tuple[tuple[datetime, int], ...]
    pauses: tuple[Pause, ...]


def make_timeline(curve: Curve, commands: Sequence[Command], status: BatchStatus, made_at: datetime) -> Timeline:
    """The timeline of a batch since it was loaded: up to the last token that was settled, or until now while the batch
    is not finished."""
    is_over = status.state in _OVER and curve.settled
    return Timeline(
        since=status.created_at,
        until=datetime.fromtimestamp(curve.settled[-1], UTC) if is_over else made_at,
        moments=curve.moments,
        pauses=tuple(find_pauses(commands, curve.settled, status, made_at)),
    )


def find_pauses(
    commands: Sequence[Command], settled: Sequence[float], status: BatchStatus, made_at: datetime
) -> list[Pause]:
    """The pauses in their order. `settled`: when tokens were settled, as seconds since 1970 in ascending order."""
    return [*_find_commanded(commands, settled, status), *_find_present(commands, settled, status, made_at)]


def _find_commanded(commands: Sequence[Command], settled: Sequence[float], status: BatchStatus) -> Iterator[Pause]:
    """Pauses that a person began or ended."""
    begun: Command | None = None
    for command in commands:
        if command.action == Action.PAUSE:
            begun = begun or command
        elif command.action in _ENDING:
            reason = command.facts.get("reason")
            if begun is not None:
                yield Pause(begun.at, command.at, f"paused by {begun.actor}")
            elif reason is not None and command.action == Action.RESUME:
                since = _find_last_before(settled, command.at)
                if since is not None:
                    yield Pause(since, command.at, f"paused by itself: {reason}", is_start_known=False)
            begun = None
    if begun is not None and status.state == BatchState.PAUSED:
        yield Pause(begun.at, None, f"paused by {begun.actor}")


def _find_present(
    commands: Sequence[Command], settled: Sequence[float], status: BatchStatus, made_at: datetime
) -> Iterator[Pause]:
    """The pause that lasts, if the batch began it by itself."""
    if status.state != BatchState.PAUSED or status.reason is None:
        return
    last = next((each for each in reversed(commands) if each.action in (Action.PAUSE, *_ENDING)), None)
    since = _find_last_before(settled, made_at)
    if since is not None and (last is None or last.action != Action.PAUSE):
        yield Pause(since, None, f"paused by itself: {status.reason}", is_start_known=False)


def _find_last_before(settled: Sequence[float], at: datetime) -> datetime | None:
    """When the last token before a moment was settled."""
    place = bisect_right(settled, at.timestamp())
    return datetime.fromtimestamp(settled[place - 1], at.tzinfo) if place else None
