"""`oathbulk check`: shows what a shipment is, what a run would do, and everything that can be known before an OTP is
spent. Also runs the preflight for all commands, with files and database first, then PingOne if it can be asked, and
prints the findings."""

import csv
import re
import shlex
import sys
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import partial
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, TextIO

import redis
import typer
from rich.console import Group
from rich.text import Text
from sqlalchemy import select

from worker.batches.loading import Loaded, find_loaded
from worker.batches.mending import read_mended_batch
from worker.cli.console import (
    GAP,
    Room,
    break_lines,
    console,
    count_lines,
    cut_line,
    error_console,
    label_text,
    measure_room,
    print_json,
)
from worker.cli.exit_codes import ALL_ACTIVE, SOME_FAILED
from worker.cli.failures import explain_server_failure
from worker.cli.homes import print_hosts
from worker.cli.options import AsJson, File, Overwrite, parse_zone
from worker.cli.output_files import refuse_unfit, write_output
from worker.cli.progress_line import showing_progress
from worker.cli.shipment_options import (
    LoadOptions,
    takes_option_sets,
    write_command,
    write_listing_command,
    write_words,
)
from worker.config.environment import Environment
from worker.config.settings import ConfigError
from worker.embedded.home import EmbeddedError, HomeInUse
from worker.installation.installation import Installation
from worker.installation.stack import parts_with_redis
from worker.intake.formats import FORMATS
from worker.intake.rows import KEPT, Row, RowError, RowErrors
from worker.intake.shipment import Shipment, Switches
from worker.observability.progress import OnProgress
from worker.observability.wording import agree, count_things, format_duration, write_share
from worker.pace.search import SlotTooFar
from worker.pingone.auth import AccessTokens
from worker.pingone.diagnosis import measure_drift
from worker.pingone.errors import CredentialsRefused, NotDelivered
from worker.pingone.wire import is_from_pingone
from worker.preflight.files import RowReader, check_shipment, note_loaded, note_run, reading_without_records
from worker.preflight.findings import ExpectedWork, Finding, Level, NotPingOne, NotReady, Report, expect_work
from worker.preflight.tenant import TenantCheck
from worker.reports.export import format_cell
from worker.reports.outlook import describe_dates
from worker.rules.resync import ResyncKnowledge
from worker.tenants import read_resync
from worker.vault.otps import Seed

# A batch's initial requests a second if no environment is configured.
USUAL_RATE: float = Environment.model_fields["rate"].default
# Failures that keep this machine from asking PingOne, although workers elsewhere may reach it. Those of a server need
# an explanation from us.
_SERVER_FAILED = (CredentialsRefused, NotDelivered, redis.RedisError)
_OUT_OF_REACH = (*_SERVER_FAILED, EmbeddedError, HomeInUse, SlotTooFar)
# Findings that say the same as printed refused rows.
TOLD_BY_ROWS = frozenset({"rows_refused", "in_database"})
# How a level is drawn: a mark and its color.
MARKS = {Level.STOP: ("✗", "red"), Level.ASK: ("?", "yellow"), Level.NOTE: ("·", "dim")}
# Maximum number of reasons, and of row numbers or ranges for each.
SHOWN = 20
# On a screen with all findings: maximum number of example tokens, rows, and reasons, and of lines.
EXAMPLES, MOST_LINES = 3, 24
# The part in which reasons of the same kind differ: which row of another batch has the token.
_OF_ROW = re.compile(r" \(row \d+\)")


def find_loaded_as(installation: Installation, shipment: Shipment, environment: str) -> Loaded | None:
    """Find the batch that this file was loaded as, in the environment with this name; None if it has not been loaded.
    Makes no home. Raises ConfigError, SchemaOutdated, EmbeddedError."""
    if installation.is_empty:
        return None
    environment_id = installation.environment(environment).environment_id
    with installation.database.reading() as connection:
        return find_loaded(connection, environment_id, shipment.fingerprint)


def describe_all_active(file: Path, rows: int) -> str:
    """Say that no row of a file is left to do."""
    tokens = "The token of its one row is" if rows == 1 else f"The tokens of all its {rows:,} rows are"
    return f"{file}: nothing is left to do. {tokens} active already."


