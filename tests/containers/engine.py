"""The container engine: docker where it runs, else podman with images made of Debian's packages and no registry."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from support.processes.waiting import wait_until

IMAGES = Path(__file__).with_name("images")
SIMULATOR_IMAGE = "oathbulk-simulator"
# Seconds: a base system and a few packages are fetched once.
BUILD_TIMEOUT = 900.0
NEEDED = ("podman", "runc", "nft", "netavark", "aardvark-dns", "catatonit", "debootstrap", "docker")
PACKAGES = "podman runc nftables iptables netavark aardvark-dns catatonit docker-compose docker-cli debootstrap"
# What runs where neither systemd nor a whole cgroup v2 is there.
CONTAINERS_CONF = '[engine]\nruntime = "runc"\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\n'


class NoEngine(Exception):
    """Neither docker nor podman can be used here; the message names the cure."""


@contextmanager
def engine(folder: Path) -> Iterator[dict[str, str]]:
    """An engine that runs, and our images of the checkout in `folder`: what docker compose needs as variables."""
    if _succeeds(["docker", "info"]):
        run(["docker", "build", "-t", SIMULATOR_IMAGE, "--build-arg", "NEED=demo", "."], folder)
        run(["docker", "build", "-t", "oathbulk:test", "."], folder)
        yield {"OATHBULK_IMAGE": "oathbulk:test", "SIMULATOR_IMAGE": SIMULATOR_IMAGE}
        return
    missing = [name for name in NEEDED if not _is_there(name)]
    if missing:
        raise NoEngine(f"no docker answers, and podman lacks {', '.join(missing)}: apt-get install {PACKAGES}")
    with Podman(folder).serving() as variables:
        yield variables


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
        raise subprocess.CalledProcessError(result.returncode, argv, result.stdout[-3000:])


class Podman:
    """podman as root, without systemd, and its service that speaks docker's language."""

    BASE = "localhost/oathbulk-test-base"

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        conf = folder / "containers.conf"
        conf.write_text(CONTAINERS_CONF)
        self._env = {"CONTAINERS_CONF": str(conf), "PODMAN_IGNORE_CGROUPSV1_WARNING": "1"}
        self._over = threading.Event()

    @contextmanager
    def serving(self) -> Iterator[dict[str, str]]:
        images = self._make_images()
        socket = self._folder / "podman.sock"
        service = subprocess.Popen(
            ["podman", "system", "service", "--time=0", f"unix://{socket}"],
            env={**os.environ, **self._env},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        clock = threading.Thread(target=self._check_health, daemon=True)
        try:
            wait_until(socket.exists, 30, "podman listens")
            clock.start()
            yield images | {"DOCKER_HOST": f"unix://{socket}"}
        finally:
            self._over.set()
            clock.join(60)
            service.terminate()
            service.wait(30)

    def _make_images(self) -> dict[str, str]:
        if not _succeeds(["podman", "image", "exists", self.BASE]):
            self._make_base()
        for server in ("postgres", "valkey"):
            self._build(f"localhost/oathbulk-test-{server}", IMAGES, "-f", str(IMAGES / f"{server}.Dockerfile"))
        self._build("localhost/oathbulk:test", self._folder)
        self._build(f"localhost/{SIMULATOR_IMAGE}", self._folder, "--build-arg", "NEED=demo")
        return {
            "OATHBULK_IMAGE": "localhost/oathbulk:test",
            "SIMULATOR_IMAGE": f"localhost/{SIMULATOR_IMAGE}",
            "POSTGRES_IMAGE": "localhost/oathbulk-test-postgres",
            "VALKEY_IMAGE": "localhost/oathbulk-test-valkey",
        }

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

    def _build(self, tag: str, context: Path, *options: str) -> None:
        limits = ["--ulimit", "nofile=20000:20000", "--ulimit", "nproc=10000:10000"]
        how = ["--isolation", "chroot", "--network", "host", "--build-arg", f"BASE={self.BASE}", *limits]
        run(["podman", "build", *how, *options, "-t", tag, str(context)], self._folder, self._env)

    def _check_health(self) -> None:
        """podman leaves the clock of its health checks to systemd, which is not here."""
        while not self._over.wait(1.0):
            listed = self._podman("ps", "--filter", "label=com.docker.compose.project", "--format", "{{.Names}}")
            for name in listed.split():
                self._podman("healthcheck", "run", name)

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
