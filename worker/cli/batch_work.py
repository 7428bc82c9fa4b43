"""Works on one batch here, or on all that run, with the single-machine stack, until nothing more will happen to
them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial

from sqlalchemy.exc import DBAPIError

from models.batch import Batch, BatchState
from models.reason import PASSING
from worker.batches.commands import Batches
from worker.batches.finding import find_batch, read_running
from worker.cli.batch_display import draw_any, is_over, watch
from worker.cli.console import can_redraw, console, error_console, print_json
from worker.cli.ending_signals import turning_signals_into_interrupts
from worker.cli.exit_codes import ALL_ACTIVE, INTERRUPTED, SOME_LEFT, UNUSABLE_SETUP, WAITING_FOR_A_PERSON
from worker.cli.homes import find_rehearsal
from worker.cli.hosts import print_hosts
from worker.cli.layout import measure_room
from worker.embedded.home import EmbeddedError, note_run
from worker.installation.installation import Installation
from worker.installation.lookups import read_fleet, read_statuses
from worker.installation.stack import Stack
from worker.notices.outbox import make_notifier
from worker.pingone.auth import AccessTokens
from worker.reports import facts
from worker.reports.facts import BatchStatus
from worker.reports.sentences import format_log_line

# Seconds between two looks at the batches.
LOOK_EVERY = 0.5
GO_ON_WITH_ALL = "Go on with: oathbulk run"


class NothingRuns(Exception):
    """No batch runs, so there is nothing to work on."""


def work_on_batch(
    installation: Installation, name: str, how_to_go_on: str, *, as_json: bool = False, names_hosts: bool = True
) -> int:
    """Work on a batch, and on no other, until it is finished, waits for a person or is interrupted; the exit code. The
    home is locked. `names_hosts`: whether it prints which hosts it calls, unless that was done before."""
    with installation.database.reading() as connection:
        batch_id: int = find_batch(connection, name, Batch.id, may_be_purged=True).id
    note_run(installation.settings.home, name)
    code = _work(installation, [name], batch_id, how_to_go_on, as_json=as_json, names_hosts=names_hosts)
    _print_others(installation, name)
    return code


def work_on_all(installation: Installation, *, as_json: bool = False) -> int:
    """Work on all batches that run, until nothing more will happen to them; the exit code. The home is locked. Raises
    NothingRuns."""
    names = [status.name for status in reversed(read_statuses(installation)) if status.left and not _waits(status)]
    if not names:
        raise NothingRuns("no batch runs here: name a FILE to load, or a BATCH of those that `oathbulk status` lists")
    note_run(installation.settings.home, None)
    error_console.print(f"Works on {', '.join(names)}.")
    return _work(installation, names, None, GO_ON_WITH_ALL, as_json=as_json)


def _work(
    installation: Installation,
    names: Sequence[str],
    only_batch: int | None,
    how_to_go_on: str,
    *,
    as_json: bool,
    names_hosts: bool = True,
) -> int:
    """Work on the batches of these names; the exit code. `only_batch`: the id of the one on which the stack works
    alone; None: it works on all."""
    read = partial(_read_statuses, installation, names)
    is_interrupted, failing_part = False, None
    if not all(map(is_over, before := read())):
        for environment in dict.fromkeys(status.environment for status in before):
            if names_hosts:
                print_hosts(installation, environment)
            _check_credentials(installation, environment)
        is_interrupted, failing_part = _run_stack(installation, read, only_batch, is_quiet=as_json)
    statuses = read()
    stopped = how_to_go_on if any(status.left for status in statuses) else None
    _print_summary(statuses, stopped, as_json=as_json)
    if is_interrupted:
        error_console.print(describe_interruption(stopped), soft_wrap=True)
        return INTERRUPTED
    # The workers ended as soon as the batches were over, before they could tell of it. If the disk is full, the next
    # run tells.
    with suppress(DBAPIError):
        make_notifier(
            installation.settings, installation.database, installation.license_of, only_batch=only_batch
        ).run()
    if failing_part:
        error_console.print(f"A part of the stack ended by itself: {failing_part}.")
        return UNUSABLE_SETUP
    return max(map(choose_exit_code, statuses))


def _read_statuses(installation: Installation, names: Sequence[str]) -> list[BatchStatus]:
    """Read how the batches of these names stand."""
    rehearsal = find_rehearsal(installation)
    return [
        replace(status, rehearsal=rehearsal)
        for name in names
        for status in facts.read_statuses(installation.database, name, installation.license_of)
    ]


def _run_stack(
    installation: Installation, read: Callable[[], list[BatchStatus]], only_batch: int | None, *, is_quiet: bool
) -> tuple[bool, str | None]:
    """Run the stack until the batches are over, and show the progress. Returns whether it was interrupted, and the part
    of the stack that kept failing, if one did."""
    with _handing_back_queued(installation.batches()):
        try:
            with turning_signals_into_interrupts(), _running_stack(Stack(installation, only_batch)) as stack:
                return False, watch(
                    error_console,
                    read,
                    lambda statuses: draw_any(statuses, measure_room(error_console)),
                    is_over,
                    look_every=LOOK_EVERY,
                    is_quiet=is_quiet,
                    stays=False,
                    restart_ended=stack.restart_ended,
                )
        except KeyboardInterrupt:
            return True, None


def _print_others(installation: Installation, name: str) -> None:
    """Say which other batches run and were not worked on, unless workers elsewhere do that."""
    if read_fleet(installation, name).alive:
        return
    with installation.database.reading() as connection:
        others = [batch.name for batch in read_running(connection) if batch.name != name]
    if others:
        error_console.print(
            f"Not worked on here: {', '.join(others)}. To work on all that run: oathbulk run", soft_wrap=True
        )


def _waits(status: BatchStatus) -> bool:
    """Whether a batch waits for a person."""
    return status.state == BatchState.PAUSED and status.reason not in PASSING


def _print_summary(statuses: Sequence[BatchStatus], stopped: str | None, *, as_json: bool) -> None:
    """Print how the batches stand. `stopped`: how to go on, if the run ended before all were finished."""
    if stopped is not None:
        # Nothing works on them here any more, so how quick they were lately says nothing about the time left.
        statuses = [replace(status, pace=0.0) for status in statuses]
    if as_json:
        told = [status.to_json() for status in statuses]
        print_json(told[0] if len(told) == 1 else {"batches": told})
    else:
        if stopped is not None and not can_redraw(error_console):
            # The last line of the log claims a time left.
            for status in statuses:
                error_console.print(format_log_line(status, stopped=stopped))
        console.print(draw_any(statuses, measure_room(console), stopped=stopped))


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
    """Make queued records pending again: before the block, since messages of a run that was killed may still wait, also
    of batches on which this one does not work; and when it ends, so that the next run does not wait until their queue
    leases run out."""
    batches.hand_back()
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
    deadline = installation.settings.tuning.call_deadline
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