def examine(
    installation: Installation,
    shipment: Shipment,
    asked: LoadOptions,
    *,
    as_json: bool = False,
    needs_pingone: bool = False,
    mends: str | None = None,
) -> Report:
    """Run the preflight of a shipment that will be loaded, or that will mend the batch `mends`, and print the findings.
    Raises NotReady if something stops it or a question was not accepted, and what `run_preflight` raises."""
    # Faults of database or keys are reported before PingOne is asked.
    _ = installation.database, installation.keyring
    undone = "nothing was mended" if mends else "nothing was loaded"
    report = run_preflight(
        installation, shipment, asked, undone=undone, is_quiet=as_json, needs_pingone=needs_pingone, mends=mends
    )
    blocking = report.blocking(asked.accepted)
    stops = [finding.text for finding in blocking if finding.level == Level.STOP]
    if not as_json:
        # Leave out findings that the printed rows, or the text that nothing is left to load, say in other words.
        elsewhere = TOLD_BY_ROWS | {"nothing_to_load"} if stops or not blocking else set[str]()
        print_findings(report, asked.accepted, {"left_out"} if report.verdicts.are_all_left_out else elsewhere)
    elif blocking:
        print_json(report_to_json(shipment.path, report, blocking))
    if stops:
        print_refused_rows(report.verdicts.refused, write_listing_command(shipment.path, asked))
        raise NotReady(f"{shipment.path}: {undone}. {' '.join(stops)}")
    if blocking:
        names = [finding.name for finding in blocking]
        error_console.print(f"To accept: {write_accepting_command(names)}", soft_wrap=True)
        asks = f"{undone}, because of questions about {', '.join(names)}"
        raise NotReady(f"{shipment.path}: {asks}. Correct the file, or accept the findings.")
    return report


def run_preflight(
    installation: Installation,
    shipment: Shipment,
    asked: LoadOptions,
    *,
    undone: str,
    is_quiet: bool,
    needs_pingone: bool = False,
    mends: str | None = None,
) -> Report:
    """Find out what can be known about a shipment in the requested environment, and show the progress. `undone`: what
    Ctrl-C prints. If PingOne cannot be asked, what it would say is reported as unknown, or, with `needs_pingone`, the
    failure is raised. `mends`: the name of the rows' batch. Raises UnusableFile, ConfigError, SchemaOutdated,
    EmbeddedError, NotPingOne."""
    environment = _find_environment(installation, asked)
    rate = environment.rate if environment else USUAL_RATE
    with showing_progress(f"{undone.capitalize()}.", is_quiet=is_quiet) as progress:
        with _reading_rows(installation, environment, shipment, mends) as (reader, known):
            report = check_shipment(shipment, reader, installation.settings, rate, progress)
            report.verdicts.refused.first.sort(key=attrgetter("row_number"))
        if environment is None:
            report.unknown.append("the database and PingOne: no environment is configured here")
        elif not mends and (loaded := find_loaded_as(installation, shipment, asked.environment)):
            report.batch, report.findings = loaded.name, [note_loaded(loaded)]
        elif not asked.offline and report.verdicts.good:
            try:
                _ask_pingone(installation, environment, report, known, shipment.switches, progress)
            except _OUT_OF_REACH as failure:
                if needs_pingone:
                    raise
                report.is_complete = False
                if mends and isinstance(failure, HomeInUse) and failure.works_on(mends):
                    report.findings.append(note_run(failure.pid))
                    return report
                why = explain_server_failure(failure) if isinstance(failure, _SERVER_FAILED) else failure
                report.unknown.append(f"what PingOne would say: {why}")
    return report


def _find_environment(installation: Installation, asked: LoadOptions) -> Environment | None:
    """Find the requested environment; None if it is not configured and PingOne is not asked. Raises ConfigError."""
    try:
        return installation.environment(asked.environment)
    except ConfigError:
        if asked.offline:
            return None
        raise


