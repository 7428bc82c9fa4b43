"""`oathbulk doctor`: checks whether everything that a run needs is there and works. Each check returns its outcome or
raises an error, and none can hold up the others. The command shows a line for each check, with the cure below it, and a
summary at the end."""

import os
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import redis
import typer
from pydantic import SecretStr
from rich.console import Group
from sqlalchemy import func, select
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from migrations import HEAD
from models.batch import BatchState
from models.encrypted import DecryptionError, identify_row
from models.record import Record
from worker import __version__, audit
from worker.cli.bundle import make_bundle
from worker.cli.console import console, error_console, label_text, measure_room, print_json
from worker.cli.exit_codes import ALL_ACTIVE, UNUSABLE_SETUP
from worker.cli.failures import explain_server
from worker.cli.homes import describe_empty_home, describe_hosts, print_unread_env_file
from worker.cli.options import AsJson, EnvironmentName, Overwrite
from worker.cli.output_files import STDOUT, refuse_unfit, write_output
from worker.config.environment import DEFAULT_ENVIRONMENT, Environment
from worker.config.settings import DATABASE, ConfigError, Settings
from worker.database.errors import TAKES_NO_WRITES, explain
from worker.database.postgresql import DURABLE, READ_COMMITTED, OtherEncoding
from worker.database.schema import SchemaOutdated
from worker.embedded.home import FREE_SPACE, EmbeddedError
from worker.fleet import read_processes
from worker.installation.broker_check import describe_broker
from worker.installation.installation import Installation, read_statuses
from worker.notices import explain_losses
from worker.observability.wording import agree, count_things, format_duration
from worker.pingone.auth import AccessTokens
from worker.pingone.diagnosis import RoleReads, measure_drift, reach_proxy, read_certificate_end
from worker.pingone.errors import CredentialsRefused, Forbidden, NotDelivered, PingOneError
from worker.pingone.transport import read_authorities
from worker.reports.facts import BatchStatus
from worker.reports.stall import DROPPED_CURE, STILL_AFTER, Fleet, describe_dropped, describe_sick
from worker.tenants import LEARNED, describe_pairing_answer, read_resync

# Seconds after which a check is abandoned: longer than connecting to PostgreSQL may take, and enough for four calls to
# PingOne.
LONGEST_CHECK = 20.0
# Seconds for one call to PingOne, since a person waits for it.
DEADLINE = 5.0
# Bytes that should be free: room for a large batch and the logs.
SPARE_BYTES = 500 * 1000 * 1000
# Seconds after which a backup is too old: one a day, plus two hours to make it.
LONGEST_WITHOUT_BACKUP = 26 * 60 * 60.0
# Seconds. A TOTP step is 30 s: on a clock that is wrong by more than a few, a pair seems older or younger than it is.
LARGEST_DRIFT = 5.0
# A certificate that expires sooner should have been replaced by now.
SHORTEST_CERTIFICATE = timedelta(days=7)
# The cure if the fault says it all.
ASK_AGAIN = "fix that, and check again"
# Failures of a check that a person can fix; any other is our own fault.
_EXPECTED_FAILURES = (
    ConfigError,
    SQLAlchemyError,
    redis.RedisError,
    PingOneError,
    EmbeddedError,
    DecryptionError,
    OSError,
)
# PostgreSQL's effective values for this connection, whatever its defaults are.
_SELECT_IN_FORCE = select(
    func.current_setting("synchronous_commit"),
    func.current_setting("transaction_isolation"),
    func.current_setting("synchronous_standby_names"),
    func.current_setting("transaction_read_only"),
)


class State(StrEnum):
    """The result of a check, from good to bad."""

    WELL = "well"
    # The check could not be made; that is not a failure.
    NOT_KNOWN = "not_known"
    FAULT = "fault"


_MARKS = {State.WELL: "✓", State.FAULT: "✗", State.NOT_KNOWN: "?"}
# The label in front of each detail is dim, which the detail's style has to undo.
_STYLES = {State.WELL: "not dim", State.FAULT: "not dim red", State.NOT_KNOWN: "not dim yellow"}


@dataclass(frozen=True, slots=True)
class CheckOutcome:
    """What a check has found: `detail` says what was found, what is wrong, or why that is unknown; `cure` what to do
    about it, if anything."""

    detail: str
    state: State = State.WELL
    cure: str = ""

    @property
    def is_well(self) -> bool:
        """Whether nothing is wrong, as far as is known."""
        return self.state is not State.FAULT

    def to_json(self) -> dict[str, Any]:
        return {"is_well": self.is_well, "state": self.state, "detail": self.detail, "cure": self.cure or None}


