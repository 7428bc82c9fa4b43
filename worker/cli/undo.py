"""`oathbulk verify` compares a batch with what PingOne has and names each difference; `oathbulk undo` removes what the
batch made there."""

import csv
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from shlex import join
from typing import Annotated, Any, TextIO

import typer

from worker.audit import Actor, this_person
from worker.batches.commands import NotPossible
from worker.batches.finding import find_environment
from worker.batches.removal import End, Heir
from worker.batches.undo import Loss, TokenCounts, Undo, Undone, find_batches_of
from worker.cli.console import console, print_json
from worker.cli.exit_codes import ALL_ACTIVE, SOME_FAILED
from worker.cli.homes import print_hosts
from worker.cli.options import AsJson, BatchName, Overwrite, Ticket, Where, complete_batch
from worker.cli.output_files import refuse_unfit, write_output
from worker.cli.progress_line import showing_progress
from worker.cli.signals import turning_signals_into_interrupts
from worker.config.environment import Environment
from worker.config.settings import ConfigError
from worker.installation.installation import Installation
from worker.installation.stack import parts_with_redis
from worker.intake.lists import TokenList, open_token_list
from worker.intake.rows import FILE_ROW
from worker.observability.progress import OnProgress
from worker.observability.wording import agree, count_things
from worker.pingone.devices import fold_case
from worker.reports.export import format_cell
from worker.reports.facts import BatchStatus, read_statuses
from worker.reports.verification import Difference, TokenCheck, make_device_reader, verify

# Lines of the same kind that are printed; --json has all of them.
MOST_LINES = 20
MOST_LOSSES = 10


def verify_command(
    batch: BatchName,
    as_json: AsJson = False,
) -> None:
    """Read every device and token of a batch back from PingOne, and report each difference."""
    installation = Installation()
    environment = find_environment(installation.database, batch, installation.environment)
    (status,) = read_statuses(installation.database, batch)
    showing = showing_progress("Nothing was changed: the same command starts over.", is_quiet=as_json)
    with parts_with_redis(installation) as parts, showing as progress:
        clients = parts.clients
        # The access token is requested once, so that wrong credentials are one failure, not one for each device.
        clients.access_tokens(environment).get()
        active = set[str]()
        read = make_device_reader(lambda: clients.client(environment), active)
        importer = environment.as_importer()
        tokens = TokenCheck(lambda: clients.reads(importer), installation.keyring, progress)
        differences = verify(installation.database, batch, read, tokens, progress)
    if as_json:
        print_json(
            {
                "batch": batch,
                "total": status.total,
                "devices_active": len(active),
                "differences": [asdict(difference) for difference in differences],
                "inventory_failure": str(tokens.failure) if tokens.failure else None,
                "tokens_unread": tokens.unread,
            }
        )
    else:
        for line in _describe_verification(status, differences, tokens, len(active)):
            console.print(line)
    raise typer.Exit(SOME_FAILED if differences or tokens.failure else ALL_ACTIVE)


def _describe_verification(
    status: BatchStatus, differences: Sequence[Difference], tokens: TokenCheck, active: int
) -> Iterator[str]:
    """Say what differs, what could not be read, and how many devices are ACTIVE in PingOne."""
    yield from map(_describe_difference, differences)
    if tokens.failure:
        records = count_things(tokens.unread, "record")
        yield f"The inventory could not be read ({tokens.failure}), so the tokens of {records} were not compared."
    unread = sum(not difference.is_known for difference in differences)
    differ = f"{len(differences) - unread} {agree(len(differences) - unread, 'differs', 'differ')}"
    yield (
        f"{status.name} has {count_things(status.total, 'record')}: {differ}, {unread} could not be read."
        f" Of their devices, {active:,} {agree(active, 'is', 'are')} ACTIVE in PingOne."
    )


def _describe_difference(found: Difference) -> str:
    which = f"row {found.row_number} ({found.serial_number})"
    return f"{which}: {found.ours} here, {found.theirs} in PingOne" if found.is_known else f"{which}: {found.theirs}"


