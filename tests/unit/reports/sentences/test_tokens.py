"""What is said of the tokens of a batch that are not active."""

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
from worker.reports.facts import BatchStatus
from worker.reports.sentences.outlook import describe_outlook
from worker.reports.sentences.tokens import count_active, describe_tokens
from worker.reports.stall import Rehearsal

JULY = replace(
    batch("finished", active=2959), name="july", rows_refused=41, refused={"otps_unfit": 40, "serial_unfit": 1}
)
LEFT = "Those that are left, with their reasons: oathbulk export july --left -o july-left.csv"
MEND = "Corrected, they go again: oathbulk mend july july-left.csv"


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


def test_rows_that_are_refused_are_told_by_reason():
    assert describe_tokens(JULY) == ["41 rows were refused at loading: 40 otps_unfit, 1 serial_unfit.", LEFT, MEND]


def test_of_a_batch_of_before_nothing_is_claimed_of_its_refused_rows():
    (line,) = describe_tokens(replace(JULY, rows_refused=3, refused=None))
    assert line.startswith("Loaded before refused rows were kept: 3 rows were refused;")
    (line,) = describe_tokens(replace(JULY, rows_refused=1, refused=None))
    assert "1 row was refused" in line


def test_where_no_row_is_refused_nothing_is_said():
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
    replay = "Without fresh OTPs, once their cause is gone (forbidden, locked): oathbulk replay july"
    assert describe_tokens(status) == [LEFT, MEND]
    helped = replace(status, replayable={"locked": 1, "forbidden": 1, "blocked": 1})
    assert describe_tokens(helped) == [LEFT, MEND, replay]
    in_words = replay.replace("oathbulk replay july", "replay them.")
    assert describe_tokens(helped, has_buttons=True) == [MEND, in_words]
    # A replay without a reason would take back what was cancelled, too.
    cancelled = replace(helped, total=5, counts=helped.counts | {"cancelled": 1})
    assert describe_tokens(cancelled) == [LEFT, MEND, f"{replay} --reason forbidden --reason locked"]
    running = replace(batch(pending=1, dead_letter=4), dead_letters=dead, replayable=helped.replayable)
    assert not any("replay" in line for line in describe_tokens(running))
