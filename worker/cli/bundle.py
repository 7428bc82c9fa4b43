"""Writes the bundle of `oathbulk doctor --bundle`: what a maintainer needs to understand an installation that is not
theirs. A person reads it before it is sent anywhere.

It names no person and no token, and holds nothing secret. What may come from a file, a person or a tenant is left out
or masked here, whatever the rest of the program makes of it: texts are masked, codes are included only if they look
like codes, and settings only if they are a number, a switch, or one of a few words."""

import getpass
import json
import platform
import re
import socket
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from importlib.metadata import version
from itertools import chain
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

from sqlalchemy import Connection, func, select, text
from sqlalchemy.exc import SQLAlchemyError

from migrations import HEAD
from models.attempt import FAILED, AttemptLine, CallName, Outcome, PastCall
from models.batch import Batch
from models.process import WorkerProcess
from models.record import Record
from worker import __version__
from worker.cli.config import describe_environment, describe_own
from worker.config.environment import DEFAULT_ENVIRONMENT
from worker.config.settings import ConfigError
from worker.database.postgresql import OtherEncoding
from worker.database.schema import SchemaOutdated
from worker.embedded.home import EmbeddedError
from worker.installation.installation import Installation, NothingLoaded

# How many of the latest attempts are included: of those that failed, and of the others.
_MOST_FAILED, _MOST_ACTIVE = 100, 10
# Packages whose version affects what is sent, and what comes back.
_PACKAGES = ("celery", "redis", "httpx", "sqlalchemy", "alembic", "psycopg", "cryptography")
# Settings whose value is included: numbers, switches, and one of a few words.
_TOLD = frozenset(
    {
        *("PINGONE_REGION", "PINGONE_CLIENT_AUTH", "PINGONE_RATE", "PINGONE_RATE_MAX"),
        *("PINGONE_RESYNC_ON_FIRST_CALL", "PINGONE_PAIRING_STATUS", "OATHBULK_OTP_POST_BUDGET"),
        *("OATHBULK_MAX_ATTEMPTS", "OATHBULK_CONCURRENCY", "OATHBULK_DATABASE_CONNECTIONS", "OATHBULK_LOG_FORMAT"),
    }
)
# Fields of a call that are included if they look like this: a code or an id as PingOne writes them.
_UUID = r"[0-9a-fA-F]{8}-?(?:[0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}"
_OF_A_CALL = (
    ("call", re.compile("|".join(CallName))),
    ("resync", re.compile("True|False")),
    ("status", re.compile(r"[1-5]\d\d")),
    *((name, re.compile(r"[A-Z][A-Z_]{2,59}")) for name in ("code", "detail_code")),
    *((name, re.compile(_UUID)) for name in ("error_id", "correlation_id")),
    ("milliseconds", re.compile(r"\d{1,9}")),
)
# What is masked in a text, in this order, and what replaces it.
_MASKS = (
    (re.compile(r"[\w.+-]+@[\w.-]+"), "<address>"),
    (re.compile(r"\b\d{1,3}(?:\.\d{1,3}){3}\b"), "<address>"),
    (re.compile(rf"\b{_UUID}\b"), "<id>"),
    (re.compile(r"(?<![\w:/.<])/(?!/)[^\s,;:)'\"]+"), "<path>"),
    (re.compile(r"\"[^\"]*\"|(?<!\w)'[^']*'(?!\w)"), "<name>"),
    (re.compile(r"\b\w*(?:\d\w*){5}\b"), "<number>"),
)
ABOUT = (
    "What oathbulk doctor --bundle wrote for the maintainers of oathbulk. It was sent nowhere. It has versions;"
    " the settings that differ from their defaults, with the values of a few and, for the rest, only that they are set;"
    " what doctor found, with names, paths, addresses and long numbers masked; how many records have which status and"
    " reason; and the latest attempts, with the codes, times and ids of PingOne's answers, with which Ping's support"
    " can find a request. It has no OTPs, seeds, credentials, persons, serial numbers, or ids of users, devices and"
    " environments. A record's number means something only in this installation."
)


def make_bundle(installation: Installation, environment: str, checks: Iterable[Mapping[str, Any]]) -> str:
    """Write the bundle as JSON, with each entry of a list on its own line. `checks`: doctor's findings, as in its
    JSON."""
    told: dict[str, Any] = {"about": ABOUT, "versions": _list_versions(), "settings": [], "checks": []}
    with suppress(ConfigError):
        settings = (*describe_environment(installation, environment), *describe_own(installation))
        told["settings"] = [
            {"name": each.name, "value": _mask(each.value, ()) if each.name in _TOLD else "set"}
            for each in settings
            if each.source != "default"
        ]
    names = {*_list_configured_names(installation, environment), socket.gethostname(), getpass.getuser()}
    # The rest is worth sending even without a database; doctor says what is wrong with the database.
    with suppress(ConfigError, EmbeddedError, NothingLoaded, SchemaOutdated, OtherEncoding, SQLAlchemyError):
        told["versions"]["database"], told["records"], told["attempts"] = _read_history(installation, names)
    told["checks"] = [
        {name: _mask(value, names) if isinstance(value, str) else value for name, value in check.items()}
        for check in checks
    ]
    return "{\n" + ",\n".join(f'"{name}": {_write(value)}' for name, value in told.items()) + "\n}\n"


