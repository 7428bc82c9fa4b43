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
from worker.config.settings import DATABASE, TUNING
from worker.embedded import extras
from worker.embedded.children import Children
from worker.embedded.home import EmbeddedError
from worker.embedded.valkey import EmbeddedValkey
from worker.installation.installation import Installation
from worker.reports.facts import has_batch

if TYPE_CHECKING:
    from worker.simulator.shipment import MadeShipment

# What is added to the name of a rehearsal's home while the next rehearsal has loaded nothing yet.
BEFORE = ".before"
# Seconds that the simulator may take to start, on a busy machine.
START_TIMEOUT = 60.0


def ensure_installed() -> None:
    """Check that the packages are here which the simulator needs. Raises EmbeddedError."""
    if not extras.can_serve():
        raise EmbeddedError(f"the simulator is not installed: {extras.name_cure('rehearsal')}")


@contextmanager
def replacing_home(home: Path) -> Iterator[Path]:
    """Make the home of a rehearsal, empty. That of the rehearsal before is moved aside: it goes once something is
    loaded into the new one, and comes back if nothing is."""
    before = home.with_name(home.name + BEFORE)
    # A rehearsal that was killed may have left its Valkey running. Without the files of its home nobody would find that
    # server again.
    EmbeddedValkey(home).stop()
    if before.exists():
        # A rehearsal was killed before it had removed it.
        _keep_one(home, before)
    if home.exists():
        home.rename(before)
    home.mkdir(mode=0o700)
    try:
        yield home
    finally:
        _keep_one(home, before)


def _keep_one(home: Path, before: Path) -> None:
    """Remove the home from before if something was loaded into the new one; else put it back, if there is one."""
    if _is_loaded(home):
        shutil.rmtree(before, ignore_errors=True)
        return
    shutil.rmtree(home, ignore_errors=True)
    if before.exists():
        before.rename(home)


def _is_loaded(home: Path) -> bool:
    """Whether a rehearsal has loaded its batch into this home."""
    installation = Installation({"OATHBULK_HOME": str(home)})
    return (home / DATABASE).exists() and has_batch(installation.database)


@contextmanager
def running_simulator(home: Path) -> Iterator[int]:
    """Start a simulator that presses no tokens, since every user of this machine could read their OTPs, and
    stop it at the end. Yields the port that it listens on. Raises EmbeddedError."""
    children, ready = Children(orphan_grace=1.0), home / "simulator.json"
    argv = [sys.executable, "-P", "-m", "worker", "simulator", "--port", "0", "--ready-file", str(ready)]
    argv += ["--world", str(home / "world.json"), "--no-control"]
    try:
        children.start("simulator", argv, {"PATH": "/usr/bin:/bin"}, home / "simulator.log")
        give_up_at = time.monotonic() + START_TIMEOUT
        while not ready.exists():
            if children.find_ended() or time.monotonic() > give_up_at:
                # Its last words, since the log goes with this home.
                raise EmbeddedError(f"the simulator does not start: {_read_last_line(home / 'simulator.log')}")
            time.sleep(0.05)
        yield int(json.loads(ready.read_text())["port"])
    finally:
        children.stop(grace=5.0)


def _read_last_line(log: Path) -> str:
    """Read what a program wrote last; a sentence if it wrote nothing."""
    lines = log.read_text(errors="replace").split("\n") if log.exists() else []
    return next((line for line in reversed(lines) if line.strip()), "it says nothing")


def point_at_rehearsal(outer: Mapping[str, str], home: Path, port: int, shipment: MadeShipment) -> dict[str, str]:
    """Make the variables of the rehearsal from the outer ones: with a home, database and Valkey of its own, and with
    the simulator in PingOne's place."""
    kept = lead_into_rehearsal(outer, home)
    kept |= {name: outer[name] for name in ("PINGONE_RATE", "PINGONE_RATE_MAX") if name in outer}
    # The simulator replicates nothing, so a device that is not found now will not be found soon: two seconds between
    # two reads are enough.
    return (
        {f"{TUNING}__not_found_delay": "2"}
        | kept
        | {
            "PINGONE_ENVIRONMENT_ID": shipment.world.environment_id,
            "PINGONE_CLIENT_ID": shipment.world.client_id,
            "PINGONE_CLIENT_SECRET": shipment.world.client_secret,
            "PINGONE_API_URL": f"http://127.0.0.1:{port}/v1",
            "PINGONE_TOKEN_URL": f"http://127.0.0.1:{port}/{{env}}/as/token",
        }
    )
