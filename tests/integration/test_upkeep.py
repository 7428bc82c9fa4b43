"""What a batch does by itself: it pauses for its canary, for an outage, for failures that are no accident, and goes on
when PingOne is back. What is read of a batch's attempts, on both databases. Which failures are enough is a rule:
unit/rules/test_breaker.py."""

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select, update
from support.data.batches import enqueue, look_at_batch, make_batch, rescue, statuses
from support.data.loading import LoadingDesk, token
from support.data.moving_clock import ON_SQLITE, MovingDatabase
from support.fleets.scripted_fleet import HELD, LATER, THRESHOLDS, UNDELIVERED, UNKNOWN, ScriptedFleet

from models.attempt import SOMEBODY_ELSE, AttemptLine
from models.batch import BatchState
from models.reason import PAUSE_CURES, PauseReason, Reason
from models.record import Record
from models.record_states import OtpState, Status
from worker.batches.upkeep import Upkeep
from worker.cli.exit_codes import ALL_ACTIVE, STALLED
from worker.cli.status import choose_check_code
from worker.pingone.errors import Answer
from worker.reports.facts import Outage, read_statuses
from worker.rules import breaker
from worker.rules.breaker import PROBES, Thresholds
from worker.rules.steps import Active, DeadLetter, Decision, Pause, Retry

HALF_DONE = {"otp1_state": OtpState.ANSWERED, "otp1_posts": 1}
STALE = DeadLetter(Reason.STALE_OTP, is_counted=False)
REFUSED_TOKEN = Retry(LATER, is_counted=False, why="unauthorized")

RUNNING = (BatchState.RUNNING, None)
CANARY = (BatchState.PAUSED, PauseReason.CANARY)
OUTAGE = (BatchState.PAUSED, PauseReason.OUTAGE)
PERSON = (BatchState.PAUSED, PauseReason.PERSON)
TRIAL = (BatchState.PAUSED, PauseReason.TRIAL)


@pytest.fixture
def fleet(scripted_fleet: ScriptedFleet) -> ScriptedFleet:
    return scripted_fleet


# The canary.


def test_exactly_the_canarys_records_go_and_the_rest_after_a_resume(
    fleet: ScriptedFleet, database: MovingDatabase
) -> None:
    made = make_batch(database, 8)
    fleet.set_canary(made, 3)

    assert fleet.tick() == made.ids[:3]
    fleet.end(made.ids[1], Active())
    fleet.end(made.ids[0], DeadLetter(Reason.LOCKED))
    assert (fleet.tick(), fleet.state(made)) == ([], RUNNING)
    fleet.end(made.ids[2], Active())
    assert (fleet.tick(), fleet.state(made)) == ([], CANARY)
    assert look_at_batch(database, made.batch_id).detail == PAUSE_CURES[PauseReason.CANARY]

    fleet.batches.resume(made.name)
    assert (look_at_batch(database, made.batch_id).canary, fleet.tick()) == (None, made.ids[3:])
    fleet.end_all(made.ids[3:], Active())
    assert (fleet.tick(), fleet.state(made)) == ([], RUNNING)


@ON_SQLITE
def test_a_canary_waits_for_what_a_worker_left_lying_and_for_its_retries(
    fleet: ScriptedFleet, database: MovingDatabase
) -> None:
    made = make_batch(database, 4)
    fleet.set_canary(made, 2)
    first, second = fleet.tick()
    fleet.end(first, Active())
    fleet.claim(second)
    fleet.pass_time(61)
    assert [fleet.tick(), fleet.tick()] == [[second], []]

    fleet.end(second, Retry(30.0, is_counted=True, why="outcome_unknown"))
    assert (fleet.tick(), fleet.state(made)) == ([], RUNNING)
    fleet.pass_time(31)
    assert [fleet.tick(), fleet.tick()] == [[second], []]
    fleet.end(second, DeadLetter(Reason.ATTEMPTS_SPENT))
    assert (fleet.tick(), fleet.state(made)) == ([], CANARY)


