"""The command `oathbulk doctor`: which checks are made, in which order, and how their findings are shown: a line for
each, below it the cure, and a last line that sums up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import typer
from rich.console import Group

from worker.cli.console import console, print_json
from worker.cli.doctor.finding import Finding, State, examine
from worker.cli.doctor.local_checks import (
    check_backup,
    check_disk,
    check_home,
    check_key_files,
    describe_broker,
)
from worker.cli.doctor.pingone_checks import check_pingone
from worker.cli.doctor.stored_checks import check_stored, describe_learnt
from worker.cli.exit_codes import ALL_ACTIVE, UNUSABLE_SETUP
from worker.cli.hosts import print_unread_env_file
from worker.cli.layout import label_text, measure_room
from worker.cli.options import AsJson, EnvironmentName
from worker.config.environment import DEFAULT_ENVIRONMENT
from worker.config.settings import ConfigError
from worker.installation.installation import Installation
from worker.observability.counting import count_things

_MARKS = {State.WELL: "✓", State.FAULT: "✗", State.NOT_KNOWN: "?"}
# The label in front of each is dim.
_STYLES = {State.WELL: "not dim", State.FAULT: "not dim red", State.NOT_KNOWN: "not dim yellow"}


def doctor(environment: EnvironmentName = DEFAULT_ENVIRONMENT, as_json: AsJson = False) -> None:
    """Check all that a run needs, and name the cure of what is wrong: settings, keys, disk, database, workers, broker,
    proxy, TLS, access token, roles, clock, backup."""
    installation = Installation()
    print_unread_env_file(installation)
    findings = list(_run_checks(installation, environment))
    is_well = all(finding.is_well for finding in findings)
    if as_json:
        print_json({"is_well": is_well, "checks": [finding.to_json() for finding in findings]})
    else:
        _print_findings(findings)
    raise typer.Exit(ALL_ACTIVE if is_well else UNUSABLE_SETUP)


def _run_checks(installation: Installation, name: str) -> Iterator[Finding]:
    """Make all checks, in this order; what needs the environment is left out if that is not configured."""
    settings = installation.settings
    keeps_anything = not installation.is_empty
    yield examine("home", lambda: check_home(installation))
    yield examine("disk", lambda: check_disk(settings.home))
    yield examine("key files", lambda: check_key_files(installation))
    yield examine("configuration", lambda: _describe_configuration(installation, name), "`oathbulk config` lists each")
    stored = list(check_stored(installation)) if keeps_anything else []
    yield from stored
    yield examine("broker", lambda: describe_broker(installation), "check OATHBULK_REDIS_URL and the server")
    if keeps_anything:
        yield examine("backup", lambda: check_backup(settings.backup_stamp))
    try:
        environment = installation.environment(name)
    except ConfigError:
        return
    if any(finding.check == "migrations" and finding.is_well for finding in stored):
        yield examine("learnt", lambda: describe_learnt(installation, environment.environment_id))
    yield from check_pingone(installation, environment)


def _describe_configuration(installation: Installation, name: str) -> str:
    environment = installation.environment(name)
    return (
        f"environment {environment.name} is {environment.environment_id} at {environment.api_url}, "
        f"{environment.rate:g} requests a second to begin with"
    )


def _print_findings(findings: Sequence[Finding]) -> None:
    """Print all findings, in their order; in a pipe each stays one line."""
    room, width = measure_room(console), max(len(finding.check) for finding in findings) + 4
    for finding in findings:
        label = f"{_MARKS[finding.state]} {finding.check}"
        lines = label_text(label, finding.detail, room, width=width, style=_STYLES[finding.state])
        if finding.cure:
            lines += label_text("", f"→ {finding.cure}", room, width=width, style="not dim bold")
        console.print(Group(*lines))
    console.print(_sum_up(findings))


def _sum_up(findings: Sequence[Finding]) -> str:
    """Say in a sentence how many faults there are, and how much is not known."""
    counts = Counter(finding.state for finding in findings)
    faults, unknown = counts[State.FAULT], counts[State.NOT_KNOWN]
    if faults:
        told = f"{faults} of {count_things(len(findings), 'check')} found a fault"
        return f"{told}; {unknown} could not be made." if unknown else f"{told}."
    return f"All is well; {unknown} of {len(findings)} checks could not be made." if unknown else "All is well."
