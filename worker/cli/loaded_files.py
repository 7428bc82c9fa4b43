"""Files that were loaded before: found, and told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import select

from models.batch import Batch
from worker.batches.finding import UnknownBatch, find_near_name, read_latest_names
from worker.batches.loading import AllActive, Loaded, find_loaded
from worker.cli.console import console, print_json
from worker.installation.installation import Installation
from worker.intake import Shipment


def find_loaded_as(installation: Installation, shipment: Shipment, environment: str) -> Loaded | None:
    """Find the batch that this very file became in the environment of this name; None if it became none. No home is
    made for it. Raises ConfigError, SchemaOutdated, EmbeddedError."""
    if installation.is_empty:
        return None
    environment_id = installation.environment(environment).environment_id
    with installation.database.reading() as connection:
        return find_loaded(connection, environment_id, shipment.fingerprint)


def find_batch_named(installation: Installation, file: Path) -> str | None:
    """Find the batch that has the name of a file which is not there; None if the file is, or no batch is called so.
    Raises what `find_loaded_as` raises; UnknownBatch if a batch has nearly that name."""
    if file.is_file() or installation.is_empty:
        return None
    name = str(file)
    with installation.database.reading() as connection:
        found = connection.scalar(select(Batch.name).where(Batch.name == name))
        # What ends like the name of a file is meant as one.
        is_no_batch = found is None and not file.suffix
        if is_no_batch and (near := find_near_name(name, read_latest_names(connection))):
            raise UnknownBatch(f"no file and no batch is named {name!r}: did you mean the batch {near!r}?")
    return found


def loaded_to_json(loaded: Loaded) -> dict[str, Any]:
    return {
        "batch": loaded.name,
        "total": loaded.total,
        "rows_refused": loaded.rows_refused,
        "left_out": loaded.left_out,
        "is_new": loaded.is_new,
    }


def print_all_active(file: Path, found: AllActive, *, as_json: bool) -> None:
    """Say that a file has nothing to load; as JSON with the keys of a load, and no batch."""
    if as_json:
        nothing = Loaded(0, "", 0, 0, is_new=False, left_out=found.rows)
        print_json(loaded_to_json(nothing) | {"batch": None, "refused": []})
    else:
        console.print(f"{describe_all_active(file, found.rows)} No batch was made of it.", soft_wrap=True)


def describe_all_active(file: Path, rows: int) -> str:
    """Say that no row of a file is left to do."""
    tokens = "The token of its one row is" if rows == 1 else f"The tokens of all its {rows:,} rows are"
    return f"{file}: nothing is left to do. {tokens} active already."
