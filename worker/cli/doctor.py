"""`oathbulk doctor`: checks whether everything that a run needs is there and works."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict

import typer
from rich.text import Text

from worker.cli.console import console, print_json
from worker.cli.doctor_checks import (
    Finding,
    check_clock,
    check_commits,
    check_journal,
    check_webhook,
    check_workers,
    describe_audit,
    describe_broker,
    describe_configuration,
    describe_database,
    describe_home,
    describe_learnt,
    run_check,
)
from worker.cli.exit_codes import ALL_ACTIVE, UNUSABLE_SETUP
from worker.cli.hosts import describe_hosts, print_unread_env_file
from worker.cli.options import AsJson, EnvironmentName
from worker.config.environment import DEFAULT_ENVIRONMENT
from worker.config.settings import ConfigError
from worker.installation.installation import Installation
from worker.pingone.auth import AccessTokens
from worker.pingone.clock_drift import measure_drift

# Seconds that a call to PingOne may take, since a person waits for it.
DEADLINE = 10.0


def doctor(environment: EnvironmentName = DEFAULT_ENVIRONMENT, as_json: AsJson = False) -> None:
    """Check configuration, database, migrations, broker, access token, and the clock against PingOne's."""
    installation = Installation()
    print_unread_env_file(installation)
    findings = list(_run_checks(installation, environment))
    if as_json:
        print_json({"checks": [asdict(finding) for finding in findings]})
    else:
        for finding in findings:
            mark = Text("✓", style="green") if finding.is_well else Text("✗", style="red")
            console.print(mark, f"{finding.check}: {finding.detail}")
    raise typer.Exit(ALL_ACTIVE if all(finding.is_well for finding in findings) else UNUSABLE_SETUP)


def _run_checks(installation: Installation, name: str) -> Iterator[Finding]:
    """Run all checks, in this order; what needs the environment is left out if that is not configured."""
    settings = installation.settings
    has_database = keeps_anything = installation.has_home or not settings.is_embedded_database
    yield Finding("home", True, describe_home(installation))
    yield run_check("configuration", lambda: describe_configuration(installation, name))
    if keeps_anything:
        yield from (found := list(_check_what_is_kept(installation)))
        has_database = all(finding.is_well for finding in found if finding.check == "database")
    yield run_check("broker", lambda: describe_broker(installation))
    if keeps_anything:
        yield check_journal(settings.journal_directory)
    try:
        environment = installation.environment(name)
    except ConfigError:
        return
    if has_database:
        yield run_check("learnt", lambda: describe_learnt(installation, environment.environment_id))
    yield run_check("hosts", lambda: " ".join(describe_hosts(installation, name)))
    access_tokens = AccessTokens(environment, deadline=min(DEADLINE, settings.call_deadline))
    yield run_check("access token", lambda: "granted" if access_tokens.get() else "")
    yield check_clock(lambda: measure_drift(environment, deadline=DEADLINE))


def _check_what_is_kept(installation: Installation) -> Iterator[Finding]:
    """Check the keys and the database, and what the database tells."""
    yield run_check("encryption keys", lambda: "usable" if installation.keyring else "")
    yield (reached := run_check("database", lambda: describe_database(installation)))
    if reached.is_well and not installation.database.is_sqlite:
        yield check_commits(installation)
    yield run_check("audit", lambda: describe_audit(installation))
    if reached.is_well:
        yield check_workers(installation)
        yield check_webhook(installation)
