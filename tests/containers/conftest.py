"""One installation in containers, as docs/deployment.md has it set up, with a simulated PingOne beside it; and the
container engine: docker where it runs, else podman with images made of Debian's packages and no registry."""

import fnmatch
import json
import os
import shutil
import subprocess
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from support import simulator
from support.judges.call_log import LoggedCall, fingerprint, read_call_log
from support.judges.otp_calls import Pair, judge_calls
from support.processes.waiting import wait_until
from support.servers import tls_proxy
from support.servers.compose_service import PROJECT
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


def run(
    argv: Sequence[str], folder: Path, env: Mapping[str, str] = MappingProxyType({}), timeout: float = BUILD_TIMEOUT
) -> str:
    """To its end: what it prints. What a failure printed is in its exception. Raises CalledProcessError,
    TimeoutExpired."""
    result = subprocess.run(
        argv, cwd=folder, env={**os.environ, **env}, capture_output=True, text=True, timeout=timeout
    )
    if result.returncode:
        error = subprocess.CalledProcessError(result.returncode, argv)
        error.add_note(result.stdout[-3000:] + result.stderr[-3000:])
        raise error
    return result.stdout


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
        return run(argv, self.folder, self._variables, timeout)

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

    def wait_until_finished(self, batch: str) -> dict[str, Any]:
        """The batch's status, once it is finished."""
        wait_until(lambda: self.status(batch)["state"] == "finished", f"{batch} is finished")
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
        wait_until(lambda: self.healthy() == services, f"well are {services}")

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

    def wait_until_active(self, count: int) -> None:
        wait_until(lambda: len(self.active()) >= count, f"{count} tokens are active")

    def judge(self, unwritten: Collection[str] = ()) -> list[str]:
        """What breaks the promises about OTPs, a sentence each; empty if nothing does."""
        pairs = {
            row.device_id: Pair(fingerprint(SALT, row.otp1), fingerprint(SALT, row.otp2) if row.otp2 else None)
            for row in self.shipment.rows
        }
        return judge_calls(self.calls(), pairs, unwritten=unwritten)

    def make_secrets(self) -> None:
        run(["make", "secrets"], self.folder)

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


IMAGES = Path(__file__).with_name("images")
NEEDED = ("podman", "runc", "nft", "netavark", "aardvark-dns", "catatonit", "debootstrap", "docker")
PACKAGES = "podman runc nftables iptables netavark aardvark-dns catatonit docker-compose docker-cli debootstrap"
# What runs where neither systemd nor a whole cgroup v2 is there, and limits cannot be raised.
CONTAINERS_CONF = """
[containers]
default_ulimits = ["nofile=20000:20000", "nproc=10000:10000"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
"""
# Seconds between two looks at the health of a container that is well: the most that docker-compose.yml says.
HEALTH_INTERVAL = 60


class NoEngine(Exception):
    """Neither docker nor podman can be used here; the message names the cure."""


class Engine:
    """A docker that runs; the servers' images are the official ones. `variables`: what docker compose needs."""

    def __init__(self) -> None:
        self.variables: dict[str, str] = {}

    def build(self, name: str, context: Path, *options: str) -> str:
        """Build an image, and return how docker-compose.yml may name it. Raises CalledProcessError, TimeoutExpired."""
        run(["docker", "build", "-t", name, *options, str(context)], context)
        return name


@contextmanager
def open_engine(folder: Path) -> Iterator[Engine]:
    """An engine that runs; its own files lie in `folder`. Raises NoEngine."""
    if _succeeds(["docker", "info"]):
        yield Engine()
        return
    missing = [name for name in NEEDED if not _is_there(name)]
    if missing:
        raise NoEngine(f"no docker answers, and podman lacks {', '.join(missing)}: apt-get install {PACKAGES}")
    podman = Podman(folder)
    with podman.serving():
        yield podman


