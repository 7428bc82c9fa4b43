"""`oathbulk reconcile`: corrects a restored database by the workers' journals."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from worker.audit import this_person
from worker.batches.reconciliation import BatchFindings, Findings, Reconciliation
from worker.cli.console import console, print_json
from worker.cli.exit_codes import ALL_ACTIVE, SOME_LEFT
from worker.cli.options import AsJson, Ticket
from worker.cli.progress import showing_progress
from worker.config.settings import Settings
from worker.installation.installation import Installation
from worker.journal.evidence import gather_evidence
from worker.journal.reader import NoJournalFound, Reader, find_files
from worker.observability.counting import agree, count_things
from worker.observability.progress import telling

# Lines of a journal after which it is told how many were read: as many as take a second or less.
LINES_EACH = 10_000


def _parse_time(text: str) -> datetime:
    """Read a time such as `2026-07-01 14:30`, in UTC unless it names another zone. Raises typer.BadParameter."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no time: say 2026-07-01 or 2026-07-01T14:30+02:00") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def reconcile(
    journals: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[JOURNAL]...",
            help="Files, or directories of them. Default: the directory of OATHBULK_JOURNAL.",
            show_default=False,
        ),
    ] = None,
    since: Annotated[
        datetime | None,
        typer.Option(metavar="TIME", parser=_parse_time, help="Leave out older lines. In UTC, unless it names a zone."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Write it into the database; otherwise it is only shown.")] = False,
    ticket: Ticket = None,
    as_json: AsJson = False,
) -> None:
    """Tell a restored database what went out since its backup, as the workers' journals show it."""
    installation = Installation()
    reader = Reader(find_files(journals or [_find_own_journal(installation.settings)]), since)
    interrupted = "What was corrected stays so: the same command goes on." if yes else "Nothing was changed."
    with showing_progress(interrupted, is_quiet=as_json) as progress:
        evidence = gather_evidence(telling(reader, progress, "Reading lines of journals", each=LINES_EACH))
        findings = _prepare(installation, ticket, is_written=yes).run(evidence, progress)
    if as_json:
        print_json(_to_json(reader, len(evidence), findings) | {"is_written": yes})
    else:
        _print_findings(reader, len(evidence), findings)
        console.print(describe_outcome(findings, is_written=yes))
    raise typer.Exit(SOME_LEFT if findings.unknown else ALL_ACTIVE)


def _prepare(installation: Installation, ticket: str | None, *, is_written: bool) -> Reconciliation:
    settings = installation.settings
    actor = this_person(settings, ticket)
    return Reconciliation(installation.database, actor, read_delay=settings.read_delay, is_written=is_written)


def _find_own_journal(settings: Settings) -> Path:
    """Find the directory in which this installation keeps its journal. Raises NoJournalFound."""
    if settings.journal_directory is None:
        raise NoJournalFound("no journal is kept: OATHBULK_JOURNAL is not set; name files or a directory of journals")
    return settings.journal_directory


def _to_json(reader: Reader, records: int, findings: Findings) -> dict[str, Any]:
    return {
        "lines": reader.lines,
        "unreadable": reader.unreadable,
        "first_at": reader.first_at,
        "last_at": reader.last_at,
        "records": records,
        "batches": [asdict(batch) for batch in findings.batches.values()],
        "missing": [{"batch_number": number, "records": count} for number, count in findings.missing.items()],
    }


def _print_findings(reader: Reader, records: int, findings: Findings) -> None:
    """Print what the journal has, and what of that the database does not know. `records`: those in the journal."""
    span = f", from {reader.first_at:%Y-%m-%d %H:%M} to {reader.last_at:%Y-%m-%d %H:%M} UTC" if reader.first_at else ""
    about = count_things(records, "record")
    console.print(f"The journal has {count_things(reader.lines, 'line')} about {about}{span}.")
    if reader.unreadable:
        are, they = agree(reader.unreadable, "is", "are"), agree(reader.unreadable, "it is", "they are")
        console.print(f"{count_things(reader.unreadable, 'line')} {are} cut off or not ours; {they} left out.")
    for batch in findings.batches.values():
        for line in describe_batch(batch):
            console.print(line)
    for number, count in findings.missing.items():
        console.print(
            f"Batch number {number} is not in the database; the journal has {count_things(count, 'record')} of it. "
            "Load its file again, then reconcile again before it runs."
        )


def describe_batch(batch: BatchFindings) -> list[str]:
    """Say what the database does not know of a batch; a line each."""
    lines = []
    if batch.answered or batch.sent:
        lines.append(
            f"{batch.name}: of {count_things(batch.answered, 'record')} the database does not know an answer, of "
            f"{batch.sent:,} it does not know that an OTP went out; their devices are read first."
        )
    if batch.strange:
        strange = count_things(batch.strange, "record")
        belong = agree(batch.strange, "is not in it: it belongs", "are not in it: they belong")
        lines.append(
            f"{batch.name}: {strange} of the journal {belong} to a batch that had its number before. Load that batch's "
            "file again, then reconcile again."
        )
    return lines


def describe_outcome(findings: Findings, *, is_written: bool) -> str:
    """Say what was changed, or how to change it."""
    if not findings.changes:
        return "The database knows all that the journal shows of its records."
    records = count_things(findings.changes, "record")
    if is_written:
        return f"{records} {agree(findings.changes, 'was', 'were')} corrected."
    return f"Nothing was changed. To correct {records}: the same command with --yes"