def undo(
    batch: Annotated[
        str | None,
        typer.Argument(metavar="[BATCH]", help="The batch's name.", show_default=False, autocompletion=complete_batch),
    ] = None,
    only: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Only tokens in this list: a CSV with a `serial` column, or one that names people; or serial numbers, "
            "one per line.",
            show_default=False,
        ),
    ] = None,
    every_batch: Annotated[bool, typer.Option("--all", help="Search every batch for the tokens in the list.")] = False,
    where: Where = None,
    devices_only: Annotated[bool, typer.Option("--devices-only", help="Keep the tokens in the inventory.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do it. Without it, only say what would be done.")] = False,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            metavar="FILE",
            help="Without --yes: write to this CSV file a list of who would lose what.",
            show_default=False,
        ),
    ] = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
    ticket: Ticket = None,
) -> None:
    """Remove what a batch made: its devices, then the tokens that it imported and that nobody has. Without --yes, only
    list them."""
    tokens = open_token_list(only) if only else None
    if every_batch is (batch is not None) or (every_batch and (tokens is None or where)):
        raise typer.BadParameter("name a batch, or give --all with --only FILE", param_hint="BATCH")
    if output is not None:
        if yes:
            raise typer.BadParameter("only lists what would be removed: omit --yes", param_hint="--output")
        refuse_unfit(output, overwrite=overwrite)
    installation = Installation()
    # An embedded stack makes its key now if it has none: the key opens the tokens' seeds, which are compared with the
    # inventory.
    _ = installation.keyring
    command = _write_command(batch, only, where or (), devices_only=devices_only)
    interrupted = f"What was removed is recorded. Continue with: {command} --yes" if yes else "Nothing was changed."
    lists: Mapping[str, TokenList | None] = {batch: tokens} if batch else {}
    if tokens and not batch:
        lists = find_batches_of(installation.database, tokens)

    gone = frozenset[str]()

    def undo_batch(work: Undo, name: str) -> Undone:
        nonlocal gone
        if yes:
            return work.undo(name, lists[name], where or (), devices_only=devices_only)
        found = work.examine(name, lists[name], where or (), devices_only=devices_only, gone=gone)
        gone |= found.going
        return found

    actor = this_person(installation.settings, ticket)
    showing = partial(showing_progress, interrupted, is_quiet=as_json)
    done, impossible = _undo_batches(installation, lists, undo_batch, actor, showing)
    if batch and impossible:
        raise impossible[0]
    if output is not None and done:
        write_output(output, partial(_write_losses, done))
    unknown = _find_unknown(tokens, lists.values()) if tokens and not batch else []
    if as_json:
        batches = [to_json(name, undone, is_done=yes) for name, undone in done.items()]
        others = {"impossible": list(map(str, impossible)), "unknown": unknown}
        print_json(batches[0] if batch else {"batches": batches} | others)
    else:
        is_partial = only is not None or bool(where)
        for name, undone in done.items():
            for line in describe(name, undone, command, is_done=yes, is_partial=is_partial):
                console.print(line)
        for line in [*map(str, impossible), *(f"{name}: no batch has it" for name in unknown)]:
            console.print(line)
    is_whole = not (impossible or unknown) and all(undone.is_whole for undone in done.values())
    raise typer.Exit(ALL_ACTIVE if is_whole else SOME_FAILED)


def _write_losses(found: Mapping[str, Undone], file: TextIO) -> None:
    """Write who would lose what, a row for each token."""
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(("batch", FILE_ROW, "serial", "person", "loses"))
    for batch, undone in found.items():
        for loss in undone.losses:
            writer.writerow(map(format_cell, (batch, loss.row_number, loss.serial_number, loss.person, loss.what)))


def _write_command(batch: str | None, only: Path | None, where: Sequence[str], *, devices_only: bool) -> str:
    """Write the undo that was typed, without --yes."""
    words = [*(["--only", str(only)] if only else []), *["--devices-only"] * devices_only]
    words += [word for condition in where for word in ("--where", condition)]
    return join(["oathbulk", "undo", batch or "--all", *words])


