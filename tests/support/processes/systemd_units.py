"""The units of docs/systemd: what they say, and copies of them that run programs of this environment."""

import shutil
import subprocess
import sysconfig
from pathlib import Path

UNITS = Path(__file__).parents[3] / "docs" / "systemd"
HARDENING = UNITS / "oathbulk-.service.d" / "hardening.conf"
NAMES = sorted(path.name for path in UNITS.glob("*.service"))


def read_settings(path: Path) -> dict[str, list[str]]:
    """The values of each setting, in the order of the file, whatever their section."""
    found: dict[str, list[str]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if "=" in line and not line.startswith("#"):
            name, _, value = line.partition("=")
            found.setdefault(name, []).append(value)
    return found


def analyze(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run systemd-analyze. Raises FileNotFoundError, with the cure, where it is missing."""
    program = shutil.which("systemd-analyze")
    if program is None:
        raise FileNotFoundError("systemd-analyze is missing: apt-get install systemd")
    return subprocess.run([program, *arguments], capture_output=True, text=True, timeout=60)


def copy_units(directory: Path) -> Path:
    """Copy the units so that they start programs of this environment instead of those in /opt/oathbulk."""
    copies = shutil.copytree(UNITS, directory / "units")
    scripts = sysconfig.get_path("scripts")
    for path in copies.rglob("*"):
        if path.is_file():
            path.write_text(path.read_text(encoding="utf-8").replace("/opt/oathbulk/bin", scripts), encoding="utf-8")
    return copies
