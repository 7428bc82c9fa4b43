"""Many seeds; and of one that fails, the few evils that it needs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from hunt.scenario import Scenario
from hunt.schedule import Broken, Dice


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


@dataclass
class Hunted:
    """Many schedules: those that failed, each shrunk; and what was in all of them."""

    findings: list[Finding] = field(default_factory=list)
    schedules: int = 0
    records: int = 0
    # How often each evil came.
    evils: Counter[str] = field(default_factory=Counter)

    def add(self, other: Hunted) -> None:
        self.findings += other.findings
        self.schedules += other.schedules
        self.records += other.records
        self.evils += other.evils


def run(seed: int, without: Collection[str] = (), steps: int | None = None) -> Finding | None:
    """One schedule; None if it keeps the promises."""
    return _judge(Scenario(seed, without, steps), without, steps)


def first(seeds: Iterable[int], charge: str = "", amid: Collection[str] = ()) -> Finding | None:
    """The first of those of these schedules that know these evils that fails with such a charge."""
    tried = (seed for seed in seeds if all(map(Dice(seed).knows, amid)))
    return next((found for seed in tried if (found := run(seed)) and charge in found.charge), None)


def find(begin: int, count: int) -> Hunted:
    """So many schedules."""
    hunted = Hunted()
    for seed in range(begin, begin + count):
        scenario = Scenario(seed)
        if finding := _judge(scenario):
            hunted.findings.append(shrink(finding))
        hunted.schedules += 1
        hunted.records += len(scenario.step_judge.rows)
        hunted.evils += scenario.dice.happened
    return hunted


def shrink(finding: Finding) -> Finding:
    """The same seed with a shorter storm and fewer evils, as long as it fails; a few dozen schedules."""
    steps = finding.steps
    if steps is None:
        steps = Scenario(finding.seed).steps
    while steps > 1 and (shorter := run(finding.seed, finding.without, steps * 3 // 4)):
        finding, steps = shorter, steps * 3 // 4
    for evil in sorted(_happened(finding)):
        if fewer := run(finding.seed, {*finding.without, evil}, finding.steps):
            finding = fewer
    return finding


def tell(finding: Finding) -> list[str]:
    """What happened, event by event."""
    scenario = Scenario(finding.seed, finding.without, finding.steps, tell=True)
    try:
        scenario.run()
    except Broken as broken:
        return [*(scenario.told or []), f"BROKEN: {broken}"]
    return [*(scenario.told or []), "kept every promise"]


def _judge(scenario: Scenario, without: Collection[str] = (), steps: int | None = None) -> Finding | None:
    try:
        scenario.run()
    except Broken as broken:
        return Finding(scenario.seed, str(broken), without, steps)
    return None


def _happened(finding: Finding) -> Collection[str]:
    scenario = Scenario(finding.seed, finding.without, finding.steps)
    return scenario.dice.happened if _judge(scenario) else ()