def _find_unknown(tokens: TokenList, parts: Iterable[TokenList | None]) -> list[str]:
    """Find the names of a list that no batch has. `parts`: what each batch has of the list."""
    known = {fold_case(name) for part in parts if part for name in part.names}
    return [name for name in tokens.names if fold_case(name) not in known]


def _undo_batches(
    installation: Installation,
    names: Iterable[str],
    undo_batch: Callable[[Undo, str], Undone],
    actor: Actor,
    showing: Callable[[], AbstractContextManager[OnProgress]],
) -> tuple[dict[str, Undone], list[NotPossible | ConfigError]]:
    """Undo one batch after the other. Returns what was found and done in each, and why others could not be undone."""
    environments, done, impossible = dict[str, Environment](), dict[str, Undone](), list[NotPossible | ConfigError]()
    for name in names:
        try:
            environments[name] = find_environment(installation.database, name, installation.environment)
        except ConfigError as failure:
            impossible.append(failure)
    for environment_name in {environment.name for environment in environments.values()}:
        print_hosts(installation, environment_name)
    # Threads in a call need Redis and the database until it ends, even after another Ctrl-C.
    with turning_signals_into_interrupts(), parts_with_redis(installation) as parts:
        for name, environment in environments.items():
            with showing() as progress:
                try:
                    done[name] = undo_batch(parts.undo(environment, actor, progress), name)
                except NotPossible as failure:
                    impossible.append(failure)
    return done, impossible


def to_json(batch: str, undone: Undone, *, is_done: bool) -> dict[str, Any]:
    """What was found and done, as --json prints it."""
    devices = asdict(undone.devices) | {end.value: undone.devices.ends[end] for end in End}
    del devices["ends"]
    return {
        "batch": batch,
        "is_done": is_done,
        "devices": devices,
        "tokens": asdict(undone.tokens) if undone.tokens else None,
        "default_changes": [asdict(change) for change in undone.list_default_changes()],
        "cancelled": len(undone.cancelled),
        "kept": [asdict(each) for each in undone.list_kept()],
        "losses": [asdict(each) for each in undone.losses],
    }


def describe(batch: str, undone: Undone, command: str, *, is_done: bool, is_partial: bool = False) -> Iterator[str]:
    """Say what was taken away, or would be, what that means for people, what stays and why, and what to do next.
    `is_partial`: only some of its tokens were selected."""
    devices, tokens = undone.devices, undone.tokens
    of_these = " of these tokens" if is_partial else ""
    yield from _describe_kept(undone)
    yield from _describe_losses(undone.losses)
    yield from _describe_devices(batch, undone, of_these, is_done=is_done)
    if number := len(undone.cancelled):
        closed = agree(number, "was", "were") if is_done else "would be"
        it = agree(number, "it", "them")
        yield f"{count_things(number, 'row')} without a device {closed} closed: nothing more is sent for {it}."
    if tokens:
        yield from _describe_tokens(batch, tokens, of_these, is_done=is_done)
    is_found = len(undone.cancelled) + devices.ends.total() + devices.unknown_pairings or (
        tokens and tokens.own + tokens.gone + tokens.open_imports
    )
    if not is_done and is_found:
        yield f"Nothing was changed. To do it: {command} --yes"
    elif is_done and tokens and undone.is_whole and not is_partial:
        yield f"To give its tokens out again, with the vendor's file: oathbulk mend {join([batch])} FILE --assign LIST"


def _describe_kept(undone: Undone) -> Iterator[str]:
    """Say what stays although somebody may believe it gone, and how to remove it."""
    if kept := undone.list_kept():
        stay = agree(len(kept), "stays as it is", "stay as they are")
        yield f"{len(kept):,} {stay}. In PingOne's console, remove those that must no longer work:"
    for each in kept[:MOST_LINES]:
        named = f"row {each.row_number} ({each.serial_number})" if each.row_number else each.serial_number
        yield f"  {named}: {each.why}"
    if len(kept) > MOST_LINES:
        yield f"  and {len(kept) - MOST_LINES} more: --json names them"


