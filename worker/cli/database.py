"""`oathbulk db upgrade`, `db backup`, `db restored` and `db reencrypt`; `oathbulk keygen`; and `oathbulk purge`, which
ends what is kept of batches that finished long ago, or of a person's names."""

import re
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from models.encrypted import generate_key
from worker import audit
from worker.batches.commands import distrust_all
from worker.cli.console import console, error_console, print_json
from worker.cli.exit_codes import ALL_ACTIVE, SOME_LEFT
from worker.cli.options import AsJson, Ticket
from worker.cli.output_files import STDOUT, put_in_place, refuse_unfit
from worker.cli.progress_line import showing_progress
from worker.config.settings import Settings
from worker.installation.installation import Installation
from worker.observability.wording import agree, count_things, format_duration
from worker.purging import Candidate, Erased, Erasure, Plan, Purging
from worker.vault.keys import AUDIT, ENCRYPTION

app = typer.Typer(
    help="The database: its schema, its keys, a backup, and what follows a restore.", add_completion=False
)


@app.command()
def upgrade(ticket: Ticket = None) -> None:
    """Bring the database's schema up to date."""
    revision = Installation().upgrade_database(ticket)
    console.print(f"The database is at revision {revision}.")


@app.command(name="reencrypt")
def reencrypt_command(ticket: Ticket = None) -> None:
    """Encrypt every stored OTP with the first key; older keys can be dropped from OATHBULK_ENCRYPTION_KEYS then."""
    with showing_progress("What is encrypted again stays so. Go on with: oathbulk db reencrypt") as progress:
        count = Installation().reencrypt(ticket, progress)
    console.print(f"{count_things(count, 'record')} {agree(count, 'is', 'are')} encrypted with the first key now.")


@app.command()
def backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The file to write.", show_default=False)],
) -> None:
    """Write a copy of the SQLite database, also while others work with it. The keys are not in it."""
    if file == STDOUT:
        raise typer.BadParameter("name a file: SQLite writes no database to standard output", param_hint="FILE")
    refuse_unfit(file)
    installation = Installation()
    put_in_place(file, installation.database.back_up)
    console.print(f"Wrote a backup of the database to {file}. {_name_keys(installation.settings)}", soft_wrap=True)


@app.command()
def restored(ticket: Ticket = None) -> None:
    """Meet a database that was restored from a backup with distrust: every device is read before an OTP is sent."""
    installation = Installation()
    settings = installation.settings
    lacking = _describe_lacking_heads(installation)
    actor = audit.this_person(settings, ticket)
    with showing_progress("What is marked stays so. Go on with: oathbulk db restored") as progress:
        count, waiting = distrust_all(installation.database, settings, actor, progress)
    console.print(describe_distrust(count, settings.tuning.over_after), soft_wrap=True)
    if waiting:
        console.print(describe_trusted(waiting), soft_wrap=True)
    if lacking:
        error_console.print(lacking, soft_wrap=True)


def describe_distrust(count: int, seconds: float) -> str:
    """Say what follows for records that were marked, and what it may cost. `seconds`: until the first is due."""
    if not count:
        return "Nothing is left to mark: what is not final is looked up in PingOne before anything is sent."
    may_have = agree(count, "record that is not final may", "records that are not final may")
    return (
        f"{count:,} {may_have} have been worked on since the backup: each is looked up in PingOne before anything is "
        f"sent, no sooner than in {format_duration(seconds)}. An OTP that PingOne answered since the backup, and that "
        "did not make its device ACTIVE, may go once more. Now start the workers, or go on with oathbulk run."
    )


def describe_trusted(waiting: int) -> str:
    """Say that records which wait for a date are not marked, and what to do where a person let some of them go."""
    wait = agree(waiting, "waits for a date, and counts", "wait for a date, and count")
    return (
        f"{count_things(waiting, 'record')} {wait} as never sent: if some were let go since the backup, let them go "
        "again (oathbulk resume BATCH --where …), then give this command once more, before any worker starts."
    )


def _describe_lacking_heads(installation: Installation) -> str:
    """Say which lines of the audit the restored database lacks, by the heads that were noted outside; empty if none."""
    path = audit.find_heads_file(installation.settings)
    with suppress(audit.UnusableHead), installation.database.reading() as connection:
        if missing := audit.find_missing(connection, audit.read_noted_heads(path)):
            heads, are = count_things(len(missing), "head"), agree(len(missing), "is of a line", "are of lines")
            return (
                f"{heads} in {path} {are} that this database lacks, so oathbulk audit ends with 1: docs/operating.md "
                "says how to go on."
            )
    return ""


