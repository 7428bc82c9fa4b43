"""The circuit breaker: decides when a batch must pause by itself, because its latest failures are more than single bad
records, and when a batch that paused for an outage is tried again. Pure.

The attempts that ended last show whether PingOne answers at all. The records that began last show whether the batch is
worth continuing: slow failures end last, so the records that ended last before a pause, or at the end of a batch, would
always look bad. A pause protects untried records; if fewer are left than the breaker lets fail, there is nothing to
protect. If only one worker process gets no answers, that counts against the process, not against the batch or PingOne.

https://learn.microsoft.com/azure/architecture/patterns/circuit-breaker"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from models.attempt import SOMEBODY_ELSE, Failure, Outcome
from models.reason import PAUSE_CURES, PauseReason, Reason

# Reasons of dead letters with a refused OTP.
REFUSED_OTP = frozenset({Reason.INVALID_OTP, Reason.RESYNC_FAILED})
# Failures of calls without an answer.
NO_ANSWER = frozenset({Failure.OUTCOME_UNKNOWN, Failure.NOT_DELIVERED})
# Reasons why a record went back to pending that say nothing about PingOne or the batch. TIME_STEP is among them:
# PingOne asked for OTP 2, and at the start of a time step many such records end an attempt at once.
IGNORED_FAILURES = frozenset(
    {Failure.HOLD, Failure.NOT_PERMITTED, Failure.DATABASE, Failure.LEASE_RAN_OUT, Failure.TIME_STEP}
)
# Reasons why a record went back to pending after which the breaker judges the batch. It also does so after every dead
# letter.
WATCHED_FAILURES = NO_ANSWER | {Failure.UNAUTHORIZED, Failure.OTHER_DEVICE}


def is_own_answer(http_status: int | None, correlation_id: str | None) -> bool:
    """Whether the answer to a failed call came from PingOne itself, and is not a 5xx. A Correlation-Id distinguishes it
    from a proxy's page. Such an answer may leave the OTP's outcome open, for example if a tenant's successes name no
    status."""
    return (http_status or 500) < 500 and correlation_id is not None


@dataclass(frozen=True, slots=True)
class FailedAttempt:
    """An attempt that did not make its device ACTIVE, as the history shows it. `codes`: those of PingOne's last answer.
    `has_asked`: a request went out. `is_answered`: PingOne itself answered, whatever it said. `is_recent`: the attempt
    ended after the batch last continued by itself. `first_id`: among the attempts by which the batch is judged, the
    first one at this record that asked PingOne; None if it is this one. `worker`: the process that made the attempt, if
    it is known."""

    id: int
    record_id: int
    outcome: str
    reason: str
    otp_posts: int = 0
    codes: str = ""
    has_asked: bool = True
    is_answered: bool = False
    is_recent: bool = True
    first_id: int | None = None
    worker: str | None = None

    @property
    def begun(self) -> int:
        """When its record began, as the id of an attempt: ids grow with time, whatever the clock says."""
        return self.id if self.first_id is None else self.first_id

    @property
    def is_unanswered(self) -> bool:
        """Whether a call got no answer from PingOne itself."""
        return self.reason in NO_ANSWER and not self.is_answered

    @property
    def cost(self) -> int:
        """How many OTPs the attempt spent; a dead letter costs at least 1, for a person's work. Calls lost in an
        earlier outage cost nothing, since their devices are read afterwards. An OTP 1 whose OTP 2 waits for its time
        step costs nothing yet."""
        if self.reason == Failure.TIME_STEP or (self.is_unanswered and not self.is_recent):
            return 0
        return max(self.otp_posts, int(self.outcome == Outcome.DEAD_LETTER))


@dataclass(frozen=True, slots=True)
class ActiveAttempt:
    """An attempt that made its device ACTIVE. `begun` and `worker` mean the same as for a failed one."""

    id: int
    begun: int
    worker: str | None = None


@dataclass(frozen=True, slots=True)
class History:
    """What the breaker may ask about a batch besides its failed attempts. `read_active` reads attempts that made their
    device ACTIVE, the newest first; some hundreds suffice. `count_untried` counts the remaining records without a sent
    OTP, up to a limit."""

    read_active: Callable[[], Sequence[ActiveAttempt]]
    count_untried: Callable[[int], int]


# How many attempts of one worker process get no answer, while PingOne answers another process, before that process is
# at fault: more than a few connections that broke at once.
UNANSWERED_ALONE = 5
# How many failures of the same few records weigh as much as one failed record.
FAILURES_PER_RECORD = 4
# The excess of failures over successes must reach its threshold before the failures cost this many thresholds; a slower
# drift is not worth a pause.
EXCESS_WITHIN = 4


@dataclass(frozen=True, slots=True)
class Thresholds:
    """How many failures are too many. `refused`: records with a refused OTP, if they are at least the share
    `refused_share` of the records tried meanwhile. `spent`: records that spent OTPs or failed, if they are at least
    that share; or the excess of OTPs and dead letters over ACTIVE devices. The others count attempts of different
    records: `forbidden`, `devices_gone`, `unauthorized`, and `unanswered` in a row, `other_device` in all."""

    forbidden: int = 10
    devices_gone: int = 10
    unauthorized: int = 5
    other_device: int = 3
    refused: int = 20
    refused_share: float = 0.5
    spent: int = 25
    unanswered: int = 20
    # Attempts that met somebody else's work, among the `latest` ones. A single one means only that a person paired a
    # token by hand, or signed on with it.
    by_others: int = 5
    latest: int = 100


@dataclass(frozen=True, slots=True)
class Trip:
    """Why a batch must pause, in a word and in a sentence with the cure."""

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
    """Decide whether a batch must pause; None if not. `failures`: its failed attempts since a person let it run, the
    newest first. `has_others`: several worker processes are alive, so one alone cannot prove that an outage lasts."""
    alone = set(find_alone(failures, history))
    failures = [failure for failure in failures if failure not in alone]
    return _judge_service(failures, history, thresholds, is_probing, has_others) or _judge_records(
        sorted(failures, key=lambda failure: (failure.begun, failure.id), reverse=True), history, thresholds
    )


def find_alone(failures: Sequence[FailedAttempt], history: History) -> list[FailedAttempt]:
    """Find the unanswered attempts of worker processes that get no answers while others do: PingOne has answered
    another process since, but not theirs."""
    unanswered = [failure for failure in failures if failure.is_unanswered]
    if not unanswered:
        return []
    answered: list[ActiveAttempt | FailedAttempt] = [*history.read_active(), *filter(has_answer, failures)]
    last_answers: dict[str | None, int] = {}
    for attempt in answered:
        last_answers[attempt.worker] = max(attempt.id, last_answers.get(attempt.worker, 0))
    latest = max(last_answers.values(), default=0)
    return [failure for failure in unanswered if last_answers.get(failure.worker, 0) < failure.id < latest]


def find_others(reasons: Sequence[str | None], thresholds: Thresholds) -> Trip | None:
    """Decide whether a batch must pause because somebody else works on its devices; None if not. `reasons`: those of
    its latest attempts since a person let it run."""
    by_others = sum(reason == SOMEBODY_ELSE for reason in reasons)
    if by_others < thresholds.by_others:
        return None
    reason = PauseReason.SOMEBODY_ELSE
    seen = f"{by_others} of the latest {len(reasons)} attempts found the token paired or the device activated"
    return Trip(reason, f"{seen} since this batch began to run, but not by it. {PAUSE_CURES[reason]}")


def was_answered_since(failures: Sequence[FailedAttempt], history: History, since: int) -> bool:
    """Whether PingOne answered any attempt with a larger id than `since`."""
    answered = (failure.id > since and has_answer(failure) for failure in failures)
    return any(answered) or _has_active_after(since, history)


def has_answer(failure: FailedAttempt) -> bool:
    """Whether PingOne answered this attempt."""
    return failure.has_asked and failure.reason not in IGNORED_FAILURES and not failure.is_unanswered


def _judge_service(
    failures: Sequence[FailedAttempt], history: History, thresholds: Thresholds, is_probing: bool, has_others: bool
) -> Trip | None:
    """Judge by the last ended attempts whether PingOne answers, accepts our access tokens, and answers about the right
    devices."""
    meaningful = [failure for failure in failures if failure.reason not in IGNORED_FAILURES]
    asked = [failure for failure in meaningful if failure.has_asked]
    unanswered = _take_unanswered(asked, thresholds.unanswered)
    if is_probing and not unanswered:
        unanswered = _take_unanswered(asked, UNANSWERED_WHILE_PROBING)
        unanswered = () if has_others and len({failure.worker for failure in unanswered}) == 1 else unanswered
    if unanswered and not _has_active_after(unanswered[-1].id, history):
        return Trip(PauseReason.OUTAGE, PAUSE_CURES[PauseReason.OUTAGE])
    unauthorized = _take_of_records(asked, thresholds.unauthorized, Failure.UNAUTHORIZED)
    if unauthorized and not _has_active_after(unauthorized[-1].id, history):
        return _trip(PauseReason.CREDENTIALS, unauthorized)
    if sum(failure.reason == Failure.OTHER_DEVICE for failure in meaningful) >= thresholds.other_device:
        return _trip(PauseReason.PROTOCOL, meaningful[:1])
    return None


def _judge_records(begun: Sequence[FailedAttempt], history: History, thresholds: Thresholds) -> Trip | None:
    """Judge by the records that began last whether the next ones are worth their OTPs. `begun`: failed attempts, in the
    order in which their records began, the newest first."""
    dead_letters = [failure for failure in begun if failure.outcome == Outcome.DEAD_LETTER]
    for pause, count, reason in (
        (PauseReason.PERMISSIONS, thresholds.forbidden, Reason.FORBIDDEN),
        (PauseReason.DEVICES_GONE, thresholds.devices_gone, Reason.DEVICE_NOT_FOUND),
    ):
        found = _take_of_records(dead_letters, count, reason)
        if found and not _count_after(found[-1].begun, _sort_begun(history)) and _can_protect(history, count):
            return _trip(pause, found)
    spent = [failure for failure in begun if failure.cost]
    if (
        len(spent) < min(thresholds.refused, thresholds.spent)
        and sum(failure.cost for failure in spent) < thresholds.spent
    ):
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
    """Whether a pause saves as much as it cost to find the trouble: at least as many untried records are left as have
    failed, or no device has become ACTIVE so far."""
    return history.count_untried(threshold) >= threshold or not history.read_active()


def _has_active_after(attempt_id: int, history: History) -> bool:
    return any(attempt.id > attempt_id for attempt in history.read_active()[:1])


def _sort_begun(history: History) -> list[int]:
    return sorted(attempt.begun for attempt in history.read_active())


def _count_after(begun: int, active: Sequence[int]) -> int:
    """Count the active records that began later; `active`: when each of them began, sorted."""
    return len(active) - bisect_right(active, begun)


def _take_unanswered(asked: Sequence[FailedAttempt], count: int) -> Sequence[FailedAttempt]:
    """The newest `count` attempts since the batch last continued by itself, if none was answered."""
    newest = [failure for failure in asked if failure.is_recent][:count]
    return newest if len(newest) == count and all(failure.is_unanswered for failure in newest) else ()


def _take_of_records(meaningful: Sequence[FailedAttempt], count: int, reason: str) -> Sequence[FailedAttempt]:
    """The newest failures of `count` records, if all have this reason. A record that returns again and again counts
    once. But FAILURES_PER_RECORD times as many failures also suffice, since a batch may have no other records left."""
    records = set[int]()
    for place, failure in enumerate(meaningful, start=1):
        if failure.reason != reason:
            return ()
        records.add(failure.record_id)
        if len(records) == count or place == FAILURES_PER_RECORD * count:
            return meaningful[:place]
    return ()


def _take_excess(failures: Sequence[FailedAttempt], active: Sequence[int], threshold: int) -> Sequence[FailedAttempt]:
    """The newest failures whose cost exceeds, by `threshold`, the number of devices that became ACTIVE among the
    records begun since; empty if the excess is smaller. This is a cumulative sum over as many failures as EXCESS_WITHIN
    allows.
    https://en.wikipedia.org/wiki/CUSUM"""
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
    """The newest failures of `threshold` records, if these make up at least the share `share` of the records that began
    since and have ended or spent an OTP."""
    records = set[int]()
    for place, failure in enumerate(failures, start=1):
        records.add(failure.record_id)
        if len(records) == threshold:
            failed = {later.record_id for later in spent if later.begun >= failure.begun}
            tried = len(failed) + _count_after(failure.begun, active)
            return failures[:place] if threshold >= share * tried else ()
    return ()


