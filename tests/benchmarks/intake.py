"""Whole commands, each in a process of its own: seconds and peak of memory of a mere start, and with large files.

    python tests/benchmarks/intake.py [--rows N] [--rounds N] [--preflight]

The start of Python, of the libraries that a `status` imports, and of `oathbulk --help`, ten times a round.
`load`, `status` and `export` of N rows of OTP pairs and of a tenth, on PostgreSQL and SQLite, which sync their commits
to the disk; and half as many keys of PSKC, encrypted with a pre-shared key and with MACs, beside python-pskc's own
parser of the whole document. Ours opens a file and then reads it, so twice.

`--preflight` measures instead what a preflight of a large file needs, on SQLite: `check --offline` and `load` of N rows
of pairs, and of a fifth as many keys of encrypted PSKC with their list; and `check` of a tenth as many of either at the
simulator, which finds everybody.
"""

import argparse
import csv
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from rig import Rig
from support.servers.postgres import PostgresServer

from models.encrypted import generate_key
from worker.database import schema
from worker.database.engine import Database
from worker.simulator.shipment import KEY, LIST, SEEDS, Box, make_box, write_csv

HEADER = ["serial", "otp1", "otp2", "user_id", "device_id", "username", "lot"]
# Tells its peak of resident memory in KiB at its end. Not getrusage: that includes what the process was before it
# became Python, a fork of this one.
TOLD = """
import sys
told = sys.argv.pop(1)
try:
    {work}
finally:
    peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
    open(told, "w").write(peak.split()[1])
"""
COMMAND = "from worker.cli import main; main()"
LIBRARIES = "import sqlalchemy.orm, sqlalchemy.dialects.sqlite, pydantic_settings, typer, rich.console"
STARTS = {
    "python -c pass": ("pass",),
    LIBRARIES: (LIBRARIES,),
    "oathbulk --help": (COMMAND, "--help"),
}
OURS = (
    "from pathlib import Path; from worker.intake.files import Hints; from worker.intake.rows import Row; "
    "from worker.intake.shipment import open_shipment; "
    "hints = Hints(key=bytes.fromhex(sys.argv[2])); "
    "rows = open_shipment(Path(sys.argv[1]), hints=hints).tokens(); "
    "assert sum(isinstance(row, Row) for row in rows) == int(sys.argv[3])"
)
THEIRS = (
    "from pskc import PSKC; document = PSKC(sys.argv[1]); document.encryption.key = bytes.fromhex(sys.argv[2]); "
    "assert sum(each.check() and each.secret is not None for each in document.keys) == int(sys.argv[3])"
)


def write_shipment(path: Path, rows: int) -> None:
    lots = random.Random(0)
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(HEADER)
        for number in range(rows):
            otps = [f"{lots.randrange(10**6):06}" for _ in range(2)]
            ids = [str(uuid.UUID(int=lots.getrandbits(128), version=4)) for _ in range(2)]
            writer.writerow([f"MADE{number:08}", *otps, *ids, f"user{number}@example.test", f"lot {number // 5000}"])


def write_box(folder: Path, keys: int) -> tuple[Box, tuple[object, ...]]:
    """Write a box. Returns it, and the words of a command that name its files."""
    box = make_box(keys)
    box.write(folder)
    return box, (folder / SEEDS, "--key-file", folder / KEY, "--assign", folder / LIST, "--import", "--pair")


