"""When a batch must stop by itself."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.reason import PauseReason, Reason
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
