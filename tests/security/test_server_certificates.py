"""TLS to database and broker: no byte of a password goes to a server that cannot prove who it is.

That Redis' right certificate is taken, and one that nobody vouches for is not, stands in integration/test_tls.py.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import redis
from sqlalchemy import text
from sqlalchemy.exc import OperationalError
from support.servers.postgres import PostgresServer
from support.servers.tls_server import TlsServer, make_certificate

from worker.config.sources import load_settings
from worker.database.engine import Database
from worker.process.parts import Parts

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


def is_encrypted(url: str) -> bool:
    """Raises OperationalError."""
    database = Database(url)
    try:
        with database.reading() as connection:
            return bool(connection.scalar(text("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")))
    finally:
        database.close()


def test_postgresql_with_the_right_certificate_is_reached_by_tls(
    secure_postgres: SecurePostgres, certificates: tuple[Path, Path, Path]
) -> None:
    assert is_encrypted(verified(secure_postgres.url(), RIGHT_NAME, certificates[0]))


def refusal(url: str) -> str:
    with pytest.raises(OperationalError) as refused:
        is_encrypted(url)
    password = urlsplit(url).password
    assert password
    assert password not in f"{refused.value} {refused.value!r} {refused.value.orig!r}"
    return str(refused.value)


def test_postgresql_under_another_name_or_from_another_authority_is_refused(
    secure_postgres: SecurePostgres, certificates: tuple[Path, Path, Path]
) -> None:
    certificate, _, other = certificates
    assert "does not match host name" in refusal(verified(secure_postgres.url(), WRONG_NAME, certificate))
    assert "certificate verify failed" in refusal(verified(secure_postgres.url(), RIGHT_NAME, other))


def test_postgresql_without_tls_is_refused(
    postgres_server: PostgresServer, certificates: tuple[Path, Path, Path]
) -> None:
    url = verified(postgres_server.url(), RIGHT_NAME, certificates[0])
    assert "server does not support SSL" in refusal(url)


@pytest.fixture
def wrong_urls(valkey_url: str, certificates: tuple[Path, Path, Path]) -> Iterator[list[str]]:
    """A Valkey behind TLS: asked for by a name that is not its own; and trusting another authority."""
    certificate, key, other = certificates
    plain = urlsplit(valkey_url)
    assert plain.port
    with TlsServer(certificate, key, plain.port) as server:
        root = f"rediss://:{plain.password}@"
        yield [
            f"{root}{WRONG_NAME}:{server.port}/0?ssl_cert_reqs=required&ssl_ca_certs={certificate}",
            f"{root}{RIGHT_NAME}:{server.port}/0?ssl_cert_reqs=required&ssl_ca_certs={other}",
        ]


def check(refusals: list[str]) -> None:
    wrong_name, wrong_authority = refusals
    assert "mismatch" in wrong_name
    assert "certificate verify failed" in wrong_authority


def test_the_pace_refuses_redis_under_another_name_or_from_another_authority(wrong_urls: list[str]) -> None:
    refusals = []
    for url in wrong_urls:
        client = Parts(load_settings({"OATHBULK_REDIS_URL": url})).redis
        with pytest.raises(redis.ConnectionError) as refused:
            client.ping()
        client.close()
        refusals.append(str(refused.value))
    check(refusals)


# Prints why each of the URLs is refused.
CELERY = """
import json, sys
from worker.celery import app
refusals = []
for url in json.loads(sys.stdin.read()):
    try:
        with app.connection_for_write(url) as connection:
            connection.ensure_connection(max_retries=1, timeout=10)
    except Exception as refused:
        refusals.append(str(refused))
print(json.dumps(refusals))
"""


def test_celery_refuses_redis_under_another_name_or_from_another_authority(wrong_urls: list[str]) -> None:
    variables = {"PATH": os.defpath, "OATHBULK_REDIS_URL": wrong_urls[0]}
    variables |= {name: os.environ[name] for name in ("PYTHONPATH",) if name in os.environ}
    asked = subprocess.run(
        [sys.executable, "-c", CELERY],
        env=variables,
        input=json.dumps(wrong_urls),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    check(json.loads(asked.stdout))