class Bench:
    """Keeps seconds and MiB under what was measured."""

    def __init__(self, directory: Path, rows: int) -> None:
        self._directory, self._rows = directory, rows
        self.figures: dict[str, list[tuple[float, float]]] = defaultdict(list)

    def run_preflights(self) -> None:
        write_shipment(self._directory / "pairs.csv", self._rows)
        _, keys = write_box(self._directory / "keys", self._rows // 5)
        offline = {f"{self._rows} pairs": (self._directory / "pairs.csv",), f"{self._rows // 5} keys": keys}
        for what, words in offline.items():
            home = {"OATHBULK_HOME": str(self._directory / "nothing")}
            self._measure(f"check --offline, {what}", COMMAND, "check", *words, "--offline", "--json", **home)
            home = self._make_home()
            self._measure(f"load --offline, {what}", COMMAND, "load", *words, "--offline", "--json", **home)
        box, keys = write_box(self._directory / "asked", self._rows // 10)
        pairs = self._directory / "asked" / "pairs.csv"
        lines = ([token.serial, *token.otps(2), token.user_id, token.device_id, token.email] for token in box.tokens)
        write_csv(pairs, [["serial", "otp1", "otp2", "user_id", "device_id", "email"], *lines])
        with Rig(box, on_postgres=False) as rig:
            rig.simulate()
            home = rig.variables | {"OATHBULK_HOME": str(self._directory / "nothing"), "PINGONE_RATE": "500"}
            for what, words in {"pairs": (pairs,), "keys": keys}.items():
                what = f"check, {self._rows // 10} {what}"
                self._measure(what, COMMAND, "check", *words, "--json", **home)

    def _make_home(self, database_url: str | None = None) -> dict[str, str]:
        """Make an empty database. Returns the variables of the home that has it."""
        home = Path(tempfile.mkdtemp(dir=self._directory))
        variables = {
            "OATHBULK_HOME": str(home),
            "PINGONE_ENVIRONMENT_ID": str(uuid.UUID(int=1)),
            "PINGONE_CLIENT_ID": "client",
            "PINGONE_CLIENT_SECRET": "secret",
        }
        if database_url:
            variables |= {"OATHBULK_DATABASE_URL": database_url, "OATHBULK_ENCRYPTION_KEYS": generate_key()}
        database = Database(database_url or f"sqlite:///{home / 'oathbulk.db'}")
        schema.upgrade(database)
        database.close()
        return variables

    def _measure(self, what: str, work: str, *words: object, **variables: str) -> None:
        peak = self._directory / "peak"
        argv = [sys.executable, "-c", TOLD.format(work=work), str(peak), *map(str, words)]
        started = time.perf_counter()
        done = subprocess.run(argv, env={"PATH": os.environ["PATH"]} | variables, capture_output=True, check=False)
        # What check finds in made-up rows is no failure.
        if done.returncode and "check" not in words:
            raise RuntimeError(done.stderr.decode())
        self.figures[what].append((time.perf_counter() - started, int(peak.read_text()) / 1024))


class LoadBench(Bench):
    """Whole commands with files of one size and of a tenth, on both databases."""

    def __init__(self, directory: Path, postgres: PostgresServer, rows: int) -> None:
        super().__init__(directory, rows)
        self._postgres = postgres
        for size in (rows // 10, rows):
            write_shipment(directory / f"{size}.csv", size)
        self._box = make_box(rows // 2, totp=0)
        self._box.write(directory)

    def run_round(self) -> None:
        for what, words in list(STARTS.items()) * 10:
            self._measure(what, *words)
        for size in (self._rows // 10, self._rows):
            with self._postgres.database() as url:
                self._measure_batch("PostgreSQL", size, url)
            self._measure_batch("SQLite", size, None)
        rows = self._rows // 2
        key = (self._directory / KEY).read_text().strip()
        for name, read in (("oathbulk", OURS), ("python-pskc", THEIRS)):
            self._measure(f"{rows} keys of PSKC, {name}", read, self._directory / SEEDS, key, rows)

    def _measure_batch(self, on: str, size: int, database_url: str | None) -> None:
        """Load a shipment, look at it and export it, on an empty database."""
        variables = self._make_home(database_url)
        load = ("load", self._directory / f"{size}.csv", "--batch", "bench", "--offline")
        export = ("export", "bench", "-o", self._directory / "export.csv", "--overwrite", "--with-otps")
        for command in (load, ("status",), export):
            self._measure(f"{command[0]}, {size} rows, {on}", COMMAND, *command, **variables)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--preflight", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="oathbulk-bench-") as name, ExitStack() as exits:
        directory = Path(name)
        if arguments.preflight:
            bench = Bench(directory, arguments.rows)
            run = bench.run_preflights
        else:
            postgres = exits.enter_context(PostgresServer(durable=True))
            bench = loads = LoadBench(directory, postgres, arguments.rows)
            run = loads.run_round
        for number in range(arguments.rounds):
            print(f"round {number + 1}", file=sys.stderr)
            run()
    print(f"medians of {arguments.rounds}\n\n| | seconds | peak MiB |\n|---|---|---|")
    for what, figures in bench.figures.items():
        seconds, peaks = map(statistics.median, zip(*figures, strict=True))
        print(f"| {what} | {seconds:.3f} | {peaks:.0f} |")


if __name__ == "__main__":
    main()