def _describe_losses(losses: Sequence[Loss]) -> Iterator[str]:
    """Say who would lose what."""
    if losses:
        persons = len({loss.person for loss in losses if loss.person})
        yield f"{count_things(persons, 'person')} would lose {count_things(len(losses), 'token')}:"
    for loss in losses[:MOST_LOSSES]:
        yield f"  row {loss.row_number} ({loss.serial_number}), {loss.person or 'nobody'}: {loss.what}"
    if len(losses) > MOST_LOSSES:
        yield f"  and {len(losses) - MOST_LOSSES} more: -o FILE lists all"


def _describe_devices(batch: str, undone: Undone, of_these: str, *, is_done: bool) -> Iterator[str]:
    devices, ends = undone.devices, undone.devices.ends
    if not (devices.made or devices.unknown_pairings or devices.earlier):
        yield f"{batch} has made no device{of_these}, so there is none to remove."
        return
    removed, gone = ends[End.REMOVED], ends[End.GONE]
    if is_done:
        yield _tell_done("device", batch, "removed", removed, devices.earlier, gone)
    else:
        there, earlier = count_things(ends[End.THERE], "device"), _tell_earlier("removed", devices.earlier)
        yield f"{there} of {batch} would be removed; {gone:,} {agree(gone, 'is', 'are')} gone already.{earlier}"
    if devices.unknown_pairings:
        are_looked_up = agree(devices.unknown_pairings, "it is looked up", "they are looked up")
        found = f"{ends[End.NEVER_MADE]:,} had made no device" if is_done else f"with --yes {are_looked_up} first"
        pairings = count_things(devices.unknown_pairings, "pairing")
        yield f"The outcome of {pairings} {'was' if is_done else 'is'} unknown: {found}."
    heirs = [change.heir for change in undone.defaults.values()]
    if heirs:
        following, none = heirs.count(Heir.NEXT), heirs.count(Heir.NONE)
        yield (
            f"The default device of {count_things(len(heirs), 'person')} changes: {following:,} "
            f"{agree(following, 'has', 'have')} another active device, which becomes the default; {none:,} "
            f"{agree(none, 'has', 'have')} none."
        )


def _describe_tokens(batch: str, tokens: TokenCounts, of_these: str, *, is_done: bool) -> Iterator[str]:
    if tokens == TokenCounts():
        yield f"{batch} has imported {f'none{of_these}' if of_these else 'no token'}, so there is none to revoke."
        return
    if is_done:
        yield _tell_done("token", batch, "revoked", tokens.revoked, tokens.earlier, tokens.gone)
    elif not tokens.obstacle:
        earlier = _tell_earlier("revoked", tokens.earlier)
        own, gone = count_things(tokens.own, "token"), f"{tokens.gone:,} {agree(tokens.gone, 'is', 'are')} gone already"
        yield f"{own} of {batch} would be revoked; {gone}.{earlier}"
    if tokens.not_ours:
        were, stay = agree(tokens.not_ours, "was", "were"), agree(tokens.not_ours, "it stays", "they stay")
        yield f"{count_things(tokens.not_ours, 'token')} {were} in the inventory before the batch: {stay} there."
    if tokens.open_imports:
        is_running, it = agree(tokens.open_imports, "is", "are"), agree(tokens.open_imports, "it", "them")
        yield f"{count_things(tokens.open_imports, 'import')} {is_running} still running: --yes waits for {it} first."
    if tokens.obstacle:
        yield f"Tokens stay in the inventory. {tokens.obstacle}"


def _tell_done(thing: str, batch: str, verb: str, now: int, earlier: int, gone: int) -> str:
    """Say how many things of a batch were taken away: now, by an earlier run that was interrupted, and before."""
    were_gone = f"{gone:,} {agree(gone, 'was', 'were')} gone already."
    if not earlier:
        return f"{count_things(now, thing)} of {batch} {agree(now, 'was', 'were')} {verb}; {were_gone}"
    total = count_things(now + earlier + gone, thing)
    return f"{total} of {batch}: {now:,} {verb} now, {earlier:,} by an earlier run; {were_gone}"


def _tell_earlier(verb: str, earlier: int) -> str:
    return f" {earlier:,} {agree(earlier, 'was', 'were')} {verb} by an earlier run." if earlier else ""