def fault(detail: str, cure: str) -> CheckOutcome:
    """Make the outcome of a check that found something wrong, with its cure."""
    return CheckOutcome(detail, State.FAULT, cure)


def not_known(why: str, cure: str = "") -> CheckOutcome:
    """Make the outcome of a check that could not be made; `cure` says what would make it possible."""
    return CheckOutcome(f"not known: {why}", State.NOT_KNOWN, cure)


def doctor(
    environment: EnvironmentName = DEFAULT_ENVIRONMENT,
    bundle: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write and show diagnostics for a maintainer: no secrets, people, or serial numbers. Sends nothing.",
        ),
    ] = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Check everything a run needs, and say how to fix what is wrong: settings, keys, disk, database, workers, broker,
    proxy, TLS, access token, roles, clock, backup."""
    if bundle is not None:
        refuse_unfit(bundle, overwrite=overwrite)
    installation = Installation()
    print_unread_env_file(installation)
    findings = dict(_run_checks(installation, environment))
    is_well = all(finding.is_well for finding in findings.values())
    checks = [{"check": check} | finding.to_json() for check, finding in findings.items()]
    if as_json:
        print_json({"is_well": is_well, "checks": checks})
    elif bundle != STDOUT:
        _print_findings(findings)
    if bundle is not None:
        _write_bundle(bundle, make_bundle(installation, environment, checks), shows=not as_json)
    raise typer.Exit(ALL_ACTIVE if is_well else UNUSABLE_SETUP)


def _write_bundle(bundle: Path, written: str, *, shows: bool) -> None:
    """Write the bundle, show it, and say that it went nowhere else."""
    write_output(bundle, lambda file: file.write(written))
    if bundle == STDOUT:
        return
    if shows:
        console.print(written, soft_wrap=True, markup=False, highlight=False)
    error_console.print(
        f"{bundle} holds {'these lines' if shows else 'what a maintainer needs'}. Nothing was sent: read it, and send"
        " it yourself.",
        soft_wrap=True,
    )


def _run_checks(installation: Installation, name: str) -> Iterator[tuple[str, CheckOutcome]]:
    """Make all checks, in this order; those that need the database or the environment are skipped if it cannot be
    used."""
    settings, is_read = installation.settings, False
    yield "home", examine(lambda: check_home(installation))
    yield "configuration", examine(lambda: _check_configuration(installation, name), "`oathbulk config` lists each")
    if not installation.is_empty:
        url = _write_database_cure(settings)
        database = examine(lambda: _check_database(installation), url)
        is_read = database.is_well
        yield "keys", examine(lambda: check_keys(installation, opens=is_read))
        yield "database", database
        yield "audit", examine(lambda: _check_audit(installation, reads=is_read), "check OATHBULK_AUDIT_HEAD")
        if is_read:
            yield "workers", examine(lambda: check_workers(_read_fleet(installation), __version__), url)
            yield "batches", examine(lambda: check_batches(read_statuses(installation)), url)
            if (webhook := settings.webhook_url) is not None:
                yield "webhook", examine(lambda: _check_webhook(installation, webhook), url)
        yield "backup", examine(lambda: check_backup(settings.backup_stamp))
    cure = "check OATHBULK_REDIS_URL and the server"
    yield "broker", examine(lambda: CheckOutcome(describe_broker(settings)), cure)
    try:
        environment = installation.environment(name)
    except ConfigError:
        return
    if is_read:
        yield "learned", examine(lambda: _describe_learned(installation, environment.environment_id))
    way = "check SSL_CERT_FILE, SSL_CERT_DIR, HTTPS_PROXY and NO_PROXY"
    yield "network", examine(lambda: check_network(environment), way)
    granted = dict[str, str]()
    yield "access token", examine(lambda: _ask_for_access(environment, granted))
    yield "roles", examine(lambda: _check_roles(environment, granted))
    yield "clock", examine(lambda: check_clock(lambda: measure_drift(environment, deadline=DEADLINE)))


def _write_database_cure(settings: Settings) -> str:
    """Say what to check if the database does not answer: the program that holds SQLite's file, or the server."""
    url = settings.database_url.get_secret_value() if settings.database_url else ""
    if url and not url.startswith("sqlite:"):
        return "check OATHBULK_DATABASE_URL and the server"
    file = url.removeprefix("sqlite:///") or settings.home / DATABASE
    return f"another program may hold {file}: find out which, such as with fuser, and wait until it ends, or end it"


