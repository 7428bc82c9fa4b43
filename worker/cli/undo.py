"""`oathbulk unpair` and `oathbulk revoke`: take away again what a batch made in PingOne."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from shlex import quote
from typing import Annotated

import typer

from worker.audit import this_person
from worker.batches.undo.obstacles import CannotGoOn
from worker.batches.undo.removal import End
from worker.batches.undo.unpaired import Unpaired
from worker.cli.console import console, print_json
from worker.cli.ending_signals import turning_signals_into_interrupts
from worker.cli.exit_codes import ALL_ACTIVE, SOME_LEFT
from worker.cli.hosts import print_hosts
from worker.cli.options import AsJson, BatchName, Ticket
from worker.cli.own_redis import settings_with_redis
from worker.cli.progress import showing_progress
from worker.cli.undo_display import describe_revoked, describe_unpaired, list_kept
from worker.config.environment import Environment
from worker.installation.installation import Installation
from worker.pingone.errors import CredentialsRefused
from worker.process.undo_parts import UndoParts
from worker.reports.verification import find_environment

Yes = Annotated[bool, typer.Option("--yes", help="Do it; otherwise it is only shown what would be done.")]


def unpair(batch: BatchName, yes: Yes = False, as_json: AsJson = False, ticket: Ticket = None) -> None:
    """Remove the devices that a batch made, and no others; without --yes, say which those are."""
    installation = Installation()
    showing = showing_progress(_say_what_goes_on("unpair", batch, is_done=yes), is_quiet=as_json)
    with _parts(installation, batch) as (parts, environment), showing as progress:
        unpairing = parts.unpairing(environment, this_person(installation.settings, ticket), progress)
        unpaired = unpairing.remove(batch) if yes else unpairing.examine(batch)
    if as_json:
        print_json(_unpaired_to_json(batch, unpaired, is_done=yes))
    else:
        for line in (*describe_unpaired(batch, unpaired, is_done=yes), *list_kept(unpaired.kept)):
            console.print(line)
    raise typer.Exit(SOME_LEFT if unpaired.kept else ALL_ACTIVE)


def revoke(batch: BatchName, yes: Yes = False, as_json: AsJson = False, ticket: Ticket = None) -> None:
    """Revoke the tokens that a batch imported and that are not paired; without --yes, say which those are."""
    installation = Installation()
    # An embedded stack has made its key by now, if it had none: the tokens' seeds are compared with the inventory.
    _ = installation.keyring
    showing = showing_progress(_say_what_goes_on("revoke", batch, is_done=yes), is_quiet=as_json)
    with _parts(installation, batch, is_importing=True) as (parts, environment), showing as progress:
        revocation = parts.revocation(environment, this_person(installation.settings, ticket), progress)
        revoked = revocation.revoke(batch) if yes else revocation.examine(batch)
    if as_json:
        print_json({"batch": batch, "is_done": yes} | asdict(revoked))
    else:
        for line in (*describe_revoked(batch, revoked, is_done=yes), *list_kept(revoked.kept)):
            console.print(line)
    raise typer.Exit(SOME_LEFT if revoked.kept else ALL_ACTIVE)


def _say_what_goes_on(command: str, batch: str, *, is_done: bool) -> str:
    """Say what becomes of an undo that is interrupted, and which command goes on."""
    if not is_done:
        return "Nothing was changed."
    return f"What was taken away is written down. Go on with: oathbulk {command} {quote(batch)} --yes"


@contextmanager
def _parts(
    installation: Installation, batch: str, *, is_importing: bool = False
) -> Iterator[tuple[UndoParts, Environment]]:
    """Yield the parts of a process that undoes this batch, and its environment. `is_importing`: it acts as the
    application that imports. Raises UnknownBatch, ConfigError, HomeInUse, CredentialsRefused, CannotGoOn."""
    environment = find_environment(installation.database, batch, installation.environment)
    print_hosts(installation, environment.name)
    # Threads in a call need Redis and the database until it ends, however impatient somebody is.
    with turning_signals_into_interrupts(), settings_with_redis(installation) as settings:
        parts = UndoParts(settings, installation.environment)
        _require_credentials(parts, environment, environment.as_importer() if is_importing else environment)
        yield parts, environment


def _require_credentials(parts: UndoParts, environment: Environment, application: Environment) -> None:
    """Ask for an access token once, so that wrong credentials are one failure, and not one for each device."""
    try:
        parts.clients.access_tokens(application).get()
    except CredentialsRefused as refusal:
        if application is environment:
            raise
        raise CannotGoOn(
            f"PingOne refused the credentials of the application that imports ({refusal}): check "
            "PINGONE_IMPORT_CLIENT_ID and PINGONE_IMPORT_CLIENT_SECRET"
        ) from refusal


def _unpaired_to_json(batch: str, unpaired: Unpaired, *, is_done: bool) -> dict[str, object]:
    return {
        "batch": batch,
        "is_done": is_done,
        "devices": unpaired.devices,
        "unknown_pairings": unpaired.unknown,
        "earlier": unpaired.earlier,
        **{end.value: unpaired.ends[end] for end in End},
        "default_changes": [asdict(change) for change in unpaired.defaults.values()],
        "kept": [asdict(each) for each in unpaired.kept],
    }
