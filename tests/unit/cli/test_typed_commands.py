"""Commands that are printed to be pasted."""

from __future__ import annotations

from pathlib import Path

from worker.cli.load_request import LoadRequest
from worker.cli.source_options import SourceOptions
from worker.cli.typed_commands import describe_way_back, write_command, write_listing_command
from worker.installation.installation import Installation

SOURCE = SourceOptions(assign=Path("who gets.csv"))


def test_a_file_is_not_taken_for_an_option_nor_for_two() -> None:
    assert write_command("run", Path("-box.csv"), ["--pair"]) == "oathbulk run ./-box.csv --pair"
    assert write_command("run", Path("a box.csv"), []) == "oathbulk run 'a box.csv'"


def test_refused_rows_are_listed_by_the_options_that_were_given() -> None:
    request = LoadRequest("july", canary=2, source=SOURCE)
    assert write_listing_command(Path("box.xml"), request) == "oathbulk check box.xml --assign 'who gets.csv' --json"


def test_what_a_rehearsal_left_cannot_be_loaded_again_and_is_practised_elsewhere(tmp_path: Path) -> None:
    home = tmp_path / "oathbulk-rehearsals" / "rehearsal"
    (said,) = describe_way_back(Installation({"OATHBULK_HOME": str(home)}), "rehearsal", Path("failed.csv"))
    assert said == (
        "The PingOne of this rehearsal ended with it. To practise how tokens come back: "
        "oathbulk simulator --tokens 12 --pairs pairs.csv --troubles 1"
    )


def test_an_export_goes_back_into_its_batch(tmp_path: Path) -> None:
    installation = Installation({"OATHBULK_HOME": str(tmp_path)})
    (said,) = describe_way_back(installation, "july 1", Path("left.csv"))
    assert said.endswith("then: oathbulk mend 'july 1' left.csv")
    _, of_refused = describe_way_back(installation, "july", Path("left.csv"), 2)
    assert of_refused.startswith("Of 2 rows that were refused only the serial number is kept")
