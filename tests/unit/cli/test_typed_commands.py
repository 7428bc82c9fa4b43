"""Commands that are printed to be pasted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from worker.cli.load_request import LoadRequest
from worker.cli.source_options import SourceOptions
from worker.cli.typed_commands import write_command, write_listing_command, write_plan_command, write_renamed_command

SOURCE = SourceOptions(assign=Path("who gets.csv"))


def test_a_file_is_not_taken_for_an_option_nor_for_two() -> None:
    assert write_command("run", Path("-box.csv"), ["--pair"]) == "oathbulk run ./-box.csv --pair"
    assert write_command("run", Path("a box.csv"), []) == "oathbulk run 'a box.csv'"


def test_refused_rows_are_listed_by_the_options_that_were_given() -> None:
    request = LoadRequest("july", canary=2, source=SOURCE)
    assert write_listing_command(Path("box.xml"), request) == "oathbulk check box.xml --assign 'who gets.csv' --json"


def test_a_new_plan_accepts_what_was_accepted_and_what_is_asked() -> None:
    request = LoadRequest("july", accepted=frozenset({"clock"}), plan="0123456789ab", source=SOURCE)
    assert write_plan_command(Path("box.xml"), request, ["devices_old"]) == (
        "oathbulk plan box.xml --batch july --accept clock --accept devices_old --assign 'who gets.csv' -o plan.html"
    )


def test_another_name_keeps_the_other_options_and_wants_a_plan_of_its_own() -> None:
    request = LoadRequest("july-2", canary=2, ticket="CHG-1", source=SOURCE)
    options = "box.xml --batch july-2 --canary 2 --ticket CHG-1 --assign 'who gets.csv'"
    assert write_renamed_command("run", Path("box.xml"), request) == f"oathbulk run {options}"
    planned = replace(request, plan="0123456789ab")
    assert write_renamed_command("run", Path("box.xml"), planned) == f"oathbulk plan {options} -o plan.html"
