"""When a batch must stop by itself: what went wrong lately is no accident of single records. Pure.

A batch is judged by its failed attempts, the newest first, and by how many attempts made their device ACTIVE since.
Both are counted by the ids of attempts: whatever a clock shows, what came later has the larger id."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from models.attempt import Outcome
from models.reason import PAUSE_CURES, PauseReason, Reason

# Attempts in a row without a usable answer that say, while probing, that the outage lasts.
UNANSWERED_WHILE_PROBING = 2
# Failures a record that are as good as another record.
FAILURES_PER_RECORD = 4
# Records that may be in the window while probing.
PROBES = 2
# Seconds until the first probe, and at most.
FIRST_PROBE = 15.0
LONGEST_PROBE = 300.0

_REFUSED_OTP = frozenset({Reason.INVALID_OTP, Reason.RESYNC_FAILED})
_NO_ANSWER = frozenset({"outcome_unknown", "not_delivered"})
UNAUTHORIZED = "unauthorized"
OTHER_DEVICE = "other_device"
# What is no sign of anything: a hold, a pause, a database that was away, a worker that died with the call on its way.
IGNORED_FAILURES = frozenset({"hold", "not_permitted", "database", "lease_ran_out"})
# Why a record went back, where that is worth a judgement. A dead letter always is.
WATCHED_FAILURES = _NO_ANSWER | {UNAUTHORIZED, OTHER_DEVICE}


@dataclass(frozen=True, slots=True)
class Thresholds:
    """What is too much. `spent` counts OTPs and dead letters that brought no active device, `refused` those among them
    whose OTP was refused; each only if it is `refused_share` of what was tried meanwhile. The others count attempts of
    different records: `forbidden`, `unauthorized` and `unanswered` in a row, `other_device` altogether."""

    forbidden: int = 10
    unauthorized: int = 5
    other_device: int = 3
    refused: int = 20
    refused_share: float = 0.5
    spent: int = 25
    unanswered: int = 20


@dataclass(frozen=True, slots=True)
class FailedAttempt:
    """An attempt that did not make its device ACTIVE. `said`: PingOne's codes in its last answer. `has_asked`: PingOne
    was asked anything. `is_answered`: it answered itself, whatever it said. `is_recent`: the attempt ended after the
    batch last went on by itself."""

    id: int
    record_id: int
    outcome: str
    reason: str
    otp_posts: int = 0
    said: str = ""
    has_asked: bool = True
    is_answered: bool = False
    is_recent: bool = True

    @property
    def is_unanswered(self) -> bool:
        return self.reason in _NO_ANSWER and not self.is_answered

    @property
    def cost(self) -> int:
        """OTPs that it spent; a dead letter costs a person's work at the least. What got lost before an earlier outage
        was over does not count: its devices were, or will be, read."""
        if self.is_unanswered and not self.is_recent:
            return 0
        return max(self.otp_posts, int(self.outcome == Outcome.DEAD_LETTER))


# How many attempts with a larger id than this made their device ACTIVE.
CountActiveAfter = Callable[[int], int]


@dataclass(frozen=True, slots=True)
class Trip:
    """Why a batch is to pause, in a word and in a sentence with the cure."""

    reason: PauseReason
    detail: str


def find_trip(
    failures: Sequence[FailedAttempt],
    count_active_after: CountActiveAfter,
    thresholds: Thresholds,
    *,
    is_probing: bool = False,
) -> Trip | None:
    """Whether to pause, from the batch's failed attempts, the newest first, since a person let it run."""
    telling = [failure for failure in failures if failure.reason not in IGNORED_FAILURES]
    for reason, found in _suspicions(telling, thresholds, is_probing=is_probing):
        if found and not count_active_after(found[-1].id):
            cure = PAUSE_CURES[reason]
            return Trip(reason, cure if reason == PauseReason.OUTAGE else _tell(found, cure))
    if sum(failure.reason == OTHER_DEVICE for failure in telling) >= thresholds.other_device:
        return Trip(PauseReason.PROTOCOL, _tell(telling[:1], PAUSE_CURES[PauseReason.PROTOCOL]))
    spent = [failure for failure in failures if failure.cost]
    refused = [failure for failure in spent if failure.reason in _REFUSED_OTP]
    for some, threshold in ((refused, thresholds.refused), (spent, thresholds.spent)):
        costly = _costing(some, threshold)
        if costly and _dominates(costly, spent, count_active_after, thresholds.refused_share):
            return _spent(costly)
    return None


