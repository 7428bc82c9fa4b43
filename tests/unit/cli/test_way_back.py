"""What is said of an export whose rows are to come back."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from sqlalchemy import update
from support.data.batches import make_batch
from support.data.moving_clock import MovingDatabase

from models.batch import Batch
from worker.cli.way_back import describe_way_back
from worker.installation.installation import Installation


def test_what_a_rehearsal_left_cannot_be_loaded_again_and_is_practised_elsewhere(tmp_path: Path) -> None:
    home = tmp_path / "oathbulk-rehearsals" / "rehearsal"
    (said,) = describe_way_back(Installation({"OATHBULK_HOME": str(home)}), "rehearsal", Path("failed.csv"))
    assert said == (
        "The PingOne of this rehearsal ended with it. To practise how tokens come back: "
        "oathbulk simulator --tokens 12 --pairs pairs.csv --troubles 1"
    )


def test_the_command_that_loads_an_export_again_names_its_environment_and_what_the_batch_was_allowed(
    sqlite_url: str, tmp_path: Path
) -> None:
    installation = Installation({"OATHBULK_HOME": str(tmp_path)})
    with closing(MovingDatabase(sqlite_url)) as database, closing(installation.database):
        made = make_batch(database, environment="europe")
        (said,) = describe_way_back(installation, made.name, Path("left.csv"))
        assert said.endswith("then: oathbulk run left.csv --environment europe")
        with database.writing() as connection:
            connection.execute(update(Batch).values(may_import=True, may_pair=True))
        (said,) = describe_way_back(installation, made.name, Path("shipment.csv"))
    assert said.endswith("then: oathbulk run shipment.csv --batch shipment-2 --environment europe --import --pair")