@ON_SQLITE
def test_neither_half_done_records_nor_expiring_ones_overtake_the_canary_which_holds_back_its_own_batch_only(
    fleet: ScriptedFleet, database: MovingDatabase
) -> None:
    soon = database.read_clock() + timedelta(seconds=600)
    made = make_batch(database, [{}, {}, HALF_DONE, {"otp_expires_at": soon}, {}])
    other = make_batch(database, 3, name="other")
    fleet.set_canary(made, 2)

    ids = [*made.ids[:2], *other.ids]
    assert [fleet.tick(), fleet.tick()] == [ids, []]
    fleet.end_all(ids, Active())
    assert (fleet.tick(), fleet.state(made), fleet.state(other)) == ([], CANARY, RUNNING)


@ON_SQLITE
@pytest.mark.parametrize("reason", [PauseReason.CREDENTIALS, PauseReason.INVALID_OTPS, None])
def test_a_resume_from_another_pause_does_not_end_the_canary(
    fleet: ScriptedFleet, database: MovingDatabase, reason: PauseReason | None
) -> None:
    """Nobody has looked at how its records ended."""
    made = make_batch(database, 4)
    fleet.set_canary(made, 2)
    first, second = fleet.tick()
    fleet.end(first, Active())
    if reason is None:
        fleet.batches.pause(made.name)
    else:
        fleet.end(second, Pause(reason))
        fleet.upkeep.pause(made.batch_id, reason)

    fleet.batches.resume(made.name)

    assert fleet.tick() == [second]
    fleet.end(second, Active())
    assert (fleet.tick(), fleet.state(made)) == ([], CANARY)


@ON_SQLITE
def test_a_person_who_pauses_after_the_canary_still_has_to_resume_it_once_and_a_cancel_stays(
    fleet: ScriptedFleet, database: MovingDatabase
) -> None:
    made, cancelled = make_batch(database, 3), make_batch(database, 3, name="cancelled")
    for each in (made, cancelled):
        fleet.set_canary(each, 1)
    first, _ = fleet.tick()
    fleet.batches.cancel(cancelled.name)
    fleet.end(first, Active())
    assert (fleet.tick(), fleet.state(cancelled)) == ([], (BatchState.CANCELLED, None))
    assert statuses(database, cancelled) == [Status.CANCELLED] * 3

    fleet.batches.pause(made.name)
    assert fleet.state(made) == CANARY
    fleet.batches.resume(made.name)
    assert fleet.tick() == made.ids[1:]


@ON_SQLITE
def test_a_replay_of_the_canarys_dead_letters_is_part_of_the_canary(
    fleet: ScriptedFleet, database: MovingDatabase
) -> None:
    made = make_batch(database, 4)
    fleet.set_canary(made, 2)
    for decision in (DeadLetter(Reason.FORBIDDEN), Active()):
        again = fleet.tick()
        assert again == made.ids[:2]
        fleet.end_all(again, decision)
        assert (fleet.tick(), fleet.state(made)) == ([], CANARY)
        fleet.batches.replay(made.name)


# An outage.


@ON_SQLITE
def test_so_many_attempts_in_a_row_without_an_answer_pause_the_batch_until_a_probe_or_a_person(
    fleet: ScriptedFleet, database: MovingDatabase
) -> None:
    made = make_batch(database, 10)
    for failure in (UNKNOWN, UNDELIVERED, UNDELIVERED):
        assert (fleet.fail(made, 1, failure, requests=failure is UNKNOWN), fleet.state(made)) == ([None], RUNNING)
    assert fleet.fail(made, 1) == [PauseReason.OUTAGE]

    batch = look_at_batch(database, made.batch_id)
    assert (fleet.state(made), batch.detail, batch.outages) == (OUTAGE, PAUSE_CURES[PauseReason.OUTAGE], 1)
    assert fleet.seconds_to_probe(made) == pytest.approx(breaker.FIRST_PROBE, abs=7)
    assert fleet.tick() == []
    fleet.batches.resume(made.name)
    assert fleet.tick() == made.ids[THRESHOLDS.unanswered :]


ANSWERED, OUT, SAYS_NOTHING = [None, None], [PauseReason.OUTAGE], [None, PauseReason.OUTAGE]