@contextmanager
def _reading_rows(
    installation: Installation, environment: Environment | None, shipment: Shipment, mends: str | None
) -> Iterator[tuple[RowReader, ResyncKnowledge]]:
    """Yield a reader of rows, and what is known about the environment's use of oathResync. If the home has no database,
    none is created."""
    if environment is None or installation.is_empty:
        with reading_without_records() as reader:
            yield reader, ResyncKnowledge()
        return
    with installation.database.reading() as connection:
        batch = read_mended_batch(connection, mends, shipment) if mends else None
        now = connection.execute(select(installation.database.now())).scalar_one()
        reader = RowReader(connection, installation.keyring, environment.environment_id, batch, now)
        yield reader, read_resync(connection, environment.environment_id)


def _ask_pingone(
    installation: Installation,
    environment: Environment,
    report: Report,
    known: ResyncKnowledge,
    switches: Switches,
    on_progress: OnProgress,
) -> None:
    """Add what PingOne says to the report. Raises one of _OUT_OF_REACH, and NotPingOne."""
    print_hosts(installation, environment.name)
    deadline = installation.settings.tuning.call_deadline
    # Get an access token once, before a Redis is started, so that wrong credentials fail only once.
    try:
        AccessTokens(environment, deadline=deadline).get()
    except CredentialsRefused as refusal:
        if refusal.answer.code or is_from_pingone(refusal.answer):
            raise
        # No token endpoint refuses without a code (RFC 6749, section 5.2).
        raise NotPingOne(f"PINGONE_TOKEN_URL={environment.token_url}", refusal) from refusal
    with _home_to_ask_from(installation) as asking_from, parts_with_redis(asking_from) as parts:
        # The database must exist: the pace reads from it what the fleet found before.
        _ = asking_from.database
        parts.redis.ping()
        asking = TenantCheck(parts.clients.reads(environment), environment, parts.settings, switches, on_progress)
        asking.add_to(report, known, lambda: measure_drift(environment, deadline=deadline))


@contextmanager
def _home_to_ask_from(installation: Installation) -> Iterator[Installation]:
    """Yield an installation with a home. If there is no home yet, and the command makes none, use an empty home, which
    is removed afterwards."""
    if installation.makes_home or not installation.is_empty:
        yield installation
        return
    with TemporaryDirectory(prefix="oathbulk-check-") as home:
        yield Installation(installation.variables | {"OATHBULK_HOME": home}, makes_home=True)


def print_refused_rows(refused: RowErrors, listing: str) -> None:
    """Print refused rows on stderr, those with the same reason in one line, and how many more there are. `listing`: the
    command that lists each one."""
    groups = _group_by_reason(refused)
    shown = dict([*groups.items()][:SHOWN])
    for reason, errors in shown.items():
        error_console.print(_describe_rows(reason, errors), soft_wrap=True)
    more = refused.total - sum(map(len, shown.values()))
    if more or len(shown) < refused.total:
        others = f"… and {more} more. " if more else ""
        error_console.print(f"{others}Every row: {listing}", soft_wrap=True)


def _group_by_reason(refused: RowErrors) -> dict[str, list[RowError]]:
    groups: dict[str, list[RowError]] = {}
    for error in refused.first[:KEPT]:
        groups.setdefault(_OF_ROW.sub("", error.reason), []).append(error)
    return groups


def refused_to_json(refused: RowErrors) -> list[dict[str, Any]]:
    return [
        {"row": error.row_number, "serial": error.serial_number, "reason": error.reason}
        for error in refused.first[:KEPT]
    ]


def findings_to_json(report: Report) -> dict[str, Any]:
    return {"findings": [finding.to_json() for finding in report.findings], "not_known": report.unknown}


def report_to_json(file: Path, report: Report, blocking: Sequence[Finding]) -> dict[str, Any]:
    verdicts = report.verdicts
    return {
        "file": str(file),
        "rows": verdicts.good,
        "rows_refused": verdicts.refused.total,
        "refused": refused_to_json(verdicts.refused),
        "left_out": verdicts.left_out.total,
        "doubtful": verdicts.doubts,
        **findings_to_json(report),
        "blocking": [finding.name for finding in blocking],
        "requests": report.requests,
    }


def print_findings(report: Report, accepted: frozenset[str], elsewhere: Collection[str] = ()) -> None:
    """Print the findings, the most serious first, each on a line, and then what is not known. `elsewhere`: findings to
    skip, since they are said in other words."""
    findings = [finding for finding in report.findings if finding.name not in elsewhere]
    for finding in sorted(findings, key=lambda finding: list(Level).index(finding.level)):
        console.print(_write_finding(finding, accepted))
    for unknown in report.unknown:
        console.print(Text.assemble(MARKS[Level.NOTE], f" not known: {unknown}"))


