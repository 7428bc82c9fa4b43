"""`oathbulk purge`: removes the records of batches that finished long ago, or erases a person's names."""

import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Annotated, Any

import typer

from worker.audit import this_person
from worker.cli.console import console, print_json
from worker.cli.exit_codes import ALL_ACTIVE, SOME_FAILED
from worker.cli.options import AsJson, Ticket
from worker.cli.progress_line import showing_progress
from worker.installation.installation import Installation
from worker.observability.wording import agree, count_things
from worker.purging import Candidate, Erased, Erasure, Plan, Purging

# A number of days; more than a century is a typing error.
_DAYS = re.compile(r"([1-9][0-9]{0,4})d")


def _parse_age(text: str) -> timedelta:
    """Read a number of days, such as 90d. Raises typer.BadParameter."""
    days = _DAYS.fullmatch(text)
    if days is None or int(days[1]) > 36500:
        raise typer.BadParameter(f"{text!r} is not a number of days: write it as 90d")
    return timedelta(days=int(days[1]))


def purge(
    older_than: Annotated[
        timedelta | None,
        typer.Option(metavar="90d", parser=_parse_age, help="Purge batches that finished longer ago than this."),
    ] = None,
    with_dead_letters: Annotated[
        bool,
        typer.Option(
            "--with-dead-letters",
            help="Include batches with dead letters that someone still has to replay, mend, or close.",
        ),
    ] = False,
    person: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Erase this username, email address, or id from final records."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do it. Without it, only list what would be removed.")] = False,
    as_json: AsJson = False,
    ticket: Ticket = None,
) -> None:
    """Remove the records of batches that finished long ago, or a person's names. Without --yes, only list what
    would be removed."""
    if (older_than is None) == (person is None):
        raise typer.BadParameter("give --older-than 90d, or --person NAME", param_hint="--older-than and --person")
    if person is not None and (with_dead_letters or not person.strip()):
        raise typer.BadParameter("does not take --with-dead-letters", param_hint="--person")
    installation = Installation()
    if person is not None:
        _erase(installation, person.strip(), ticket, is_done=yes, as_json=as_json)
    elif older_than is not None:
        _purge(installation, older_than, ticket, gives_up=with_dead_letters, is_done=yes, as_json=as_json)


def _purge(
    installation: Installation,
    older_than: timedelta,
    ticket: str | None,
    *,
    gives_up: bool,
    is_done: bool,
    as_json: bool,
) -> None:
    """Purge batches, or say which would be purged, and print it."""
    actor = this_person(installation.settings, ticket)
    purging = Purging(installation.database, actor, older_than, gives_up=gives_up)
    plan = purging.examine()
    if is_done:
        interrupted = "What was removed is gone, and the rest is hidden. Run the same command again to continue."
        with showing_progress(interrupted, is_quiet=as_json) as progress:
            done = purging.purge(plan, progress)
    else:
        done = plan
    if as_json:
        print_json(_plan_to_json(plan, done, is_done=is_done))
        return
    for line in describe_purge(plan, done, older_than.days, is_done=is_done):
        console.print(line, soft_wrap=True)


def _plan_to_json(plan: Plan, done: Plan, *, is_done: bool) -> dict[str, Any]:
    return {
        "is_done": is_done,
        "batches": [_candidate_to_json(each) for each in done.going],
        "continued": [{"batch": each.name, "records": each.records} for each in done.left],
        "kept": [_candidate_to_json(each) | {"why": each.obstacle} for each in plan.candidates if each.obstacle],
    }


def _candidate_to_json(each: Candidate) -> dict[str, Any]:
    counts = each.counted.statuses
    return {"batch": each.name, "ended_at": each.ended_at.isoformat(), "records": each.records, "counts": counts}


def describe_purge(plan: Plan, done: Plan, days: int, *, is_done: bool) -> Iterator[str]:
    """Say for each batch what was removed, or would be, and what stays and why."""
    verb = "purged" if is_done else "would be purged"
    for left in done.left:
        removed = f"{agree(left.records, 'was', 'were')} removed" if is_done else "would be removed"
        last = f"the last {count_things(left.records, 'record')}"
        yield f"{left.name}: {last} of an interrupted purge {removed}."
    for each in done.going:
        yield f"{each.name}: {verb}, {_describe_counts(each)}; it ended on {each.ended_at:%Y-%m-%d}."
    for each in plan.candidates:
        if each.obstacle:
            yield f"{each.name}: stays, {_describe_counts(each)}: {each.obstacle}."
    if not done.going and not done.left:
        yield f"Nothing to purge: no batch ended more than {count_things(days, 'day')} ago with nothing left to do."
    elif not is_done:
        yield (
            "Nothing was changed. Purged records cannot be restored, and what the batches made in PingOne can no "
            "longer be undone. To do it: the same command with --yes"
        )


def _describe_counts(each: Candidate) -> str:
    counts = ", ".join(f"{number:,} {status}" for status, number in each.counted.statuses.items() if number)
    return f"{count_things(each.records, 'record')} ({counts})" if counts else "no record"


def _erase(installation: Installation, person: str, ticket: str | None, *, is_done: bool, as_json: bool) -> None:
    """Erase a person's names, or say where they would be erased, and print it."""
    actor = this_person(installation.settings, ticket)
    erasure = Erasure(installation.database, actor)
    erased = erasure.erase(person) if is_done else erasure.examine(person)
    if as_json:
        in_progress = [{"serial_number": serial, "batch": batch} for serial, batch in erased.in_progress]
        found = {"is_done": is_done, "batches": erased.batches, "in_progress": in_progress}
        print_json(found)
    else:
        for line in describe_erasure(erased, is_done=is_done):
            console.print(line, soft_wrap=True)
    raise typer.Exit(SOME_FAILED if erased.in_progress else ALL_ACTIVE)


def describe_erasure(erased: Erased, *, is_done: bool) -> Iterator[str]:
    """Say in which records a person's names were erased, or would be."""
    if not erased.batches and not erased.in_progress:
        yield "No record names this person. Give the whole name, as in the file or in PingOne."
    for batch, records in sorted(erased.batches.items()):
        done = "are erased" if is_done else "would be erased"
        yield f"{batch}: the names in {count_things(records, 'record')} {done}."
    for serial_number, batch in erased.in_progress:
        kept = "is in progress and keeps its names: wait until it ends, or cancel the batch."
        yield f"{batch}: token {serial_number} {kept}"
    if erased.batches and is_done:
        yield "The audit records the erasure without the name. PingOne still has the user, and backups have the names."
    elif erased.batches:
        yield "Nothing was changed. To erase them: the same command with --yes"