@pytest.mark.parametrize(
    ("decision", "requests", "answer", "verdicts"),
    [
        (Active(), 1, None, ANSWERED),
        (DeadLetter(Reason.INVALID_OTP), 1, None, ANSWERED),
        (Retry(LATER, False, "rate_limited"), 1, None, ANSWERED),
        (Retry(LATER, False, "not_found"), 1, None, ANSWERED),
        # A success that names no status; an answer to OTP 1, before OTP 2 was lost.
        (UNKNOWN, 1, Answer(status=200, correlation_id="b8ee5b23"), ANSWERED),
        (UNKNOWN, 1, Answer(status=400, code="INVALID_DATA", correlation_id="b8ee5b23"), ANSWERED),
        # A proxy's page for whatever is asked of it; PingOne itself, when it fails.
        (UNKNOWN, 1, Answer(status=200), OUT),
        (UNKNOWN, 1, Answer(status=503, correlation_id="b8ee5b23"), OUT),
        (UNDELIVERED, 0, None, OUT),
        (HELD, 0, None, SAYS_NOTHING),
        (Retry(LATER, is_counted=False, why="not_permitted"), 0, None, SAYS_NOTHING),
        (Retry(LATER, is_counted=False, why="database"), 1, None, SAYS_NOTHING),
        # Given up without a request.
        (STALE, 0, None, SAYS_NOTHING),
    ],
)
def test_any_answer_of_pingones_shows_that_it_is_there_and_what_asked_nothing_says_nothing(
    fleet: ScriptedFleet,
    database: MovingDatabase,
    decision: Decision,
    requests: int,
    answer: Answer | None,
    verdicts: list[PauseReason | None],
) -> None:
    """What the breaker says to this end after three without an answer, and to a fourth of these after it."""
    made = make_batch(database, 10)
    assert fleet.fail(made, 3) == [None] * 3
    fleet.answer = answer
    said = fleet.fail(made, 1, decision, requests)
    fleet.answer = None
    assert said + (fleet.fail(made, 1) if said == [None] else []) == verdicts


def test_neither_a_lost_worker_nor_another_batchs_answers_say_anything(
    fleet: ScriptedFleet, database: MovingDatabase
) -> None:
    made, other = make_batch(database, 10), make_batch(database, 10, name="other")
    for _ in range(3):
        assert fleet.fail(made, 1) == [None]
        fleet.fail(other, 2, Active())
    (lost,) = enqueue(database, made, 1)
    fleet.claim(lost)
    fleet.pass_time(61)
    assert rescue(database) == 1

    assert fleet.fail(made, 1) == [PauseReason.OUTAGE]
    assert (fleet.state(made), fleet.state(other)) == (OUTAGE, RUNNING)
    assert fleet.fail(other, 3) == [None] * 3


def test_nothing_goes_until_the_probe_and_then_a_few_records_only_whatever_another_batch_is_answered(
    fleet: ScriptedFleet, database: MovingDatabase
) -> None:
    made = make_batch(database, 30)
    fleet.begin_outage(made)
    other = make_batch(database, 40, name="other")
    busy = fleet.tick()
    assert busy == other.ids
    fleet.pass_time(breaker.FIRST_PROBE / 2)
    assert (fleet.tick(), fleet.state(made)) == ([], OUTAGE)

    fleet.pass_time(breaker.FIRST_PROBE / 2 + 1)

    probes = fleet.tick()
    assert (len(probes), set(probes) < set(made.ids), fleet.state(made)) == (PROBES, True, RUNNING)
    fleet.claim(probes[0])
    fleet.end(busy[0], Active())
    assert fleet.tick() == []


def test_an_outage_is_told_from_the_first_attempt_without_an_answer_until_one_is_answered(
    fleet: ScriptedFleet, database: MovingDatabase
) -> None:
    def told() -> Outage | None:
        (status,) = read_statuses(database, made.name)
        return status.outage

    made = make_batch(database, 30)
    fleet.fail(made, 2)
    fleet.fail(made, 1, Active())
    fleet.begin_outage(made)
    since = database.values(select(AttemptLine.ended_at).order_by(AttemptLine.id))[3]
    probe_at = look_at_batch(database, made.batch_id).probe_at
    assert told() == Outage(since, probe_at)

    # Nobody ticks, and then somebody does.
    fleet.pass_time(breaker.FIRST_PROBE + 1)
    assert told() == Outage(since, probe_at, is_overdue=True)
    probe, *_ = fleet.tick()
    assert told() == Outage(since, None)
    fleet.end(probe, Active())
    assert told() is None


