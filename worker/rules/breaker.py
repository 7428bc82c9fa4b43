"""The circuit breaker: says when a batch must stop by itself, since its latest failures are more than single records
that go wrong. Pure.

Whether PingOne answers at all is judged by the attempts that ended last. Whether the batch is worth going on with is
judged by the records that were begun last: what takes long to fail ends last, so that by the order of ends every pause
and every batch's end would look like a bad batch. A pause protects records that were not tried; where fewer of them are
left than the breaker lets fail, there is nothing to protect. What one worker process alone has no answer to is held
against that process, and not against the batch or PingOne."""

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from models.attempt import SOMEBODY_ELSE, Failure, Outcome
from models.reason import PAUSE_CURES, PauseReason, Reason

# Reasons of dead letters whose OTP was refused.
REFUSED_OTP = frozenset({Reason.INVALID_OTP, Reason.RESYNC_FAILED})
# Failures of calls without an answer.
NO_ANSWER = frozenset({Failure.OUTCOME_UNKNOWN, Failure.NOT_DELIVERED})
# Why a record went back, where that says nothing of PingOne or the batch. A token of TOTP that waits for its time step
# is among them: PingOne asked for OTP 2, and when a step begins, many such records end an attempt at once.
IGNORED_FAILURES = frozenset(
    {Failure.HOLD, Failure.NOT_PERMITTED, Failure.DATABASE, Failure.LEASE_RAN_OUT, Failure.TIME_STEP}
)
# Why a record went back, where the breaker is to judge the batch. After a dead letter it always does.
WATCHED_FAILURES = NO_ANSWER | {Failure.UNAUTHORIZED, Failure.OTHER_DEVICE}


def is_own_answer(http_status: int | None, correlation_id: str | None) -> bool:
    """Whether a failed call shows that PingOne is there: it answered, and with less than a 5xx, even if it leaves open
    what became of the OTP, as with a tenant whose successes name no status. The Correlation-Id tells PingOne's answer
    from a proxy's page."""
    return (http_status or 500) < 500 and correlation_id is not None


@dataclass(frozen=True, slots=True)
class FailedAttempt:
    """An attempt that did not make its device ACTIVE, as the history has it. `said`: PingOne's codes in its last
    answer. `has_asked`: PingOne was asked anything. `is_answered`: it answered itself, whatever it said. `is_recent`:
    the attempt ended after the batch last went on by itself. `first_id`: the first attempt at this record that asked
    PingOne, since the batch is judged; None if it is this one. `worker`: the process that made it; None where that is
    not known."""

    id: int
    record_id: int
    outcome: str
    reason: str
    otp_posts: int = 0
    said: str = ""
    has_asked: bool = True
    is_answered: bool = False
    is_recent: bool = True
    first_id: int | None = None
    worker: str | None = None

    @property
    def begun(self) -> int:
        """When its record was begun, told by an attempt's id: whatever a clock shows, what came later has the larger
        one."""
        return self.id if self.first_id is None else self.first_id

    @property
    def is_unanswered(self) -> bool:
        """Whether PingOne was called and nothing came back that PingOne itself had said."""
        return self.reason in NO_ANSWER and not self.is_answered

    @property
    def cost(self) -> int:
        """How many OTPs it spent; a dead letter costs at least 1, for a person's work. Lost calls from before the end
        of an earlier outage cost nothing: their devices were read since, or will be. Nor does an OTP 1 whose follower
        is still to be made."""
        if self.reason == Failure.TIME_STEP or (self.is_unanswered and not self.is_recent):
            return 0
        return max(self.otp_posts, int(self.outcome == Outcome.DEAD_LETTER))


@dataclass(frozen=True, slots=True)
class ActiveAttempt:
    """An attempt that made its device ACTIVE. `begun` and `worker`: as of a failed one."""

    id: int
    begun: int
    worker: str | None = None


@dataclass(frozen=True, slots=True)
class History:
    """What the breaker asks of a batch beside its failed attempts, since the batch is judged. `read_active` reads the
    attempts that made their device ACTIVE, the newest first; some hundreds of them are enough. `count_untried` counts
    the records that are left and of which no OTP went out; no further than it is told."""

    read_active: Callable[[], Sequence[ActiveAttempt]]
    count_untried: Callable[[int], int]


# Attempts in a row without an answer after which, while probing, the outage counts as not over.
UNANSWERED_WHILE_PROBING = 2
# Attempts of one worker process that PingOne did not answer while it answered another's, after which the process is at
# fault: more than a few connections that broke at one moment.
UNANSWERED_ALONE = 5
# So many failures of one record weigh as much as the failure of another record.
FAILURES_PER_RECORD = 4
# How many times its threshold failures may cost until their excess reaches that; a slower drift is not worth a pause.
EXCESS_WITHIN = 4
# Records that may be in the window while probing.
PROBES = 2
# Seconds from the first pause for an outage until a few records are tried.
FIRST_PROBE = 15.0
# Seconds until the next try at most, after further outages in a row.
LONGEST_PROBE = 300.0


