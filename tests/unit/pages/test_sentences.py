"""How a batch came out, and what a person does now, in sentences."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.data.reports import make_group, make_refused, make_report, make_timeline, minutes

from models.reason import CURES, Reason
from worker.pages.sentences import (
    describe_command,
    describe_outcome,
    describe_shipment,
    describe_timeline,
    list_next_steps,
    list_standing_out,
)
from worker.reports.batch_report.contents import Command, RowCounts, State, StepColumn, StepShare
from worker.reports.taken_over import TakenOver


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        (RowCounts(active=3000), "All 3,000 tokens are active."),
        (RowCounts(active=1), "The only token is active."),
        (RowCounts(), "The batch has no tokens."),
        (RowCounts(active=2, already_active=1), "All 3 tokens are active."),
        (RowCounts(active=1, dead_letter=1), "1 of 2 tokens is active; the other one was given up."),
        (RowCounts(dead_letter=1), "0 of 1 token is active; it was given up."),
        (RowCounts(open=1), "0 of 1 token is active; it is still to do."),
        (RowCounts(active=5, open=2), "5 of 7 tokens are active; the other 2 are still to do."),
        (
            RowCounts(active=2959, dead_letter=33, refused=5, cancelled=3),
            "2,959 of 3,000 tokens are active; 41 are not: 33 were given up, 5 were refused when the file was loaded "
            "and 3 were cancelled.",
        ),
        (
            RowCounts(active=0, dead_letter=1, open=1),
            "0 of 2 tokens are active; 2 are not: 1 was given up and 1 is still to do.",
        ),
    ],
)
def test_the_outcome_is_one_sentence(counts: RowCounts, said: str) -> None:
    assert describe_outcome(counts) == said


def test_nothing_to_do_is_said() -> None:
    assert list_next_steps(make_report(counts=RowCounts(active=3), dead_letters=())) == ["Nothing is left to do."]


def test_the_most_frequent_reason_is_told_with_its_cure() -> None:
    groups = (make_group(Reason.INVALID_OTP, 21), make_group(Reason.LOCKED, 12))
    step, *_ = list_next_steps(make_report(counts=RowCounts(active=1, dead_letter=33), dead_letters=groups))
    assert step.startswith("33 tokens were given up for 2 reasons, most often invalid_otp (21): ")
    assert CURES[Reason.INVALID_OTP] in step


def test_what_later_batches_made_active_is_nothing_to_do_and_counts_in_the_headline() -> None:
    ends = {"dead_letter": {"invalid_otp": 20, "locked": 12}, "cancelled": {"": 2}, "refused": {"otps_unfit": 3}}
    report = make_report(
        batch="july",
        counts=RowCounts(active=264, dead_letter=33, cancelled=2, refused=4),
        dead_letters=(make_group(Reason.INVALID_OTP, 21), make_group(Reason.LOCKED, 12)),
        refused=(make_refused(4),),
        taken_over=TakenOver({"fixed": {"active": 37}}, ends),
    )
    headline = describe_shipment(report.batch, report.counts, report.taken_over)
    assert headline == "301 of 303 tokens are active: 264 in july, 37 in fixed; 2 left."
    letters, rows = list_next_steps(report)
    assert letters == f"1 token was given up for one reason, invalid_otp: {CURES[Reason.INVALID_OTP]}"
    assert rows.startswith(
        "1 row of the file was refused when it was loaded, 1 otps_unfit. `oathbulk export july --left -o july-left.csv`"
    )
    _, again = list_next_steps(replace(report, names_taken=frozenset({"july-left"})))
    assert "`oathbulk export july --left -o july-left-2.csv`" in again


def test_where_no_reason_leads_none_is_told() -> None:
    groups = (make_group(Reason.INVALID_OTP), make_group(Reason.LOCKED))
    (step,) = list_next_steps(make_report(counts=RowCounts(dead_letter=2), dead_letters=groups))
    assert step == "2 tokens were given up for 2 reasons. What to do about each stands under Dead letters."


def test_refused_rows_are_told_by_reason_with_the_command_that_writes_them() -> None:
    groups = (make_refused(4), make_refused(reason="serial_unfit"))
    report = make_report(batch="july 2", counts=RowCounts(active=1, refused=5), dead_letters=(), refused=groups)
    assert list_next_steps(report) == [
        "5 rows of the file were refused when it was loaded, 4 otps_unfit and 1 serial_unfit. "
        "`oathbulk export 'july 2' --status refused -o 'july 2-refused.csv'` writes them with reason and cure; "
        "mend them, and load that file."
    ]
    (step,) = list_next_steps(replace(report, refused=None))
    assert step.startswith("5 rows of the file were refused when it was loaded, before refused rows were kept.")


@pytest.mark.parametrize(
    ("state", "said"),
    [
        (State("running", None, None, is_passing=False), "the batch is running: nothing needs to be done for them."),
        (State("paused", "window", "It is late.", is_passing=True), "(window) and goes on by itself: It is late."),
        (State("paused", "canary", "Look.", is_passing=False), "Look. Go on with `oathbulk resume 'july 2'`."),
    ],
)
def test_what_is_still_to_do_depends_on_the_batch(state: State, said: str) -> None:
    report = make_report(batch="july 2", counts=RowCounts(active=1, open=2), dead_letters=(), state=state)
    (step,) = list_next_steps(report)
    assert step.startswith("2 tokens are still to do")
    assert step.endswith(said)


def test_a_lot_that_stands_out_is_told_in_words_and_an_ordinary_one_is_not() -> None:
    odd = StepShare("B7", 20, 18, stands_out=True, elsewhere=0.12)
    ordinary = StepShare("B8", 100, 12, stands_out=False, elsewhere=0.2)
    report = make_report(step_columns=(StepColumn("lot", (odd, ordinary)),))
    said = "18 of 20 tokens of lot B7 were out of step, against 12 % elsewhere."
    assert list_standing_out(report) == [said]
    assert any(step.startswith(said) for step in list_next_steps(report))


def test_the_chart_is_told_in_words() -> None:
    assert describe_timeline(make_timeline((1, 2, 3, 4))) == (
        "The first token became active at 2026-03-01 21:31:00 UTC, half of the 4 were active by 2026-03-01 21:32:00, "
        "and the last became so at 2026-03-01 21:34:00, 3 min 0 s after the first."
    )
    assert describe_timeline(make_timeline((1,))) == "The only active token became so at 2026-03-01 21:31:00 UTC."
    assert describe_timeline(make_timeline(())) == "No token is active."


def test_the_facts_of_a_command_are_written_without_empty_ones() -> None:
    facts = {"records": 3, "reasons": ["locked", "blocked"], "canary": None, "may_import": True, "rows_refused": 0}
    said = describe_command(Command(minutes(0), "alice", "replay", None, facts))
    assert said == "records: 3; reasons: locked, blocked; may import: yes; rows refused: 0"
