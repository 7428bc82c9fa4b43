"""The configuration file of the embedded Valkey: where its port and password are kept."""

from __future__ import annotations

import os
import re
import secrets
import string
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from worker.embedded.ports import HOST, free_port
from worker.embedded.private_files import write_draft

# https://valkey.io/topics/valkey.conf/
TEMPLATE = """\
bind {host}
port {port}
requirepass "{password}"
dir {directory}
daemonize no
# What was queued survives a restart; a power cut costs the last second of it, which the database has too.
appendonly yes
appendfsync everysec
aof-load-truncated yes
save ""
# A queue must refuse rather than forget.
maxmemory-policy noeviction
"""

PLAIN = string.ascii_letters + string.digits + "/._-"


@dataclass(frozen=True)
class ValkeyConfig:
    port: int
    password: str = field(repr=False)

    @classmethod
    def fresh(cls) -> Self:
        return cls(port=free_port(), password=secrets.token_urlsafe(32))

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """What was written there, None where nothing readable is."""
        try:
            text = path.read_text(encoding="ascii", errors="replace")
        except FileNotFoundError:
            return None
        port = re.search(r"^port (\d{1,5})$", text, re.MULTILINE)
        password = re.search(r'^requirepass "([\w-]+)"$', text, re.MULTILINE)
        return cls(port=int(port[1]), password=password[1]) if port and password else None

    def write(self, path: Path, directory: Path) -> None:
        """Replace the file at `path` in one step; `directory` is where the server keeps its data."""
        text = TEMPLATE.format(host=HOST, port=self.port, password=self.password, directory=_quoted(directory))
        write_draft(path, text.encode("ascii")).replace(path)

    @property
    def url(self) -> str:
        """Holds the password: never print it."""
        return f"redis://:{self.password}@{HOST}:{self.port}/0"


def _quoted(path: Path) -> str:
    r"""The path as the file's syntax wants it: in double quotes, and whatever is not plain as \xHH."""
    parts = (chr(byte) if chr(byte) in PLAIN else f"\\x{byte:02x}" for byte in os.fsencode(path))
    return f'"{"".join(parts)}"'
