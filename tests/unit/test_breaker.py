"""When a batch must stop by itself."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.reason import PAUSE_CURES, PauseReason, Reason
from worker import breaker
from worker.breaker import LATEST, Thresholds
from worker.breaker import WATCHED_REASONS as WATCHED

ACTIVE = None
THRESHOLDS = Thresholds()
FORBIDDEN_IN_A_ROW, REFUSED_AT_LEAST = THRESHOLDS.forbidden, THRESHOLDS.refused
FORBIDDEN, INVALID, RESYNC_FAILED = Reason.FORBIDDEN, Reason.INVALID_OTP, Reason.RESYNC_FAILED


def judge(latest):
    """The reason alone."""
    trip = breaker.judge(latest, THRESHOLDS)
    return trip and trip.reason


@pytest.mark.parametrize("latest", [[], [ACTIVE], [ACTIVE] * LATEST, [Reason.LOCKED] * LATEST])
def test_what_happens_to_single_records_pauses_nothing(latest):
    assert judge(latest) is None


def test_so_many_forbidden_records_in_a_row_are_a_missing_role():
    assert judge([FORBIDDEN] * (FORBIDDEN_IN_A_ROW - 1)) is None
    assert judge([FORBIDDEN] * FORBIDDEN_IN_A_ROW) == PauseReason.PERMISSIONS
    assert judge([FORBIDDEN] * FORBIDDEN_IN_A_ROW + [ACTIVE] * 50) == PauseReason.PERMISSIONS


@pytest.mark.parametrize("place", range(FORBIDDEN_IN_A_ROW))
@pytest.mark.parametrize("other", [ACTIVE, Reason.LOCKED])
def test_a_single_other_end_in_the_row_speaks_against_a_missing_role(place, other):
    latest: list[Reason | None] = [FORBIDDEN] * FORBIDDEN_IN_A_ROW
    latest[place] = other
    assert judge(latest) is None


@pytest.mark.parametrize("reason", [INVALID, RESYNC_FAILED])
def test_refused_otps_that_are_half_of_the_latest_are_a_wrong_file(reason):
    assert judge([reason] * REFUSED_AT_LEAST) == PauseReason.INVALID_OTPS
    assert judge([reason, ACTIVE] * (LATEST // 2)) == PauseReason.INVALID_OTPS


def test_both_ways_of_being_refused_count_together():
    assert judge([INVALID, RESYNC_FAILED] * (REFUSED_AT_LEAST // 2)) == PauseReason.INVALID_OTPS


def test_a_few_refused_otps_are_worn_buttons():
    assert judge([INVALID] * (REFUSED_AT_LEAST - 1)) is None
    assert judge([INVALID] * 49 + [ACTIVE] * 51) is None


@given(st.lists(st.none() | st.sampled_from(Reason), max_size=LATEST))
def test_only_watched_reasons_ever_pause_so_only_they_need_to_be_judged(latest):
    if not WATCHED & set(latest):
        assert judge(latest) is None


@given(st.lists(st.none() | st.sampled_from(Reason), max_size=LATEST))
def test_a_batch_that_is_mostly_active_goes_on(latest):
    if latest[:1] == [ACTIVE] and latest.count(ACTIVE) > len(latest) / 2:
        assert judge(latest) is None


# What the sentence of a pause says.


def test_a_wrong_file_is_told_with_how_many_were_refused():
    trip = breaker.judge([INVALID, ACTIVE, RESYNC_FAILED, INVALID], Thresholds(refused=3))
    assert trip is not None
    assert trip.detail == f"3 of the last 4 tokens had their OTP refused. {PAUSE_CURES[PauseReason.INVALID_OTPS]}"


def test_a_missing_role_is_told_with_its_cure():
    trip = breaker.judge([FORBIDDEN] * FORBIDDEN_IN_A_ROW, THRESHOLDS)
    assert trip == breaker.Trip(PauseReason.PERMISSIONS, PAUSE_CURES[PauseReason.PERMISSIONS])


@pytest.mark.parametrize(("share", "is_enough"), [(0.3, True), (0.31, False), (1.0, False)])
def test_the_share_of_refused_otps_is_a_setting(share, is_enough):
    trip = breaker.judge([INVALID] * 3 + [ACTIVE] * 7, Thresholds(refused=3, refused_share=share))
    assert (trip is not None) is is_enough


# Whether PingOne is out, and whether it is back. Newest first; None is an attempt that made its token active.

UNANSWERED = st.sampled_from(sorted(breaker.WATCHED_FAILURES))
SILENT = st.sampled_from(["hold", "not_permitted", "database"])
ANSWERED = st.sampled_from([ACTIVE, "rate_limited", "not_found", "forbidden", "credentials", *map(str, Reason)])
ANYTHING = st.lists(UNANSWERED | SILENT | ANSWERED, max_size=60)
PATIENT = Thresholds(unanswered=5)
NO_ANSWER = ["outcome_unknown", "not_delivered"]


@pytest.mark.parametrize(
    ("latest", "is_out"),
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
def test_so_many_attempts_in_a_row_without_an_answer_are_an_outage(latest, is_out):
    assert breaker.is_out(latest, PATIENT, is_probing=False) is is_out


def test_while_probing_a_few_are_enough():
    few = ["outcome_unknown"] * breaker.STILL_OUT_IN_A_ROW
    assert breaker.is_out(few, PATIENT, is_probing=True)
    assert not breaker.is_out(few[1:], PATIENT, is_probing=True)
    assert not breaker.is_out([few[0], ACTIVE, *few], PATIENT, is_probing=True)


def test_a_probe_sends_as_many_records_as_can_show_that_the_outage_lasts():
    """Fewer, and a batch would probe for ever without a verdict; more, and each probe would spend attempts."""
    assert breaker.PROBES == breaker.STILL_OUT_IN_A_ROW


@pytest.mark.parametrize("answer", [ACTIVE, "rate_limited", "forbidden", Reason.INVALID_OTP])
def test_one_answer_of_any_kind_shows_that_pingone_is_back(answer):
    assert breaker.is_back([answer])
    assert breaker.is_back(["outcome_unknown", "hold", answer, "outcome_unknown"])


@pytest.mark.parametrize("latest", [[], ["outcome_unknown"], NO_ANSWER, ["hold", "not_permitted", "database"]])
def test_no_answer_shows_nothing_of_the_kind(latest):
    assert not breaker.is_back(latest)


@given(ANYTHING, st.booleans(), st.integers(2, 30))
def test_an_outage_ends_with_the_first_answer(latest, is_probing, unanswered):
    """Whatever came before it; so a batch that is answered is never paused for an outage."""
    assert breaker.is_back([ACTIVE, *latest])
    assert not breaker.is_out([ACTIVE, *latest], Thresholds(unanswered=unanswered), is_probing=is_probing)


@given(st.lists(UNANSWERED | SILENT, max_size=60), st.booleans())
def test_without_any_answer_it_is_out_as_soon_as_enough_attempts_say_so(latest, is_probing):
    needed = breaker.STILL_OUT_IN_A_ROW if is_probing else PATIENT.unanswered
    unanswered = sum(reason in NO_ANSWER for reason in latest)
    assert breaker.is_out(latest, PATIENT, is_probing=is_probing) is (unanswered >= needed)
    assert not breaker.is_back(latest)


@given(ANYTHING, st.booleans(), st.data())
def test_what_says_nothing_changes_nothing_wherever_it_stands(latest, is_probing, data):
    place = data.draw(st.integers(0, len(latest)))
    with_silence = [*latest[:place], data.draw(SILENT), *latest[place:]]
    assert breaker.is_back(with_silence) is breaker.is_back(latest)
    for seen in (latest, with_silence):
        assert breaker.is_out(seen, PATIENT, is_probing=is_probing) is breaker.is_out(
            latest, PATIENT, is_probing=is_probing
        )


@given(ANYTHING)
def test_what_is_an_outage_after_many_attempts_is_one_after_few(latest):
    if breaker.is_out(latest, PATIENT, is_probing=False):
        assert breaker.is_out(latest, PATIENT, is_probing=True)


@given(ANYTHING, st.booleans())
def test_only_watched_failures_ever_make_an_outage_so_only_they_need_to_be_judged(latest, is_probing):
    if not breaker.WATCHED_FAILURES & set(latest):
        assert not breaker.is_out(latest, PATIENT, is_probing=is_probing)


def test_probes_come_less_and_less_often_up_to_a_bound():
    assert [breaker.probe_delay(outages) for outages in range(6)] == [15.0, 30.0, 60.0, 120.0, 240.0, 300.0]


@given(st.integers(0, 10**9))
def test_a_probe_is_never_further_than_the_bound_and_never_sooner_than_the_one_before(outages):
    delay = breaker.probe_delay(outages)
    assert breaker.FIRST_PROBE <= delay <= breaker.LONGEST_PROBE
    assert breaker.probe_delay(outages + 1) >= delay
