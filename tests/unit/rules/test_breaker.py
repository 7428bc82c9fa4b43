"""When a batch must stop by itself: by lists of attempts, and in whole batches in virtual time."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from heapq import heappop, heappush
from itertools import count
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.attempt import SOMEBODY_ELSE, Outcome
from models.reason import PAUSE_CURES, PauseReason, Reason
from worker.rules import breaker
from worker.rules.breaker import WATCHED_FAILURES, ActiveAttempt, FailedAttempt, Thresholds, Trip, is_own_answer

# An attempt that made its device ACTIVE, where a list of attempts has the names of what others ended for.
ACTIVE = None
DEAD_LETTERS = frozenset(map(str, Reason))
THRESHOLDS = Thresholds()
FORBIDDEN, INVALID, RESYNC_FAILED = Reason.FORBIDDEN, Reason.INVALID_OTP, Reason.RESYNC_FAILED
GONE = Reason.DEVICE_NOT_FOUND
Ends = Sequence[str | None]


@dataclass(frozen=True)
class History:
    """Attempts that made their device ACTIVE, by their ids, the newest first: each is of another record, and all are of
    this worker."""

    active: Sequence[int] = ()
    untried: int = 1000
    worker: str | None = None

    def read_active(self) -> list[ActiveAttempt]:
        return [ActiveAttempt(number, number, worker=self.worker) for number in self.active]

    def count_untried(self, most: int) -> int:
        return min(most, self.untried)


NOTHING_ACTIVE = History()


def failure(number: int, reason: str) -> FailedAttempt:
    """As such an attempt stands in the history; each is of another record."""
    is_dead = reason in DEAD_LETTERS
    posts = 1 if is_dead or reason in ("outcome_unknown", "other_device") else 0
    outcome = Outcome.DEAD_LETTER if is_dead else Outcome.RETRY
    return FailedAttempt(number, number, outcome, reason, posts, is_answered=reason == "other_device")


def told(ends: Ends) -> tuple[list[FailedAttempt], History]:
    """What the breaker is told of attempts that ended so, the newest first."""
    numbered = [(len(ends) - place, end) for place, end in enumerate(ends)]
    failures = [failure(number, end) for number, end in numbered if end is not None]
    return failures, History([number for number, end in numbered if end is None])


def find_reason(
    failures: Sequence[FailedAttempt],
    history: History = NOTHING_ACTIVE,
    thresholds: Thresholds = THRESHOLDS,
    **how: bool,
) -> PauseReason | None:
    trip = breaker.find_trip(failures, history, thresholds, **how)
    return trip and trip.reason


def judge(ends: Ends, thresholds: Thresholds = THRESHOLDS, *, is_probing: bool = False) -> PauseReason | None:
    return find_reason(*told(ends), thresholds, is_probing=is_probing)


# Enough is enough, whatever the reason.


@pytest.mark.parametrize("reason", [*sorted(DEAD_LETTERS - {FORBIDDEN, GONE, INVALID, RESYNC_FAILED})])
def test_any_reason_that_dominates_pauses_the_batch(reason):
    assert judge([reason] * 24) is None
    assert judge([reason] * 25) == PauseReason.REFUSED
    assert judge([reason, ACTIVE] * 25) == PauseReason.REFUSED


@pytest.mark.parametrize(
    ("ends", "pause"),
    [
        # What happens to single records pauses nothing.
        *((ends, None) for ends in ([], [ACTIVE], [ACTIVE] * 100, [Reason.LOCKED] * 24, ["hold", "not_found"] * 100)),
        # Reasons of every kind count together.
        (sorted(DEAD_LETTERS) * 3, PauseReason.REFUSED),
        # A batch that went well for long stops as soon as one that never did.
        ([Reason.LOCKED] * 24 + [ACTIVE] * 1000, None),
        ([Reason.LOCKED] * 25 + [ACTIVE] * 1000, PauseReason.REFUSED),
        # A minority of failures is a matter of single records.
        ([ACTIVE, Reason.LOCKED, ACTIVE] * 100, None),
        # What most of it was names the pause.
        (["outcome_unknown", ACTIVE] * 25, PauseReason.OUTAGE),
        (["outcome_unknown", Reason.LOCKED, Reason.LOCKED] * 10, PauseReason.REFUSED),
        (["outcome_unknown", "outcome_unknown", Reason.LOCKED] * 10, PauseReason.OUTAGE),
        # A few refused OTPs are worn buttons; half of what was tried is a wrong file.
        ([INVALID] * 19, None),
        ([INVALID, ACTIVE, ACTIVE] * 50, None),
        ([INVALID] * 20, PauseReason.INVALID_OTPS),
        ([RESYNC_FAILED] * 20, PauseReason.INVALID_OTPS),
        ([INVALID, RESYNC_FAILED] * 10, PauseReason.INVALID_OTPS),
        ([INVALID, ACTIVE] * 20, PauseReason.INVALID_OTPS),
        ([RESYNC_FAILED, ACTIVE] * 20, PauseReason.INVALID_OTPS),
        ([INVALID, ACTIVE, RESYNC_FAILED, ACTIVE] * 10, PauseReason.INVALID_OTPS),
        # Access tokens refused at random pause nothing; for several records in a row it is a matter of credentials.
        (["unauthorized"] * 4, None),
        (["unauthorized", ACTIVE] * 50, None),
        (["unauthorized"] * 5, PauseReason.CREDENTIALS),
        (["unauthorized"] * 5 + [ACTIVE] * 9, PauseReason.CREDENTIALS),
        # Answers for other devices do, whatever went well between.
        (["other_device"] * 2, None),
        (["other_device", ACTIVE, ACTIVE, ACTIVE] * 3, PauseReason.PROTOCOL),
        # So many records in a row are a missing role or deleted devices.
        ([FORBIDDEN] * 9, None),
        ([FORBIDDEN] * 10 + [ACTIVE] * 50, PauseReason.PERMISSIONS),
        ([GONE] * 9, None),
        ([GONE] * 10 + [ACTIVE] * 50, PauseReason.DEVICES_GONE),
        # Devices that are looked for again pause nothing until they are given up.
        (["not_found", GONE] * 9, None),
        (["not_found", GONE] * 10, PauseReason.DEVICES_GONE),
    ],
)
def test_what_is_enough_to_pause_and_what_is_not(ends, pause):
    assert judge(ends) == pause


def alike(count: int, reason: str, *, newest: int = 0, **what: object) -> list[FailedAttempt]:
    """So many attempts that ended for one reason, of which this is true besides; the newest first."""
    newest = newest or count
    return [replace(failure(number, reason), **what) for number in range(newest, newest - count, -1)]  # type: ignore[arg-type]


PATIENT = Thresholds(forbidden=99, unauthorized=99, other_device=99, refused=99, spent=99, unanswered=5)
# What an earlier outage has left open, and five answers that got lost since.
LEFT_OPEN, UNKNOWN = alike(100, "outcome_unknown", is_recent=False), alike(5, "outcome_unknown")
# What asked PingOne nothing, and answers of PingOne's own that leave the fate open.
STALE = alike(10, Reason.STALE_OTP, newest=30, has_asked=False)
ANSWERED_OPEN = alike(5, "outcome_unknown", is_answered=True)


@pytest.mark.parametrize(
    ("thresholds", "failures", "pause"),
    [
        # OTPs count, and not only records.
        (THRESHOLDS, alike(12, Reason.LOCKED, otp_posts=2), None),
        (THRESHOLDS, alike(13, Reason.LOCKED, otp_posts=2), PauseReason.REFUSED),
        # Tokens that wait for their next time step have spent nothing.
        (THRESHOLDS, alike(100, "time_step", otp_posts=1), None),
        # What an earlier outage left open is not held against the batch, and tells of no outage.
        (THRESHOLDS, [*alike(24, Reason.LOCKED, newest=224), *LEFT_OPEN], None),
        (PATIENT, LEFT_OPEN, None),
        # One record that comes back is one record; where it is the only one that may go, that has to be enough.
        (THRESHOLDS, alike(19, "unauthorized", record_id=7), None),
        (THRESHOLDS, alike(20, "unauthorized", record_id=7), PauseReason.CREDENTIALS),
        (PATIENT, [*STALE, *UNKNOWN], PauseReason.OUTAGE),
        (PATIENT, ANSWERED_OPEN, None),
    ],
)
def test_what_is_known_of_an_attempt_besides_its_end_counts(thresholds, failures, pause):
    assert find_reason(failures, NOTHING_ACTIVE, thresholds) == pause


@pytest.mark.parametrize(
    ("failures", "is_answered"), [([*STALE, *UNKNOWN], False), (ANSWERED_OPEN, True)], ids=["stale", "open"]
)
def test_only_an_answer_of_pingones_own_ends_an_outage(failures, is_answered):
    assert breaker.was_answered_since(failures, NOTHING_ACTIVE, since=0) is is_answered


@given(st.lists(st.none() | st.sampled_from(Reason), max_size=120), st.integers(1, 30))
def test_no_batch_spends_more_than_it_may_without_a_success(ends, spent):
    """Whatever is answered: where nothing became active, so many dead letters are the end."""
    ends = [end for end in ends if end is not ACTIVE]
    if len(ends) >= spent:
        assert judge(ends, Thresholds(spent=spent)) is not None


@given(st.lists(st.none() | st.sampled_from(Reason), max_size=100))
def test_a_batch_that_is_mostly_active_at_any_moment_goes_on(ends):
    if all(2 * ends[:upto].count(ACTIVE) > upto for upto in range(1, len(ends) + 1)):
        assert judge(ends) is None


# What takes long to fail, and what a pause would save.


def slowly(end: str, begun: int, ended: int) -> FailedAttempt:
    return replace(failure(ended, end), first_id=begun)


@pytest.mark.parametrize("reason", [GONE, FORBIDDEN, INVALID, Reason.LOCKED])
def test_failures_that_end_late_are_held_against_the_records_that_were_begun_with_them(reason):
    """One in ten takes long; when all others have ended, forty of them end one after the other."""
    late = [slowly(reason, 10 * number, 400 + number) for number in range(40, 0, -1)]
    others = [number for number in range(400, 0, -1) if number % 10]
    assert find_reason(late, History(others)) is None
    assert find_reason(late, History(others[-60:])) is not None


@pytest.mark.parametrize(("reason", "threshold"), [(GONE, 10), (FORBIDDEN, 10), (INVALID, 20), (Reason.LOCKED, 25)])
def test_where_fewer_are_left_than_the_breaker_lets_fail_there_is_nothing_to_protect(reason, threshold):
    ends, first = told([reason] * threshold + [ACTIVE])
    assert find_reason(ends, replace(first, untried=threshold)) is not None
    assert find_reason(ends, replace(first, untried=threshold - 1)) is None
    # Where nothing was ever right, whatever is left is worth it.
    assert find_reason(ends, History(untried=0)) is not None


@pytest.mark.parametrize("reason", [FORBIDDEN, GONE])
@pytest.mark.parametrize("place", range(10))
@pytest.mark.parametrize("other", [ACTIVE, Reason.LOCKED])
def test_a_single_other_end_in_the_row_speaks_against_it(reason, place, other):
    ends: list[str | None] = [reason] * 10
    ends[place] = other
    assert judge(ends) is None


# Three refused OTPs in ten, and four devices that are gone in a row, or records without permission.
THREE_IN_TEN, FOUR_GONE, FOUR_FORBIDDEN = [INVALID] * 2 + [ACTIVE] * 7 + [INVALID], [GONE] * 4, [FORBIDDEN] * 4


@pytest.mark.parametrize(
    ("thresholds", "ends", "pause"),
    [
        (Thresholds(refused=3, refused_share=0.3), THREE_IN_TEN, PauseReason.INVALID_OTPS),
        (Thresholds(refused=3, refused_share=0.31), THREE_IN_TEN, None),
        (Thresholds(devices_gone=4), FOUR_GONE, PauseReason.DEVICES_GONE),
        (Thresholds(devices_gone=4), FOUR_FORBIDDEN, None),
    ],
)
def test_the_share_of_refused_otps_and_how_many_devices_are_gone_are_settings(thresholds, ends, pause):
    assert judge(ends, thresholds) == pause


# What the sentence of a pause says.


def test_a_pause_tells_what_it_cost_and_what_pingone_said():
    said = alike(25, "rejected", codes="HTTP 400 INVALID_DATA NEW_CODE")
    trip = breaker.find_trip(said, NOTHING_ACTIVE, THRESHOLDS)
    assert trip is not None
    assert trip.detail == (
        "25 OTPs were spent on 25 attempts that made no device ACTIVE: 25 rejected (HTTP 400 INVALID_DATA NEW_CODE). "
        + PAUSE_CURES[PauseReason.REFUSED]
    )


# One worker process that PingOne does not answer.


def of_worker(worker: str, attempt: FailedAttempt) -> FailedAttempt:
    return replace(attempt, worker=worker)


def silent_for(worker: str, numbers: Sequence[int]) -> list[FailedAttempt]:
    return [of_worker(worker, failure(number, "outcome_unknown")) for number in sorted(numbers, reverse=True)]


def test_what_one_worker_alone_has_no_answer_to_is_held_against_nobody_else():
    alone = silent_for("sick", range(1, 81, 2))
    answered = History(range(80, 0, -8), worker="well")
    assert breaker.find_alone(alone, answered) == alone
    assert find_reason(alone, answered) is None
    # The same, if nobody else was answered: that is an outage.
    assert find_reason(alone) == PauseReason.OUTAGE


# Attempts of one worker without an answer.
LOST = silent_for("sick", [1, 2, 3])


@pytest.mark.parametrize(
    ("failures", "history", "alone"),
    [
        # An answer that says no is an answer to another worker.
        ([of_worker("well", failure(99, Reason.INVALID_OTP)), *LOST], NOTHING_ACTIVE, LOST),
        # Who was answered since is not at fault.
        (LOST, History([9], worker="sick"), []),
        ([of_worker("sick", failure(5, Reason.LOCKED)), *LOST], History([9], worker="well"), []),
    ],
)
def test_who_is_alone_without_an_answer(failures, history, alone):
    assert breaker.find_alone(failures, history) == alone


def test_one_worker_alone_does_not_say_for_all_that_an_outage_lasts():
    by_one, by_two = silent_for("a", [1, 2]), [*silent_for("b", [2]), *silent_for("a", [1])]

    def lasts(failures: Sequence[FailedAttempt], *, has_others: bool) -> bool:
        return breaker.find_trip(failures, History(), THRESHOLDS, is_probing=True, has_others=has_others) is not None

    assert lasts(by_two, has_others=True)
    assert lasts(by_one, has_others=False)
    assert not lasts(by_one, has_others=True)
    # The others may take no such work: as many as begin an outage are enough.
    assert lasts(silent_for("a", range(THRESHOLDS.unanswered)), has_others=True)


# Whether PingOne is out, and whether it is back.

UNANSWERED = st.sampled_from(["outcome_unknown", "not_delivered"])
SILENT = st.sampled_from(["hold", "not_permitted", "database"])
ANSWERED = st.sampled_from([ACTIVE, "rate_limited", "not_found", "forbidden", "credentials", *map(str, Reason)])
ANYTHING = st.lists(UNANSWERED | SILENT | ANSWERED, max_size=60)
NO_ANSWER = ["outcome_unknown", "not_delivered"]


def is_out(ends: Ends, *, is_probing: bool = False) -> bool:
    return judge(ends, PATIENT, is_probing=is_probing) == PauseReason.OUTAGE


def is_back(ends: Ends) -> bool:
    return breaker.was_answered_since(*told(ends), since=0)


@pytest.mark.parametrize(
    ("ends", "expected"),
    [
        ([], False),
        (["outcome_unknown"] * 4, False),
        (["outcome_unknown"] * 5, True),
        (["not_delivered"] * 5, True),
        ([*NO_ANSWER * 2, "outcome_unknown", ACTIVE], True),
        (["outcome_unknown"] * 4 + [ACTIVE, "outcome_unknown"], False),
        ([ACTIVE] + ["outcome_unknown"] * 10, False),
        ([Reason.INVALID_OTP] + ["outcome_unknown"] * 10, False),
        (["rate_limited"] * 10, False),
        (["hold"] * 10, False),
        (["hold", "outcome_unknown"] * 5, True),
        (["hold", "outcome_unknown"] * 4 + ["hold"] * 20, False),
    ],
)
def test_so_many_attempts_in_a_row_without_an_answer_are_an_outage(ends, expected):
    assert is_out(ends) is expected


def test_while_probing_a_few_are_enough():
    few = ["outcome_unknown"] * breaker.UNANSWERED_WHILE_PROBING
    assert is_out(few, is_probing=True)
    assert not is_out(few[1:], is_probing=True)
    assert not is_out([few[0], ACTIVE, *few], is_probing=True)
    # Only what came after the batch went on tells of it.
    assert find_reason(LEFT_OPEN, NOTHING_ACTIVE, PATIENT, is_probing=True) is None


@pytest.mark.parametrize(
    ("ends", "expected"),
    [
        *(([answer], True) for answer in (ACTIVE, "rate_limited", "forbidden", Reason.INVALID_OTP)),
        (["outcome_unknown", "hold", "rate_limited", "outcome_unknown"], True),
        *((ends, False) for ends in ([], ["outcome_unknown"], NO_ANSWER, ["hold", "not_permitted", "database"])),
    ],
)
def test_one_answer_of_any_kind_shows_that_pingone_is_back(ends, expected):
    assert is_back(ends) is expected


def test_an_answer_from_before_the_probe_shows_nothing_either():
    failures, history = told([*NO_ANSWER, ACTIVE, Reason.LOCKED])
    assert not breaker.was_answered_since(failures, history, since=2)
    assert breaker.was_answered_since(failures, history, since=1)


@given(ANYTHING, st.booleans())
def test_an_outage_ends_with_the_first_answer(ends, is_probing):
    """Whatever came before it; so a batch that is answered is never paused for an outage."""
    assert is_back([ACTIVE, *ends])
    assert not is_out([ACTIVE, *ends], is_probing=is_probing)


@given(st.lists(UNANSWERED | SILENT, max_size=60), st.booleans())
def test_without_any_answer_it_is_out_as_soon_as_enough_attempts_say_so(ends, is_probing):
    needed = breaker.UNANSWERED_WHILE_PROBING if is_probing else PATIENT.unanswered
    unanswered = sum(reason in NO_ANSWER for reason in ends)
    assert is_out(ends, is_probing=is_probing) is (unanswered >= needed)
    assert not is_back(ends)


@given(ANYTHING, st.booleans(), st.data())
def test_what_says_nothing_changes_nothing_wherever_it_stands(ends, is_probing, data):
    place = data.draw(st.integers(0, len(ends)))
    with_silence = [*ends[:place], data.draw(SILENT), *ends[place:]]
    assert is_back(with_silence) is is_back(ends)
    assert judge(with_silence, is_probing=is_probing) == judge(ends, is_probing=is_probing)


@given(st.lists(st.none() | st.sampled_from(["hold", "not_found", "rate_limited", "not_permitted"]), max_size=60))
def test_only_dead_letters_and_watched_failures_ever_pause_so_only_they_need_to_be_judged(ends):
    assert judge(ends, replace(THRESHOLDS, forbidden=1, unauthorized=1, refused=1, spent=1)) is None


def test_probes_come_less_and_less_often_up_to_a_bound():
    assert [breaker.choose_probe_delay(outages) for outages in range(6)] == [15.0, 30.0, 60.0, 120.0, 240.0, 300.0]
    assert breaker.choose_probe_delay(10**9) == 300.0
    # Fewer probes, and a batch would probe for ever without a verdict; more, and each would spend attempts.
    assert breaker.PROBES == breaker.UNANSWERED_WHILE_PROBING


# Somebody else.


@pytest.mark.parametrize(("by_others", "is_enough"), [(0, False), (4, False), (5, True)])
def test_few_devices_that_somebody_else_made_active_pause_nothing(by_others: int, is_enough: bool) -> None:
    trip = breaker.find_others([SOMEBODY_ELSE] * by_others + [None, "hold"] * 10, THRESHOLDS)
    assert (trip is not None) is is_enough
    if trip:
        assert (trip.reason, trip.detail.endswith(PAUSE_CURES[trip.reason])) == (PauseReason.SOMEBODY_ELSE, True)
        assert trip.detail.startswith("5 of the latest 25 attempts")


# Which failed call shows that PingOne is there.


@pytest.mark.parametrize(
    ("http_status", "correlation_id", "is_own"),
    [
        (400, "3f0c", True),
        # A success that names no status, and a time-out that PingOne itself reports.
        (200, "3f0c", True),
        (408, "3f0c", True),
        # PingOne itself, but out of order.
        (500, "3f0c", False),
        (503, "3f0c", False),
        # A proxy's page, and nothing at all.
        (404, None, False),
        (200, None, False),
        (None, None, False),
    ],
)
def test_only_an_answer_below_500_with_a_correlation_id_is_pingones(
    http_status: int | None, correlation_id: str | None, is_own: bool
) -> None:
    assert is_own_answer(http_status, correlation_id) is is_own


# No false alarm where a batch ends or stands still: what takes long to fail ends last. Whole batches in virtual time,
# whose records succeed, fail at once, fail slowly, lose answers, and lose their workers.

RECORDS = 1500
SEEDS = range(200)
# Failed attempts that the breaker is told of, the newest; and twice as many of the others.
TOLD = 100

# What one attempt comes to: its outcome, its reason, and the OTPs that it spent.
End = tuple[Outcome, str, int]
BECAME_ACTIVE: End = (Outcome.ACTIVE, "", 1)
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


class Batch:
    """A batch of which a share is hopeless, whose records begin one after the other, until it is finished or the
    breaker stops it."""

    def __init__(self, random: Random, hopeless: float) -> None:
        self.random, self.now, self.lines = random, 0.0, count(1)
        self.apart = random.choice((0.01, 0.1))
        self.lost = random.choice((0.0, 0.02, 0.05))
        # Moments at which whatever is under way loses its worker, and comes back a minute later.
        self.kills = [random.uniform(1, 60) for _ in range(random.choice((0, 2, 5)))]
        kinds = random.sample(HOPELESS, random.choice((1, 2, len(HOPELESS))))
        self.loses_answers = self.lost > 0 or any(LOST_ANSWER in kind for kind in kinds)
        self.trip: Trip | None = None
        # OTPs that were spent on what did not become ACTIVE; and when an outage was told, each time.
        self.spent, self.outages = 0, list[int]()
        self.active, self.failures = list[ActiveAttempt](), deque[FailedAttempt](maxlen=TOLD)
        # What ends when: the record, the line of its first attempt, and what it comes to, attempt by attempt.
        self.due: list[tuple[float, int, int, list[End]]] = []
        for record in range(1, RECORDS + 1):
            good = [LOST_ANSWER] * (random.random() < self.lost) + [BECAME_ACTIVE]
            ends = list(random.choice(kinds)) if random.random() < hopeless else good
            self._begin(record * self.apart, record, 0, ends)

    def run(self) -> "Batch":
        while self.due and not self.trip:
            self.now, record, first_id, [(outcome, reason, posts), *left] = heappop(self.due)
            line = next(self.lines)
            first_id = first_id or line
            if outcome == Outcome.ACTIVE:
                self.active.append(ActiveAttempt(line, first_id))
                continue
            self.spent += posts
            self.failures.appendleft(FailedAttempt(line, record, outcome, reason, posts, first_id=first_id))
            if left:
                self._begin(self.now + self.random.uniform(10, 35), record, first_id, left)
            if posts or outcome == Outcome.DEAD_LETTER or reason in WATCHED_FAILURES:
                self._judge()
        return self

    def read_active(self) -> list[ActiveAttempt]:
        return self.active[: -2 * TOLD - 1 : -1]

    def count_untried(self, most: int) -> int:
        return min(most, max(RECORDS - int(self.now / self.apart), 0))

    def _begin(self, at: float, record: int, first_id: int, ends: list[End]) -> None:
        is_slow = ends[0] == LOST_ANSWER and self.random.random() < 0.5
        ends_at = at + (20.0 if is_slow else self.random.uniform(0.03, 0.6))
        is_lost = any(at < moment < ends_at for moment in self.kills)
        heappush(self.due, (ends_at + 60 * is_lost, record, first_id, ends))

    def _judge(self) -> None:
        trip = breaker.find_trip(list(self.failures), self, THRESHOLDS)
        if trip is None or trip.reason != PauseReason.OUTAGE:
            self.trip = trip
            return
        # It passes by itself, and is not held against the batch.
        self.outages.append(self.spent)
        self.failures = deque((replace(each, is_recent=False) for each in self.failures), maxlen=TOLD)


@pytest.mark.faults
@pytest.mark.parametrize("hopeless", [0.02, 0.08, 0.15])
def test_no_tail_of_a_batch_that_mostly_succeeds_looks_like_a_bad_batch(hopeless: float) -> None:
    for seed in SEEDS:
        batch = Batch(Random(seed), hopeless).run()
        assert batch.trip is None, f"seed {seed}, {len(batch.active)} active: {batch.trip}"
        assert not batch.outages or batch.loses_answers


@pytest.mark.faults
def test_where_all_fail_few_otps_are_spent() -> None:
    for seed in SEEDS:
        batch = Batch(Random(seed), 1.0).run()
        spent = [*batch.outages, *([batch.spent] if batch.trip else [])]
        # An attempt may spend two of them.
        assert spent[0] <= THRESHOLDS.spent + 1, f"seed {seed}"
