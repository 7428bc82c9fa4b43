"""What is said of the tokens of a batch's file: where they are active, and which rows were refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from unit.cli.test_batch_display import FINISHED, SOME_LEFT, batch, seen

from models.row_fault import FAULT_CURES, RowFault
from worker.cli.batch_display import draw_batch
from worker.cli.batch_work import choose_exit_code
from worker.cli.exit_codes import ALL_ACTIVE, WAITING_FOR_A_PERSON
from worker.cli.exit_codes import SOME_LEFT as CODE_SOME_LEFT
from worker.cli.room import Room
from worker.reports.batch_status import BatchStatus
from worker.reports.rehearsal import Rehearsal
from worker.reports.sentences.outlook import describe_outlook
from worker.reports.sentences.tokens import count_active, describe_fault_cures, describe_tokens
from worker.reports.taken_over import TakenOver

JULY = replace(
    batch("finished", active=2959), name="july", rows_refused=41, refused={"otps_unfit": 40, "serial_unfit": 1}
)
FIXED = TakenOver({"july-fixed": {"active": 40}}, {"refused": {"otps_unfit": 40}})
LEFT = "Those that are left, with their reasons: oathbulk export july --left -o july-left.csv"


@pytest.mark.parametrize(
    ("active", "rows", "said"),
    [
        (2959, 3000, "2,959 of 3,000 tokens are active"),
        (0, 3, "0 of 3 tokens are active"),
        (1, 3, "1 of 3 tokens is active"),
        (0, 1, "0 of 1 token is active"),
        (1, 1, "1 of 1 token is active"),
    ],
)
def test_how_many_tokens_are_active_is_said_with_the_verb_that_agrees(active: int, rows: int, said: str):
    assert count_active(active, rows) == said


def test_tokens_that_were_refused_and_came_back_count_as_active():
    assert describe_tokens(replace(JULY, taken_over=FIXED)) == [
        "2,999 of 3,000 tokens are active: 2,959 in july, 40 in july-fixed; 1 left.",
        "40 refused rows came back in later batches, now active there.",
        "Of its refused rows, 1 is left: 1 serial_unfit.",
        LEFT,
    ]


def test_what_came_back_is_told_in_one_line_and_its_reasons_no_more():
    ends = {"dead_letter": {"locked": 1, "invalid_otp": 9}, "cancelled": {"": 2}, "refused": {"otps_unfit": 1}}
    status = replace(
        batch("finished", active=286, dead_letter=10, cancelled=2),
        rows_refused=1,
        refused={"otps_unfit": 1},
        dead_letters={"locked": 1, "invalid_otp": 9},
        taken_over=TakenOver({"fixed": {"active": 13}}, ends),
    )
    _, *others = describe_tokens(status)
    assert others == [
        "10 of its dead letters, 2 cancelled records and 1 refused row came back in later batches, now active there."
    ]
    assert (status.tokens_left, status.dead_letters_left, status.refused_left) == (0, {}, {})
    assert describe_fault_cures(status) == []


def test_rows_that_were_refused_and_did_not_come_back_are_told_by_reason():
    assert describe_tokens(JULY) == ["41 rows were refused at loading: 40 otps_unfit, 1 serial_unfit.", LEFT]


def test_what_is_left_is_exported_into_a_file_that_is_named_after_no_batch():
    taken = frozenset({"july-left", "july-left-2", "july-left-4"})
    again = "Those that are left, with their reasons: oathbulk export july --left -o july-left-3.csv"
    assert describe_tokens(replace(JULY, names_taken=taken))[-1] == again
    assert describe_tokens(replace(JULY, names_taken=frozenset({"july", "july-left-2"})))[-1] == LEFT


def test_tokens_that_were_active_before_are_tokens_of_the_file_too():
    status = replace(JULY, already_active=7, taken_over=FIXED)
    assert describe_tokens(status)[0] == (
        "3,006 of 3,007 tokens are active: 2,959 in july, 40 in july-fixed, 7 before it was loaded; 1 left."
    )


def test_of_a_batch_of_before_nothing_is_claimed_of_its_refused_rows():
    (line,) = describe_tokens(replace(JULY, rows_refused=3, refused=None))
    assert line.startswith("Loaded before refused rows were kept: 3 rows were refused;")
    (line,) = describe_tokens(replace(JULY, rows_refused=1, refused=None))
    assert "1 row was refused" in line


def test_where_no_row_was_refused_and_none_came_back_nothing_is_said():
    assert describe_tokens(FINISHED) == []


def test_every_fault_has_a_cure_which_the_status_writes_out():
    assert FAULT_CURES.keys() == set(RowFault)
    status = replace(JULY, refused=dict.fromkeys(RowFault, 1), rows_refused=len(RowFault))
    shown = seen(draw_batch(status, with_cures=True))
    assert all(f"{word}: {cure}" in shown for word, cure in FAULT_CURES.items())


def test_a_batch_with_refused_rows_does_not_say_that_every_token_is_active():
    assert describe_outlook(JULY).endswith("41 tokens are not active; nothing happens to them until a person acts.")


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (FINISHED, ALL_ACTIVE),
        (SOME_LEFT, CODE_SOME_LEFT),
        (JULY, CODE_SOME_LEFT),
        (replace(JULY, taken_over=FIXED), CODE_SOME_LEFT),
        (replace(JULY, taken_over=TakenOver({"july-fixed": {"active": 41}})), ALL_ACTIVE),
        (replace(JULY, taken_over=TakenOver({"july-fixed": {"active": 40, "dead_letter": 1}})), CODE_SOME_LEFT),
        (replace(SOME_LEFT, taken_over=TakenOver({"fixed": {"active": 1}, "fixed-2": {"active": 2}})), ALL_ACTIVE),
        (replace(JULY, rows_refused=3, refused=None), CODE_SOME_LEFT),
        (batch("paused", pending=1, active=9), WAITING_FOR_A_PERSON),
    ],
)
def test_the_exit_code_is_that_of_the_shipment(status: BatchStatus, code: int):
    assert choose_exit_code(status) == code


def test_of_a_rehearsal_no_replay_is_named_and_the_export_names_its_home():
    rehearsal = Rehearsal(Path("/my home"), "/venv/oathbulk")
    dead = {"dead_letters": {"locked": 3}, "replayable": {"locked": 3}}
    status = replace(batch("finished", dead_letter=3), name="july", **dead, rehearsal=rehearsal)
    left, ended = describe_tokens(status)
    assert left == LEFT.replace("oathbulk export", "OATHBULK_HOME='/my home' /venv/oathbulk export")
    assert ended.startswith("The PingOne of this rehearsal ended with it.")
    assert ended.endswith(": /venv/oathbulk simulator --tokens 12 --pairs pairs.csv --troubles 1")
    assert describe_tokens(replace(batch("finished", active=3), rehearsal=rehearsal)) == []
    # On a terminal that has no room for the cures.
    shown = seen(draw_batch(status, Room(60, 6)), 60)
    assert "OATHBULK_HOME='/my home' /venv/oathbulk status july --cures" in shown


def test_a_replay_is_named_for_the_reasons_that_it_helps_and_not_before_all_is_done():
    dead = {"locked": 2, "invalid_otp": 1, "forbidden": 1}
    status = replace(batch("finished", dead_letter=4), name="july", dead_letters=dead, replayable={})
    replay = "Without fresh OTPs, once their cause is mended (forbidden, locked): oathbulk replay july"
    assert describe_tokens(status) == [LEFT]
    helped = replace(status, replayable={"locked": 1, "forbidden": 1, "blocked": 1})
    assert describe_tokens(helped) == [LEFT, replay]
    # A replay without a reason would take back what was cancelled, too.
    cancelled = replace(helped, total=5, counts=helped.counts | {"cancelled": 1})
    assert describe_tokens(cancelled) == [LEFT, f"{replay} --reason forbidden --reason locked"]
    running = replace(batch(pending=1, dead_letter=4), dead_letters=dead, replayable=helped.replayable)
    assert not any("replay" in line for line in describe_tokens(running))
