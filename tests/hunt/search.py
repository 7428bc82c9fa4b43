"""Many seeds; and of one that fails, the few evils that it needs."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from hunt.strands import Broken
from hunt.world import World


@dataclass(frozen=True)
class Finding:
    """A schedule that breaks a promise, and how to see it again."""

    seed: int
    charge: str
    without: Collection[str] = ()
    steps: int | None = None

    def __str__(self) -> str:
        how = f"python -m hunt --replay {self.seed}"
        if self.steps is not None:
            how += f" --steps {self.steps}"
        if self.without:
            how += f" --without {','.join(sorted(self.without))}"
        return f"seed {self.seed}: {self.charge}\n  {how}"


def run(seed: int, without: Collection[str] = (), steps: int | None = None) -> Finding | None:
    """One schedule; None if it keeps the promises."""
    try:
        World(seed, without, steps).run()
    except Broken as broken:
        return Finding(seed, str(broken), without, steps)
    return None


def first(seeds: Iterable[int]) -> tuple[Finding | None, int]:
    """The first of these schedules that fails, and how many were run."""
    count = 0
    for seed in seeds:
        count += 1
        if found := run(seed):
            return found, count
    return None, count


def find(begin: int, count: int) -> list[Finding]:
    """Those of so many schedules that failed, each shrunk."""
    found = [run(seed) for seed in range(begin, begin + count)]
    return [shrink(finding) for finding in found if finding is not None]


def shrink(finding: Finding) -> Finding:
    """The same seed with a shorter storm and fewer evils, as long as it fails; a few dozen schedules."""
    steps = finding.steps
    if steps is None:
        steps = World(finding.seed).steps
    while steps > 1 and (shorter := run(finding.seed, finding.without, steps * 3 // 4)):
        finding, steps = shorter, steps * 3 // 4
    for evil in sorted(_happened(finding)):
        if fewer := run(finding.seed, {*finding.without, evil}, finding.steps):
            finding = fewer
    return finding


def tell(finding: Finding) -> list[str]:
    """What happened, event by event."""
    world = World(finding.seed, finding.without, finding.steps, tell=True)
    try:
        world.run()
    except Broken as broken:
        return [*(world.told or []), f"BROKEN: {broken}"]
    return [*(world.told or []), "kept every promise"]


def _happened(finding: Finding) -> set[str]:
    world = World(finding.seed, finding.without, finding.steps)
    try:
        world.run()
    except Broken:
        return world.dice.happened
    return set()
