"""What a person can do about rows that failed, beyond what the golden files show of it."""

from dataclasses import replace
from pathlib import Path

import pytest
from support.data.facts import (
    FINISHED,
    batch,
)

from models.row_fault import FAULT_CURES, RowFault
from worker.reports.cures import SHORT_CURES, describe_failed, write_mend
from worker.reports.facts import BatchStatus
from worker.reports.stall import Rehearsal

JULY = replace(batch("finished", dead_letter=4), name="july")
# One of the four reasons needs fresh OTPs.
HELPED = replace(
    JULY,
    dead_letters={"locked": 2, "invalid_otp": 1, "forbidden": 1},
    replayable={"locked": 1, "forbidden": 1, "blocked": 1},
)
FAILED = "What failed, with the reasons: oathbulk export july --failed -o july-failed.csv"
MEND = "Correct it, then: oathbulk mend july july-failed.csv"
SEED_MEND = (
    "An export has no seeds of rows that were not loaded. Correct the list or get a new file, then, with the same key "
    "or password option as the load: oathbulk mend july 'box 1.xml' --assign LIST"
)
REPLAY = "Rows that need no fresh OTPs (forbidden, locked), once the cause is fixed: oathbulk replay july"


def test_a_batch_of_a_name_with_a_slash_has_no_file_in_another_folder() -> None:
    assert write_mend("2026/12", "failed") == "oathbulk mend 2026/12 2026-12-failed.csv"


REHEARSED = Rehearsal(Path("/my home"), "/venv/oathbulk")


@pytest.mark.parametrize(
    ("status", "lines"),
    [
        (FINISHED, []),
        (replace(HELPED, replayable={}), [FAILED, MEND]),
        (HELPED, [FAILED, MEND, REPLAY]),
        # A replay without a reason would take back what was cancelled, too.
        (
            replace(HELPED, total=5, counts=HELPED.counts | {"cancelled": 1}),
            [FAILED, MEND, f"{REPLAY} --reason forbidden --reason locked"],
        ),
        (replace(HELPED, total=5, counts=HELPED.counts | {"pending": 1}, state="running"), [FAILED, MEND]),
        (replace(HELPED, replayable={}, seed_file="box 1.xml", refused={"person_unfit": 2}), [FAILED, MEND, SEED_MEND]),
        (
            replace(FINISHED, name="july", rows_refused=2, refused={"person_unfit": 2}, seed_file="box 1.xml"),
            [FAILED, SEED_MEND],
        ),
        (
            replace(HELPED, rehearsal=REHEARSED),
            [
                FAILED.replace("oathbulk export", "OATHBULK_HOME='/my home' /venv/oathbulk export"),
                "The PingOne of this rehearsal ended with it. To practice how tokens come back: "
                "/venv/oathbulk simulator --tokens 12 --pairs pairs.csv --troubles 1",
            ],
        ),
        (replace(FINISHED, rehearsal=REHEARSED), []),
    ],
)
def test_a_batch_names_the_commands_that_help_what_failed(status: BatchStatus, lines: list[str]) -> None:
    assert describe_failed(status) == lines


def test_every_fault_of_a_row_has_a_cure() -> None:
    assert FAULT_CURES.keys() == set(RowFault) == {why for why in SHORT_CURES if isinstance(why, RowFault)}
