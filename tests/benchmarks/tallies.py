"""What a tally of the simulator's says about a run: how much of its limit was used, and how much was refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class Share:
    """`used` of what the limit permitted, `limited` of all requests that came."""

    used: float
    limited: float


@dataclass(frozen=True, slots=True)
class Second:
    permitted: float
    let_through: int
    limited: int


class Tally:
    """Second by second, those without a request too."""

    def __init__(self, seconds: Sequence[Second]) -> None:
        self._seconds = seconds

    @classmethod
    def read(cls, told: Sequence[dict[str, Any]]) -> Self:
        """From the control API, which leaves out seconds without a request: they had the rate of the one before."""
        seconds: list[Second] = []
        for second in told:
            while seconds and second["at"] > told[0]["at"] + len(seconds):
                seconds.append(Second(seconds[-1].permitted, 0, 0))
            seconds.append(Second(second["rate"], second["let_through"], second["limited"]))
        return cls(seconds)

    def whole(self) -> Share:
        """Of the first and the last second nobody knows how long they were: as long as what was used in them."""
        edges = {0, len(self._seconds) - 1}
        permitted = sum(
            min(second.permitted, second.let_through) if number in edges else second.permitted
            for number, second in enumerate(self._seconds)
        )
        return self._share(self._seconds, permitted)

    def steady(self) -> Share:
        """Without the first and the last tenth of the time."""
        tenth = max(1, len(self._seconds) // 10)
        middle = self._seconds[tenth:-tenth]
        return self._share(middle, sum(second.permitted for second in middle))

    def as_series(self) -> list[tuple[float, int, int]]:
        """(permitted, let through, limited), a second each."""
        return [(second.permitted, second.let_through, second.limited) for second in self._seconds]

    @staticmethod
    def _share(seconds: Sequence[Second], permitted: float) -> Share:
        let_through = sum(second.let_through for second in seconds)
        limited = sum(second.limited for second in seconds)
        return Share(let_through / permitted if permitted else 0.0, limited / ((let_through + limited) or 1))
