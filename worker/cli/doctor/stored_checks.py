"""The checks of keys and database, and of what the database tells: audit, workers, ticks, batches, notices, what was
learnt."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from sqlalchemy import func, select

from migrations import HEAD
from worker import __version__
from worker.audit import NO_KEY_CURE, find_heads_file
from worker.cli.doctor.batch_checks import check_batches, read_running_statuses
from worker.cli.doctor.finding import Finding, examine, fault
from worker.database.errors import TAKES_NO_WRITES
from worker.database.postgresql import DURABLE, READ_COMMITTED
from worker.database.schema import SchemaOutdated
from worker.fleet import read_processes
from worker.installation.installation import Installation
from worker.notices.deliveries import read_deliveries
from worker.notices.webhook import redact_url
from worker.reports.stall import STILL_AFTER, Fleet, describe_sick
from worker.tenants import LEARNT, describe_pairing_answer, read_resync
from worker.vault.keys import load_audit_keys

# What PostgreSQL has in force for this connection, whatever its defaults are.
_SELECT_IN_FORCE = select(
    func.current_setting("synchronous_commit"),
    func.current_setting("transaction_isolation"),
    func.current_setting("synchronous_standby_names"),
    func.current_setting("transaction_read_only"),
)


def check_stored(installation: Installation) -> Iterator[Finding]:
    """Check keys, database, migrations, and what the database tells if it can be read."""
    keys = "put the key back, or set OATHBULK_ENCRYPTION_KEYS"
    yield examine("encryption keys", lambda: "usable" if installation.keyring else "", keys)
    url = "check OATHBULK_DATABASE_URL and the server"
    yield (reached := examine("database", lambda: _reach_database(installation), url))
    is_read = reached.is_well
    if reached.is_well:
        yield (migrated := examine("migrations", lambda: _check_migrations(installation)))
        is_read = migrated.is_well
    if is_read and not installation.database.is_sqlite:
        yield examine("commits", lambda: _check_commits(installation), url)
    yield examine("audit", lambda: _describe_audit(installation), "check OATHBULK_AUDIT_KEY and OATHBULK_AUDIT_HEAD")
    if is_read:
        yield examine("workers", lambda: check_workers(_read_fleet(installation), __version__), url)
        yield examine("beat", lambda: check_beat(_read_fleet(installation)), url)
        yield examine("batches", lambda: check_batches(read_running_statuses(installation)), url)
        yield examine("webhook", lambda: _check_webhook(installation), url)


def describe_learnt(installation: Installation, environment_id: str) -> str:
    """Say what this environment has taught, and by which record."""
    with installation.database.reading() as connection:
        learnt = LEARNT[read_resync(connection, environment_id).needs]
        pairing = describe_pairing_answer(connection, environment_id)
    return f"{learnt}; {pairing}" if pairing else learnt


def check_workers(fleet: Fleet, version: str) -> Finding:
    """Say how many workers are at work, which ended since they fail alone, and which are of another version than this
    command."""
    if fleet.sick:
        cure = "mend that; their supervisor starts them again"
        return fault("workers", f"these ended, since they fail where others do not: {describe_sick(fleet)}", cure)
    if not fleet.alive:
        return Finding("workers", "none runs now")
    if others := [each for each in fleet.alive if each.version != version]:
        named = ", ".join(f"{each.name} ({each.version or 'older'})" for each in others)
        cure = "end and start them, one by one: docs/operating.md"
        return fault("workers", f"of another version than this command, {version}: {named}", cure)
    return Finding("workers", f"{len(fleet.alive)} at work, of version {version}")


def check_beat(fleet: Fleet) -> Finding:
    """Say when the last tick came, without which no record is sent to the workers."""
    if not fleet.alive:
        return Finding("beat", "none is needed while no worker runs")
    tick = fleet.seconds_since_tick
    told = "no tick ever came" if tick is None else f"the last tick came {tick:.0f} s ago"
    # Threads that all wait for PingOne let ticks wait for as long as a call may take, and that is no fault.
    if tick is None or tick > STILL_AFTER:
        return fault("beat", told, "start celery -A worker beat, and see whether a worker takes the queue of ticks")
    if tick < 0:
        return fault("beat", "the last tick lies in the future", "set the clock of the database's server, with NTP")
    return Finding("beat", told)


def _read_fleet(installation: Installation) -> Fleet:
    with installation.database.reading() as connection:
        return Fleet(read_processes(installation.database, connection))


def _reach_database(installation: Installation) -> str:
    """Connect to the database, whatever its schema; say of which kind it is."""
    # The next check tells of that.
    with suppress(SchemaOutdated):
        _ = installation.database
    return "sqlite" if installation.settings.database.startswith("sqlite") else "postgresql"


def _check_migrations(installation: Installation) -> Finding:
    try:
        _ = installation.database
    except SchemaOutdated as error:
        detail, _, cure = str(error).partition(": ")
        return fault("migrations", detail, cure)
    return Finding("migrations", f"at revision {HEAD}, as this version needs it")


def _describe_audit(installation: Installation) -> str:
    settings = installation.settings
    if settings.is_embedded_database:
        # The key file is made when the database is first opened. Another check tells of a schema that is not ours.
        with suppress(SchemaOutdated):
            _ = installation.database
    has_key = load_audit_keys(settings) is not None
    lines = "new lines are authenticated" if has_key else f"lines are chained but not authenticated: {NO_KEY_CURE}"
    path = find_heads_file(settings)
    heads = f"heads go to {path}" if path else "heads go nowhere: name a file with OATHBULK_AUDIT_HEAD"
    return f"{lines}; {heads}"


def _check_commits(installation: Installation) -> Finding:
    """Check that our commits are durable on PostgreSQL, whatever an administrator's defaults are, and say which
    standbys have them."""
    with installation.database.writing() as connection:
        commits, isolation, standbys, is_read_only = connection.execute(_SELECT_IN_FORCE).one()
    note = (
        f"synchronous standbys: {standbys}" if standbys else "no synchronous standby: a failover loses the last commits"
    )
    if is_read_only == "on":
        return fault("commits", TAKES_NO_WRITES.fault, TAKES_NO_WRITES.cure)
    detail = f"synchronous_commit is {commits}, isolation is {isolation}; {note}"
    if commits in DURABLE and isolation == READ_COMMITTED:
        return Finding("commits", detail)
    return fault("commits", detail, "leave both to oathbulk: take them out of the URL (docs/deployment.md)")


def _check_webhook(installation: Installation) -> Finding:
    """Say whether a webhook is told, and how the last deliveries went."""
    url = installation.settings.webhook_url
    if url is None:
        return Finding("webhook", "none is set; OATHBULK_WEBHOOK_URL names one that is told what becomes of batches")
    signed = "signed" if installation.settings.webhook_secret else "not signed: set OATHBULK_WEBHOOK_SECRET"
    with installation.database.reading() as connection:
        deliveries = read_deliveries(connection)
    detail = f"{redact_url(url)}, {signed}; {deliveries}"
    if deliveries.is_well:
        return Finding("webhook", detail)
    return fault("webhook", detail, "see whether the URL is right and its server takes the notices")
