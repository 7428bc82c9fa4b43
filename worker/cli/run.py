"""`oathbulk run`: loads a shipment and works on it here, with the single-machine stack, until nothing more will
happen."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import typer
from sqlalchemy.exc import DBAPIError

from worker.batches.commands import Batches
from worker.batches.loaded import AllActive
from worker.cli.batch_display import draw_batch
from worker.cli.console import can_redraw, console, error_console, print_json
from worker.cli.ending_signals import turning_signals_into_interrupts
from worker.cli.exit_codes import ALL_ACTIVE, INTERRUPTED, SOME_LEFT, UNUSABLE_SETUP, WAITING_FOR_A_PERSON
from worker.cli.homes import find_rehearsal, print_home
from worker.cli.hosts import print_hosts, print_unread_env_file
from worker.cli.live_progress import LiveProgress, is_over
from worker.cli.load import examine, load_shipment, print_loaded
from worker.cli.load_request import LoadOptions, LoadRequest
from worker.cli.loaded_files import find_loaded_as, print_all_active, refuse_batch_for_file
from worker.cli.option_sets import takes_option_sets
from worker.cli.options import AsJson, File
from worker.cli.planned import Planned, check_plan
from worker.cli.refused_rows import RefusedRows
from worker.cli.room import measure_room
from worker.cli.source_options import SourceOptions
from worker.cli.typed_commands import write_refused_export
from worker.config.environment import DEFAULT_ENVIRONMENT
from worker.embedded.errors import EmbeddedError
from worker.embedded.home import lock_home
from worker.installation.installation import Installation
from worker.installation.stack import Stack
from worker.intake import Shipment
from worker.notices.notifier import make_notifier
from worker.pingone.auth import AccessTokens
from worker.reports.batch_status import BatchStatus
from worker.reports.sentences.outlook import GO_ON, format_log_line
from worker.reports.status_json import make_status_json


@takes_option_sets
def run(
    file: File,
    asked: LoadOptions,
    source: SourceOptions,
    plan: Planned = None,
    as_json: AsJson = False,
) -> None:
    """Load a shipment and activate it here, until it is finished; run again, it goes on where it was."""
    request = asked.read(file, source)
    how_to_go_on = f"{GO_ON}{_write_run_command(file, request, source)}"
    installation = Installation(makes_home=True)
    print_home(installation)
    print_unread_env_file(installation)
    refuse_batch_for_file(installation, file)
    shipment = source.open(file, lambda unread: find_loaded_as(installation, unread, request.environment) is not None)
    request = replace(request, plan=check_plan(installation, shipment, request, plan))
    raise typer.Exit(run_shipment(installation, shipment, request, how_to_go_on, as_json=as_json))


def _write_run_command(file: Path, request: LoadRequest, source: SourceOptions) -> str:
    """Write the command that goes on with this run where it was."""
    words = ["oathbulk", "run", str(file)]
    if request.name != file.stem:
        words += ["--batch", request.name]
    if request.environment != DEFAULT_ENVIRONMENT:
        words += ["--environment", request.environment]
    return shlex.join(words + source.to_words())


def run_shipment(
    installation: Installation, shipment: Shipment, request: LoadRequest, how_to_go_on: str, *, as_json: bool = False
) -> int:
    """Load a shipment and work on it; the exit code. `how_to_go_on`: the sentence that is printed if it ends
    before the batch is finished."""
    found = examine(installation, shipment, request, as_json=as_json, needs_pingone=True)
    with lock_home(installation.settings.home):
        refusals = RefusedRows()
        try:
            loaded = load_shipment(installation, shipment, request, refusals, found, as_json=as_json, command="run")
        except AllActive as nothing_left:
            print_all_active(shipment.path, nothing_left, as_json=as_json)
            return ALL_ACTIVE
        listing, rehearsal = write_refused_export(loaded.name), find_rehearsal(installation)
        refusals.print(rehearsal.write(listing) if rehearsal else listing)
        if not as_json:
            print_loaded(loaded)
        names_hosts = found is None or not found.requests
        return work_on_batch(installation, loaded.name, how_to_go_on, as_json=as_json, names_hosts=names_hosts)


def work_on_batch(
    installation: Installation, name: str, how_to_go_on: str, *, as_json: bool = False, names_hosts: bool = True
) -> int:
    """Work on a batch until it is finished, paused or interrupted; the exit code. The home is locked. `names_hosts`:
    whether it prints which hosts it calls, unless that was done before."""
    progress = LiveProgress(installation, name, is_quiet=as_json)
    is_interrupted, failing_part = False, None
    if not is_over(before := progress.read_status()):
        if names_hosts:
            print_hosts(installation, before.environment)
        _check_credentials(installation, before.environment)
        is_interrupted, failing_part = _run_stack(installation, progress)
    status = progress.read_status()
    _print_summary(status, how_to_go_on if status.left else None, as_json=as_json)
    if is_interrupted:
        error_console.print("Interrupted: what was in hand is settled or handed back. The same command goes on.")
        return INTERRUPTED
    # The workers ended as soon as the batch was over, before they could tell of it. If the disk is full, the next run
    # tells.
    with suppress(DBAPIError):
        make_notifier(installation.settings, installation.database, installation.license_of).run()
    if failing_part:
        error_console.print(f"A part of the stack ended by itself: {failing_part}.")
        return UNUSABLE_SETUP
    return choose_exit_code(status)


def _run_stack(installation: Installation, progress: LiveProgress) -> tuple[bool, str | None]:
    """Run the stack until the batch is over, and show the progress. Returns whether it was interrupted, and the part of
    the stack that kept failing, if one did."""
    with _handing_back_queued(installation.batches()):
        try:
            with turning_signals_into_interrupts(), _running_stack(Stack(installation)) as stack:
                return False, progress.show_until_over(stack.restart_ended)
        except KeyboardInterrupt:
            return True, None


def _print_summary(status: BatchStatus, stopped: str | None, *, as_json: bool) -> None:
    """Print how the batch stands. `stopped`: how to go on, if the run ended before the batch was finished."""
    if stopped is not None:
        # Nothing works on the batch here any more, so how quick it was lately says nothing about the time left.
        status = replace(status, pace=0.0)
    if as_json:
        print_json(make_status_json(status))
    else:
        if stopped is not None and not can_redraw(error_console):
            # The last line of the log claims a time left.
            error_console.print(format_log_line(status, stopped=stopped))
        console.print(draw_batch(status, measure_room(console), stopped=stopped))


@contextmanager
def _running_stack(stack: Stack) -> Iterator[Stack]:
    """Start the stack, and stop it when the block ends."""
    try:
        stack.start()
        yield stack
    except KeyboardInterrupt:
        error_console.print("Ending: calls in flight are answered and written down first.")
        raise
    finally:
        stack.stop()


@contextmanager
def _handing_back_queued(batches: Batches) -> Iterator[None]:
    """Make queued records pending again when the block ends, so that the next run does not wait until their queue
    leases run out."""
    try:
        yield
    except (EmbeddedError, DBAPIError):
        # If the disk is full, this cannot be written either.
        with suppress(DBAPIError):
            batches.hand_back()
        raise
    batches.hand_back()


def _check_credentials(installation: Installation, environment: str) -> None:
    """Get an access token before anything starts, so that wrong credentials or a wrong URL end the run at once; later
    on, an outage is waited for. Raises CredentialsRefused, NotDelivered."""
    deadline = installation.settings.call_deadline
    AccessTokens(installation.environment(environment), deadline=deadline).get()


def choose_exit_code(status: BatchStatus) -> int:
    """Choose the exit code for a batch on which nothing works here any more. A token that a later batch made active is
    not left."""
    if status.left:
        return WAITING_FOR_A_PERSON
    return SOME_LEFT if status.tokens_left else ALL_ACTIVE