def _write_finding(finding: Finding, accepted: Collection[str]) -> Text:
    note = " (accepted)" if finding.level == Level.ASK and finding.name in accepted else ""
    examples = f" ({', '.join(finding.serials[:EXAMPLES])}{' …' * (finding.tokens > EXAMPLES)})"
    named = f"{finding.name}{note}{examples if finding.serials else ''}"
    return Text.assemble(MARKS[finding.level], f" {named}: {finding.text}")


def write_accepting_command(names: Sequence[str]) -> str:
    """Write the command that was typed, with these findings accepted."""
    words = ["oathbulk", *sys.argv[1:]]
    # Nothing after -- is an option.
    end = words.index("--") if "--" in words else len(words)
    words[end:end] = [word for name in names for word in ("--accept", name)]
    return shlex.join(words)


def _describe_rows(reason: str, errors: Sequence[RowError], most: int = SHOWN) -> str:
    """Say which rows, or lines of the list, are refused for a reason; a single row with its token, and with its whole
    reason."""
    numbers = sorted(error.list_line or error.row_number for error in errors)
    one, many = ("line {} of the list", "{} lines of the list") if errors[0].list_line else ("row {}", "{} rows")
    if len(errors) > 1:
        ranges = [*_name_ranges(numbers)]
        more = f" and {count_things(len(ranges) - most, 'more place')}" if len(ranges) > most else ""
        return f"{many.format(len(errors))} ({', '.join(ranges[:most])}{more}): {reason}"
    (error,) = errors
    serial = f" ({error.serial_number})" if error.serial_number else ""
    return f"{one.format(*numbers)}{serial}: {error.reason}"


def _name_ranges(numbers: Iterable[int]) -> Iterator[str]:
    """Write ascending numbers, consecutive ones as a range: 3, 8-12, 40."""
    for _, run in groupby(enumerate(numbers), lambda pair: pair[1] - pair[0]):
        members = [number for _, number in run]
        yield f"{members[0]}-{members[-1]}" if len(members) > 1 else str(members[0])


