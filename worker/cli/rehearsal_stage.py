"""What a rehearsal plays on: an empty home, a simulator, and variables that lead to these two and nowhere else."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from worker.cli.homes import lead_into_rehearsal
from worker.config import extras
from worker.embedded.children import Children
from worker.embedded.errors import EmbeddedError
from worker.embedded.valkey import EmbeddedValkey

if TYPE_CHECKING:
    from worker.simulator.shipment import MadeShipment

# Seconds that the simulator may take to start, on a busy machine.
START_TIMEOUT = 60.0


def ensure_installed() -> None:
    """Check that the packages are here which the simulator needs. Raises EmbeddedError."""
    if not extras.can_serve():
        raise EmbeddedError(f"the simulator is not installed: {extras.name_cure('rehearsal')}")


def make_empty_home(home: Path) -> Path:
    """Make the home of a rehearsal, and remove that of the rehearsal before."""
    # A rehearsal that was killed may have left its Valkey running. Without the files of its home, which are removed
    # next, nobody would find that server again.
    EmbeddedValkey(home).stop()
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(mode=0o700)
    return home


@contextmanager
def running_simulator(home: Path) -> Iterator[int]:
    """Start a simulator, and stop it at the end. Yields the port that it listens on. Raises EmbeddedError."""
    children, ready = Children(orphan_grace=1.0), home / "simulator.json"
    argv = [sys.executable, "-P", "-m", "worker", "simulator", "--port", "0", "--ready-file", str(ready)]
    argv += ["--world", str(home / "world.json"), "--journal", str(home / "journal.jsonl")]
    try:
        children.start("simulator", argv, {"PATH": "/usr/bin:/bin"}, home / "simulator.log")
        give_up_at = time.monotonic() + START_TIMEOUT
        while not ready.exists():
            if children.find_ended() or time.monotonic() > give_up_at:
                raise EmbeddedError(f"the simulator does not start: see {home / 'simulator.log'}")
            time.sleep(0.05)
        yield int(json.loads(ready.read_text())["port"])
    finally:
        children.stop(grace=5.0)


def point_at_rehearsal(outer: Mapping[str, str], home: Path, port: int, shipment: MadeShipment) -> dict[str, str]:
    """Make the variables of the rehearsal from the outer ones: with a home, database and Valkey of its own, and with
    the simulator in PingOne's place."""
    kept = lead_into_rehearsal(outer, home)
    kept |= {name: outer[name] for name in ("PINGONE_RATE", "PINGONE_RATE_MAX") if name in outer}
    # The simulator replicates nothing, so a device that is not found now will not be found soon: two seconds between
    # two reads are enough.
    return (
        {"OATHBULK_NOT_FOUND_DELAY": "2"}
        | kept
        | {
            "PINGONE_ENVIRONMENT_ID": shipment.world.environment_id,
            "PINGONE_CLIENT_ID": shipment.world.client_id,
            "PINGONE_CLIENT_SECRET": shipment.world.client_secret,
            "PINGONE_API_URL": f"http://127.0.0.1:{port}/v1",
            "PINGONE_TOKEN_URL": f"http://127.0.0.1:{port}/{{env}}/as/token",
        }
    )
