"""One installation in containers, as docs/deployment.md has it set up, with a simulated PingOne beside it."""

import fnmatch
import json
import os
import shutil
import subprocess
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from support import simulator
from support.judges.call_log import LoggedCall, fingerprint, read_call_log
from support.judges.otp_calls import Pair, judge_calls
from support.processes.waiting import wait_until
from support.servers import tls_proxy
from support.servers.tls_server import make_certificate

from worker.embedded.valkey import find_free_port
from worker.simulator.shipment import MadeShipment, PairRow
from worker.simulator.world import CLIENT_ID, CLIENT_SECRET, ENVIRONMENT_ID

SIMULATOR = Path(__file__).with_name("simulator.yml")
SALT = "salted"
START_TIMEOUT = 300.0
COMMAND_TIMEOUT = 120.0
# A base system and a few packages are fetched once.
BUILD_TIMEOUT = 900.0
# So many that doctor finds no fault with it.
CERTIFICATE_DAYS = 90
# Requests a second: a batch of 200 takes half a minute, in which much can be done to it.
RATE = 8
WORKERS = 2
# Containers of each service that never ends.
HEALTHY = {"postgres": 1, "valkey": 1, "worker": WORKERS, "beat": 1, "flower": 1, "desk": 1, "metrics": 1}

# The installation's own, in the root of its checkout: it stays when another version takes the place.
OWN = ("secrets", "shipments", ".env", "simulated")
# What else a clone has not, there and anywhere.
NOT_CLONED = (*OWN, ".git", ".venv*", "dist", "build")
CACHES = ("__pycache__", ".*_cache", ".hypothesis")