@takes_option_sets
def check(
    file: File,
    asked: LoadOptions,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Write every row with its verdict to this CSV file."),
    ] = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Show what a shipment is, what a run would do, and every problem that can be found before a run. Change
    nothing."""
    if output is not None:
        asked.source.refuse_to_replace(file, output)
        refuse_unfit(output, overwrite=overwrite)
    installation, shipment = Installation(), asked.open(file)
    try:
        installation.environment(asked.environment)
    except ConfigError as error:
        if not asked.offline:
            raise ConfigError(f"{error}; or check only the file, with --offline") from error
    report = run_preflight(installation, shipment, asked, undone="nothing was changed", is_quiet=as_json)
    work = None if report.batch else expect_work(report, shipment.switches, asked.hours, asked.accepted)
    if as_json:
        print_json(_to_json(installation, shipment, asked, report, work))
    else:
        _print_screen(shipment, asked, report, work, output)
    if output is not None:
        write_output(output, partial(_write_verdicts, report, shipment))
    is_well = report.is_complete and not report.blocking(asked.accepted) and not report.verdicts.refused.total
    raise typer.Exit(ALL_ACTIVE if is_well else SOME_FAILED)


def _write_verdicts(report: Report, shipment: Shipment, file: TextIO) -> None:
    """Write a CSV with every row, and with every line that only the list has: place in file and list, token, person,
    verdict and reason."""
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(("row", "list_line", "serial", "person", "verdict", "reason"))
    listed = shipment.assignment.lines if shipment.assignment else {}
    writer.writerows(map(format_cell, cells) for cells in report.verdicts.lines(listed))


def _to_json(
    installation: Installation,
    shipment: Shipment,
    asked: LoadOptions,
    report: Report,
    work: ExpectedWork | None,
) -> dict[str, Any]:
    """The whole result; `run` is null if the file was already loaded as a batch."""
    listed, verdicts, settings = shipment.assignment, report.verdicts, installation.settings
    rate = {"rate": report.rate, "is_rate_bought": report.is_rate_bought}
    limits = {"otp_post_budget": settings.otp_post_budget, "max_attempts": settings.max_attempts}
    chosen = {"hours": str(asked.hours) if asked.hours else None, "share": asked.share, "canary": asked.canary}
    return {
        "format": shipment.format.name,
        "sha256": shipment.digest,
        "list": str(listed.path) if listed else None,
        "list_sha256": listed.digest if listed else None,
        "columns": shipment.columns,
        "tokens": verdicts.kinds.total(),
        "kinds": dict(verdicts.kinds),
        "first": [
            {"kind": kind, "serial": row.serial_number, "secret": _tell_secret(row)}
            for kind, row in verdicts.first.items()
        ],
        **report_to_json(shipment.path, report, report.blocking(asked.accepted)),
        "run": work
        and {"environment": asked.environment}
        | asdict(work)
        | {"seconds": round(work.seconds)}
        | rate
        | limits
        | chosen,
    }


def _tell_secret(row: Row) -> str:
    """Show what distinguishes a seed, without showing any part of it; empty for a pair."""
    return repr(row.otps.secret) if isinstance(row.otps, Seed) else ""


def _print_screen(
    shipment: Shipment, asked: LoadOptions, report: Report, work: ExpectedWork | None, output: Path | None
) -> None:
    """Print the verdict, the findings with a few examples each, and the next commands on one screen. `--json` has what
    does not fit."""
    room = measure_room(console)
    head = [] if work is None else [*_describe_work(shipment, asked, report, work)]
    kinds = ", ".join(f"{count:,} × {kind}" for kind, count in report.verdicts.kinds.most_common())
    head.append(f"{shipment.path}: {shipment.format.name}; {kinds or 'no readable token'}.")
    above = [line for text in head for line in break_lines(text, room)]
    below = [line for text in _describe_next(shipment, asked, report, output) for line in break_lines(text, room)]
    left = MOST_LINES - len(above) - count_lines(below, room)
    findings = [*_describe_findings(report, asked.accepted)]
    # If there are many findings, each is shortened before any is left out.
    for longest in (3, 2, 1):
        found = [line for text, most in findings for line in _cut_text(text, min(most, longest), room)]
        if len(found) <= left:
            break
    else:
        found[left - 1 :] = [Text(f"… and more: {write_listing_command(shipment.path, asked)}")]
    for line in [*above, *found, *below]:
        console.print(line, soft_wrap=True)
    if not report.is_complete:
        error_console.print("PingOne could not be asked: fix that, or skip it with --offline.")


def _cut_text(text: Text, most: int, room: Room) -> list[Text]:
    """Break a text into at most this many lines."""
    lines = break_lines(text, room)
    if len(lines) > most:
        lines[most - 1 :] = [cut_line(Text(" ").join(lines[most - 1 :]), room.width)]
    return lines


def _describe_work(shipment: Shipment, asked: LoadOptions, report: Report, work: ExpectedWork) -> Iterator[str]:
    """Say what becomes of all rows, what a run would do with them, how long it would take, and when they may start."""
    verdicts = report.verdicts
    if verdicts.are_all_left_out:
        yield describe_all_active(shipment.path, verdicts.rows)
        return
    doubted, refused, left_out = verdicts.good - work.tokens, verdicts.refused.total, verdicts.left_out.total
    parts = [
        f"{work.tokens:,} would be activated",
        f"{doubted:,} {agree(doubted, 'raises', 'raise')} a question" * bool(doubted),
        f"{refused:,} {agree(refused, 'fails', 'fail')}" * bool(refused),
        f"{left_out:,} {agree(left_out, 'is', 'are')} active already" * bool(left_out),
    ]
    yield f"{count_things(verdicts.rows, 'row')}: {', '.join(filter(None, parts))}."
    if work.tokens:
        yield f"{_describe_changes(work, shipment, asked)} {_describe_time(report, work, asked)}"
        yield describe_dates(
            verdicts.count_dates(asked.accepted), parse_zone(asked.source.zone), gives_out=asked.gives_out
        )


def _describe_changes(work: ExpectedWork, shipment: Shipment, asked: LoadOptions) -> str:
    """Say what a run would change in PingOne."""
    limit = "" if work.is_exact else "at most "
    steps = []
    if shipment.switches.may_import:
        steps.append(f"import {limit}{count_things(work.imports, 'token')}")
    if shipment.switches.may_pair:
        steps.append(f"make {limit}{count_things(work.devices, 'device')}")
    changes = f"{', '.join(steps)} and " if steps else ""
    changes += f"activate {count_things(work.tokens, 'token')}"
    return f"A run would {changes} in the environment {asked.environment}."


def _describe_time(report: Report, work: ExpectedWork, asked: LoadOptions) -> str:
    """Say how many requests a run takes, how long it lasts, and at which pace and in which hours it works."""
    rate = "the license's rate" if report.is_rate_bought else "the rate it begins with"
    sentences = (
        f"About {count_things(work.requests, 'request')}: {format_duration(work.seconds)} at"
        f" {report.rate:g} requests a second, {rate}."
    )
    if asked.share is not None:
        sentences += f" It uses {write_share(asked.share)} of what the license permits."
    if asked.hours is not None and work.days is not None:
        sentences += f" It works only during {asked.hours}, so it takes {count_things(work.days, 'day')}."
    if asked.canary is not None:
        sentences += f" It pauses after {count_things(asked.canary, 'record')}."
    return sentences


def _describe_findings(report: Report, accepted: frozenset[str]) -> Iterator[tuple[Text, int]]:
    """Write the findings and the reasons of refused rows, the most serious first, each with its maximum number of
    lines."""
    findings = sorted(report.findings, key=lambda finding: list(Level).index(finding.level))
    for finding in findings:
        if finding.level != Level.NOTE:
            yield _write_finding(finding, accepted), 3
    if report.batch is None:
        groups = _group_by_reason(report.verdicts.refused)
        for reason, errors in [*groups.items()][:EXAMPLES]:
            yield Text.assemble(MARKS[Level.NOTE], f" {_describe_rows(reason, errors, EXAMPLES)}"), 2
        if len(groups) > EXAMPLES:
            yield Text.assemble(MARKS[Level.NOTE], f" … and {count_things(len(groups) - EXAMPLES, 'other reason')}"), 1
    for unknown in report.unknown:
        yield Text.assemble(MARKS[Level.NOTE], f" not known: {unknown}"), 2
    for finding in findings:
        if finding.level == Level.NOTE and finding.name not in TOLD_BY_ROWS:
            yield _write_finding(finding, accepted), 2 if finding.name == "loaded_already" else 1


def _describe_next(shipment: Shipment, asked: LoadOptions, report: Report, output: Path | None) -> Iterator[str]:
    """Say where each row is listed, and which command continues."""
    verdicts, blocking = report.verdicts, report.blocking(asked.accepted)
    words = write_words(replace(asked, accept=None, offline=False))
    if output is not None:
        yield f"Every row with person and reason: {output}"
    elif report.batch is None and (verdicts.refused.total or verdicts.doubts or verdicts.not_in_box):
        telling = [*write_words(replace(asked, accept=None)), "-o", f"{shipment.path.stem}-rows.csv"]
        yield f"Every row with person and reason: {write_command('check', shipment.path, telling)}"
    if any(finding.level == Level.STOP for finding in blocking):
        yield "It cannot be loaded like this: correct what is marked with ✗ first."
    elif report.batch is None and not verdicts.are_all_left_out:
        names = dict.fromkeys([*asked.accepted, *(finding.name for finding in blocking)])
        accepting = [word for name in sorted(names) for word in ("--accept", name)]
        first = "Correct what is marked with ?, or accept it" if blocking else "Go on"
        yield f"{first}: {write_command('run', shipment.path, [*words, *accepting])}"


def formats(as_json: AsJson = False) -> None:
    """List the file formats that oathbulk can read."""
    if as_json:
        print_json({"formats": [{"name": each.name, "title": each.title} for each in FORMATS.values()]})
        return
    titles = {"format": "what it is, and who writes such files"} | {each.name: each.title for each in FORMATS.values()}
    width, room = max(map(len, titles)) + len(GAP), measure_room(console)
    for name, title in titles.items():
        console.print(Group(*label_text(name, title, room, width=width, style="not dim")))
