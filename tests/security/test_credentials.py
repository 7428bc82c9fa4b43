"""What programs print: no credential and no OTP where they talk unasked (tracebacks, Celery's own commands, the echo of
SQLAlchemy, a crash); and no text from outside that steers a terminal or feigns a line of a log. And what they send: no
byte of a password to a database or broker that cannot prove who it is.

What a whole run leaves behind is searched in acceptance/test_no_secret.py.
"""

import io
import json
import logging
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import redis
from rich.table import Table
from rich.text import Text
from sqlalchemy import text, update
from sqlalchemy.exc import DBAPIError
from support.data.batches import ENVIRONMENT_ID, TESTER, Made, enqueue, make_batch, make_environment
from support.data.moving_clock import MovingDatabase
from support.data.tokens import make_tokens, write_shipment
from support.judges.secret_search import Secrets
from support.processes.command_desk import CommandDesk
from support.processes.scripts import run_on_a_terminal, run_piped
from support.servers.postgres import PostgresServer
from support.servers.tls_server import TlsServer, make_certificate

from models.audit import Action
from models.encrypted import Keyring, generate_key, identify_row
from models.record import Record
from worker import audit
from worker.audit import Actor
from worker.batches.loading import Loader
from worker.cli.console import console, print_json
from worker.config.sources import load_settings
from worker.database.engine import Database
from worker.intake.shipment import open_shipment
from worker.leases.lease import Leases
from worker.observability.wording import escape, escape_line
from worker.process.parts import Parts
from worker.reports.export import export

CLIENT_SECRET = "made-up-client-secret-that-is-long"
PINGONE = {
    "PINGONE_ENVIRONMENT_ID": ENVIRONMENT_ID,
    "PINGONE_CLIENT_ID": "client",
    "PINGONE_CLIENT_SECRET": CLIENT_SECRET,
}


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[CommandDesk]:
    with CommandDesk(tmp_path / "desk", PINGONE) as desk:
        yield desk


def spoil(home: Path, plaintext: bytes) -> None:
    """Every record of the home holds this, properly sealed: what reads it fails with it among its locals."""
    keyring = Keyring([(home / "encryption.key").read_text().strip()])
    with closing(Database(f"sqlite:///{home / 'oathbulk.db'}")) as database, database.writing() as connection:
        for record in connection.execute(text("SELECT id, batch_id, row_number FROM record")).all():
            sealed = keyring.seal(plaintext, identify_row(record.batch_id, record.row_number))
            connection.execute(update(Record).where(Record.id == record.id).values(otps=sealed))


def test_a_traceback_of_a_command_shows_no_local_on_a_terminal_or_elsewhere(desk: CommandDesk) -> None:
    """typer and rich would print them."""
    write_shipment(desk.folder / "shipment.csv", make_tokens(1))
    assert desk.oathbulk("load", "shipment.csv").code == 0
    spoil(desk.home, b'{"otp1": "52817394x", "otp2": null}')
    result = desk.oathbulk("export", "shipment", "-o", "out.csv", "--with-otps")
    terminal = desk.start_on_terminal("export", "shipment", "-o", "out.csv", "--with-otps")
    terminal.wait()
    searched = ("an OTP has 6 or 8 digits", "Traceback", "52817394", CLIENT_SECRET)
    for told in (result.stderr, terminal.read()):
        assert [each in told for each in searched] == [True, True, False, False]
    assert not (desk.folder / "out.csv").exists()


CRASH = """
import faulthandler
from worker.vault.otps import Otp, OtpPair
from worker.pingone.wire import Request

def activate(otp, secret):
    pair, request = OtpPair(otp, None), Request("POST", "https://api", {"Authorization": secret}, otp.reveal().encode())
    faulthandler.dump_traceback()
    raise RuntimeError(f"{otp} {pair} {request}")

activate(Otp("5281" + "7394"), "made-up-" + "client-secret")
"""


def test_a_crash_shows_places_in_the_code_and_no_values() -> None:
    crashed = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", CRASH], capture_output=True, text=True, timeout=60
    )
    assert crashed.returncode == 1
    searched = ("in activate", "RuntimeError: ••••••", "52817394", "made-up-client-secret")
    assert [each in crashed.stderr for each in searched] == [True, True, False, False]


