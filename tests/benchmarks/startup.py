"""What the start of a command costs, as multiples of the start of Python: `python -c pass`, `oathbulk --help`,
`--version`, `status --help` and `status`, in turn; and what importing the libraries of a `status` takes alone.

    PYTHONPATH=tests python tests/benchmarks/startup.py [--rounds N]
"""

import argparse
import os
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from support.data.tokens import make_tokens, write_shipment

OATHBULK = str(Path(sysconfig.get_path("scripts")) / "oathbulk")
PYTHON = "python -c pass"
# What a `status` imports of others, each in a process of its own: they share little.
LIBRARIES = ("typer", "rich.console, rich.table, rich.live", "pydantic.main", "sqlalchemy", "sqlalchemy.orm")


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--rounds", type=int, default=31)
    rounds: int = arguments.parse_args().rounds
    with tempfile.TemporaryDirectory(prefix="oathbulk-startup-") as folder:
        variables = load_small_batch(Path(folder))
        print_table(measure({PYTHON: [sys.executable, "-c", "pass"]} | list_commands(), variables, rounds))


def load_small_batch(folder: Path) -> dict[str, str]:
    """Load 20 records into a home of their own, and return the variables with which commands find it."""
    needed = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    variables = needed | {
        "OATHBULK_HOME": str(folder / "home"),
        "PINGONE_ENVIRONMENT_ID": "7d1f0c52-3b64-4d0e-9a57-52a1c3d4e5f6",
        "PINGONE_CLIENT_ID": "client",
        "PINGONE_CLIENT_SECRET": "secret",
    }
    write_shipment(folder / "small.csv", make_tokens(20))
    command = [OATHBULK, "load", str(folder / "small.csv"), "--offline"]
    subprocess.run(command, env=variables, check=True, stdout=subprocess.DEVNULL)
    return variables


def list_commands() -> dict[str, list[str]]:
    commands = {
        f"oathbulk {words}": [OATHBULK, *words.split()] for words in ("--help", "--version", "status --help", "status")
    }
    # Without looking for garbage, as a command imports them.
    imports = {
        f"import {name}": [sys.executable, "-c", f"import gc; gc.disable(); import {name}"] for name in LIBRARIES
    }
    return commands | imports


def measure(commands: Mapping[str, Sequence[str]], variables: Mapping[str, str], rounds: int) -> dict[str, float]:
    """Seconds of each command, in the middle; they are run in turn, so that whatever else the machine does hits all.
    A first round warms the files' cache and is not counted."""
    seconds = {name: list[float]() for name in commands}
    for _ in range(rounds + 1):
        for name, command in commands.items():
            started = time.perf_counter()
            subprocess.run(command, env=variables, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            seconds[name].append(time.perf_counter() - started)
    return {name: statistics.median(taken[1:]) for name, taken in seconds.items()}


def print_table(medians: Mapping[str, float]) -> None:
    print("| | ms | times Python's |\n|---|---|---|")
    for name, seconds in medians.items():
        print(f"| `{name}` | {1000 * seconds:.0f} | {seconds / medians[PYTHON]:.1f} |")


if __name__ == "__main__":
    main()