def test_a_minute_without_an_answer_is_told_before_the_batch_pauses(
    fleet: ScriptedFleet, database: MovingDatabase
) -> None:
    made = make_batch(database, 3)

    def told() -> tuple[bool, int]:
        (status,) = read_statuses(database, made.name)
        return status.outage is not None, choose_check_code(status)

    fleet.fail(made, 1, UNKNOWN)
    assert told() == (False, ALL_ACTIVE)
    fleet.pass_time(40)
    fleet.fail(made, 1, UNDELIVERED)
    # Its attempts end, so something moves; and nothing comes of it.
    fleet.pass_time(40)
    assert told() == (True, STALLED)
    fleet.end(fleet.tick()[0], Active())
    assert told() == (False, ALL_ACTIVE)


@ON_SQLITE
def test_an_outage_that_lasts_is_probed_less_and_less_often(fleet: ScriptedFleet, database: MovingDatabase) -> None:
    made = make_batch(database, 60)
    fleet.begin_outage(made)
    expected = breaker.FIRST_PROBE

    for outages in range(1, 8):
        assert look_at_batch(database, made.batch_id).outages == outages
        assert fleet.seconds_to_probe(made) == pytest.approx(expected, abs=7)
        fleet.pass_time(expected + 1)
        first, second = fleet.tick()
        fleet.end(first, UNKNOWN)
        assert fleet.upkeep.apply_breaker(made.batch_id) is None
        fleet.end(second, UNDELIVERED)
        assert (fleet.upkeep.apply_breaker(made.batch_id), fleet.state(made)) == (PauseReason.OUTAGE, OUTAGE)
        expected = min(2 * expected, breaker.LONGEST_PROBE)
    assert expected == breaker.LONGEST_PROBE


@ON_SQLITE
@pytest.mark.parametrize(
    ("answer", "requests", "ends"),
    [
        (Active(), 1, True),
        (DeadLetter(Reason.INVALID_OTP), 1, True),
        (Retry(LATER, False, "rate_limited"), 1, True),
        (HELD, 0, False),
        (STALE, 0, False),
    ],
)
def test_one_answered_attempt_ends_an_outage_and_a_probe_that_asked_nothing_does_not(
    fleet: ScriptedFleet, database: MovingDatabase, answer: Decision, requests: int, ends: bool
) -> None:
    made = make_batch(database, 30)
    fleet.begin_outage(made)
    fleet.pass_time(breaker.FIRST_PROBE + 1)
    first, second = fleet.tick()
    fleet.end(first, UNKNOWN if ends else answer, requests)
    assert fleet.upkeep.apply_breaker(made.batch_id) is None
    fleet.end(second, answer, requests)

    rest = fleet.tick()

    assert (len(rest) > PROBES) is ends
    batch = look_at_batch(database, made.batch_id)
    assert (batch.state, batch.outages, batch.probe_at) == (BatchState.RUNNING, 0 if ends else 1, None)
    if ends:
        # The next outage is a new one: it takes as many failures, and is probed as soon.
        fleet.end_all(rest[: THRESHOLDS.unanswered - 1], UNKNOWN)
        assert fleet.upkeep.apply_breaker(made.batch_id) is None
        fleet.end(rest[THRESHOLDS.unanswered - 1], UNKNOWN)
        assert fleet.upkeep.apply_breaker(made.batch_id) == PauseReason.OUTAGE
        assert fleet.seconds_to_probe(made) == pytest.approx(breaker.FIRST_PROBE, abs=7)


@ON_SQLITE
def test_attempts_that_end_after_the_pause_do_not_make_the_outage_a_longer_one(
    fleet: ScriptedFleet, database: MovingDatabase
) -> None:
    made = make_batch(database, 10)
    in_flight = [fleet.claim(record_id) for record_id in fleet.tick()[THRESHOLDS.unanswered :]]
    fleet.end_all(made.ids[: THRESHOLDS.unanswered], UNKNOWN)
    assert fleet.upkeep.apply_breaker(made.batch_id) == PauseReason.OUTAGE

    for claimed in in_flight:
        fleet.settle(claimed, UNKNOWN)
        assert fleet.upkeep.apply_breaker(made.batch_id) is None

    assert look_at_batch(database, made.batch_id).outages == 1


