"""`oathbulk run`."""

from __future__ import annotations

import shlex
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import FrameType

import typer
from sqlalchemy.exc import DBAPIError

from models.record import Status
from worker.batches.commands import Batches
from worker.cli.batch_display import draw_batch
from worker.cli.console import console, error_console, print_json
from worker.cli.failures import ALL_ACTIVE, INTERRUPTED, SOME_LEFT, UNUSABLE_SETUP, WAITING_FOR_A_PERSON
from worker.cli.hosts import print_hosts, print_unread_env_file
from worker.cli.live_progress import Watch, is_over
from worker.cli.load import Wish, load_shipment, print_loaded
from worker.cli.options import (
    AsJson,
    Canary,
    EnvironmentName,
    File,
    Hours,
    NewBatchName,
    Share,
    Ticket,
    Zone,
    parse_hours,
)
from worker.cli.refused_rows import RefusedRows
from worker.config.settings import DEFAULT_ENVIRONMENT
from worker.embedded.errors import EmbeddedError
from worker.embedded.home import lock_home
from worker.installation.installation import Installation
from worker.installation.stack import Stack
from worker.intake import open_shipment
from worker.pingone.auth import AccessTokens
from worker.reports.batch_status import BatchStatus

ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run(
    file: File,
    batch: NewBatchName = None,
    environment: EnvironmentName = DEFAULT_ENVIRONMENT,
    canary: Canary = None,
    share: Share = None,
    window: Hours = None,
    zone: Zone = None,
    ticket: Ticket = None,
    as_json: AsJson = False,
) -> None:
    """Load a shipment and activate it here, until it is finished; run again, it goes on where it was."""
    wish = Wish(batch or file.stem, environment, canary, ticket, parse_hours(window, zone), share)
    again = f"Go on with: {_command(file, wish)}"
    installation = Installation()
    print_unread_env_file(installation)
    raise typer.Exit(run_shipment(installation, file, wish, again, as_json=as_json))


def _command(file: Path, wish: Wish) -> str:
    """What goes on with this run, where it was."""
    words = ["oathbulk", "run", str(file)]
    if wish.name != file.stem:
        words += ["--batch", wish.name]
    if wish.environment != DEFAULT_ENVIRONMENT:
        words += ["--environment", wish.environment]
    return shlex.join(words)


def run_shipment(installation: Installation, file: Path, wish: Wish, again: str, *, as_json: bool = False) -> int:
    """The exit code. `again` says what goes on with it after an interruption."""
    shipment = open_shipment(file)
    installation.environment(wish.environment)
    with lock_home(installation.settings.home):
        refusals = RefusedRows()
        loaded = load_shipment(installation, shipment, wish, refusals)
        refusals.print()
        if not as_json:
            print_loaded(loaded)
        return work_off(installation, loaded.name, again, as_json=as_json)


def work_off(installation: Installation, name: str, again: str, *, as_json: bool = False) -> int:
    """Work on a batch until it is finished, paused or interrupted; the exit code. The home is locked."""
    watch = Watch(installation, name, is_quiet=as_json)
    is_interrupted, broken = False, None
    if not is_over(before := watch.look()):
        print_hosts(installation, before.environment)
        _ask_for_access(installation, before.environment)
        with _handing_back(installation.batches()):
            try:
                with ended_by_signal(), _running(Stack(installation)) as stack:
                    broken = watch.follow(stack.mend)
            except KeyboardInterrupt:
                is_interrupted = True
    status = watch.look()
    _print_end(status, again if is_interrupted or broken else None, as_json=as_json)
    if is_interrupted:
        error_console.print("Interrupted: what was in hand is settled or handed back. The same command goes on.")
        return INTERRUPTED
    if broken:
        error_console.print(f"A part of the stack ended by itself: {broken}.")
        return UNUSABLE_SETUP
    return exit_code(status)


def _print_end(status: BatchStatus, stopped: str | None, *, as_json: bool) -> None:
    if stopped is not None:
        # Nothing works on it here any more, so no time that is left follows from how quick it was.
        status = replace(status, pace=0.0)
    if as_json:
        print_json(status.to_json())
    else:
        console.print(draw_batch(status, stopped=stopped))


@contextmanager
def _running(stack: Stack) -> Iterator[Stack]:
    """The stack runs until the block ends."""
    try:
        stack.start()
        yield stack
    except KeyboardInterrupt:
        error_console.print("Ending: calls in flight are answered and written down first.")
        raise
    finally:
        stack.stop()


@contextmanager
def _handing_back(batches: Batches) -> Iterator[None]:
    """What is queued is pending again afterwards, so that the next run does not wait until its queue leases run out."""
    try:
        yield
    except (EmbeddedError, DBAPIError):
        # Where the disk is full, this cannot be written either.
        with suppress(DBAPIError):
            batches.hand_back()
        raise
    batches.hand_back()


def _ask_for_access(installation: Installation, environment: str) -> None:
    """Wrong credentials and a wrong URL are named before anything starts; from then on an outage is sat out.
    Raises CredentialsRefused, NotDelivered."""
    deadline = installation.settings.call_deadline
    AccessTokens(installation.environment(environment), deadline=deadline).get()


def exit_code(status: BatchStatus) -> int:
    if status.left:
        return WAITING_FOR_A_PERSON
    is_complete = status.counts[Status.ACTIVE] == status.total and not status.rows_refused
    return ALL_ACTIVE if is_complete else SOME_LEFT


@contextmanager
def ended_by_signal() -> Iterator[None]:
    """SIGTERM and a lost terminal end a run in the same good order as Ctrl-C. Only the first signal counts: what is
    in hand is settled, however impatient somebody is. Signals that nohup ignores stay ignored."""
    numbers = [number for number in ENDINGS if signal.getsignal(number) != signal.SIG_IGN]

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        for number in numbers:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    former = {number: signal.signal(number, interrupt) for number in numbers}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
