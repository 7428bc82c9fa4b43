"""`oathbulk run` loads a file of tokens and works on its batch here, with the single-machine stack, until nothing more
will happen; or works on a loaded batch, or on all running ones."""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from sqlalchemy import select
from sqlalchemy.exc import DBAPIError

from models.batch import Batch, BatchState
from worker.batches.finding import (
    UnknownBatch,
    find_batch,
    find_near_name,
    read_latest_names,
    read_running,
)
from worker.cli.console import can_redraw, console, error_console, measure_room, print_json
from worker.cli.exit_codes import ALL_ACTIVE, INTERRUPTED, SOME_FAILED, UNUSABLE_SETUP, WAITING_FOR_A_PERSON
from worker.cli.homes import find_rehearsal, print_home, print_hosts, print_unread_env_file
from worker.cli.loading import load_shipment, open_examined, print_loaded, print_refused
from worker.cli.options import AsJson
from worker.cli.shipment_options import (
    LoadOptions,
    takes_option_sets,
)
from worker.cli.signals import turning_signals_into_interrupts
from worker.cli.status import draw_any, is_over, watch
from worker.embedded.home import EmbeddedError, lock_home, note_run
from worker.installation.installation import Installation, read_fleet, read_statuses
from worker.installation.stack import Stack
from worker.intake.shipment import Shipment
from worker.notices import Notifier, make_webhook
from worker.pingone.auth import AccessTokens
from worker.preflight.findings import Report
from worker.reports import facts
from worker.reports.facts import BatchStatus
from worker.reports.outlook import describe_going_on, format_log_line, put_resumes_first
from worker.reports.stall import write_run

# Seconds between two checks of the batches.
LOOK_EVERY = 0.5
GO_ON_WITH_ALL = "Continue with: oathbulk run"