def examine(look: Callable[[], CheckOutcome], cure: str = ASK_AGAIN, *, longest: float = LONGEST_CHECK) -> CheckOutcome:
    """Make one check: `look` returns its outcome or raises an error, within `longest` seconds. `cure` is the cure for
    an error and for a time-out."""
    results: list[CheckOutcome | Exception] = []

    def look_and_keep() -> None:
        try:
            results.append(look())
        except Exception as error:
            results.append(error)

    # A daemon, so that the command ends even if the check never does.
    thread = threading.Thread(target=look_and_keep, daemon=True)
    thread.start()
    thread.join(longest)
    if not results:
        return fault(f"no answer within {longest:g} s", cure)
    result = results[0]
    return _explain(result, cure) if isinstance(result, Exception) else result


def _explain(error: Exception, cure: str) -> CheckOutcome:
    """Make the outcome for a failure that a person can fix; raise any other failure."""
    if isinstance(error, DBAPIError):
        explanation = explain(error)
        return fault(explanation.fault, explanation.cure)
    if isinstance(error, EmbeddedError | OtherEncoding | SchemaOutdated):
        detail, _, own_cure = str(error).partition(": ")
        return fault(detail, own_cure or cure)
    if not isinstance(error, _EXPECTED_FAILURES):
        raise error
    # Only the first line: a driver's error continues with its own advice.
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return fault(lines[0], cure)


def _print_findings(findings: Mapping[str, CheckOutcome]) -> None:
    """Print all findings, in their order; in a pipe, each finding stays on one line."""
    room, width = measure_room(console), max(map(len, findings)) + 4
    for check, finding in findings.items():
        label = f"{_MARKS[finding.state]} {check}"
        lines = label_text(label, finding.detail, room, width=width, style=_STYLES[finding.state])
        if finding.cure:
            lines += label_text("", f"→ {finding.cure}", room, width=width, style="not dim bold")
        console.print(Group(*lines))
    counts = Counter(finding.state for finding in findings.values())
    faults, unknown = counts[State.FAULT], counts[State.NOT_KNOWN]
    result = f"{faults} of {count_things(len(findings), 'check')} found a fault" if faults else "Everything is fine"
    of_all = "" if faults else f" of {len(findings)} checks"
    console.print(f"{result}; {unknown}{of_all} could not be made." if unknown else f"{result}.")


def check_home(installation: Installation) -> CheckOutcome:
    """Name the home, and check that it is closed to other users and that its disk has room."""
    home = installation.settings.home.absolute()
    if installation.has_home and home.stat().st_mode & 0o077:
        return fault(f"{home} is open to other users", f"chmod 700 {home}")
    place = next(path for path in (home, *home.parents) if path.exists())
    free = shutil.disk_usage(place).free
    named = describe_empty_home(installation, "doctor") if installation.is_empty else home
    detail = f"{free / 1e9:.1f} GB free in {named}"
    return CheckOutcome(detail) if free >= SPARE_BYTES else fault(detail, FREE_SPACE)


def check_keys(installation: Installation, *, opens: bool) -> CheckOutcome:
    """Check that the encryption keys work; with `opens`, also that each key decrypts what it encrypted last. Raises
    ConfigError if others can read them, DecryptionError, EmbeddedError."""
    keyring = installation.keyring
    if opens:
        key_id = func.substr(Record.otps, 1, len(keyring.sealing_id))
        last = select(func.max(Record.id)).where(Record.otps.is_not(None)).group_by(key_id)
        with installation.database.reading() as connection:
            stored = connection.execute(
                select(Record.otps, Record.batch_id, Record.row_number).where(Record.id.in_(last))
            )
            for otps, batch_id, row_number in stored:
                keyring.open(otps or b"", identify_row(batch_id, row_number))
    return CheckOutcome("the encryption keys work")


def _check_configuration(installation: Installation, name: str) -> CheckOutcome:
    """Say which environment this is, and which hosts get the client secret and OTPs. Raises ConfigError."""
    environment = installation.environment(name)
    requests = (
        f"environment {name} is {environment.environment_id}, {environment.rate:g} requests a second to begin with."
    )
    return CheckOutcome(" ".join([requests, *describe_hosts(installation, name)]))


