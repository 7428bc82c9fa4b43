"""The container engine: docker where it runs, else podman with images made of Debian's packages and no registry."""

import os
import shutil
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from containers.compose_project import BUILD_TIMEOUT, copy_files
from support.processes.waiting import wait_until
from support.servers.compose_service import PROJECT

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


def run(argv: Sequence[str], folder: Path, env: Mapping[str, str] | None = None) -> None:
    """To its end; what it printed is in the exception of a failure. Raises CalledProcessError, TimeoutExpired."""
    result = subprocess.run(
        argv,
        cwd=folder,
        env={**os.environ, **(env or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=BUILD_TIMEOUT,
    )
    if result.returncode:
        error = subprocess.CalledProcessError(result.returncode, argv)
        error.add_note(result.stdout[-3000:])
        raise error


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
            wait_until(socket.exists, 30, "podman listens")
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
        targets = subprocess.check_output(["apt-get", "indextargets", "--format", "$(SITE)"], text=True, timeout=60)
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
        with suppress(subprocess.TimeoutExpired):
            return subprocess.run(
                ["podman", *arguments], env={**os.environ, **self._env}, capture_output=True, text=True, timeout=60
            ).stdout
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
        engine.variables["SIMULATOR_IMAGE"] = engine.build("oathbulk-simulator", checkout, "--build-arg", "NEED=demo")
        yield engine