def test_an_echo_of_sqlalchemy_shows_no_otp_and_no_password(
    caplog: pytest.LogCaptureFixture, database_url: str, tmp_path: Path
) -> None:
    caplog.set_level(logging.DEBUG, "sqlalchemy")
    tokens, keyring = make_tokens(20), Keyring([generate_key()])
    with closing(MovingDatabase(database_url)) as database:
        database.engine.echo = "debug"
        shipment = open_shipment(write_shipment(tmp_path / "shipment.csv", tokens))
        Loader(database, keyring, make_environment(client_secret=CLIENT_SECRET), TESTER).load(shipment, "shipment")
        first, *_ = enqueue(database, Made(1, "shipment", []))
        claim = Leases(database, lease=60.0, max_attempts=8).claim(first, ENVIRONMENT_ID, 0.5)
        with (tmp_path / "out.csv").open("w") as file:
            export(database, "shipment", file, keyring=keyring)
        with pytest.raises(DBAPIError) as failure, database.writing() as connection:
            # PostgreSQL quotes the whole row here.
            connection.execute(update(Record).values(status="nonsense"))
    told = f"{caplog.text}{failure.value}{failure.value!r}{claim!r}{database.engine!r}"
    # Rows that were fetched are shown, the sealed OTPs among them.
    assert [each in told for each in ("UPDATE record SET", "parameters hidden", "Row ")] == [True] * 3
    secrets = Secrets([token.otps for token in tokens], {"client secret": CLIENT_SECRET})
    assert secrets.found_in(told.encode()) == set()
    assert "OTP of row 1" in secrets.found_in((tmp_path / "out.csv").read_bytes())
    password = urlsplit(database_url).password
    assert password is None or password not in told


def test_a_database_and_a_broker_that_fail_name_no_password(postgres_server: PostgresServer, valkey_url: str) -> None:
    url = postgres_server.url()
    password, broker_password = urlsplit(url).password, urlsplit(valkey_url).password
    assert password
    assert broker_password
    settings = load_settings(
        {"OATHBULK_DATABASE_URL": f"{url}x", "OATHBULK_REDIS_URL": valkey_url.replace(broker_password, "wrong" * 5)}
    )
    told = [repr(settings)]
    for wrong_url in (f"{url}x", url.replace(password, "wrong" * 5), url.replace(f":{postgres_server.port}/", ":1/")):
        with closing(Database(wrong_url)) as database:
            told += [repr(database.engine), str(database.engine.url), told_by(database)]
    with closing(Parts(settings).redis) as broker, pytest.raises(redis.RedisError) as refused:
        broker.ping()
    said = "\n".join([*told, repr(broker), f"{refused.value!r}"])
    assert "password authentication failed" in said
    assert "refused" in said
    assert [secret for secret in (password, broker_password, "wrongwrong") if secret in said] == []


def told_by(database: Database) -> str:
    with pytest.raises(DBAPIError) as failure, database.reading():
        pass
    return f"{failure.value} {failure.value!r} {failure.value.orig!r}"


# What Celery tells whoever asks on the command line; `inspect conf` asks a worker, and Flower shows the same.
CELERY = """
import json
from worker.celery import app
shown = [app.bugreport(), app.conf.humanize(), repr(app.conf.table(censored=True)), app.connection().as_uri()]
print(json.dumps(shown))
"""


def test_celery_prints_its_settings_without_the_brokers_password() -> None:
    told = run_alone(CELERY, OATHBULK_REDIS_URL="rediss://:hidden@127.0.0.1:1/0", **PINGONE)
    assert all("127.0.0.1:1" in part for part in json.loads(told.stdout))
    assert "hidden" not in told.stdout + told.stderr
    assert CLIENT_SECRET not in told.stdout