@ON_SQLITE
@pytest.mark.parametrize("is_probing", [False, True])
def test_a_persons_pause_during_an_outage_stays_until_they_resume(
    fleet: ScriptedFleet, database: MovingDatabase, is_probing: bool
) -> None:
    made = make_batch(database, 30)
    fleet.begin_outage(made)
    if is_probing:
        fleet.pass_time(breaker.FIRST_PROBE + 1)
        claimed = fleet.claim(fleet.tick()[0])
    fleet.batches.pause(made.name)
    if is_probing:
        fleet.settle(claimed, UNKNOWN)
        assert fleet.upkeep.apply_breaker(made.batch_id) is None

    assert fleet.state(made) == PERSON
    fleet.pass_time(2 * LATER)
    assert (fleet.tick(), fleet.state(made)) == ([], PERSON)
    fleet.batches.resume(made.name)
    assert (len(fleet.tick()), look_at_batch(database, made.batch_id).outages) == (30, 0)


@ON_SQLITE
def test_a_cancel_during_an_outage_stays(fleet: ScriptedFleet, database: MovingDatabase) -> None:
    made = make_batch(database, 10)
    fleet.begin_outage(made)

    fleet.batches.cancel(made.name)

    fleet.pass_time(breaker.FIRST_PROBE + 1)
    fleet.tick()
    assert fleet.state(made) == (BatchState.CANCELLED, None)
    # Those of unknown fate are read as soon as that may be, outage or not; nothing else goes.
    assert statuses(database, made) == [Status.PENDING] * 4 + [Status.CANCELLED] * 6
    fleet.pass_time(LATER)
    assert fleet.tick() == made.ids[:4]
    fleet.batches.replay(made.name)
    assert fleet.state(made) == RUNNING
    assert fleet.tick() == made.ids[4:]


@ON_SQLITE
def test_an_outage_during_a_canary_ends_in_the_canary(fleet: ScriptedFleet, database: MovingDatabase) -> None:
    made = make_batch(database, 12)
    fleet.set_canary(made, 6)
    fleet.end_all(fleet.tick()[:4], Retry(20.0, is_counted=True, why="outcome_unknown"))
    assert fleet.upkeep.apply_breaker(made.batch_id) == PauseReason.OUTAGE
    fleet.pass_time(LATER)

    # The two that still waited in the queue have come back to it meanwhile.
    probes = fleet.tick()
    assert len(probes) == PROBES
    while probes:
        fleet.end_all(probes, Active())
        probes = fleet.tick()

    assert (fleet.state(made), statuses(database, made)) == (CANARY, [Status.ACTIVE] * 6 + [Status.PENDING] * 6)


# What only a person can mend.


FORBIDDEN, GONE, INVALID = (
    DeadLetter(reason) for reason in (Reason.FORBIDDEN, Reason.DEVICE_NOT_FOUND, Reason.INVALID_OTP)
)


@pytest.mark.parametrize(
    ("ends", "answer", "reason", "told"),
    [
        (
            [FORBIDDEN] * 3,
            {},
            PauseReason.PERMISSIONS,
            "3 OTPs were spent on 3 attempts that made no device ACTIVE: 3 forbidden",
        ),
        (
            [GONE, GONE, GONE, Active(), GONE, GONE, GONE, GONE],
            {"status": 404, "code": "NOT_FOUND"},
            PauseReason.DEVICES_GONE,
            "4 device_not_found (HTTP 404 NOT_FOUND)",
        ),
        (
            [INVALID, Active(), DeadLetter(Reason.RESYNC_FAILED), Active(), INVALID, INVALID],
            {},
            PauseReason.INVALID_OTPS,
            "4 OTPs were spent on 4 attempts that made no device ACTIVE: 3 invalid_otp, 1 resync_failed",
        ),
        (
            [DeadLetter(Reason.ACCOUNT_NOT_USABLE)] * THRESHOLDS.spent,
            {"status": 400, "code": "INVALID_DATA", "detail_code": "NEW_CODE"},
            PauseReason.REFUSED,
            "12 OTPs were spent on 12 attempts that made no device ACTIVE: "
            "12 account_not_usable (HTTP 400 INVALID_DATA NEW_CODE)",
        ),
        ([*[REFUSED_TOKEN] * 2, Active(), *[REFUSED_TOKEN] * 3], {}, PauseReason.CREDENTIALS, ""),
    ],
)
def test_failures_that_are_no_accident_pause_a_batch_with_what_they_cost_and_are_counted_anew_after_a_resume(
    fleet: ScriptedFleet,
    database: MovingDatabase,
    ends: list[Decision],
    answer: dict[str, Any],
    reason: PauseReason,
    told: str,
) -> None:
    made = make_batch(database, 20)
    fleet.answer = Answer(**answer, correlation_id="c") if answer else None
    verdicts = [verdict for decision in ends for verdict in fleet.fail(made, 1, decision)]
    assert verdicts == [None] * (len(ends) - 1) + [reason]

    cure = f"{told}. {PAUSE_CURES[reason]}" if told else PAUSE_CURES[reason]
    detail = look_at_batch(database, made.batch_id).detail
    assert (fleet.state(made), detail[-len(cure) :]) == ((BatchState.PAUSED, reason), cure)
    fleet.batches.resume(made.name)
    assert (fleet.fail(made, 2, ends[-1]), fleet.state(made)) == ([None] * 2, RUNNING)


