"""When a batch was paused, as far as the audit tells. Pure.

The audit has a line for each command of a person. A batch that paused by itself leaves none; but the command that let
it run again names the reason. Then the pause began at some moment after the last token that was settled before."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime

from models.audit import Action
from worker.reports.batch_report.contents import Command, Pause, State

# Commands that end a pause.
_ENDING = (Action.RESUME, Action.REPLAY, Action.CANCEL)
# The state of a batch that no work is done on.
_PAUSED = "paused"


def find_pauses(commands: Iterable[Command], settled: Sequence[float], state: State, made_at: datetime) -> list[Pause]:
    """The pauses in their order. `settled`: when tokens were settled, as seconds since 1970 in ascending order."""
    return [*_find_commanded(commands, settled, state), *_find_present(commands, settled, state, made_at)]


def _find_commanded(commands: Iterable[Command], settled: Sequence[float], state: State) -> Iterator[Pause]:
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
    if begun is not None and state.word == _PAUSED:
        yield Pause(begun.at, None, f"paused by {begun.actor}")


def _find_present(
    commands: Iterable[Command], settled: Sequence[float], state: State, made_at: datetime
) -> Iterator[Pause]:
    """The pause that lasts, if the batch began it by itself."""
    if state.word != _PAUSED or state.reason is None:
        return
    last = next((each for each in reversed([*commands]) if each.action in (Action.PAUSE, *_ENDING)), None)
    since = _find_last_before(settled, made_at)
    if since is not None and (last is None or last.action != Action.PAUSE):
        yield Pause(since, None, f"paused by itself: {state.reason}", is_start_known=False)


def _find_last_before(settled: Sequence[float], at: datetime) -> datetime | None:
    """When the last token before a moment was settled."""
    place = bisect_right(settled, at.timestamp())
    return datetime.fromtimestamp(settled[place - 1], at.tzinfo) if place else None
