"""Commands that are printed to be pasted."""

from __future__ import annotations

from pathlib import Path

from worker.cli.load_request import LoadRequest
from worker.cli.source_options import SourceOptions
from worker.cli.typed_commands import write_command, write_listing_command

SOURCE = SourceOptions(assign=Path("who gets.csv"))


def test_a_file_is_not_taken_for_an_option_nor_for_two() -> None:
    assert write_command("run", Path("-box.csv"), ["--pair"]) == "oathbulk run ./-box.csv --pair"
    assert write_command("run", Path("a box.csv"), []) == "oathbulk run 'a box.csv'"


def test_refused_rows_are_listed_by_the_options_that_were_given() -> None:
    request = LoadRequest("july", canary=2, source=SOURCE)
    assert write_listing_command(Path("box.xml"), request) == "oathbulk check box.xml --assign 'who gets.csv' --json"
