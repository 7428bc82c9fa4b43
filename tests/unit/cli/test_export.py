"""What is said of an export whose rows are to come back."""

from __future__ import annotations

from pathlib import Path

from worker.cli.export import describe_way_back
from worker.installation.installation import Installation


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