@takes_option_sets
def run(
    asked: LoadOptions,
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="[FILE|BATCH]",
            help="OTP pairs, or a vendor's seed file (`oathbulk formats`); or the name of a loaded batch. Default: "
            "all running batches.",
            show_default=False,
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Load a shipment and work only on its batch until the batch finishes; if someone pauses it, wait until it is
    resumed. To continue, run the command again with the file or the batch's name. Without a name, continue all running
    batches."""
    installation = Installation(makes_home=True)
    if file is None and asked != LoadOptions():
        raise typer.BadParameter("these options say how a file is loaded: name the FILE", param_hint="FILE")
    if file is None and installation.is_empty:
        nothing = "nothing has been loaded here yet: name a FILE to load"
        raise typer.BadParameter(nothing, param_hint="FILE")
    print_home(installation)
    print_unread_env_file(installation)
    batch = _find_batch_named(installation, file) if file else None
    if batch is not None and asked != LoadOptions():
        raise typer.BadParameter(f"{batch} is loaded already, with its options: {write_run(batch)}")
    if file is None or batch is not None:
        with lock_home(installation.settings.home):
            how_to_go_on = describe_going_on(batch) if batch else GO_ON_WITH_ALL
            raise typer.Exit(work_on(installation, batch, how_to_go_on, as_json=as_json))
    shipment, found = open_examined(installation, file, asked, as_json=as_json, needs_pingone=True)
    raise typer.Exit(run_shipment(installation, shipment, asked, found, as_json=as_json))


def _find_batch_named(installation: Installation, file: Path) -> str | None:
    """Find the batch with the name of a missing file; None if the file exists, or no batch has that name. Raises
    ConfigError, SchemaOutdated, EmbeddedError; UnknownBatch if a batch has a similar name."""
    if file.is_file() or installation.is_empty:
        return None
    name = str(file)
    with installation.database.reading() as connection:
        found = connection.scalar(select(Batch.name).where(Batch.name == name))
        # A name with a file extension means a file.
        is_no_batch = found is None and not file.suffix
        if is_no_batch and (near := find_near_name(name, read_latest_names(connection))):
            raise UnknownBatch(f"no file and no batch is named {name!r}: did you mean the batch {near!r}?")
    return found


def run_shipment(
    installation: Installation,
    shipment: Shipment,
    asked: LoadOptions,
    found: Report | None,
    how_to_go_on: str | None = None,
    *,
    as_json: bool = False,
) -> int:
    """Load a shipment that passed its preflight (`found`), and work on it; returns the exit code. `how_to_go_on`: the
    sentence printed if the run ends before the batch is finished; None: it names the next run."""
    with lock_home(installation.settings.home):
        if (done := load_shipment(installation, shipment, asked, found, as_json=as_json, command="run")) is None:
            return ALL_ACTIVE
        loaded, refused = done
        print_refused(installation, loaded, refused)
        if not as_json:
            print_loaded(loaded, asked)
        stopped = how_to_go_on or describe_going_on(loaded.name)
        names_hosts = found is None or not found.requests
        return work_on(installation, loaded.name, stopped, as_json=as_json, names_hosts=names_hosts)


def work_on(
    installation: Installation, batch: str | None, how_to_go_on: str, *, as_json: bool, names_hosts: bool = True
) -> int:
    """Work on only this batch, or on all running ones if None, until it is finished, waits for a person, or is
    interrupted; returns the exit code. The caller has locked the home. `names_hosts`: whether to print the hosts that
    are called, which the preflight may have printed already."""
    if batch is None:
        statuses, only_batch = read_statuses(installation), None
        names = [each.name for each in reversed(statuses) if each.to_do and not each.waits_for_a_person]
        if not names:
            nothing = "no batch is running here: name a FILE to load, or a BATCH that `oathbulk status` lists"
            raise typer.BadParameter(nothing, param_hint="FILE")
        error_console.print(f"Working on {', '.join(names)}.")
    else:
        with installation.database.reading() as connection:
            only_batch = find_batch(connection, batch, Batch.id, may_be_purged=True).id
        names = [batch]
    note_run(installation.settings.home, batch)
    code = _work(installation, names, only_batch, how_to_go_on, as_json=as_json, names_hosts=names_hosts)
    # If workers run elsewhere, they take care of the other batches.
    if batch is not None and not read_fleet(installation, batch).alive:
        with installation.database.reading() as connection:
            others = [each.name for each in read_running(connection) if each.name != batch]
        if others:
            on_all = "To work on all running batches: oathbulk run"
            error_console.print(f"Not worked on here: {', '.join(others)}. {on_all}", soft_wrap=True)
    return code


def _work(
    installation: Installation,
    names: Sequence[str],
    only_batch: int | None,
    how_to_go_on: str,
    *,
    as_json: bool,
    names_hosts: bool,
) -> int:
    """Work on the batches with these names; returns the exit code. `only_batch`: the id of the only one that the stack
    works on; None: all."""
    settings = installation.settings
    read = partial(_read_statuses, installation, names)
    is_interrupted, failing_part = False, None
    if not all(map(is_over, before := read())):
        for environment in dict.fromkeys(status.environment for status in before):
            if names_hosts:
                print_hosts(installation, environment)
            # This is done before anything starts, so that wrong credentials or a wrong URL end the run at once; the run
            # waits out a later outage.
            AccessTokens(installation.environment(environment), deadline=settings.tuning.call_deadline).get()
        is_interrupted, failing_part = _run_stack(installation, read, only_batch, is_quiet=as_json)
    statuses = read()
    stopped = how_to_go_on if any(status.to_do for status in statuses) else None
    _print_summary(statuses, stopped, as_json=as_json)
    if is_interrupted:
        error_console.print(describe_interruption(stopped and put_resumes_first(statuses, stopped)), soft_wrap=True)
        return INTERRUPTED
    # The workers ended as soon as the batches were over, before they could send the notice. If the disk is full, the
    # next run sends it.
    with suppress(DBAPIError):
        webhook = make_webhook(settings)
        Notifier(installation.database, installation.license_of, webhook, only_batch=only_batch).send_notices()
    if failing_part:
        error_console.print(f"A part of the stack ended by itself: {failing_part}.")
        return UNUSABLE_SETUP
    return max(map(choose_exit_code, statuses))


def _read_statuses(installation: Installation, names: Sequence[str]) -> list[BatchStatus]:
    """Read the statuses of the batches with these names."""
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
    batches, stack = installation.batches(), Stack(installation, only_batch)
    is_interrupted, failing_part, began = False, None, time.monotonic()
    # Queued records are made pending again before the stack starts, since messages of a killed run may still wait, even
    # for batches that this run does not work on; and after it ends, so that the next run does not wait for their queue
    # leases to expire.
    batches.hand_back()
    try:
        with turning_signals_into_interrupts():
            try:
                stack.start()
                failing_part = watch(
                    error_console,
                    lambda: [_limit_standstill(status, time.monotonic() - began) for status in read()],
                    lambda statuses: draw_any(statuses, measure_room(error_console)),
                    is_over,
                    look_every=LOOK_EVERY,
                    is_quiet=is_quiet,
                    stays=False,
                    restart_ended=stack.restart_ended,
                )
            except KeyboardInterrupt:
                error_console.print("Ending: waiting for calls in flight, to record their answers.")
                # While this is raised, further signals are ignored.
                raise
            finally:
                stack.stop()
    except KeyboardInterrupt:
        is_interrupted = True
    except (EmbeddedError, DBAPIError):
        # If the disk is full, this cannot be written either.
        with suppress(DBAPIError):
            batches.hand_back()
        raise
    batches.hand_back()
    return is_interrupted, failing_part


def _limit_standstill(status: BatchStatus, seconds: float) -> BatchStatus:
    """Limit a batch's standstill to the duration of this run: an earlier standstill is not a stall."""
    limited = {name: getattr(status, name) for name in ("still_for", "unprepared_for")}
    return replace(status, **{name: min(still, seconds) for name, still in limited.items() if still is not None})


def _print_summary(statuses: Sequence[BatchStatus], stopped: str | None, *, as_json: bool) -> None:
    """Print the statuses of the batches. `stopped`: how to continue, if the run ended before all were finished."""
    if stopped is not None:
        # Nothing works on them here anymore, so their recent speed says nothing about the time left.
        statuses = [replace(status, pace=0.0) for status in statuses]
    if as_json:
        batches = [status.to_json() for status in statuses]
        print_json(batches[0] if len(batches) == 1 else {"batches": batches})
        return
    if stopped is not None and not can_redraw(error_console):
        # The last line of the log gives a time left, which no longer applies.
        for status in statuses:
            error_console.print(format_log_line(status, stopped=stopped))
    console.print(draw_any(statuses, measure_room(console), stopped=stopped))


def describe_interruption(stopped: str | None) -> str:
    """Say that the run was interrupted. `stopped`: how to continue; None if the batch was finished anyway."""
    if stopped is None:
        return "Interrupted after the batch was finished: nothing is left to do."
    return f"Interrupted: everything in hand is settled or handed back. {stopped}"


def choose_exit_code(status: BatchStatus) -> int:
    """Choose the exit code for a batch that nothing works on here anymore. Closed rows need nothing."""
    if status.to_do:
        return WAITING_FOR_A_PERSON
    return SOME_FAILED if status.failed or status.state == BatchState.CANCELLED else ALL_ACTIVE