def _name_cost(costly: Sequence[FailedAttempt]) -> PauseReason:
    """Name the pause by what most of these failures have in common."""
    if all(failure.reason in REFUSED_OTP for failure in costly):
        return PauseReason.INVALID_OTPS
    if 2 * sum(failure.cost for failure in costly if failure.is_unanswered) > sum(failure.cost for failure in costly):
        return PauseReason.OUTAGE
    return PauseReason.REFUSED


def _trip(reason: PauseReason, failures: Sequence[FailedAttempt]) -> Trip:
    return Trip(reason, _describe(failures, PAUSE_CURES[reason]))


def _describe(failures: Sequence[FailedAttempt], cure: str) -> str:
    """A sentence for a person: how many failed, what they cost, what PingOne said most often, and the cure."""
    posts = sum(failure.otp_posts for failure in failures)
    kinds = Counter(f"{failure.reason} ({failure.codes})" if failure.codes else failure.reason for failure in failures)
    most = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(3))
    return f"{posts} OTPs were spent on {len(failures)} attempts that made no device ACTIVE: {most}. {cure}"


# Probes: a batch that paused for an outage is tried again with a few records, after a delay that doubles with each
# further outage. `worker.batches.upkeep` resumes it after the delay, and ends the outage at the first answer; until
# then `worker.dispatch` queues at most PROBES of its records at once.

# Records that may be queued or in progress at once during an outage.
PROBES = 2
# Unanswered attempts in a row after which a probe shows that the outage lasts.
UNANSWERED_WHILE_PROBING = 2
# Seconds from the first pause for an outage until the batch is tried again.
FIRST_PROBE = 15.0
# Longest delay in seconds before it is tried again, after further outages in a row.
LONGEST_PROBE = 300.0


def choose_probe_delay(outages: int) -> float:
    """Seconds until a batch that pauses for an outage is tried again: 15, 30, 60 … 300. `outages`: how many in a row
    came before."""
    return float(min(LONGEST_PROBE, FIRST_PROBE * 2 ** min(outages, 10)))
