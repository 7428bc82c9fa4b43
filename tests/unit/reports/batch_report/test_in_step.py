"""Which tokens count as out of step, and by which columns they are compared."""

from __future__ import annotations

from models.reason import Reason
from models.record_states import Status
from worker.reports.batch_report.in_step import MOST_LOTS, MOST_VALUES, StepTally, tell_step


def test_only_an_answer_tells_whether_a_token_was_in_step() -> None:
    assert tell_step(Status.ACTIVE, None, resynced=False, otp_posts=1) is False
    assert tell_step(Status.ACTIVE, None, resynced=True, otp_posts=2) is True
    assert tell_step(Status.DEAD_LETTER, Reason.RESYNC_FAILED, resynced=False, otp_posts=2) is True
    assert tell_step(Status.DEAD_LETTER, Reason.SECOND_OTP_MISSING, resynced=False, otp_posts=1) is True
    assert tell_step(Status.DEAD_LETTER, Reason.INVALID_OTP, resynced=False, otp_posts=1) is None
    assert tell_step(Status.ACTIVE, None, resynced=False, otp_posts=0) is None
    assert tell_step(Status.PENDING, None, resynced=False, otp_posts=0) is None


def tally(tokens: int, **columns: str) -> StepTally:
    """Tokens in step, each with these columns; {} stands for the token's number."""
    counted = StepTally()
    for number in range(tokens):
        cells = {name: cell.format(number % 2, number=number, fifth=number // 5) for name, cell in columns.items()}
        counted.add(is_out_of_step=False, lot=cells.pop("lot", None), extra=cells)
    return counted


def test_lots_come_first_and_then_each_column_of_few_values() -> None:
    columns = tally(40, vendor="V{}", lot="B{}", model="M{}").make_columns()
    assert [column.name for column in columns] == ["lot", "vendor", "model"]
    assert [(group.name, group.tokens) for group in columns[0].groups] == [("B0", 20), ("B1", 20)]


def test_a_column_with_a_value_for_each_token_is_never_shown() -> None:
    """It may be a secret in a column whose name does not say so."""
    for tokens in (3, 4 * MOST_VALUES, 2 * MOST_LOTS):
        assert tally(tokens, lot="{number}", remark="{number}").make_columns() == ()


def test_a_value_that_is_shared_by_too_few_is_not_shown_either() -> None:
    assert tally(8, model="M{}").make_columns() == ()
    assert len(tally(10, model="M{}").make_columns()) == 1


def test_lots_may_be_many_and_other_values_may_not() -> None:
    tokens = 5 * (MOST_VALUES + 1)
    assert [column.name for column in tally(tokens, lot="{fifth}", model="{fifth}").make_columns()] == ["lot"]
    assert tally(5 * (MOST_LOTS + 1), lot="{fifth}").make_columns() == ()


def test_one_value_for_all_and_empty_cells_are_no_comparison() -> None:
    assert tally(40, lot="L", model="").make_columns() == ()


def test_a_long_remark_is_no_model() -> None:
    assert tally(40, remark="{}" + "x" * 100).make_columns() == ()
