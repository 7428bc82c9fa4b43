"""The command `oathbulk doctor`: which checks are made, in which order, and what becomes of their findings."""

from __future__ import annotations

from collections.abc import Iterator

import typer

from worker.cli.console import print_json
from worker.cli.doctor.display import print_findings
from worker.cli.doctor.finding import Finding, examine
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
from worker.cli.options import AsJson, EnvironmentName
from worker.config.environment import DEFAULT_ENVIRONMENT
from worker.config.settings import ConfigError
from worker.installation.installation import Installation


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
        print_findings(findings)
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
