"""systemd's own opinion of docs/systemd: that it understands every line, and how much of the machine is left open."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.processes.systemd_units import NAMES, analyze, copy_units

pytestmark = pytest.mark.faults

# From 0 (nothing is open) to 10, as systemd 257 counts: 1.2 at present. Network and a user are what remains.
MOST_EXPOSURE = 1.5


def instance(units: Path, name: str) -> Path:
    """Of a template the unit that a person starts."""
    if "@." not in name:
        return units / name
    started = units / name.replace("@.", "@1.")
    started.symlink_to(name)
    return started


@pytest.mark.parametrize("name", NAMES)
def test_systemd_understands_every_line_of_a_unit(name: str, tmp_path: Path) -> None:
    unit = instance(copy_units(tmp_path), name)
    verified = analyze("verify", "--man=no", "--recursive-errors=no", unit)
    ours = [line for line in verified.stderr.splitlines() if str(tmp_path) in line or unit.name in line]
    assert (verified.returncode, ours) == (0, [])


@pytest.mark.parametrize("name", NAMES)
def test_a_unit_leaves_hardly_anything_of_the_machine_open(name: str, tmp_path: Path) -> None:
    unit = instance(copy_units(tmp_path), name)
    done = analyze("security", "--offline=true", "--no-pager", f"--threshold={MOST_EXPOSURE * 10:.0f}", unit)
    assert done.returncode == 0, done.stdout
    report = analyze("security", "--offline=true", "--json=short", unit)
    # Without the drop-in for all of them it would be 9.
    open_doors = {line["name"] for line in json.loads(report.stdout) if float(line["exposure"] or 0) > 0.2}
    assert open_doors <= {"PrivateNetwork=", "RestrictAddressFamilies=~AF_(INET|INET6)"}
