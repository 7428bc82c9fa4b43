"""The licences of the packages that oathbulk runs on and is tested with: none comes in that nobody has looked at."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

LOCK = Path(__file__).parents[2] / ".ci" / "locks" / "dev.txt"
# As packages write them. The LGPL and the MPL ask who changes such a package to publish the change; we change none.
ALLOWED = {
    "Apache Software License",
    "Apache-2.0",
    "BSD License",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "GNU Lesser General Public License v2 or later (LGPLv2+)",
    "ISC License (ISCL)",
    "LGPL-3.0-only",
    "MIT",
    "MIT License",
    "MIT-0",
    "MPL-2.0",
    "Mozilla Public License 2.0 (MPL 2.0)",
    "PSF-2.0",
    "Python Software Foundation License",
}


def read_licences() -> dict[str, str]:
    """By package, of those that are locked and installed here."""
    locked = re.findall(r"^([\w.-]+)==", LOCK.read_text(encoding="utf-8"), re.M)
    command = [sys.executable, "-m", "piplicenses", "--python", sys.executable, "--format", "json"]
    done = subprocess.run([*command, "--packages", *locked], check=True, capture_output=True, text=True)
    found = json.loads(done.stdout)
    return {package["Name"]: package["License"] for package in found}


def is_allowed(licence: str) -> bool:
    """One of those between which we may choose, or all of those that hold together, must be allowed."""
    return any(
        all(part.strip() in ALLOWED for part in re.split(r"; | AND ", choice)) for choice in licence.split(" OR ")
    )


def test_every_package_has_a_licence_that_is_allowed() -> None:
    licences = read_licences()
    assert len(licences) > 50
    assert {name: licence for name, licence in licences.items() if not is_allowed(licence)} == {}


def test_an_unknown_licence_is_noticed_alone_and_beside_others() -> None:
    assert not is_allowed("UNKNOWN")
    assert not is_allowed("MIT AND GPL-3.0-only")
    assert is_allowed("GPL-3.0-only OR MIT")
