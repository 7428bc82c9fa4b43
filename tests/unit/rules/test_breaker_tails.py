"""No false alarm of the breaker where a batch ends or stands still: what takes long to fail ends last. Whole batches in
virtual time, whose records succeed, fail at once, fail slowly, lose answers, and lose their workers."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace
from heapq import heappop, heappush
from itertools import count
from random import Random

import pytest

from models.attempt import Outcome
from models.reason import PauseReason, Reason
from worker.rules.breaker import WATCHED_FAILURES, ActiveAttempt, FailedAttempt, Thresholds, Trip, find_trip

pytestmark = pytest.mark.faults

RECORDS = 1500
SEEDS = range(200)
THRESHOLDS = Thresholds()
# Failed attempts that the breaker is told of, the newest; and twice as many of the others.
TOLD = 100

# What one attempt comes to: its outcome, its reason, and the OTPs that it spent.
End = tuple[Outcome, str, int]
ACTIVE: End = (Outcome.ACTIVE, "", 1)
LOST_ANSWER: End = (Outcome.RETRY, "outcome_unknown", 1)
NOT_FOUND: End = (Outcome.HANDED_BACK, "not_found", 0)
# How hopeless records end, attempt by attempt.
HOPELESS: tuple[tuple[End, ...], ...] = (
    ((Outcome.DEAD_LETTER, Reason.INVALID_OTP, 1),),
    ((Outcome.DEAD_LETTER, Reason.LOCKED, 1),),
    ((Outcome.DEAD_LETTER, Reason.RESYNC_FAILED, 2),),
    (NOT_FOUND, NOT_FOUND, (Outcome.DEAD_LETTER, Reason.DEVICE_NOT_FOUND, 0)),
    (LOST_ANSWER, LOST_ANSWER, LOST_ANSWER, (Outcome.DEAD_LETTER, Reason.BUDGET_SPENT, 0)),
)


@dataclass
class Record:
    id: int
    # What is left of its story.
    ends: list[End]
    first_id: int | None = None


@dataclass
class Batch:
    """A batch of which a share is hopeless, worked on by threads in virtual time until it is finished or the breaker
    stops it."""

    random: Random
    hopeless: float
    trip: Trip | None = None
    spent: int = 0
    # How many were spent when an outage was told, each time.
    outages: list[int] = field(default_factory=list)
    active: list[ActiveAttempt] = field(default_factory=list)
    failures: deque[FailedAttempt] = field(default_factory=lambda: deque(maxlen=TOLD))

    def __post_init__(self) -> None:
        random = self.random
        self.threads = random.choice((8, 16, 64))
        self.seconds_a_call = random.choice((0.06, 0.3))
        self.lost = random.choice((0.0, 0.02, 0.05))
        self.kinds = random.sample(HOPELESS, random.choice((1, 2, len(HOPELESS))))
        self.fresh = [Record(number, self._tell_story()) for number in range(1, RECORDS + 1)]
        self.waiting: list[tuple[float, int, Record]] = []
        self.in_work: list[tuple[float, int, Record]] = []
        self.numbers, self.lines, self.now = count(), count(1), 0.0
        # Moments at which a process with half of the threads is killed, or nothing begins for a while.
        self.kills = sorted(random.uniform(1, 60) for _ in range(random.choice((0, 2, 5))))
        self.holds = sorted(random.uniform(1, 60) for _ in range(random.choice((0, 1, 3))))

    @property
    def loses_answers(self) -> bool:
        return self.lost > 0 or any(LOST_ANSWER in kind for kind in self.kinds)

    def read_active(self) -> list[ActiveAttempt]:
        return self.active[: -2 * TOLD - 1 : -1]

    def count_untried(self, most: int) -> int:
        return min(most, len(self.fresh))

    def run(self) -> None:
        while not self.trip and (self.fresh or self.waiting or self.in_work):
            self._begin_what_may()
            self.now = (self.in_work or self.waiting)[0][0]
            if self.kills and self.kills[0] <= self.now:
                self.kills.pop(0)
                self._kill_half()
            while self.in_work and self.in_work[0][0] <= self.now and not self.trip:
                self._end(heappop(self.in_work)[2])

    def _tell_story(self) -> list[End]:
        if self.random.random() < self.hopeless:
            return list(self.random.choice(self.kinds))
        return [LOST_ANSWER] * (self.random.random() < self.lost) + [ACTIVE]

    def _begin_what_may(self) -> None:
        if self.holds and self.holds[0] <= self.now:
            self.holds.pop(0)
            # What is in work ends before anything begins.
            while self.in_work and not self.trip:
                self.now = max(self.now, self.in_work[0][0])
                self._end(heappop(self.in_work)[2])
        while len(self.in_work) < self.threads:
            if self.waiting and self.waiting[0][0] <= self.now:
                record = heappop(self.waiting)[2]
            elif self.fresh:
                record = self.fresh.pop(self.random.randrange(min(50, len(self.fresh))))
            else:
                return
            is_slow = record.ends[0] == LOST_ANSWER and self.random.random() < 0.5
            seconds = 20.0 if is_slow else self.seconds_a_call * self.random.uniform(0.5, 2)
            heappush(self.in_work, (self.now + seconds, next(self.numbers), record))

    def _kill_half(self) -> None:
        self.random.shuffle(self.in_work)
        half = len(self.in_work) // 2
        for _, number, record in self.in_work[:half]:
            heappush(self.waiting, (self.now + 60, number, record))
        self.in_work = sorted(self.in_work[half:])

    def _end(self, record: Record) -> None:
        (outcome, reason, posts), *record.ends = record.ends
        line = next(self.lines)
        record.first_id = record.first_id or line
        if outcome == Outcome.ACTIVE:
            self.active.append(ActiveAttempt(line, record.first_id))
            return
        self.spent += posts
        self.failures.appendleft(FailedAttempt(line, record.id, outcome, reason, posts, first_id=record.first_id))
        if record.ends:
            heappush(self.waiting, (self.now + self.random.uniform(10, 35), next(self.numbers), record))
        if posts or outcome == Outcome.DEAD_LETTER or reason in WATCHED_FAILURES:
            self._judge()

    def _judge(self) -> None:
        trip = find_trip(list(self.failures), self, THRESHOLDS)
        if trip is None or trip.reason != PauseReason.OUTAGE:
            self.trip = trip
            return
        # It passes by itself, and is not held against the batch.
        self.outages.append(self.spent)
        self.failures = deque((replace(each, is_recent=False) for each in self.failures), maxlen=TOLD)


@pytest.mark.parametrize("hopeless", [0.02, 0.08, 0.2])
def test_no_tail_of_a_batch_that_mostly_succeeds_looks_like_a_bad_batch(hopeless: float) -> None:
    for seed in SEEDS:
        batch = Batch(Random(seed), hopeless)
        batch.run()
        assert batch.trip is None, f"seed {seed}, {len(batch.active)} active, {len(batch.fresh)} left: {batch.trip}"
        assert not batch.outages or batch.loses_answers


def test_where_all_fail_few_otps_are_spent() -> None:
    for seed in SEEDS:
        batch = Batch(Random(seed), 1.0)
        batch.run()
        spent = [*batch.outages, *([batch.spent] if batch.trip else [])]
        # An attempt may spend two of them.
        assert spent[0] <= THRESHOLDS.spent + 1 + batch.threads, f"seed {seed}"
