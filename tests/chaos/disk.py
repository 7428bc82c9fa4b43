"""A disk for a home: full when a test wants that, with room again when it wants that."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Self

PIECE = 64 * 1024


class SmallDisk:
    """A file system of its own, in memory. Only root may mount one."""

    def __init__(self, megabytes: int) -> None:
        self._size = megabytes
        self.directory = Path()

    @staticmethod
    def can_be_had() -> bool:
        try:
            with SmallDisk(1):
                return True
        except (OSError, subprocess.CalledProcessError):
            return False

    def fill(self) -> None:
        """To its last byte."""
        with (self.directory / "ballast").open("wb", buffering=0) as ballast:
            try:
                while ballast.write(b"x" * PIECE):
                    pass
            except OSError:
                return

    def free(self) -> None:
        (self.directory / "ballast").unlink()

    def __enter__(self) -> Self:
        self.directory = Path(tempfile.mkdtemp(prefix="oathbulk-test-disk-"))
        command = ["mount", "-t", "tmpfs", "-o", f"size={self._size}m,mode=0700", "tmpfs", str(self.directory)]
        try:
            subprocess.run(command, check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            self.directory.rmdir()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        subprocess.run(["umount", "--lazy", str(self.directory)], check=True, capture_output=True)
        shutil.rmtree(self.directory, ignore_errors=True)
