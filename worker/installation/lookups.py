"""Looks up batches and tokens as an installation keeps them: how each stands, its history, and what happens to it
next."""

from dataclasses import dataclass, replace

from models.batch import Batch
from worker.batches.finding import find_batch
from worker.embedded.home import find_run_alone
from worker.fleet import read_processes
from worker.installation.installation import Installation
from worker.reports import facts, token_history
from worker.reports.facts import BatchStatus
from worker.reports.search import SearchResult, Sought, count_others, search
from worker.reports.stall import Fleet
from worker.reports.token_history import NextStep, TokenHistory, UnknownToken, describe_next


def read_statuses(installation: Installation, batch: str | None = None) -> list[BatchStatus]:
    """Read how this batch stands, or all of them, the latest first; none where nothing was loaded yet. If the due work
    of one stands still, the broker is asked too, since that may be why. Raises UnknownBatch, NothingLoaded."""
    if batch is None and installation.is_empty:
        return []
    statuses = facts.read_statuses(installation.database, batch, installation.license_of)
    only_batch = _find_only_batch(installation)
    statuses = [replace(status, fleet=replace(status.fleet, only_batch=only_batch)) for status in statuses]
    if not any(status.still_for for status in statuses):
        return statuses
    # Not at the top: hardly any status asks a broker, and Redis' client takes a sixth of that command's start.
    from worker.installation.broker_check import find_broker_fault

    fault = find_broker_fault(installation.settings)
    return [replace(status, fleet=replace(status.fleet, broker=fault)) for status in statuses]


def read_fleet(installation: Installation, batch: str) -> Fleet:
    """Read which worker processes live, to say whether this batch is worked on. Raises UnknownBatch, NothingLoaded."""
    with installation.database.reading() as connection:
        name = find_batch(connection, batch, Batch.name, may_be_purged=True).name
        processes = read_processes(installation.database, connection)
    return Fleet(processes, batch=name, only_batch=_find_only_batch(installation))


def _find_only_batch(installation: Installation) -> str | None:
    """Find the batch on which all workers work alone: that of `run BATCH` in this home. Where the database is elsewhere
    there may be other workers, which work on all; then None."""
    settings = installation.settings
    return find_run_alone(settings.home) if settings.is_embedded_database else None


@dataclass(frozen=True, slots=True)
class Told:
    """A token that is told whole, once for each environment that has it. `others`: serial numbers that begin with its
    own, and are longer."""

    tokens: list[tuple[TokenHistory, NextStep]]
    others: int = 0


def look_up(installation: Installation, text: str, limit: int) -> Told | SearchResult:
    """Read the history of the token that `text` names, or that alone begins so; else list what begins so, `limit` of
    it at most. Raises UnknownToken, NothingLoaded."""
    try:
        tokens = read_histories(installation, text)
    except UnknownToken as unknown:
        findings = search(installation.database, Sought(text=text), limit)
        if not findings.found and not findings.refused:
            raise UnknownToken(f"nothing that is known of a token begins so: {unknown}") from unknown
        name = findings.name_only_token()
        return Told(read_histories(installation, name)) if name else findings
    return Told(tokens, count_others(installation.database, text))


def read_histories(installation: Installation, token: str) -> list[tuple[TokenHistory, NextStep]]:
    """Read the history of each token that `token` names, and say what happens next. Raises UnknownToken,
    NothingLoaded."""
    settings = installation.settings
    histories = token_history.read_histories(installation.database, token, installation.license_of)
    return [
        (each, describe_next(each, lease=settings.tuning.lease, replay_cron=settings.replay_cron)) for each in histories
    ]
