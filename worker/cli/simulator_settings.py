"""What the command line of the simulator says of it: its settings, and the devices to begin with."""

from __future__ import annotations

import json
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

if TYPE_CHECKING:
    from worker.simulator.seeding import WorldSeed
    from worker.simulator.settings import Settings


class Unfit(Exception):
    """What was typed, or a file that it names, is of no use; the message says why, and never quotes a secret."""


def read_settings(changes: dict[str, Any]) -> Settings:
    """Make the settings of a simulator from what differs from its defaults. Raises Unfit."""
    from worker.simulator.settings import Settings

    for name in changes.keys() - Settings.model_fields.keys():
        near = get_close_matches(name, Settings.model_fields, n=1)
        cure = f"did you mean {near[0]}?" if near else "docs/simulator.md lists all"
        raise Unfit(f"--set {name}: no setting of the simulator; {cure}")
    try:
        return Settings().with_changes(changes)
    except ValidationError as error:
        raise Unfit(f"settings: {_describe_faults(error)}") from error


def read_world(path: Path | None) -> WorldSeed:
    """Read the devices to begin with; without a file, an empty world. Raises Unfit."""
    from worker.simulator.seeding import WorldSeed

    if path is None:
        return WorldSeed()
    try:
        return WorldSeed.model_validate_json(path.read_bytes())
    except OSError as error:
        raise Unfit(f"{path} cannot be read: {error.strerror}") from error
    except ValidationError as error:
        raise Unfit(f"{path} is no world: {_describe_faults(error)}") from error


def gather_changes(
    rate: float | None,
    rate_at: list[str],
    rate_window: float | None,
    latency: float | None,
    assignments: list[str],
) -> dict[str, Any]:
    """Gather the settings that the command line names. --set wins over the options. Raises Unfit."""
    changes = dict(
        _parse_assignment("--rate-at", change, "SECONDS=RATE, such as --rate-at 30=100") for change in rate_at
    )
    named = {
        "rate": rate,
        "rate_changes": changes or None,
        "limit_window": rate_window,
        "latency": None if latency is None else latency / 1000,
    }
    form = "NAME=VALUE, such as --set failure_count=5"
    assigned = dict(_parse_assignment("--set", assignment, form) for assignment in assignments)
    return {name: value for name, value in named.items() if value is not None} | assigned


def _parse_assignment(option: str, assignment: str, form: str) -> tuple[str, Any]:
    """Take NAME=JSON apart; a value that is no JSON is text. `form` says in an error what it should look like."""
    name, separator, value = assignment.partition("=")
    if not separator:
        raise Unfit(f"{option} {assignment}: must be {form}")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _describe_faults(error: ValidationError) -> str:
    """Name the first three faults with their fields; never the values, which may be secret."""
    faults = error.errors(include_input=False, include_url=False, include_context=False)
    named = [f"{'.'.join(str(part) for part in fault['loc']) or 'all'}: {fault['msg']}" for fault in faults[:3]]
    return "; ".join(named) + (f"; and {len(faults) - 3} more" if len(faults) > 3 else "")