def _check_database(installation: Installation) -> CheckOutcome:
    """Check that the database answers and has this version's schema; on PostgreSQL, also that commits are durable,
    whatever an administrator's defaults are; on SQLite, also that the file is not damaged. Raises DBAPIError,
    OtherEncoding, SchemaOutdated."""
    database = installation.database
    if database.is_sqlite:
        with database.reading() as connection:
            damage = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar()
        if damage != "ok":
            return fault(f"the file is damaged: {damage}", "restore a backup (docs/operating.md, After a restore)")
        return CheckOutcome(f"sqlite, at revision {HEAD}")
    with database.writing() as connection:
        commits, isolation, standbys, is_read_only = connection.execute(_SELECT_IN_FORCE).one()
    if is_read_only == "on":
        return fault(TAKES_NO_WRITES.fault, TAKES_NO_WRITES.cure)
    note = (
        f"synchronous standbys: {standbys}" if standbys else "no synchronous standby: a failover loses the last commits"
    )
    detail = f"postgresql, at revision {HEAD}; synchronous_commit is {commits}, isolation is {isolation}; {note}"
    if commits in DURABLE and isolation == READ_COMMITTED:
        return CheckOutcome(detail)
    return fault(detail, "leave both to oathbulk: remove them from the URL (docs/deployment.md)")


def _check_audit(installation: Installation, *, reads: bool) -> CheckOutcome:
    """Say where the audit's heads are noted; with `reads`, also check its chain of hashes, and that it has these
    heads."""
    path = audit.find_heads_file(installation.settings)
    if path and not _can_append(path):
        return fault(f"heads cannot be saved in {path}", "fix that, or set OATHBULK_AUDIT_HEAD to another file")
    if reads:
        with installation.database.reading_snapshot() as connection:
            broken = audit.check(connection).broken
            missing = audit.find_missing(connection, audit.read_noted_heads(path) if path and path.exists() else [])
        if broken:
            return fault(f"line {broken.line}: {broken.why}", "see `oathbulk audit`")
        if missing:
            number = count_things(len(missing), "head")
            return fault(
                f"{number} saved in {path} {agree(len(missing), 'is', 'are')} not in the audit: the database is "
                f"older than they are, or was created again ({missing[0].why})",
                "if you restored a backup, take the lines of these heads out of that file; otherwise restore the latest"
                " backup, then: oathbulk db restored (docs/operating.md, After a restore)",
            )
    heads = f"heads are saved in {path}" if path else "heads are not saved: name a file in OATHBULK_AUDIT_HEAD"
    return CheckOutcome(f"lines are chained; {heads}" if reads else heads)


def _can_append(path: Path) -> bool:
    """Whether a line can be appended to the file, or the file can be created."""
    if not os.path.lexists(path):
        return path.parent.is_dir() and os.access(path.parent, os.W_OK)
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK))
    except OSError:
        return False
    return True


def _read_fleet(installation: Installation) -> Fleet:
    with installation.database.reading() as connection:
        return Fleet(read_processes(installation.database, connection))


def check_workers(fleet: Fleet, version: str) -> CheckOutcome:
    """Say how many workers run, and when the last tick came: without ticks, they get no records. Name those that shut
    down because they failed where others did not, and those whose version is not this command's."""
    if fleet.sick:
        cure = "fix that; their supervisor starts them again"
        return fault(f"these shut down, because they failed where others did not: {describe_sick(fleet)}", cure)
    if not fleet.alive:
        return CheckOutcome("none is running")
    if others := [each for each in fleet.alive if each.version != version]:
        named = ", ".join(f"{each.name} ({each.version or 'older'})" for each in others)
        cure = "restart them, one by one: docs/operating.md"
        return fault(f"not this command's version, {version}: {named}", cure)
    tick = fleet.seconds_since_tick
    if tick is None and fleet.has_just_started:
        return CheckOutcome(
            f"{len(fleet.alive)} running, version {version}; the fleet just started, so no tick has arrived yet"
        )
    last_tick = "no tick has ever arrived" if tick is None else f"the last tick arrived {tick:.0f} s ago"
    # If all threads wait for PingOne, ticks are late by as long as a call may take, which is not a fault.
    if tick is None or tick > STILL_AFTER:
        return fault(last_tick, "start celery -A worker beat, and check whether a worker takes the queue of ticks")
    if tick < 0:
        return fault("the last tick is in the future", "set the clock of the database's server, with NTP")
    if dropped := describe_dropped(fleet):
        return fault(dropped, DROPPED_CURE)
    return CheckOutcome(f"{len(fleet.alive)} running, version {version}; {last_tick}")