class Podman(Engine):
    """podman as root, without systemd, and its service that speaks docker's language."""

    BASE = "localhost/oathbulk-test-base"

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder
        conf = folder / "containers.conf"
        conf.write_text(CONTAINERS_CONF)
        self._env = {
            "CONTAINERS_CONF": str(conf),
            "PODMAN_IGNORE_CGROUPSV1_WARNING": "1",
            "BUILDAH_ISOLATION": "chroot",
        }
        # `docker compose build` leaves the building to podman, which has no BuildKit.
        self.variables |= {"DOCKER_BUILDKIT": "0", "PYTHON_IMAGE": self.BASE}
        self._over = threading.Event()

    def build(self, name: str, context: Path, *options: str) -> str:
        tag = f"localhost/{name}"
        argv = ["podman", "build", "--network", "host", "--build-arg", f"BASE={self.BASE}", *options, "-t", tag]
        run([*argv, str(context)], self._folder, self._env)
        return tag

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Make the servers' images, and listen for docker compose."""
        if not _succeeds(["podman", "image", "exists", self.BASE]):
            self._make_base()
        for server in ("postgres", "valkey"):
            file = IMAGES / f"{server}.Dockerfile"
            self.variables[f"{server.upper()}_IMAGE"] = self.build(f"oathbulk-test-{server}", IMAGES, "-f", str(file))
        socket = self._folder / "podman.sock"
        service = subprocess.Popen(
            ["podman", "system", "service", "--time=0", f"unix://{socket}"],
            env={**os.environ, **self._env},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        clock = threading.Thread(target=self._check_health, daemon=True)
        self.variables["DOCKER_HOST"] = f"unix://{socket}"
        clock.start()
        try:
            wait_until(socket.exists, "podman listens")
            yield
        finally:
            self._over.set()
            clock.join(60)
            service.terminate()
            service.wait(30)

    def _make_base(self) -> None:
        """A small Debian with a Python: its packages come from where ours do, and it trusts whom we trust."""
        tree = self._folder / "base"
        release = dict(line.split("=", 1) for line in Path("/etc/os-release").read_text().splitlines() if "=" in line)
        targets = run(["apt-get", "indextargets", "--format", "$(SITE)"], self._folder)
        mirror = next(site for site in targets.split() if site.startswith("http"))
        include = "--include=ca-certificates,python3,python3-venv"
        run(
            ["debootstrap", "--variant=minbase", include, release["VERSION_CODENAME"], str(tree), mirror],
            self._folder,
        )
        shutil.copy("/etc/ssl/certs/ca-certificates.crt", tree / "etc/ssl/certs/ca-certificates.crt")
        archive = self._folder / "base.tar"
        run(["tar", "-c", "-f", str(archive), "-C", str(tree), "."], self._folder)
        run(["podman", "import", str(archive), self.BASE], self._folder, self._env)
        shutil.rmtree(tree)
        archive.unlink()

    def _check_health(self) -> None:
        """podman leaves the clock of its health checks to systemd, which is not here. A container that is not well yet
        is looked at all the time, so that nothing waits for an interval."""
        turn = 0
        while not self._over.wait(1.0):
            turn = (turn + 1) % HEALTH_INTERVAL
            listed = self._podman(
                "ps", "--filter", "label=com.docker.compose.project", "--format", "{{.Names}} {{.Status}}"
            )
            for line in listed.splitlines():
                if turn == 0 or "(healthy)" not in line:
                    self._podman("healthcheck", "run", line.split()[0])

    def _podman(self, *arguments: str) -> str:
        with suppress(subprocess.SubprocessError):
            return run(["podman", *arguments], self._folder, self._env, 60)
        return ""


def _succeeds(argv: Sequence[str]) -> bool:
    try:
        return subprocess.run(argv, capture_output=True, timeout=60).returncode == 0
    except FileNotFoundError:
        return False


def _is_there(program: str) -> bool:
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin", "/usr/lib/podman", "/usr/libexec/podman"])
    return shutil.which(program, path=path) is not None


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """An engine, to which `variables` names the images of this checkout, too."""
    folder = tmp_path_factory.mktemp("engine")
    with open_engine(folder) as engine:
        checkout = folder / "checkout"
        copy_files(PROJECT, checkout)
        engine.variables["OATHBULK_IMAGE"] = engine.build("oathbulk:test", checkout)
        engine.variables["SIMULATOR_IMAGE"] = engine.build("oathbulk-simulator", checkout, "--build-arg", "NEED=local")
        yield engine
