"""The line by which a file is checked: `sha256sum -c` itself judges it."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import pytest

from worker.pages.report_files import write_checksum_line


@pytest.mark.parametrize("name", ["report.html", "two words.csv", "back\\slash.html", "two\nlines.html", "*star.json"])
def test_sha256sum_takes_the_line_and_notices_a_change(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"as it was written")
    line = write_checksum_line(hashlib.sha256(b"as it was written").hexdigest(), name)
    (tmp_path / "sums").write_text(line, newline="")

    def check() -> int:
        return subprocess.run(["sha256sum", "--strict", "-c", "sums"], cwd=tmp_path, capture_output=True).returncode

    assert check() == 0
    (tmp_path / name).write_bytes(b"as it was changed")
    assert check() == 1