def test_the_work_of_somebody_else_pauses_a_batch_and_counts_anew_after_a_resume(
    fleet: ScriptedFleet, database: MovingDatabase
) -> None:
    made = make_batch(database, 20)
    for expected in (None, None, None, None, PauseReason.SOMEBODY_ELSE):
        fleet.fail(made, 1, Active())
        fleet.fail(made, 1, Active(SOMEBODY_ELSE))
        assert fleet.upkeep.look_for_others(made.batch_id) == expected
    assert fleet.state(made) == (BatchState.PAUSED, PauseReason.SOMEBODY_ELSE)

    fleet.batches.resume(made.name)
    fleet.fail(made, 1, Active(SOMEBODY_ELSE))
    assert fleet.upkeep.look_for_others(made.batch_id) is None


@ON_SQLITE
def test_what_is_long_past_among_the_latest_attempts_pauses_nothing(
    fleet: ScriptedFleet, database: MovingDatabase
) -> None:
    """A person who pairs a token by hand now and then is no other installation."""
    made = make_batch(database, 15)
    for decision in [Active(SOMEBODY_ELSE), *[Active()] * 10, Active(SOMEBODY_ELSE)]:
        fleet.fail(made, 1, decision)
    assert Upkeep(database, Thresholds(by_others=2, latest=10)).look_for_others(made.batch_id) is None


def test_a_worker_that_pingone_does_not_answer_while_it_answers_another_fails_alone(
    fleet: ScriptedFleet, database: MovingDatabase
) -> None:
    made = make_batch(database, 40)
    first, *rest = fleet.tick()
    fleet.end_all(rest[: breaker.UNANSWERED_ALONE], UNKNOWN)
    database.change(update(AttemptLine).values(worker="sick"))
    assert not fleet.upkeep.fails_alone(made.batch_id, "sick")

    fleet.end(first, Active())

    assert [fleet.upkeep.fails_alone(made.batch_id, worker) for worker in ("sick", "another")] == [True, False]


