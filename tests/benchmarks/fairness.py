"""Does a large batch keep a small one waiting? Two environments of one license, each with a batch that goes the whole
way (tokens imported, people found, paired, activated): `python fairness.py [--large 10000] [--small 100] [--rate 60]`.

The small batch is run alone first. Then the large one begins, and the small one is loaded `--after` seconds later, into
the same installation. What counts is how many times as long the small batch takes then."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from support.processes.waiting import wait_until
from support.servers.simulator import Simulator

from worker.simulator.shipment import Box, make_box

ENVIRONMENTS = ("0a7b0000-5e1f-4c0d-8000-00000000f001", "0a7b0000-5e1f-4c0d-8000-00000000f002")
# Seconds within which a batch must be done, whatever happens.
PATIENCE = 3600.0
# PingOne is asked nothing before the load, whose time counts.
OPTIONS = ("--offline",)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--large", type=int, default=10_000)
    parser.add_argument("--small", type=int, default=100)
    parser.add_argument("--rate", type=float, default=60.0, help="requests a second that the simulated license permits")
    parser.add_argument("--after", type=float, default=60.0, help="seconds from the large batch's load to the small's")
    options = parser.parse_args()
    alone = measure(options.small, 0, options.rate, 0.0)
    beside = measure(options.small, options.large, options.rate, options.after)
    print(
        f"{options.small} tokens alone: {alone:.1f} s; beside {options.large}: {beside:.1f} s; {beside / alone:.2f} x"
    )


def measure(small: int, large: int, rate: float, after: float) -> float:
    """Seconds from the load of the small batch until it is finished, beside a large one if that has any tokens."""
    with tempfile.TemporaryDirectory(prefix="oathbulk-fairness-") as directory:
        root = Path(directory)
        first, second = make_box(max(large, 1), seed=1, prefix="BIG"), make_box(small, seed=2, prefix="SMALL")
        with Simulator(root, first, {"PATH": os.environ["PATH"]}, rate=rate, latency=0.05) as simulator:
            for box, environment in ((first, ENVIRONMENTS[0]), (second, ENVIRONMENTS[1])):
                world = {**box.world_json(), "environment_id": environment, "settings": {}}
                simulator.seed(**world)
            environ = configure(root, simulator, rate)
            load = [*write_box(second, root / "small"), "--environment", "second", *OPTIONS]
            if not large:
                return time_run(["run", *load], environ, root)
            run = ["run", *write_box(first, root / "large"), *OPTIONS]
            worker = subprocess.Popen(oathbulk(*run), env=environ, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
            try:
                wait_until(lambda: read_status("box", environ).get("total") == large, 120, "the large batch is loaded")
                time.sleep(after)
                began = time.monotonic()
                subprocess.run(oathbulk("load", *load, "--batch", "small"), env=environ, check=True)
                wait_until(lambda: read_status("small", environ).get("state") == "finished", PATIENCE, "it is done")
                return time.monotonic() - began
            finally:
                worker.terminate()
                worker.wait(60)


def time_run(command: list[str], environ: Mapping[str, str], root: Path) -> float:
    began = time.monotonic()
    subprocess.run(oathbulk(*command), env=dict(environ), check=True, cwd=root, stdin=subprocess.DEVNULL)
    return time.monotonic() - began


def configure(root: Path, simulator: Simulator, rate: float) -> dict[str, str]:
    """Write the configuration of two environments of one license, and return the variables that lead there."""
    world = simulator.shipment.world
    common = {
        "client_id": world.client_id,
        "client_secret": world.client_secret,
        "api_url": f"{simulator.url}/v1",
        "token_url": f"{simulator.url}/{{env}}/as/token",
        "license": "one",
        "rate": rate,
        # Otherwise the small batch would first learn what its environment wants, three records at a time.
        "resync_on_first_call": "false",
    }
    sections = [
        f"[environments.{name}]\n"
        + "".join(f"PINGONE_{key.upper()} = {json.dumps(value)}\n" for key, value in values.items())
        for name, values in (
            ("first", common | {"environment_id": ENVIRONMENTS[0]}),
            ("second", common | {"environment_id": ENVIRONMENTS[1]}),
        )
    ]
    config = root / "oathbulk.toml"
    config.write_text("\n".join(sections))
    default = {f"PINGONE_{key.upper()}": str(value) for key, value in common.items()}
    return {
        **os.environ,
        **default,
        "PINGONE_ENVIRONMENT_ID": ENVIRONMENTS[0],
        "OATHBULK_HOME": str(root / "home"),
        "OATHBULK_CONFIG": str(config),
    }


def write_box(box: Box, folder: Path) -> list[str]:
    """Write the box, and return the arguments that name it."""
    box.write(folder)
    return shlex.split(f"{folder}/box.pskc --key-file {folder}/box.key --assign {folder}/who.csv --import --pair")


def oathbulk(*words: str) -> list[str]:
    return [sys.executable, "-m", "worker", *words]


def read_status(batch: str, environ: Mapping[str, str]) -> dict[str, Any]:
    done = subprocess.run(
        oathbulk("status", batch, "--json"), env=dict(environ), capture_output=True, text=True, check=False
    )
    return json.loads(done.stdout) if done.returncode == 0 else {}


if __name__ == "__main__":
    main()
