"""How long tokens took, as far as the database knows."""

from __future__ import annotations

from support.data.reports import minutes

from worker.reports.batch_report.durations import DurationLine, DurationTally, measure_line


def test_percentiles_are_values_that_were_measured() -> None:
    assert measure_line([float(number) for number in range(1, 101)]) == DurationLine(100, 50.0, 95.0, 100.0)
    assert measure_line([3.0]) == DurationLine(1, 3.0, 3.0, 3.0)
    assert measure_line([1.0, 2.0]) == DurationLine(2, 1.0, 2.0, 2.0)
    assert measure_line([]) == DurationLine(0)


def test_a_token_counts_from_its_otp_or_from_the_end_of_its_first_attempt() -> None:
    tally = DurationTally()
    tally.add(1, first_ended_at=minutes(2), otp_sent_at=minutes(1), active_at=minutes(2))
    tally.add(3, first_ended_at=minutes(1), otp_sent_at=minutes(9), active_at=minutes(11))

    measured = tally.measure()

    assert measured.first_attempt == DurationLine(1, 60.0, 60.0, 60.0)
    assert measured.more_attempts == DurationLine(1, 600.0, 600.0, 600.0)
    assert (measured.all.tokens, measured.all.longest) == (2, 600.0)


def test_a_token_for_which_nothing_was_sent_does_not_count() -> None:
    tally = DurationTally()
    tally.add(1, first_ended_at=minutes(2), otp_sent_at=None, active_at=minutes(2))
    assert tally.measure().all == DurationLine(0)


def test_a_clock_that_was_set_back_makes_no_negative_time() -> None:
    tally = DurationTally()
    tally.add(1, first_ended_at=None, otp_sent_at=minutes(2), active_at=minutes(1))
    assert tally.measure().all.longest == 0.0