def test_what_takes_long_to_fail_is_judged_with_the_records_that_were_begun_with_it(
    fleet: ScriptedFleet, database: MovingDatabase
) -> None:
    made = make_batch(database, 80)
    for _ in range(THRESHOLDS.spent):
        assert fleet.fail(made, 1, Retry(LATER, is_counted=False, why="not_found")) == [None]
        fleet.fail(made, 2, Active())
    fleet.pass_time(LATER)

    assert set(fleet.fail(made, THRESHOLDS.spent, DeadLetter(Reason.LOCKED))) == {None}
    # Half of those that were begun last are begun now.
    verdicts = fleet.fail(made, THRESHOLDS.spent // 2, DeadLetter(Reason.LOCKED))
    assert verdicts == [None] * (THRESHOLDS.spent // 2 - 1) + [PauseReason.REFUSED]


@pytest.mark.parametrize("where", ["pending", "queued", "without a person"])
def test_a_batch_is_not_paused_for_fewer_records_than_it_took_to_find_out(
    fleet: ScriptedFleet, database: MovingDatabase, where: str
) -> None:
    later = database.read_clock() + timedelta(hours=1)
    untried = {
        "pending": {"scheduled_at": later},
        "queued": {"status": Status.QUEUED, "lease_until": later},
        "without a person": {"user_id": "", "username": "alice"},
    }[where]
    for left, expected in ((THRESHOLDS.spent - 1, None), (THRESHOLDS.spent, PauseReason.REFUSED)):
        records = [{}] * (1 + THRESHOLDS.spent) + [untried] * left
        made = make_batch(database, records, name=f"{left} left")
        fleet.fail(made, 1, Active())
        assert fleet.fail(made, THRESHOLDS.spent, DeadLetter(Reason.LOCKED))[-1] == expected


@ON_SQLITE
def test_a_batch_is_judged_by_its_own_attempts_however_many_others_there_are_between_and_whatever_the_clock_does(
    fleet: ScriptedFleet, database: MovingDatabase
) -> None:
    """A clock that was set back made everything before it look like nothing."""
    made, other = make_batch(database, 20), make_batch(database, 60, name="other")
    for expected in [None] * 11 + [PauseReason.REFUSED]:
        fleet.pass_time(-600)
        database.change(update(Record).values(scheduled_at=database.read_clock()))
        fleet.fail(other, 5, Active())
        assert fleet.fail(made, 1, DeadLetter(Reason.LOCKED)) == [expected]
    assert fleet.state(other) == RUNNING


# The first records in an environment of which nothing is known.


@pytest.mark.parametrize(
    ("ends", "state"),
    [([Active()], RUNNING), ([DeadLetter(Reason.LOCKED)] * 2, TRIAL)],
    ids=["one is active", "none is"],
)
def test_in_an_unknown_environment_three_records_go_first_and_the_others_once_one_is_active_or_a_person_has_looked(
    fleet: ScriptedFleet, database: MovingDatabase, ends: list[Decision], state: tuple[BatchState, PauseReason | None]
) -> None:
    made = make_batch(database, 8)
    fleet.set_trial(made, 3)
    first = fleet.tick()
    assert first == made.ids[:3]
    fleet.end(first[0], DeadLetter(Reason.LOCKED))
    assert fleet.tick() == []

    for record_id, decision in zip(first[1:], ends, strict=False):
        fleet.end(record_id, decision)
    rest = fleet.tick()
    assert (fleet.state(made), rest) == (state, [] if state == TRIAL else made.ids[3:])
    if state == TRIAL:
        fleet.batches.resume(made.name)
        assert fleet.tick() == made.ids[3:]


@pytest.mark.parametrize("is_dated", [False, True])
def test_a_canary_that_has_begun_stays_the_canary_when_a_person_keeps_it_back(
    fleet: ScriptedFleet, database: MovingDatabase, is_dated: bool
) -> None:
    dates = {"not_before": database.read_clock() - timedelta(days=1)} if is_dated else {}
    made = make_batch(database, [{"lot": "a"}, *[{"lot": "b"}] * 3], **dates)
    fleet.set_canary(made, 1)
    (first,) = fleet.tick()
    assert first == made.ids[0]
    fleet.end(first, Retry(0.0, is_counted=True, why="outcome_unknown"))

    fleet.batches.pause(made.name, ["lot=a"])

    assert fleet.tick() == [first]
    fleet.end(first, Active())
    assert (fleet.tick(), fleet.state(made)) == ([], CANARY)


@ON_SQLITE
@pytest.mark.parametrize(
    ("canary", "first_records", "is_known", "held_back"),
    [
        (1, 3, False, (1, 3)),
        (2, 3, True, (2, None)),
        # One of all records is none.
        (4, 5, False, (4, None)),
        (5, 3, False, (None, 3)),
        (6, 3, False, (None, 3)),
        (1000, 1, False, (None, 1)),
    ],
)
def test_a_load_counts_the_records_of_its_canary_and_those_that_go_first_where_no_token_ever_became_active(
    database: MovingDatabase,
    desk: LoadingDesk,
    canary: int,
    first_records: int,
    is_known: bool,
    held_back: tuple[int | None, int | None],
) -> None:
    """Six rows, the second of them refused."""
    make_batch(database, [{"status": Status.ACTIVE}], environment_id="tenant-1" if is_known else "another tenant")
    rows = [token(0), token(1, otp1="no OTP"), *map(token, range(2, 6))]

    loaded = desk.load(rows, "july", first_records=first_records, canary=canary)

    batch = look_at_batch(database, loaded.batch_id)
    assert (batch.canary, batch.trial) == held_back
