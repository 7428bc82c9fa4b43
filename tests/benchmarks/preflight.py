"""What a preflight costs: seconds offline for a large shipment, and requests to a simulated PingOne for a smaller one.

python tests/benchmarks/preflight.py [--rows N] [--online N]
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from support.servers.simulator import Simulator

from worker.simulator.shipment import MadeShipment, MadeToken, draw_token
from worker.simulator.world import DeviceSeed, WorldSeed

OATHBULK = [sys.executable, "-m", "worker"]


def make_rows(count: int) -> list[MadeToken]:
    dice = random.Random(1)
    return [MadeToken(**draw_token(f"MADE{number:07}", dice)) for number in range(count)]


def write_files(folder: Path, rows: list[MadeToken]) -> list[str]:
    """Write box and list; the arguments that name them."""
    box, who = folder / "box.csv", folder / "who.csv"
    box.write_text("".join(f"{row.serial},{row.secret},hotp,6,{row.counter}\n" for row in rows))
    lines = [f"{row.serial},{name_of(row)},{row.user_id},{row.device_id},Basel\n" for row in rows]
    who.write_text("".join(["serial,username,user_id,device_id,site\n", *lines]))
    return [str(box), "--assign", str(who)]


def name_of(row: MadeToken) -> str:
    return f"person-{row.serial}@example.test"


def check(folder: Path, arguments: list[str], variables: dict[str, str]) -> tuple[dict[str, Any], float]:
    env = os.environ | {"OATHBULK_HOME": str(folder / "home")} | variables
    began = time.monotonic()
    done = subprocess.run(
        [*OATHBULK, "check", *arguments, "--json"], env=env, capture_output=True, text=True, check=False
    )
    seconds = time.monotonic() - began
    if not done.stdout:
        sys.exit(done.stderr)
    return json.loads(done.stdout), seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--online", type=int, default=2_000)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)
        arguments = write_files(folder, make_rows(chosen.rows))
        found, seconds = check(folder, [*arguments, "--offline"], {})
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024
        print(f"offline: {found['rows']} rows in {seconds:.1f} s, {peak} MB at the most")
        rows = make_rows(chosen.online)
        arguments = write_files(folder, rows)
        devices = [
            DeviceSeed(serial=row.serial, user_id=row.user_id, device_id=row.device_id, secret=row.secret)
            for row in rows
        ]
        made = MadeShipment((), WorldSeed(devices=tuple(devices)), {})
        users = [{"user_id": row.user_id, "username": name_of(row)} for row in rows]
        with Simulator(folder, made, dict(os.environ), page_size=1000) as simulator:
            simulator.seed(users=users)
            found, seconds = check(folder, arguments, simulator.variables)
        named = [finding["name"] for finding in found["findings"]]
        print(f"online: {found['rows']} rows in {seconds:.1f} s, {found['requests']} requests; findings {named}")


if __name__ == "__main__":
    main()
