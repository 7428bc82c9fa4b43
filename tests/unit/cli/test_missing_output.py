"""What is typed without `-o` is answered with the whole command."""

from __future__ import annotations

from typing import Any

import pytest

from worker.cli.application import complete_command
from worker.cli.options import RowStatus


@pytest.mark.parametrize(
    ("typed", "values", "file"),
    [
        ("export july", {}, "july-export.csv"),
        ("export july --left", {"left": True}, "july-left.csv"),
        ("export july --hand-out", {"hand_out": True, "left": False}, "july-hand-out.csv"),
        ("export july --status dead_letter", {"status": RowStatus.DEAD_LETTER}, "july-dead-letter.csv"),
        ("--env-file my.env report july", {}, "july-report.html"),
    ],
)
def test_the_file_is_named_after_the_batch_and_what_it_holds(typed: str, values: dict[str, Any], file: str) -> None:
    command = "export" if "export" in typed else "report"
    said = complete_command(command, typed.split(), values | {"batch": "july"})
    assert said == f" Such as: oathbulk {typed} -o {file}"


def test_it_can_be_pasted_whatever_the_batch_is_called() -> None:
    said = complete_command("export", ["export", "lot 7"], {"batch": "lot 7"})
    assert said == " Such as: oathbulk export 'lot 7' -o 'lot 7-export.csv'"


def test_without_a_batch_none_is_named() -> None:
    assert complete_command("check", ["check", "box.pskc"], {}) == ""
    assert complete_command("export", ["export"], {}) == ""
