"""Refuses to load what is not what a plan says: the option `--plan` of `load` and `run`."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from models.audit import Action
from worker import audit
from worker.cli.load_request import LoadRequest
from worker.installation.installation import Installation
from worker.intake import Shipment
from worker.preflight.plan import (
    DIGITS,
    Choices,
    OtherPlan,
    Parts,
    collect_parts,
    describe_differences,
    hash_parts,
)

Planned = Annotated[
    str | None,
    typer.Option(
        "--plan",
        metavar="HASH",
        help="Refuse unless this is still what `oathbulk plan` wrote down: its hash, or its plan.json.",
    ),
]

_HASH = re.compile(rf"[0-9a-f]{{{DIGITS}}}", re.ASCII | re.IGNORECASE)
# Bytes of a plan that is read; one of a hundred thousand tokens is far shorter.
_LONGEST_PLAN = 10_000_000


def collect_own_parts(installation: Installation, shipment: Shipment, request: LoadRequest) -> Parts:
    """Collect the parts of the plan for what is asked for now. Raises ConfigError."""
    choices = Choices(
        batch=request.name,
        canary=request.canary,
        share=request.share,
        hours=request.hours,
        accepted=request.accepted,
    )
    return collect_parts(shipment, installation.environment(request.environment), installation.settings, choices)


def check_plan(installation: Installation, shipment: Shipment, request: LoadRequest, planned: str | None) -> str | None:
    """Compare what is asked for now with a plan, and return its hash; None if there is none. `planned`: the hash of a
    plan, or the path of its JSON. Raises OtherPlan, ConfigError."""
    if planned is None:
        return None
    now = collect_own_parts(installation, shipment, request)
    made = hash_parts(now)
    if _HASH.fullmatch(planned):
        if made != planned.lower():
            raise OtherPlan(
                f"nothing was loaded: this has the plan hash {made}, and not {planned.lower()}. Make the plan again"
                " with the same options; or give --plan the JSON of that plan, to be told what differs"
            )
        return made
    parts = _read_parts(Path(planned))
    if hash_parts(parts) != made:
        told = "; ".join(describe_differences(parts, now)) or "it is a plan of another version of oathbulk"
        raise OtherPlan(f"nothing was loaded, since it is not what {planned} says: {told}")
    return made


def check_loaded_plan(installation: Installation, name: str, plan: str | None) -> None:
    """Refuse to go on with a batch that was loaded without this plan, as the audit tells. None: there is no plan.
    Raises OtherPlan."""
    if plan is None:
        return
    with installation.database.reading() as connection:
        loads = [line.facts.get("plan") for line in audit.read(connection, name) if line.action == Action.LOAD]
    loaded_with = loads[0] if loads else None
    if loaded_with != plan:
        made_with = f"with plan {loaded_with}" if loaded_with else "without a plan"
        raise OtherPlan(
            f"this file is batch {name} already, which was loaded {made_with}, and not with plan {plan}: nothing was"
            f" done. To go on with it as it is, leave out --plan; else oathbulk cancel {shlex.quote(name)} first"
        )


def _read_parts(path: Path) -> Parts:
    """Read the parts of a plan that was written as JSON. Raises OtherPlan."""
    try:
        with path.open("rb") as file:
            written: Any = json.loads(file.read(_LONGEST_PLAN))
    except OSError as error:
        raise OtherPlan(
            f"--plan: {path} is no hash of {DIGITS} digits, which `oathbulk plan` prints, and no file can be read: "
            f"{error.strerror}"
        ) from error
    except (ValueError, RecursionError) as error:
        raise OtherPlan(f"--plan: {path} is no plan: give the hash, or the JSON of `oathbulk plan`") from error
    parts = written.get("parts") if isinstance(written, dict) else None
    if not isinstance(parts, dict):
        raise OtherPlan(f"--plan: {path} is no plan: give the hash, or the JSON of `oathbulk plan`")
    if hash_parts(parts) != written.get("plan"):
        raise OtherPlan(
            f"--plan: {path} was changed after it was written: its parts do not have the hash that it names"
        )
    return parts