def was_answered_since(failures: Sequence[FailedAttempt], count_active_after: CountActiveAfter, since: int) -> bool:
    """Whether any attempt after this id was answered."""
    answered = (failure.id > since and _shows_that_it_is_there(failure) for failure in failures)
    return any(answered) or count_active_after(since) > 0


def choose_probe_delay(outages: int) -> float:
    """Seconds until the next probe, after so many outages in a row."""
    return float(min(LONGEST_PROBE, FIRST_PROBE * 2 ** min(outages, 10)))


def _shows_that_it_is_there(failure: FailedAttempt) -> bool:
    return failure.has_asked and failure.reason not in IGNORED_FAILURES and not failure.is_unanswered


def _suspicions(
    telling: Sequence[FailedAttempt], thresholds: Thresholds, *, is_probing: bool
) -> Iterator[tuple[PauseReason, Sequence[FailedAttempt]]]:
    """Failures of one kind in a row, if there are enough of them; a success among them clears the suspicion."""
    asked = [failure for failure in telling if failure.has_asked]
    dead_letters = [failure for failure in telling if failure.outcome == Outcome.DEAD_LETTER]
    yield PauseReason.OUTAGE, _unanswered(asked, UNANSWERED_WHILE_PROBING if is_probing else thresholds.unanswered)
    yield PauseReason.PERMISSIONS, _of_records(dead_letters, thresholds.forbidden, Reason.FORBIDDEN)
    yield PauseReason.CREDENTIALS, _of_records(asked, thresholds.unauthorized, UNAUTHORIZED)


def _unanswered(asked: Sequence[FailedAttempt], count: int) -> Sequence[FailedAttempt]:
    """The newest so many attempts since the batch last went on by itself, if none of them was answered."""
    newest = [failure for failure in asked if failure.is_recent][:count]
    return newest if len(newest) == count and all(failure.is_unanswered for failure in newest) else ()


def _of_records(telling: Sequence[FailedAttempt], count: int, reason: str) -> Sequence[FailedAttempt]:
    """The newest failures of so many records, if all have this reason. One record that comes back again and again
    counts once; but FAILURES_PER_RECORD times as many failures are enough, whichever records they are of: there may
    be no others."""
    records = set[int]()
    for place, failure in enumerate(telling, start=1):
        if failure.reason != reason:
            return ()
        records.add(failure.record_id)
        if len(records) == count or place == FAILURES_PER_RECORD * count:
            return telling[:place]
    return ()


def _costing(failures: Sequence[FailedAttempt], threshold: int) -> Sequence[FailedAttempt]:
    """The newest of these failures that cost so much together; none if all of them cost less."""
    cost = 0
    for place, failure in enumerate(failures, start=1):
        cost += failure.cost
        if cost >= threshold:
            return failures[:place]
    return ()


def _dominates(
    costly: Sequence[FailedAttempt], spent: Sequence[FailedAttempt], count_active_after: CountActiveAfter, share: float
) -> bool:
    """Whether these are at least such a share of all that was spent since the oldest of them."""
    since = costly[-1].id
    mine = sum(failure.cost for failure in costly)
    others = sum(failure.cost for failure in spent if failure.id >= since) - mine
    return mine >= share * (mine + others + count_active_after(since))


def _spent(costly: Sequence[FailedAttempt]) -> Trip:
    """What most of them have in common names the pause."""
    if all(failure.reason in _REFUSED_OTP for failure in costly):
        reason = PauseReason.INVALID_OTPS
    elif 2 * sum(failure.cost for failure in costly if failure.is_unanswered) > sum(each.cost for each in costly):
        reason = PauseReason.OUTAGE
    else:
        reason = PauseReason.REFUSED
    return Trip(reason, _tell(costly, PAUSE_CURES[reason]))


def _tell(failures: Sequence[FailedAttempt], cure: str) -> str:
    """How many failed, what they cost, and what PingOne said most often."""
    posts = sum(failure.otp_posts for failure in failures)
    kinds = Counter(f"{failure.reason} ({failure.said})" if failure.said else failure.reason for failure in failures)
    most = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(3))
    return f"{posts} OTPs were spent on {len(failures)} attempts that made no device ACTIVE: {most}. {cure}"
