"""What is said of an export whose rows are to be mended and loaded again."""

from __future__ import annotations

from pathlib import Path

from models.batch import Batch
from worker.batches.finding import find_batch
from worker.batches.names import choose_free_name, read_names_like
from worker.cli.homes import find_rehearsal
from worker.cli.load_request import LoadRequest
from worker.cli.source_options import SourceOptions
from worker.cli.typed_commands import write_command
from worker.installation.installation import Installation
from worker.observability.counting import count_things


def describe_way_back(installation: Installation, batch: str, file: Path, refused: int = 0) -> list[str]:
    """Say what is to be done with the file of an export, of which so many rows were refused; a line each. Raises
    UnknownBatch."""
    if rehearsal := find_rehearsal(installation):
        return [rehearsal.describe_end()]
    with installation.database.reading() as connection:
        columns = (Batch.environment, Batch.may_import, Batch.may_pair)
        found = find_batch(connection, batch, *columns)
        name = choose_free_name(file.stem, read_names_like(connection, file.stem))
    switches = SourceOptions(may_import=found.may_import, may_pair=found.may_pair)
    words = LoadRequest(name, found.environment, source=switches).to_check_words()
    run = write_command("run", file, [*(["--batch", name] if name != file.stem else []), *words])
    lines = [f"Mend it (fresh OTPs, or corrected ids), then: {run}"]
    if refused:
        lines.append(
            f"Of {count_things(refused, 'row')} that {'was' if refused == 1 else 'were'} refused only the serial number"
            " is kept: write the other cells too, as your own file has them."
        )
    return lines
