"""TLS to database and broker: no byte of a password goes to a server that cannot prove who it is.

That Redis' right certificate is taken, and one that nobody vouches for is not, stands in integration/test_programs.py.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError
from support.servers.postgres import PostgresServer
from support.servers.tls_server import TlsServer, make_certificate

from worker.database.engine import Database

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


@pytest.fixture(scope="module")
def secure_postgres(certificates: tuple[Path, Path, Path]) -> Iterator[SecurePostgres]:
    certificate, key, _ = certificates
    with SecurePostgres(certificate, key) as server:
        yield server


def verified(url: str, name: str, authority: Path) -> str:
    return f"{url.replace('127.0.0.1', name)}?sslmode=verify-full&sslrootcert={authority}"


def connect(url: str) -> bool:
    """Whether the connection is encrypted. Raises OperationalError."""
    with closing(Database(url)) as database, database.reading() as connection:
        return bool(connection.scalar(text("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")))


def refusal(url: str) -> str:
    with pytest.raises(OperationalError) as refused:
        connect(url)
    password = urlsplit(url).password
    assert password
    assert password not in f"{refused.value} {refused.value!r} {refused.value.orig!r}"
    return str(refused.value)


def test_postgresql_under_another_name_or_from_another_authority_is_refused(
    secure_postgres: SecurePostgres, certificates: tuple[Path, Path, Path]
) -> None:
    certificate, _, other = certificates
    assert connect(verified(secure_postgres.url(), RIGHT_NAME, certificate))
    assert "does not match host name" in refusal(verified(secure_postgres.url(), WRONG_NAME, certificate))
    assert "certificate verify failed" in refusal(verified(secure_postgres.url(), RIGHT_NAME, other))


def test_postgresql_without_tls_is_refused(
    postgres_server: PostgresServer, certificates: tuple[Path, Path, Path]
) -> None:
    url = verified(postgres_server.url(), RIGHT_NAME, certificates[0])
    assert "server does not support SSL" in refusal(url)


# Prints why each of the URLs is refused, by Celery and by the pace.
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
        except Exception as refused:
            refusals.append(str(refused))
print(json.dumps(refusals))
"""


def test_both_clients_refuse_redis_under_another_name_or_from_another_authority(
    valkey_url: str, certificates: tuple[Path, Path, Path]
) -> None:
    certificate, key, other = certificates
    plain = urlsplit(valkey_url)
    assert plain.port
    with TlsServer(certificate, key, plain.port) as server:
        root, required = f"rediss://:{plain.password}@", f"{server.port}/0?ssl_cert_reqs=required&ssl_ca_certs="
        urls = [f"{root}{WRONG_NAME}:{required}{certificate}", f"{root}{RIGHT_NAME}:{required}{other}"]
        variables = {"PATH": os.defpath, "OATHBULK_REDIS_URL": urls[0]}
        variables |= {name: os.environ[name] for name in ("PYTHONPATH",) if name in os.environ}
        typed = [sys.executable, "-c", CLIENTS, json.dumps(urls)]
        asked = subprocess.run(typed, env=variables, capture_output=True, text=True, timeout=60, check=True)
    refusals = json.loads(asked.stdout)
    assert ["mismatch" in refusal for refusal in refusals] == [True, False] * 2, refusals
    assert all("certificate verify failed" in refusal for refusal in refusals)
