"""The circuit breaker: says when a batch must stop by itself, since its latest failures are more than single records
that go wrong. Pure.

A batch is judged by its failed attempts, the newest first, and by how many attempts made their device ACTIVE since.
Both are counted by the ids of attempts: whatever a clock shows, what came later has the larger id."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from models.attempt import Outcome
from models.reason import PAUSE_CURES, PauseReason, Reason
from worker.rules.breaker_evidence import IGNORED_FAILURES, OTHER_DEVICE, REFUSED_OTP, UNAUTHORIZED, FailedAttempt

# Attempts in a row without an answer after which, while probing, the outage counts as not over.
UNANSWERED_WHILE_PROBING = 2
# So many failures of one record weigh as much as the failure of another record.
FAILURES_PER_RECORD = 4
# Records that may be in the window while probing.
PROBES = 2
# Seconds from the first pause for an outage until a few records are tried.
FIRST_PROBE = 15.0
# Seconds until the next try at most, after further outages in a row.
LONGEST_PROBE = 300.0


@dataclass(frozen=True, slots=True)
class Thresholds:
    """How many failures are too many. `spent` counts OTPs and dead letters that brought no active device, `refused`
    those among them whose OTP was refused; each only if it is `refused_share` of what was tried meanwhile. The others
    count attempts of different records: `forbidden`, `devices_gone`, `unauthorized` and `unanswered` in a row,
    `other_device` altogether."""

    forbidden: int = 10
    devices_gone: int = 10
    unauthorized: int = 5
    other_device: int = 3
    refused: int = 20
    refused_share: float = 0.5
    spent: int = 25
    unanswered: int = 20


# Counts the attempts with a larger id than this that made their device ACTIVE.
CountActiveAfter = Callable[[int], int]


@dataclass(frozen=True, slots=True)
class Trip:
    """The breaker trips: why the batch is to pause, in a word and in a sentence with the cure."""

    reason: PauseReason
    detail: str


def find_trip(
    failures: Sequence[FailedAttempt],
    count_active_after: CountActiveAfter,
    thresholds: Thresholds,
    *,
    is_probing: bool = False,
) -> Trip | None:
    """Find out whether a batch must pause; None if not. `failures` are its failed attempts, the newest first, since a
    person let it run."""
    meaningful = [failure for failure in failures if failure.reason not in IGNORED_FAILURES]
    for reason, found in _find_suspicions(meaningful, thresholds, is_probing=is_probing):
        if found and not count_active_after(found[-1].id):
            cure = PAUSE_CURES[reason]
            return Trip(reason, cure if reason == PauseReason.OUTAGE else _describe(found, cure))
    if sum(failure.reason == OTHER_DEVICE for failure in meaningful) >= thresholds.other_device:
        return Trip(PauseReason.PROTOCOL, _describe(meaningful[:1], PAUSE_CURES[PauseReason.PROTOCOL]))
    spent = [failure for failure in failures if failure.cost]
    refused = [failure for failure in spent if failure.reason in REFUSED_OTP]
    for some, threshold in ((refused, thresholds.refused), (spent, thresholds.spent)):
        costly = _take_costly(some, threshold)
        if costly and _is_dominant(costly, spent, count_active_after, thresholds.refused_share):
            return _trip_for_cost(costly)
    return None


def was_answered_since(failures: Sequence[FailedAttempt], count_active_after: CountActiveAfter, since: int) -> bool:
    """Whether PingOne answered any attempt with a larger id than `since`."""
    answered = (failure.id > since and is_answer(failure) for failure in failures)
    return any(answered) or count_active_after(since) > 0


def choose_probe_delay(outages: int) -> float:
    """Seconds until the next probe, after so many outages in a row."""
    return float(min(LONGEST_PROBE, FIRST_PROBE * 2 ** min(outages, 10)))


def is_answer(failure: FailedAttempt) -> bool:
    """Whether PingOne answered this attempt."""
    return failure.has_asked and failure.reason not in IGNORED_FAILURES and not failure.is_unanswered


def _find_suspicions(
    meaningful: Sequence[FailedAttempt], thresholds: Thresholds, *, is_probing: bool
) -> Iterator[tuple[PauseReason, Sequence[FailedAttempt]]]:
    """Find failures of one kind in a row, by the reason for a pause that they would be; nothing where there are too
    few. A success among them clears the suspicion, which the caller looks up."""
    asked = [failure for failure in meaningful if failure.has_asked]
    dead_letters = [failure for failure in meaningful if failure.outcome == Outcome.DEAD_LETTER]
    yield PauseReason.OUTAGE, _take_unanswered(asked, UNANSWERED_WHILE_PROBING if is_probing else thresholds.unanswered)
    yield PauseReason.PERMISSIONS, _take_of_records(dead_letters, thresholds.forbidden, Reason.FORBIDDEN)
    missing = _take_of_records(dead_letters, thresholds.devices_gone, Reason.DEVICE_NOT_FOUND)
    yield PauseReason.DEVICES_GONE, missing
    yield PauseReason.CREDENTIALS, _take_of_records(asked, thresholds.unauthorized, UNAUTHORIZED)


def _take_unanswered(asked: Sequence[FailedAttempt], count: int) -> Sequence[FailedAttempt]:
    """The newest `count` attempts since the batch last went on by itself, if none of them was answered."""
    newest = [failure for failure in asked if failure.is_recent][:count]
    return newest if len(newest) == count and all(failure.is_unanswered for failure in newest) else ()


def _take_of_records(meaningful: Sequence[FailedAttempt], count: int, reason: str) -> Sequence[FailedAttempt]:
    """The newest failures of `count` records, if all have this reason. One record that comes back again and again
    counts once; but FAILURES_PER_RECORD times as many failures are enough, whichever records they are of: there may
    be no others."""
    records = set[int]()
    for place, failure in enumerate(meaningful, start=1):
        if failure.reason != reason:
            return ()
        records.add(failure.record_id)
        if len(records) == count or place == FAILURES_PER_RECORD * count:
            return meaningful[:place]
    return ()


def _take_costly(failures: Sequence[FailedAttempt], threshold: int) -> Sequence[FailedAttempt]:
    """The newest of these failures that together cost `threshold`; none if all of them cost less."""
    cost = 0
    for place, failure in enumerate(failures, start=1):
        cost += failure.cost
        if cost >= threshold:
            return failures[:place]
    return ()


def _is_dominant(
    costly: Sequence[FailedAttempt], spent: Sequence[FailedAttempt], count_active_after: CountActiveAfter, share: float
) -> bool:
    """Whether these failures are at least the share `share` of all that was spent since the oldest of them."""
    since = costly[-1].id
    mine = sum(failure.cost for failure in costly)
    others = sum(failure.cost for failure in spent if failure.id >= since) - mine
    return mine >= share * (mine + others + count_active_after(since))


def _trip_for_cost(costly: Sequence[FailedAttempt]) -> Trip:
    """Name the pause by what most of these failures have in common."""
    if all(failure.reason in REFUSED_OTP for failure in costly):
        reason = PauseReason.INVALID_OTPS
    elif 2 * sum(failure.cost for failure in costly if failure.is_unanswered) > sum(each.cost for each in costly):
        reason = PauseReason.OUTAGE
    else:
        reason = PauseReason.REFUSED
    return Trip(reason, _describe(costly, PAUSE_CURES[reason]))


def _describe(failures: Sequence[FailedAttempt], cure: str) -> str:
    """A sentence for a person: how many failed, what they cost, what PingOne said most often, and the cure."""
    posts = sum(failure.otp_posts for failure in failures)
    kinds = Counter(f"{failure.reason} ({failure.said})" if failure.said else failure.reason for failure in failures)
    most = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(3))
    return f"{posts} OTPs were spent on {len(failures)} attempts that made no device ACTIVE: {most}. {cure}"