@dataclass(frozen=True, slots=True)
class Thresholds:
    """How many failures are too many. `spent`: so many more OTPs and dead letters that brought no active device than
    devices that became ACTIVE; or so many such records, if they are the share `refused_share` of those that were tried
    meanwhile. `refused`: so many records whose OTP was refused, if they are this share. The others count attempts of
    different records: `forbidden`, `devices_gone`, `unauthorized` and `unanswered` in a row, `other_device`
    altogether."""

    forbidden: int = 10
    devices_gone: int = 10
    unauthorized: int = 5
    other_device: int = 3
    refused: int = 20
    refused_share: float = 0.5
    spent: int = 25
    unanswered: int = 20
    # So many, among so many of the latest attempts, show the work of somebody else. One alone is a person who pairs a
    # token by hand, or signs on with it.
    by_others: int = 5
    latest: int = 100


@dataclass(frozen=True, slots=True)
class Trip:
    """The breaker trips: why the batch is to pause, in a word and in a sentence with the cure."""

    reason: PauseReason
    detail: str


def find_trip(
    failures: Sequence[FailedAttempt],
    history: History,
    thresholds: Thresholds,
    *,
    is_probing: bool = False,
    has_others: bool = False,
) -> Trip | None:
    """Find out whether a batch must pause; None if not. `failures` are its failed attempts, the newest first, since a
    person let it run. `has_others`: whether several worker processes live, so that one alone cannot say for all that
    an outage lasts."""
    alone = set(find_alone(failures, history))
    failures = [failure for failure in failures if failure not in alone]
    return _judge_service(failures, history, thresholds, is_probing, has_others) or _judge_records(
        sorted(failures, key=lambda failure: (failure.begun, failure.id), reverse=True), history, thresholds
    )


def find_alone(failures: Sequence[FailedAttempt], history: History) -> list[FailedAttempt]:
    """Find the attempts that PingOne did not answer where it answered another worker process since, and not the one
    that made them."""
    unanswered = [failure for failure in failures if failure.is_unanswered]
    if not unanswered:
        return []
    answered: dict[str | None, int] = {}
    of_workers = [(each.worker, each.id) for each in history.read_active()]
    of_workers += [(failure.worker, failure.id) for failure in failures if is_answer(failure)]
    for worker, attempt_id in of_workers:
        answered[worker] = max(attempt_id, answered.get(worker, 0))
    return [
        failure
        for failure in unanswered
        if answered.get(failure.worker, 0) < failure.id < max(answered.values(), default=0)
    ]


def find_others(reasons: Sequence[str | None], thresholds: Thresholds) -> Trip | None:
    """Find out whether a batch must pause since somebody else works on its devices; None if not. `reasons`: those of
    its latest attempts, since a person let it run."""
    by_others = sum(reason == SOMEBODY_ELSE for reason in reasons)
    if by_others < thresholds.by_others:
        return None
    reason = PauseReason.SOMEBODY_ELSE
    seen = f"{by_others} of the latest {len(reasons)} attempts met what was done since this batch began to run"
    return Trip(reason, f"{seen}, and not by it. {PAUSE_CURES[reason]}")


def was_answered_since(failures: Sequence[FailedAttempt], history: History, since: int) -> bool:
    """Whether PingOne answered any attempt with a larger id than `since`."""
    answered = (failure.id > since and is_answer(failure) for failure in failures)
    return any(answered) or _has_active_after(since, history)


def choose_probe_delay(outages: int) -> float:
    """Seconds until the next probe, after so many outages in a row."""
    return float(min(LONGEST_PROBE, FIRST_PROBE * 2 ** min(outages, 10)))


def is_answer(failure: FailedAttempt) -> bool:
    """Whether PingOne answered this attempt."""
    return failure.has_asked and failure.reason not in IGNORED_FAILURES and not failure.is_unanswered


def _judge_service(
    failures: Sequence[FailedAttempt], history: History, thresholds: Thresholds, is_probing: bool, has_others: bool
) -> Trip | None:
    """Judge by the attempts that ended last whether PingOne answers, about the right devices, and takes our access
    tokens."""
    meaningful = [failure for failure in failures if failure.reason not in IGNORED_FAILURES]
    asked = [failure for failure in meaningful if failure.has_asked]
    silent = _take_unanswered(asked, thresholds.unanswered)
    if is_probing and not silent:
        silent = _take_unanswered(asked, UNANSWERED_WHILE_PROBING)
        silent = () if has_others and len({failure.worker for failure in silent}) == 1 else silent
    if silent and not _has_active_after(silent[-1].id, history):
        return Trip(PauseReason.OUTAGE, PAUSE_CURES[PauseReason.OUTAGE])
    unauthorized = _take_of_records(asked, thresholds.unauthorized, Failure.UNAUTHORIZED)
    if unauthorized and not _has_active_after(unauthorized[-1].id, history):
        return _trip(PauseReason.CREDENTIALS, unauthorized)
    if sum(failure.reason == Failure.OTHER_DEVICE for failure in meaningful) >= thresholds.other_device:
        return _trip(PauseReason.PROTOCOL, meaningful[:1])
    return None