class ComposeProject:
    """The containers of one installation, in a folder with a checkout of its own. `name` is another than a real
    installation's: `down` takes the volumes too. `variables`: how docker compose finds engine and images."""

    def __init__(self, name: str, folder: Path, shipment: MadeShipment, variables: Mapping[str, str]) -> None:
        self.name, self.folder, self.shipment = name, folder, shipment
        self.flower_port, self.desk_port, self.metrics_port = (find_free_port() for _ in range(3))
        self._variables = dict(variables)
        self._prepare()

    def use_image(self, image: str) -> None:
        """Let containers that are made from now on, and a build, be of this image."""
        self._variables["OATHBULK_IMAGE"] = image

    def compose(self, *arguments: str, timeout: float = COMMAND_TIMEOUT) -> str:
        """What `docker compose …` prints. Raises CalledProcessError, TimeoutExpired."""
        files = [option for file in ("docker-compose.yml", SIMULATOR) for option in ("-f", str(file))]
        argv = ["docker", "compose", "-p", self.name, *files, *arguments]
        env = {**os.environ, **self._variables}
        result = subprocess.run(argv, cwd=self.folder, env=env, capture_output=True, text=True, timeout=timeout)
        if result.returncode:
            error = subprocess.CalledProcessError(result.returncode, argv)
            error.add_note(result.stdout + result.stderr)
            raise error
        return result.stdout

    def build(self) -> None:
        self.compose("build", timeout=BUILD_TIMEOUT)

    def up(self, *options: str) -> None:
        self.compose("up", "--detach", *options, timeout=START_TIMEOUT)

    def down(self) -> None:
        self.compose("down", "--volumes", "--remove-orphans")

    def oathbulk(self, *arguments: str) -> str:
        return self.compose("run", "--rm", "-T", "oathbulk", *arguments)

    def load(self, file: str, batch: str) -> dict[str, Any]:
        """What `oathbulk load` prints."""
        loaded: dict[str, Any] = json.loads(self.oathbulk("load", file, "--batch", batch, "--json"))
        return loaded

    def status(self, batch: str) -> dict[str, Any]:
        status: dict[str, Any] = json.loads(self.oathbulk("status", batch, "--json"))
        return status

    def wait_until_finished(self, batch: str, timeout: float = 180) -> dict[str, Any]:
        """The batch's status, once it is finished."""
        wait_until(lambda: self.status(batch)["state"] == "finished", timeout, f"{batch} is finished")
        return self.status(batch)

    def write_pairs(self, name: str, rows: Sequence[PairRow]) -> None:
        """Put a file with the OTPs of these tokens into shipments/."""
        replace(self.shipment, rows=tuple(rows)).write_pairs(self.folder / "shipments" / name)

    def containers(self) -> list[dict[str, Any]]:
        lines = self.compose("ps", "--all", "--format", "json").splitlines()
        return [json.loads(line) for line in lines]

    def healthy(self) -> dict[str, int]:
        """How many containers of each service say that they are well."""
        services = [container["Service"] for container in self.containers() if container["Health"] == "healthy"]
        return {service: services.count(service) for service in set(services)}

    def wait_until_healthy(self, services: Mapping[str, int] = HEALTHY) -> None:
        wait_until(lambda: self.healthy() == services, START_TIMEOUT, f"well are {services}")

    def secret(self, name: str) -> str:
        return (self.folder / "secrets" / name).read_text().strip()

    def query(self, sql: str) -> list[str]:
        """The lines that PostgreSQL answers."""
        return self.compose("exec", "-T", "postgres", "psql", "-U", "oathbulk", "-tAc", sql).splitlines()

    def calls(self) -> list[LoggedCall]:
        """The calls to devices that have arrived at the simulator and are over."""
        return read_call_log(self._journal)

    def active(self) -> set[str]:
        """The ids of the devices that the simulator has made ACTIVE."""
        return {call.device_id for call in self.calls() if call.outcome == "ACTIVE"}

    def wait_until_active(self, count: int, timeout: float = 120) -> None:
        wait_until(lambda: len(self.active()) >= count, timeout, f"{count} tokens are active")

    def judge(self, unwritten: Collection[str] = ()) -> list[str]:
        """What breaks the promises about OTPs, a sentence each; empty if nothing does."""
        pairs = {
            row.device_id: Pair(fingerprint(SALT, row.otp1), fingerprint(SALT, row.otp2) if row.otp2 else None)
            for row in self.shipment.rows
        }
        return judge_calls(self.calls(), pairs, unwritten=unwritten)

    def make_secrets(self) -> None:
        subprocess.run(["make", "secrets"], cwd=self.folder, check=True, capture_output=True, timeout=60)

    @property
    def _journal(self) -> Path:
        return self.folder / "simulated/journal.jsonl"

    def _prepare(self) -> None:
        """What docs/deployment.md tells a person to do, for the simulator in PingOne's place."""
        self.make_secrets()
        certificate, key = make_certificate(self._journal.parent, "simulator", days=CERTIFICATE_DAYS)
        key.chmod(0o644)
        shutil.copy(tls_proxy.__file__, self._journal.with_name("tls.py"))
        # It imports nothing else of the tests.
        watched = Path(simulator.__file__).parent
        shutil.copytree(
            watched, self._journal.parent / "support/simulator", ignore=shutil.ignore_patterns("__pycache__")
        )
        self.shipment.write_world(self._journal.with_name("world.json"))
        self._journal.touch()
        shutil.copy(certificate, self.folder / "secrets/ca.pem")
        (self.folder / "secrets/pingone_client_secret").write_text(CLIENT_SECRET)
        settings = {
            **self._variables,
            "PINGONE_ENVIRONMENT_ID": ENVIRONMENT_ID,
            "PINGONE_CLIENT_ID": CLIENT_ID,
            "PINGONE_API_URL": "https://simulator:8443/v1",
            "PINGONE_TOKEN_URL": "https://simulator:8443/{env}/as/token",
            "PINGONE_RATE": str(RATE),
            "PINGONE_RATE_MAX": str(RATE),
            "SSL_CERT_FILE": "/run/secrets/ca.pem",
            "TOOLS_USER": f"{os.getuid()}:{os.getgid()}",
            "WORKERS": str(WORKERS),
            "FLOWER_PUBLISHED_PORT": str(self.flower_port),
            "DESK_PUBLISHED_PORT": str(self.desk_port),
            "METRICS_PUBLISHED_PORT": str(self.metrics_port),
        }
        (self.folder / ".env").write_text("".join(f"{name}={value}\n" for name, value in settings.items()))


@contextmanager
def running(project: ComposeProject) -> Iterator[ComposeProject]:
    """The project until its tests are over; if it does not come up, what its containers said stands below the error."""
    project.down()
    try:
        yield project
    except (AssertionError, TimeoutError, subprocess.SubprocessError) as error:
        error.add_note(project.compose("ps", "--all"))
        error.add_note(project.compose("logs", "--tail", "50"))
        raise
    finally:
        project.down()


def copy_files(project: Path, folder: Path) -> None:
    """Put the project's files into the folder, which may be there."""

    def ignore(directory: str, names: list[str]) -> set[str]:
        patterns = (*NOT_CLONED, *CACHES) if Path(directory) == project else CACHES
        return {name for pattern in patterns for name in fnmatch.filter(names, pattern)}

    shutil.copytree(project, folder, ignore=ignore, dirs_exist_ok=True)