def _name_keys(settings: Settings) -> str:
    """Say where the keys are, without which a backup is of no use, and which are not in it."""
    keys = (ENCRYPTION, settings.encryption_keys), (AUDIT, settings.audit_key)
    places = [each.variable if setting else str(settings.home / each.file) for each, setting in keys]
    return f"Keep the keys elsewhere, they are not in it: {' and '.join(places)}."


def keygen() -> None:
    """Print a new key for OATHBULK_ENCRYPTION_KEYS or OATHBULK_AUDIT_KEY, alone on stdout."""
    typer.echo(generate_key())


# A number of days; more than a century is a slip of the keyboard.
_DAYS = re.compile(r"([1-9][0-9]{0,4})d")


def _parse_age(text: str) -> timedelta:
    """Read a number of days, such as 90d. Raises typer.BadParameter."""
    days = _DAYS.fullmatch(text)
    if days is None or int(days[1]) > 36500:
        raise typer.BadParameter(f"{text!r} is no number of days: say 90d")
    return timedelta(days=int(days[1]))


def purge(
    older_than: Annotated[
        timedelta | None,
        typer.Option(metavar="90d", parser=_parse_age, help="Purge batches that finished longer ago than that."),
    ] = None,
    with_dead_letters: Annotated[
        bool, typer.Option("--with-dead-letters", help="Also batches with dead letters that wait for a person.")
    ] = False,
    person: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Erase this user name, e-mail address or id from records that are final."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do it; otherwise it is only shown what would go.")] = False,
    as_json: AsJson = False,
    ticket: Ticket = None,
) -> None:
    """Remove the records of batches that finished long ago, or a person's names; without --yes, say what would go."""
    if (older_than is None) == (person is None):
        raise typer.BadParameter("say what: --older-than 90d, or --person NAME", param_hint="--older-than and --person")
    if person is not None and (with_dead_letters or not person.strip()):
        raise typer.BadParameter("takes a name, and no --with-dead-letters", param_hint="--person")
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
    actor = audit.this_person(installation.settings, ticket)
    purging = Purging(installation.database, actor, older_than, gives_up=gives_up)
    plan = purging.examine()
    if is_done:
        interrupted = "What was removed is gone, and nobody is shown the rest. Give the same command again to go on."
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
    """Say batch by batch what goes, or went, and what stays and why."""
    verb = "purged" if is_done else "would be purged"
    goes = "went" if is_done else "would go"
    for left in done.left:
        yield f"{left.name}: the last {left.records:,} records of an interrupted purge {goes}."
    for each in done.going:
        yield f"{each.name}: {verb}, {_describe_counts(each)}; it ended on {each.ended_at:%Y-%m-%d}."
    for each in plan.candidates:
        if each.obstacle:
            yield f"{each.name}: stays, {_describe_counts(each)}: {each.obstacle}."
    if not done.going and not done.left:
        yield f"Nothing to purge: no batch ended more than {count_things(days, 'day')} ago with nothing left to do."
    elif not is_done:
        yield (
            "Nothing was changed. What goes cannot be brought back, and what the batches made in PingOne cannot be "
            "undone any more. To do it: the same command with --yes"
        )


def _describe_counts(each: Candidate) -> str:
    counts = ", ".join(f"{number:,} {status}" for status, number in each.counted.statuses.items() if number)
    return f"{count_things(each.records, 'record')} ({counts})" if counts else "no record"


def _erase(installation: Installation, person: str, ticket: str | None, *, is_done: bool, as_json: bool) -> None:
    """Erase a person's names, or say from where they would be erased, and print it."""
    actor = audit.this_person(installation.settings, ticket)
    erasure = Erasure(installation.database, actor)
    erased = erasure.erase(person) if is_done else erasure.examine(person)
    if as_json:
        in_progress = [{"serial_number": serial, "batch": batch} for serial, batch in erased.in_progress]
        found = {"is_done": is_done, "batches": erased.batches, "in_progress": in_progress}
        print_json(found)
    else:
        for line in describe_erasure(erased, is_done=is_done):
            console.print(line, soft_wrap=True)
    raise typer.Exit(SOME_LEFT if erased.in_progress else ALL_ACTIVE)


def describe_erasure(erased: Erased, *, is_done: bool) -> Iterator[str]:
    """Say from which records the names of a person went, or would go."""
    if not erased.batches and not erased.in_progress:
        yield "No record names this person. A name has to be given whole, as a file or PingOne has it."
    for batch, records in sorted(erased.batches.items()):
        done = "are erased" if is_done else "would be erased"
        yield f"{batch}: the names in {count_things(records, 'record')} {done}."
    for serial_number, batch in erased.in_progress:
        yield f"{batch}: token {serial_number} is in progress and keeps its names: let it end, or cancel the batch."
    if erased.batches and is_done:
        yield "The audit says it without the name. PingOne has the user still, and backups have the names."
    elif erased.batches:
        yield "Nothing was changed. To erase them: the same command with --yes"