def _write(value: object) -> str:
    if not isinstance(value, list) or not value:
        return json.dumps(value, ensure_ascii=False)
    return "[\n " + ",\n ".join(json.dumps(each, ensure_ascii=False) for each in value) + "\n]"


def _list_versions() -> dict[str, str]:
    ours = {"oathbulk": __version__, "schema": HEAD, "python": platform.python_version(), "system": platform.platform()}
    return ours | {name: version(name) for name in _PACKAGES}


def _list_configured_names(installation: Installation, name: str) -> Iterator[str]:
    """List the names in the settings: this environment's, and those of hosts, files and applications."""
    settings = installation.settings
    if name != DEFAULT_ENVIRONMENT:
        yield name
    yield from (str(path) for path in (settings.home, settings.config, settings.backup_stamp) if path)
    yield from filter(None, (settings.actor, settings.audit_head))
    secret = (settings.database_url, settings.redis_url, settings.webhook_url)
    urls = [url.get_secret_value() for url in secret if url] + [*getproxies().values()]
    with suppress(ConfigError):
        environment = installation.environment(name)
        yield from (environment.client_id, environment.import_client_id, environment.environment_id)
        urls += [url for url in (environment.api_url, environment.token_url) if ".pingone." not in url]
    yield from filter(None, (urlsplit(url).hostname for url in urls))


def _read_history(installation: Installation, names: set[str]) -> tuple[str, list[Any], list[Any]]:
    """Read the version of the database's server, the counts and the attempts; add the names that are stored. Raises
    whatever `Installation.database` raises, and SQLAlchemyError."""
    with installation.database.reading_snapshot() as connection:
        names |= _list_stored_names(connection)
        server = ".".join(map(str, connection.dialect.server_version_info or ()))
        return f"{connection.dialect.name} {server}", _count_records(connection), [*_list_attempts(connection)]


def _list_stored_names(connection: Connection) -> set[str]:
    """List the names of batches, their files and environments, and the hosts of workers."""
    named = connection.execute(select(Batch.name, Batch.file, Batch.environment)).all()
    workers = connection.scalars(select(WorkerProcess.name)).all()
    return {*chain.from_iterable(named), *workers, *(worker.partition(":")[0] for worker in workers)}


def _count_records(connection: Connection) -> list[dict[str, Any]]:
    """Count the records of each batch by what became of them. A batch is identified by its number."""
    columns = (Batch.id, Batch.state, Batch.reason.label("paused_for"), Record.status, Record.reason)
    counted = select(*columns, func.count().label("records")).join(Record, Record.batch_id == Batch.id)
    rows = connection.execute(counted.group_by(*columns).order_by(*columns))
    return [{"batch": row.id} | {name: value for name, value in row._mapping.items() if name != "id"} for row in rows]


def _list_attempts(connection: Connection) -> Iterator[dict[str, Any]]:
    """List the latest attempts that failed, and a few of the others, the oldest first."""
    read = (
        select(AttemptLine.__table__, Record.otp_type)
        .join(Record, Record.id == AttemptLine.record_id)
        .order_by(AttemptLine.id.desc())
    )
    failed = connection.execute(read.where(text(FAILED)).limit(_MOST_FAILED)).all()
    others = connection.execute(read.where(AttemptLine.outcome == Outcome.ACTIVE).limit(_MOST_ACTIVE)).all()
    for row in sorted((*failed, *others), key=lambda row: row.id):
        yield {
            "record": row.record_id,
            "batch": row.batch_id,
            "otp_type": row.otp_type,
            "attempt": row.number,
            "ended_at": row.ended_at.isoformat(),
            "outcome": row.outcome,
            "reason": row.reason,
            "calls": [*map(_tell_call, row.calls or ())],
        }


def _tell_call(call: PastCall) -> dict[str, Any]:
    return {name: call[name] for name, fit in _OF_A_CALL if name in call and fit.fullmatch(str(call[name]))}


def _mask(told: str, names: Collection[str]) -> str:
    """Mask these names, and everything that may lead to a person, a token, or a machine."""
    for name in sorted(filter(None, names), key=len, reverse=True):
        told = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", "<name>", told)
    for pattern, mark in _MASKS:
        told = pattern.sub(mark, told)
    return told