def _judge_records(begun: Sequence[FailedAttempt], history: History, thresholds: Thresholds) -> Trip | None:
    """Judge by the records that were begun last, `begun` in this order, whether those to come are worth their OTPs."""
    dead_letters = [failure for failure in begun if failure.outcome == Outcome.DEAD_LETTER]
    for pause, count, reason in (
        (PauseReason.PERMISSIONS, thresholds.forbidden, Reason.FORBIDDEN),
        (PauseReason.DEVICES_GONE, thresholds.devices_gone, Reason.DEVICE_NOT_FOUND),
    ):
        found = _take_of_records(dead_letters, count, reason)
        if found and not _count_after(found[-1].begun, _sort_begun(history)) and _can_protect(history, count):
            return _trip(pause, found)
    spent = [failure for failure in begun if failure.cost]
    if len(spent) < min(thresholds.refused, thresholds.spent) and sum(each.cost for each in spent) < thresholds.spent:
        return None
    refused, active = [failure for failure in spent if failure.reason in REFUSED_OTP], _sort_begun(history)
    for costly, threshold in (
        (_take_dominant(refused, spent, active, thresholds.refused, thresholds.refused_share), thresholds.refused),
        (_take_dominant(spent, spent, active, thresholds.spent, thresholds.refused_share), thresholds.spent),
        (_take_excess(spent, active, thresholds.spent), thresholds.spent),
    ):
        if costly and _can_protect(history, threshold):
            return _trip(_name_cost(costly), costly)
    return None


def _can_protect(history: History, threshold: int) -> bool:
    """Whether a pause saves more than it cost to find out: as many untried records are left, or nothing became active
    so far."""
    return history.count_untried(threshold) >= threshold or not history.read_active()


def _has_active_after(attempt_id: int, history: History) -> bool:
    return any(each.id > attempt_id for each in history.read_active()[:1])


def _sort_begun(history: History) -> list[int]:
    return sorted(each.begun for each in history.read_active())


def _count_after(begun: int, active: Sequence[int]) -> int:
    """Count the active records that were begun later; `active`: when each was, sorted."""
    return len(active) - bisect_right(active, begun)


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


def _take_excess(failures: Sequence[FailedAttempt], active: Sequence[int], threshold: int) -> Sequence[FailedAttempt]:
    """The newest of these failures whose cost is by `threshold` more than the devices that became ACTIVE among the
    records begun since: a cumulative sum (CUSUM), looked at as far as EXCESS_WITHIN goes. None if there are no such."""
    cost = 0
    for place, failure in enumerate(failures, start=1):
        cost += failure.cost
        if cost > EXCESS_WITHIN * threshold:
            break
        if cost >= threshold + _count_after(failure.begun, active):
            return failures[:place]
    return ()


def _take_dominant(
    failures: Sequence[FailedAttempt],
    spent: Sequence[FailedAttempt],
    active: Sequence[int],
    threshold: int,
    share: float,
) -> Sequence[FailedAttempt]:
    """The newest failures of `threshold` records, if these are at least the share `share` of the records that were
    begun since and have ended or spent an OTP."""
    records = set[int]()
    for place, failure in enumerate(failures, start=1):
        records.add(failure.record_id)
        if len(records) == threshold:
            failed = {each.record_id for each in spent if each.begun >= failure.begun}
            tried = len(failed) + _count_after(failure.begun, active)
            return failures[:place] if threshold >= share * tried else ()
    return ()


def _name_cost(costly: Sequence[FailedAttempt]) -> PauseReason:
    """Name the pause by what most of these failures have in common."""
    if all(failure.reason in REFUSED_OTP for failure in costly):
        return PauseReason.INVALID_OTPS
    if 2 * sum(failure.cost for failure in costly if failure.is_unanswered) > sum(each.cost for each in costly):
        return PauseReason.OUTAGE
    return PauseReason.REFUSED


def _trip(reason: PauseReason, failures: Sequence[FailedAttempt]) -> Trip:
    return Trip(reason, _describe(failures, PAUSE_CURES[reason]))


def _describe(failures: Sequence[FailedAttempt], cure: str) -> str:
    """A sentence for a person: how many failed, what they cost, what PingOne said most often, and the cure."""
    posts = sum(failure.otp_posts for failure in failures)
    kinds = Counter(f"{failure.reason} ({failure.said})" if failure.said else failure.reason for failure in failures)
    most = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(3))
    return f"{posts} OTPs were spent on {len(failures)} attempts that made no device ACTIVE: {most}. {cure}"
