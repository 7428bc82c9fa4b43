"""The checks of `oathbulk doctor`: what each looks at, and what it says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import redis
from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError

from models.encrypted import DecryptionError
from worker.audit import NO_KEY_CURE, find_heads_place, redact_place
from worker.config.settings import ConfigError
from worker.database import revision
from worker.database.postgresql import DURABLE, READ_COMMITTED
from worker.embedded.errors import EmbeddedError
from worker.fleet.processes import read_processes
from worker.installation import broker_check
from worker.installation.installation import Installation
from worker.journal import writer
from worker.notices.delivery_report import read_deliveries
from worker.notices.webhook import redact_url
from worker.pingone.errors import PingOneError
from worker.reports.stall import Fleet, describe_sick
from worker.tenants.pairing_answer import describe_pairing_answer
from worker.tenants.resync import LEARNT, read_resync
from worker.vault.keyring import load_audit_keys

# Seconds. A TOTP step is 30 s: on a clock that is wrong by more than a few, a pair seems older or younger than it is.
LARGEST_DRIFT = 5.0
# What PostgreSQL has in force for this connection, whatever its defaults are.
_SELECT_IN_FORCE = select(
    func.current_setting("synchronous_commit"),
    func.current_setting("transaction_isolation"),
    func.current_setting("synchronous_standby_names"),
)

# Failures of a check that a person can mend; any other is a fault of our own.
_EXPECTED_FAILURES = (ConfigError, SQLAlchemyError, redis.RedisError, PingOneError, EmbeddedError, DecryptionError)


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check has found: `detail` says what is there, or what is wrong and how to mend it."""

    check: str
    is_well: bool
    detail: str


def describe_home(installation: Installation) -> str:
    home = installation.settings.home.absolute()
    return str(home) if home.exists() else f"{home}, which run, load or rehearse makes when it is needed"


def run_check(check: str, examine: Callable[[], str]) -> Finding:
    """Run one check, which returns its detail or raises what is wrong."""
    try:
        return Finding(check, True, examine())
    except revision.SchemaOutdated as error:
        return Finding(check, False, str(error))
    except _EXPECTED_FAILURES as error:
        # The first line alone: the error of a driver goes on with advice of its own.
        lines = str(error).strip().splitlines() or [type(error).__name__]
        return Finding(check, False, lines[0])


def describe_configuration(installation: Installation, name: str) -> str:
    environment = installation.environment(name)
    return (
        f"environment {environment.name} is {environment.environment_id} at {environment.api_url}, "
        f"{environment.rate:g} requests a second to begin with"
    )


def describe_database(installation: Installation) -> str:
    database = installation.database
    return f"{database.engine.dialect.name}, at revision {revision.current(database)}"


def describe_audit(installation: Installation) -> str:
    settings = installation.settings
    if settings.is_embedded_database:
        # The key file is made when the database is first opened.
        _ = installation.database
    has_key = load_audit_keys(settings) is not None
    lines = "new lines are authenticated" if has_key else f"lines are chained but not authenticated: {NO_KEY_CURE}"
    place = find_heads_place(settings)
    heads = f"heads go to {redact_place(place)}" if place else "heads go nowhere: name a place with OATHBULK_AUDIT_HEAD"
    return f"{lines}; {heads}"


def check_commits(installation: Installation) -> Finding:
    """Check that our commits are durable on PostgreSQL, whatever an administrator's defaults are, and say which
    standbys have them."""
    with installation.database.writing() as connection:
        commits, isolation, standbys = connection.execute(_SELECT_IN_FORCE).one()
    is_well = commits in DURABLE and isolation == READ_COMMITTED
    note = (
        f"synchronous standbys: {standbys}" if standbys else "no synchronous standby: a failover loses the last commits"
    )
    return Finding("commits", is_well, f"synchronous_commit is {commits}, isolation is {isolation}; {note}")


def describe_learnt(installation: Installation, environment_id: str) -> str:
    """Say what this environment has taught, and by which record."""
    with installation.database.reading() as connection:
        learnt = LEARNT[read_resync(connection, environment_id).needs]
        pairing = describe_pairing_answer(connection, environment_id)
    return f"{learnt}; {pairing}" if pairing else learnt


def describe_broker(installation: Installation) -> str:
    if installation.settings.redis_url is None:
        return "`oathbulk run` brings its own Valkey"
    return broker_check.describe_broker(installation.settings)


def check_workers(installation: Installation) -> Finding:
    """Say how many workers are at work, which take no work and why, and when the last tick came."""
    with installation.database.reading() as connection:
        fleet = Fleet(read_processes(installation.database, connection))
    if fleet.sick:
        return Finding("workers", False, f"these take no work: {describe_sick(fleet)}")
    tick = fleet.seconds_since_tick
    ticked = "no tick yet" if tick is None else f"the last tick came {tick:.0f} s ago"
    return Finding("workers", True, f"{len(fleet.alive)} at work; {ticked}" if fleet.alive else "none runs now")


def check_webhook(installation: Installation) -> Finding:
    """Say whether a webhook is told, and how the last deliveries went."""
    url = installation.settings.webhook_url
    if url is None:
        return Finding(
            "webhook", True, "none is set; OATHBULK_WEBHOOK_URL names one that is told what becomes of batches"
        )
    signed = "signed" if installation.settings.webhook_secret else "not signed: set OATHBULK_WEBHOOK_SECRET"
    with installation.database.reading() as connection:
        deliveries = read_deliveries(connection)
    return Finding("webhook", deliveries.is_well, f"{redact_url(url)}, {signed}; {deliveries}")


def check_journal(directory: Path | None) -> Finding:
    """Check that the journal can be written, and that no other user can read it."""
    if directory is None:
        note = "none is kept; OATHBULK_JOURNAL names a directory for what a restored database would not know"
        return Finding("journal", True, note)
    try:
        writer.try_to_write(directory)
        if directory.stat().st_mode & 0o077:
            return Finding("journal", False, f"{directory} is open to other users: chmod 700 {directory}")
    except OSError as error:
        return Finding("journal", False, f"{directory} cannot be written ({error.strerror}): {writer.CURE}")
    return Finding("journal", True, f"in {directory}")


def check_clock(measure: Callable[[], float]) -> Finding:
    """Compare this machine's clock with PingOne's. `measure` returns the seconds that ours is ahead."""
    try:
        ahead = measure()
    except PingOneError as error:
        return Finding("clock", False, f"PingOne does not tell the time: {error}")
    detail = f"{abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} PingOne's"
    if abs(ahead) > LARGEST_DRIFT:
        return Finding("clock", False, f"{detail}: set it, for instance with NTP")
    return Finding("clock", True, detail)
