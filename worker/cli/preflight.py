"""The preflight as the commands run it: the files and the database first, then PingOne as far as it can be asked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import TemporaryDirectory

import redis

from worker.batches.mending import read_mended_batch
from worker.cli.failures import explain_server_failure
from worker.cli.hosts import print_hosts
from worker.cli.loaded_files import find_loaded_as
from worker.cli.own_redis import settings_with_redis
from worker.config.environment import Environment
from worker.config.settings import ConfigError
from worker.embedded.errors import EmbeddedError
from worker.embedded.home import HomeInUse
from worker.installation.installation import Installation
from worker.intake import Shipment, Switches
from worker.observability.progress import OnProgress, tell_nobody
from worker.pace.errors import SlotTooFar
from worker.pingone.auth import AccessTokens
from worker.pingone.diagnosis import measure_drift
from worker.pingone.errors import CredentialsRefused, NotDelivered
from worker.pingone.wire import is_from_pingone
from worker.preflight.files import RowReader, check_shipment, note_loaded, reading_without_records
from worker.preflight.findings import NotPingOne, Report
from worker.preflight.tenant import TenantCheck
from worker.process.parts import Parts
from worker.rules.resync import ResyncKnowledge
from worker.tenants import read_resync

# Requests a second with which a batch begins where no environment is configured.
USUAL_RATE: float = Environment.model_fields["rate"].default

# Why PingOne cannot be asked from here, while workers elsewhere may well reach it.
_OUT_OF_REACH = (CredentialsRefused, NotDelivered, redis.RedisError, EmbeddedError, HomeInUse, SlotTooFar)


def run_preflight(
    installation: Installation,
    shipment: Shipment,
    name: str,
    *,
    offline: bool,
    needs_pingone: bool = False,
    mends: str | None = None,
    on_progress: OnProgress = tell_nobody,
) -> Report:
    """Find what can be known of a shipment for the environment of this name. `offline`: PingOne is asked nothing. If it
    cannot be asked, nothing of it is known; with `needs_pingone` that is raised. `mends`: the name of the batch to
    which its rows belong.

    Raises UnusableFile, ConfigError, SchemaOutdated, EmbeddedError, NotPingOne."""
    environment = _find_environment(installation, name, offline=offline)
    rate = environment.rate if environment else USUAL_RATE
    with _reading_rows(installation, environment, shipment, mends) as (reader, known):
        report = check_shipment(shipment, reader, installation.settings, rate, on_progress)
    if environment is not None and not mends and (loaded := find_loaded_as(installation, shipment, name)):
        report.batch, report.findings = loaded.name, [note_loaded(loaded)]
    elif environment is None:
        report.unknown.append("the database and PingOne: no environment is configured here")
    elif not offline and report.verdicts.good:
        try:
            _ask_pingone(installation, environment, report, known, shipment.switches, on_progress)
        except _OUT_OF_REACH as failure:
            if needs_pingone:
                raise
            report.is_complete = False
            report.unknown.append(f"what PingOne would tell: {_explain(failure)}")
    return report


def _find_environment(installation: Installation, name: str, *, offline: bool) -> Environment | None:
    """Find the environment of this name; where PingOne is asked nothing, it need not be configured. Raises
    ConfigError."""
    try:
        return installation.environment(name)
    except ConfigError:
        if offline:
            return None
        raise


@contextmanager
def _reading_rows(
    installation: Installation, environment: Environment | None, shipment: Shipment, mends: str | None
) -> Iterator[tuple[RowReader, ResyncKnowledge]]:
    """Yield a reader of rows, and what the environment has taught. A database in the home that is not there yet is not
    made for it."""
    if environment is None or installation.is_empty:
        with reading_without_records() as reader:
            yield reader, ResyncKnowledge()
        return
    with installation.database.reading() as connection:
        batch = read_mended_batch(connection, mends, shipment) if mends else None
        reader = RowReader(connection, installation.keyring, environment.environment_id, batch)
        yield reader, read_resync(connection, environment.environment_id)


def _ask_pingone(
    installation: Installation,
    environment: Environment,
    report: Report,
    known: ResyncKnowledge,
    switches: Switches,
    on_progress: OnProgress,
) -> None:
    """Add to the report what PingOne tells. Raises one of _OUT_OF_REACH, and NotPingOne."""
    print_hosts(installation, environment.name)
    deadline = installation.settings.tuning.call_deadline
    # Before a Redis is started, and once, so that wrong credentials are one failure.
    try:
        AccessTokens(environment, deadline=deadline).get()
    except CredentialsRefused as refusal:
        if refusal.answer.code or is_from_pingone(refusal.answer):
            raise
        # No token endpoint refuses without a code (RFC 6749, section 5.2).
        raise NotPingOne(f"PINGONE_TOKEN_URL={environment.token_url}", refusal) from refusal
    with _home_to_ask_from(installation) as asking_from, settings_with_redis(asking_from) as settings:
        # The pace remembers in it what the fleet has found before.
        _ = asking_from.database
        parts = Parts(settings, installation.environment)
        parts.redis.ping()
        asking = TenantCheck(parts.clients.reads(environment), environment, settings, switches, on_progress)
        asking.add_to(report, known, lambda: measure_drift(environment, deadline=deadline))


@contextmanager
def _home_to_ask_from(installation: Installation) -> Iterator[Installation]:
    """Yield an installation with a home. Where there is none yet, and the command makes none, its place is taken by an
    empty one that is removed afterwards."""
    if installation.makes_home or not installation.is_empty:
        yield installation
        return
    with TemporaryDirectory(prefix="oathbulk-check-") as home:
        yield Installation(installation.variables | {"OATHBULK_HOME": home}, makes_home=True)


def _explain(failure: Exception) -> str:
    """Say why PingOne cannot be asked, and what to check."""
    if isinstance(failure, CredentialsRefused | NotDelivered | redis.RedisError):
        return explain_server_failure(failure)
    return str(failure)