def check_batches(statuses: Sequence[BatchStatus]) -> CheckOutcome:
    """Name each running batch whose due work does not move, with the reason and the fix, as `oathbulk status` does."""
    running = [status for status in statuses if status.state == BatchState.RUNNING]
    if not running:
        return CheckOutcome("none has due work")
    stalled = [(status, stall) for status in running if (stall := status.stall)]
    if not stalled:
        return CheckOutcome(f"work left in {', '.join(status.name for status in running)}; none is stuck")
    details = [
        f"{status.name}: nothing has moved for {format_duration(status.standstill)}. {stall.detail}"
        for status, stall in stalled
    ]
    # Batches are often stuck for the same reason, so each cure is named once.
    cures = dict.fromkeys(stall.cure for _, stall in stalled)
    return fault(" ".join(details), " ".join(cures))


def _check_webhook(installation: Installation, url: SecretStr) -> CheckOutcome:
    """Say which webhook gets notices, and whether it accepted the last ones."""
    signed = "signed" if installation.settings.webhook_secret else "not signed: OATHBULK_WEBHOOK_SECRET is not set here"
    with installation.database.reading() as connection:
        losses = explain_losses(connection)
    # The path of the URL may be a secret.
    detail = "{0.scheme}://{0.netloc}, {1}".format(urlsplit(url.get_secret_value()), signed)
    if losses is None:
        return CheckOutcome(detail)
    return fault(f"{detail}; {losses}", "check the URL, and whether its server takes the notices")


def check_backup(stamp: Path | None) -> CheckOutcome:
    """Report the age of the last backup, by the file that it touches."""
    if stamp is None:
        cure = "have your backup touch a file when it is done, and name that file in OATHBULK_BACKUP_STAMP"
        return not_known("no setting says where to look", cure)
    try:
        age = time.time() - stamp.stat().st_mtime
    except OSError as error:
        return fault(f"{stamp} cannot be read ({error.strerror})", "check whether a backup has ever been made")
    detail = f"the last one was made {format_duration(max(age, 0.0))} ago"
    if age > LONGEST_WITHOUT_BACKUP:
        return fault(detail, "make one: a restored database does not know what has been sent since its backup")
    return CheckOutcome(detail)


def _describe_learned(installation: Installation, environment_id: str) -> CheckOutcome:
    """Say what has been learned about this environment, and from which record."""
    with installation.database.reading() as connection:
        learned = LEARNED[read_resync(connection, environment_id).needs]
        pairing = describe_pairing_answer(connection, environment_id)
    return CheckOutcome(f"{learned}; {pairing}" if pairing else learned)


def check_network(environment: Environment) -> CheckOutcome:
    """Check the way to PingOne: whether the proxy, if there is one, is reachable; with which authorities PingOne's
    certificates are verified, and when they expire. Raises ConfigError."""
    read_authorities()
    try:
        proxy = reach_proxy(environment.api_url, deadline=DEADLINE)
    except NotDelivered as error:
        return fault(f"the proxy cannot be reached: {error}", "check HTTPS_PROXY, NO_PROXY and that server")
    route = f"through the proxy {proxy}, which can be reached" if proxy else "without a proxy"
    urls = {urlsplit(url).netloc: url for url in (environment.api_url, environment.token_url)}
    if all(url.startswith("http://") for url in urls.values()):
        return CheckOutcome(f"{route}, and without TLS: PingOne is simulated on this machine")
    named = os.environ.get("SSL_CERT_FILE") or os.environ.get("SSL_CERT_DIR")
    route += f"; certificates are verified with the authorities of {named or 'the package certifi'}"
    try:
        ends = {host: end for host, url in urls.items() if (end := read_certificate_end(url, deadline=DEADLINE))}
    except NotDelivered as error:
        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            cure = "if a proxy shows certificates of its own, name its authority with SSL_CERT_FILE"
            return fault(f"{route}; refused: {error}", cure)
        return not_known(f"{route}; PingOne's cannot be read: {error}")
    detail = f"{route}; " + ", ".join(f"{host}'s is valid until {end:%Y-%m-%d}" for host, end in ends.items())
    if min(ends.values()) - datetime.now(UTC) < SHORTEST_CERTIFICATE:
        return fault(detail, "ask the operator of that server or proxy to replace it")
    return CheckOutcome(detail)


