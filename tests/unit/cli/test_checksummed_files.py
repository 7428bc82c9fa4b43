"""A file for people or machines is written with its checksum; to standard output, alone."""

from __future__ import annotations

import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import pytest
import typer

from worker.cli.checksummed_files import WritePiece, write_checksum_line, write_checksummed
from worker.cli.output_files import STDOUT


def write(write_piece: WritePiece) -> int:
    for piece in ("Größe\r\n", "3\n"):
        write_piece(piece)
    return 2


def test_a_file_has_its_checksum_beside_it(tmp_path: Path) -> None:
    assert write_checksummed(tmp_path / "report.csv", write) == 2
    written = (tmp_path / "report.csv").read_bytes()
    assert written == "Größe\r\n3\n".encode()
    assert (tmp_path / "report.csv.sha256").read_text() == f"{sha256(written).hexdigest()}  report.csv\n"


def test_to_standard_output_the_same_bytes_go(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert write_checksummed(STDOUT, write) == 2
    sys.stdout.flush()
    assert capfdbinary.readouterr().out == "Größe\r\n3\n".encode()


def test_a_standard_output_that_is_closed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    with pytest.raises(typer.BadParameter, match="standard output is closed: name a file"):
        write_checksummed(STDOUT, write)


@pytest.mark.parametrize("name", ["report.html", "two words.csv", "back\\slash.html", "two\nlines.html", "*star.json"])
def test_sha256sum_takes_the_line_and_notices_a_change(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"as it was written")
    line = write_checksum_line(sha256(b"as it was written").hexdigest(), name)
    (tmp_path / "sums").write_text(line, newline="")

    def check() -> int:
        return subprocess.run(["sha256sum", "--strict", "-c", "sums"], cwd=tmp_path, capture_output=True).returncode

    assert check() == 0
    (tmp_path / name).write_bytes(b"as it was changed")
    assert check() == 1
