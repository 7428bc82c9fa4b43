"""`oathbulk verify`: reads every device of a batch, and its tokens, back from PingOne, and names each difference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import typer

from worker.batches.finding import find_environment
from worker.cli.console import console, print_json
from worker.cli.exit_codes import ALL_ACTIVE, SOME_LEFT
from worker.cli.options import AsJson, BatchName
from worker.cli.own_redis import settings_with_redis
from worker.cli.progress import showing_progress
from worker.installation.installation import Installation
from worker.observability.counting import agree, count_things
from worker.process.parts import Parts
from worker.reports.facts import BatchStatus, read_statuses
from worker.reports.verification import Difference, TokenCheck, make_device_reader, verify

# Devices that are read at once, a thread each. Where PingOne answers slowly, it takes many to reach the pace.
READERS = 32


def verify_command(
    batch: BatchName,
    as_json: AsJson = False,
) -> None:
    """Read every device and token of a batch back from PingOne, at the pace, and report each difference."""
    installation = Installation()
    environment = find_environment(installation.database, batch, installation.environment)
    (status,) = read_statuses(installation.database, batch)
    interrupted = "Nothing was changed: the same command begins anew."
    showing = showing_progress(interrupted, is_quiet=as_json)
    with settings_with_redis(installation) as settings, showing as progress:
        clients = Parts(settings, installation.environment).clients
        # Asked for once, so that wrong credentials are one failure, and not one for each device.
        clients.access_tokens(environment).get()
        active = set[str]()
        read = make_device_reader(lambda: clients.of(environment), active)
        importer = environment.as_importer()
        tokens = TokenCheck(lambda: clients.reads(importer), installation.keyring, progress)
        differences = verify(installation.database, batch, read, READERS, tokens, progress)
    if as_json:
        print_json(_to_json(status, len(active), differences, tokens))
    else:
        _print(status, len(active), differences, tokens)
    raise typer.Exit(SOME_LEFT if differences or tokens.failure else ALL_ACTIVE)


def _to_json(status: BatchStatus, active: int, differences: Sequence[Difference], tokens: TokenCheck) -> dict[str, Any]:
    return {
        "batch": status.name,
        "total": status.total,
        "devices_active": active,
        "differences": [asdict(found) for found in differences],
        "inventory_failure": str(tokens.failure) if tokens.failure else None,
        "tokens_unread": tokens.unread,
    }


def _print(status: BatchStatus, active: int, differences: Sequence[Difference], tokens: TokenCheck) -> None:
    """Print each difference, how many devices are ACTIVE in PingOne (`active`), and what could not be read."""
    for found in differences:
        console.print(_describe_difference(found))
    if tokens.failure:
        console.print(
            f"The inventory could not be read ({tokens.failure}): "
            f"nothing is known of the tokens of {count_things(tokens.unread, 'record')}."
        )
    unread = sum(not found.is_known for found in differences)
    differ = len(differences) - unread
    console.print(
        f"{status.name} has {count_things(status.total, 'record')}: {differ} {agree(differ, 'differs', 'differ')},"
        f" {unread} could not be read. {count_things(active, 'device')} {agree(active, 'is', 'are')} ACTIVE in PingOne."
    )


def _describe_difference(found: Difference) -> str:
    which = f"row {found.row_number} ({found.serial_number})"
    return f"{which}: {found.ours} here, {found.theirs} in PingOne" if found.is_known else f"{which}: {found.theirs}"