def _ask_for_access(environment: Environment, granted: dict[str, str]) -> CheckOutcome:
    """Request an access token for each worker application, and put it into `granted` by the application's id, for the
    reads that follow."""
    applications = {each.client_id: each for each in (environment, environment.as_importer())}
    for client_id, application in applications.items():
        try:
            granted[client_id] = AccessTokens(application, deadline=DEADLINE).get()
        except (CredentialsRefused, NotDelivered) as error:
            explanation = explain_server(error)
            return fault(f"{client_id}: {explanation.fault}", explanation.cure)
    grants = [f"granted to {each.client_id}, authenticated by {each.client_auth}" for each in applications.values()]
    return CheckOutcome("; ".join(grants))


def _check_roles(environment: Environment, granted: Mapping[str, str]) -> CheckOutcome:
    """Check for each kind of call whether the worker application has the role that it needs."""
    if not granted:
        return not_known("there is no access token")
    importer = environment.as_importer()
    findings = [
        _check_role(kind, importer if kind is INVENTORY else environment, granted)
        for kind in (PEOPLE, INVENTORY, POLICIES)
    ]
    cures = filter(None, dict.fromkeys(each.cure for each in findings))
    worst = max((each.state for each in findings), key=list(State).index)
    return CheckOutcome("; ".join(each.detail for each in findings), worst, "; ".join(cures))


@dataclass(frozen=True, slots=True)
class CallKind:
    """A kind of call: the role that it needs, and a read that needs the same role."""

    calls: str
    read: Callable[[RoleReads], object]
    role: str
    # What is impossible without the role, including the verb; empty if nothing at all can be activated without it.
    lacking: str = ""
    # A word in the ids of the role's permissions, to find the role in PingOne's list of roles.
    permission: str = ""


def _read_people(reads: RoleReads) -> None:
    """Read a user, and that user's devices, if there is one."""
    if user_id := reads.read_user():
        reads.read_devices(user_id)


PEOPLE = CallKind("users and devices", _read_people, "Identity Data Admin")
INVENTORY = CallKind(
    "inventory",
    RoleReads.read_inventory,
    "Environment Admin",
    "--import and reading the inventory are",
    "oathToken",
)
POLICIES = CallKind("MFA policies", RoleReads.read_policies, "Configuration Read Only", "checking the MFA policy is")


def _check_role(kind: CallKind, application: Environment, granted: Mapping[str, str]) -> CheckOutcome:
    """Make the read of one kind of call, and if it is forbidden, name the missing role: from PingOne's list of roles,
    or else the role that `kind` names."""
    if (access_token := granted.get(application.client_id)) is None:
        return not_known(f"{kind.calls}, because there is no access token")
    with closing(RoleReads(application, access_token, deadline=DEADLINE)) as reads:
        try:
            kind.read(reads)
        except Forbidden as error:
            found = reads.find_roles(kind.permission) if kind.permission else []
            role = " or ".join(found) or kind.role
            detail = f"{kind.calls} forbidden, the role {role} is missing ({error})"
            cure = f"give the worker application the role {role} in this environment"
            if kind.permission and not found:
                # PingOne does not publish which role this is.
                detail = f"{kind.calls} forbidden ({error})"
                cure = f"PingOne does not say which role permits it. Try {kind.role}, in this environment"
            if not kind.lacking:
                return fault(detail, cure)
            return CheckOutcome(f"{detail}: without it, {kind.lacking} impossible", State.NOT_KNOWN, cure)
        except PingOneError as error:
            return not_known(f"{kind.calls}: {error}")
    return CheckOutcome(f"{kind.calls} permitted")


def check_clock(measure: Callable[[], float]) -> CheckOutcome:
    """Compare this machine's clock with PingOne's. `measure` returns by how many seconds ours is ahead."""
    try:
        ahead = measure()
    except PingOneError as error:
        return not_known(f"PingOne's time could not be read: {error}")
    detail = f"{abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} PingOne's"
    if abs(ahead) > LARGEST_DRIFT:
        return fault(detail, "set this machine's clock, for example with NTP")
    return CheckOutcome(detail)
