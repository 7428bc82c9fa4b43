"""Works on one batch here, with the single-machine stack, until nothing more will happen to it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace

from sqlalchemy.exc import DBAPIError

from worker.batches.commands import Batches
from worker.cli.batch_display import draw_batch
from worker.cli.console import can_redraw, console, error_console, print_json
from worker.cli.ending_signals import turning_signals_into_interrupts
from worker.cli.exit_codes import ALL_ACTIVE, INTERRUPTED, SOME_LEFT, UNUSABLE_SETUP, WAITING_FOR_A_PERSON
from worker.cli.hosts import print_hosts
from worker.cli.live_progress import LiveProgress, is_over
from worker.cli.room import measure_room
from worker.embedded.errors import EmbeddedError
from worker.installation.installation import Installation
from worker.installation.stack import Stack
from worker.notices.notifier import make_notifier
from worker.pingone.auth import AccessTokens
from worker.reports.batch_status import BatchStatus
from worker.reports.sentences.outlook import format_log_line
from worker.reports.status_json import make_status_json


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
    stopped = how_to_go_on if status.left else None
    _print_summary(status, stopped, as_json=as_json)
    if is_interrupted:
        error_console.print(describe_interruption(stopped), soft_wrap=True)
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


def describe_interruption(stopped: str | None) -> str:
    """Say that the run was interrupted. `stopped`: how to go on; None if the batch was finished all the same."""
    if stopped is None:
        return "Interrupted as the batch was finished: nothing is left to go on with."
    return f"Interrupted: what was in hand is settled or handed back. {stopped}"


def choose_exit_code(status: BatchStatus) -> int:
    """Choose the exit code for a batch on which nothing works here any more. A token that a later batch made active is
    not left."""
    if status.left:
        return WAITING_FOR_A_PERSON
    return SOME_LEFT if status.tokens_left else ALL_ACTIVE