def run_alone(script: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a script that finds our code, and no other variable."""
    variables |= {"PATH": os.defpath} | {name: os.environ[name] for name in ("PYTHONPATH",) if name in os.environ}
    typed = [sys.executable, "-c", script, *arguments]
    return subprocess.run(typed, env=variables, capture_output=True, text=True, timeout=60, check=True)


# TLS to database and broker.

# The name that the certificates of these tests are for, and one that they are not for.
RIGHT_NAME = "127.0.0.1"
WRONG_NAME = "localhost"


class SecurePostgres(PostgresServer):
    """With a certificate for `elsewhere.example` and 127.0.0.1."""

    def __init__(self, certificate: Path, key: Path) -> None:
        super().__init__(durable=False)
        self._files = [Path(shutil.copy(file, self.directory / file.name)) for file in (certificate, key)]
        for file in self._files:
            file.chmod(0o600)
            if self._account is not None:
                os.chown(file, self._account.pw_uid, self._account.pw_gid)

    def argv(self) -> list[str]:
        certificate, key = self._files
        tls = ["-c", "ssl=on", "-c", f"ssl_cert_file={certificate}", "-c", f"ssl_key_file={key}"]
        return [*super().argv(), *tls]


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """A server's certificate and key, and another authority's certificate for the same names."""
    folder = tmp_path_factory.mktemp("certificates")
    certificate, key = make_certificate(folder / "right", "elsewhere.example")
    other, _ = make_certificate(folder / "other", "elsewhere.example")
    return certificate, key, other


def test_postgresql_under_another_name_from_another_authority_or_without_tls_is_refused(
    postgres_server: PostgresServer, certificates: tuple[Path, Path, Path]
) -> None:
    certificate, key, other = certificates

    def open_database(server: PostgresServer, name: str, authority: Path) -> Database:
        url = server.url().replace("127.0.0.1", name)
        return Database(f"{url}?sslmode=verify-full&sslrootcert={authority}")

    with SecurePostgres(certificate, key) as secure:
        with closing(open_database(secure, RIGHT_NAME, certificate)) as database, database.reading() as connection:
            assert connection.scalar(text("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"))
        for server, name, authority, why in (
            (secure, WRONG_NAME, certificate, "does not match host name"),
            (secure, RIGHT_NAME, other, "certificate verify failed"),
            (postgres_server, RIGHT_NAME, certificate, "server does not support SSL"),
        ):
            with closing(open_database(server, name, authority)) as database:
                told = told_by(database)
            assert why in told
            assert str(urlsplit(server.url()).password) not in told


# Prints why each of the URLs is refused, by Celery and by the pace; nothing where it is taken.
CLIENTS = """
import json, sys
from worker.celery import app
from worker.config.sources import load_settings
from worker.process.parts import Parts

def ask_celery(url):
    with app.connection_for_write(url) as connection:
        connection.ensure_connection(max_retries=1, timeout=10)

def ask_pace(url):
    Parts(load_settings({"OATHBULK_REDIS_URL": url})).redis.ping()

refusals = []
for ask in (ask_celery, ask_pace):
    for url in json.loads(sys.argv[1]):
        try:
            ask(url)
            refusals.append("")
        except Exception as refused:
            refusals.append(str(refused))
print(json.dumps(refusals))
"""


def test_both_clients_take_redis_by_its_urls_authority_and_refuse_another_name_or_authority_or_one_of_nobody(
    valkey_url: str, certificates: tuple[Path, Path, Path]
) -> None:
    certificate, key, other = certificates
    plain = urlsplit(valkey_url)
    with TlsServer(certificate, key, plain.port) as server:
        root, required = f"rediss://:{plain.password}@", f"{server.port}/0?ssl_cert_reqs=required&ssl_ca_certs="
        urls = [f"{root}{RIGHT_NAME}:{required}{certificate}", f"{root}{WRONG_NAME}:{required}{certificate}"]
        urls += [f"{root}{RIGHT_NAME}:{required}{other}", f"{root}{RIGHT_NAME}:{server.port}/0"]
        refusals = json.loads(run_alone(CLIENTS, json.dumps(urls), OATHBULK_REDIS_URL=urls[0]).stdout)
    told = [("certificate verify failed" in refusal, "mismatch" in refusal) for refusal in refusals]
    assert told == [(False, False), (True, True), (True, False), (True, False)] * 2, refusals
    assert refusals[0] == refusals[4] == ""


# Text from outside.

# The title of the window, the whole screen, colors, a line painted over, the same in one byte, and right to left.
EVIL = "\x1b]0;owned\x07\x1b[2J\x1b[31m\rpaid\x9b2J\x08\u202egnihton\x00"
# rich's own: colors, cursor and erased lines of a live display.
OURS = re.compile(r"\x1b\[[0-9;]*m|\x1b\[\?25[hl]|\x1b\[[0-9]*A|\x1b\[2K")


def steers(printed: str) -> list[str]:
    """What of it a terminal would obey, beyond what rich says by itself."""
    return re.findall(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]", OURS.sub("", printed))


def test_controls_are_shown_and_lines_kept_or_shown() -> None:
    assert escape("a\tb\nc\x1b[2J") == "a\tb\nc\\u001b[2J"
    assert escape_line("a\tb\nc\x9b") == "a\tb\\nc\\u009b"
    assert escape("Zürich — 東京 🙂 ‏עברית") == "Zürich — 東京 🙂 ‏עברית"


def test_nothing_that_is_printed_steers_a_terminal_and_json_stays_json(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table("batch")
    table.add_row(EVIL)
    table.add_row(Text(EVIL, style="bold"))
    for shown in (EVIL, Text(EVIL), table):
        console.print(shown)
    console.print(f"[bold]{EVIL}", "and", EVIL)
    printed = capsys.readouterr().out
    print_json({"name": f"{EVIL}\x7f\n"})
    as_json = capsys.readouterr().out
    assert "owned" in printed
    assert json.loads(as_json) == {"name": f"{EVIL}\x7f\n"}
    assert steers(printed + as_json) == []


def test_what_stands_in_the_database_does_not_steer_the_terminal_of_who_looks(desk: CommandDesk) -> None:
    """Names that were loaded before they were looked at, and what somebody wrote past oathbulk."""
    desk.make_home()
    with closing(MovingDatabase(f"sqlite:///{desk.home / 'oathbulk.db'}")) as database:
        make_batch(database, 2, name=f"evil{EVIL}", state="paused")
        with database.writing() as connection:
            audit.append(database, connection, Actor(EVIL, EVIL), Action.PAUSE, EVIL, {"file": EVIL})
    for command in (["status"], ["audit"], ["resume", f"evil{EVIL[:-1]}"]):
        terminal = desk.start_on_terminal(*command, columns=200)
        terminal.wait()
        # A terminal turns each line feed into two characters.
        printed = terminal.read().replace("\r\n", "\n")
        assert "owned" in printed, command
        assert steers(printed) == [], command


def test_an_export_does_not_steer_the_terminal_of_who_looks(sqlite_url: str) -> None:
    lines = {"extra": {"address": f"one\r\ntwo\nthree{EVIL}"}, "lot": EVIL, "detail": EVIL, "correlation_id": EVIL}
    out = io.StringIO(newline="")
    with closing(MovingDatabase(sqlite_url)) as database:
        make_batch(database, [lines | {"status": "dead_letter", "reason": "rejected"}])
        export(database, "shipment", out)
    assert "owned" in out.getvalue()
    assert steers(out.getvalue().replace("\r\n", "\n")) == []


FEIGNED = "owned\n2026-03-01 00:00:00 [info] all is well\r\n\x1b[2J\x1b]0;owned\x07"
EVENTS = f"""
import logging
import structlog
from worker.observability.logs import configure_logs

configure_logs("INFO")
evil = {FEIGNED!r}
structlog.get_logger("worker.somewhere").warning("rescued", batch=evil, nested=[evil])
logging.getLogger("celery.somewhere").warning("Received unregistered task of type %s", evil)
try:
    raise ValueError(evil)
except ValueError:
    structlog.get_logger("worker.somewhere").exception("failed", **{{evil: 1}})
    logging.getLogger("celery.somewhere").exception("task failed: %s", evil)
"""


def test_a_log_has_a_line_an_event_whatever_its_words() -> None:
    printed = run_piped(EVENTS)
    assert [json.loads(line)["event"].partition("owned")[0] for line in printed.splitlines()] == [
        *("rescued", "Received unregistered task of type ", "failed", "task failed: ")
    ]
    assert steers(printed) == []


def test_a_log_on_a_terminal_is_not_steered_and_no_line_is_feigned() -> None:
    printed = run_on_a_terminal(EVENTS).replace("\r\n", "\n")
    assert printed.count("rescued") == 1
    assert steers(printed) == []
    before_tracebacks = printed.partition("Traceback")[0]
    assert "owned" in before_tracebacks
    assert [line for line in before_tracebacks.splitlines() if line.startswith("2026-03-01 00:00:00 [info]")] == []
