"""The configuration file of the embedded Valkey, in which its port and password are kept."""

from __future__ import annotations

import os
import re
import secrets
import string
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from worker.embedded.ports import HOST, find_free_port
from worker.embedded.private_files import write_draft

# The content of the file: https://valkey.io/topics/valkey.conf/
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
# When memory is full, a new message must be refused, and none that is queued may be dropped.
maxmemory-policy noeviction
"""

# Characters of a path that stand for themselves in the file.
_UNQUOTED = string.ascii_letters + string.digits + "/._-"


@dataclass(frozen=True)
class ValkeyConfig:
    """Port and password of the embedded Valkey."""

    port: int
    password: str = field(repr=False)

    @classmethod
    def generate(cls) -> Self:
        """Pick a free port, and make a password."""
        return cls(port=find_free_port(), password=secrets.token_urlsafe(32))

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """Read port and password from the file; None if it is missing, or does not have them."""
        try:
            text = path.read_text(encoding="ascii", errors="replace")
        except FileNotFoundError:
            return None
        port = re.search(r"^port (\d{1,5})$", text, re.MULTILINE)
        password = re.search(r'^requirepass "([\w-]+)"$', text, re.MULTILINE)
        return cls(port=int(port[1]), password=password[1]) if port and password else None

    def write(self, path: Path, directory: Path) -> None:
        """Replace the file at `path` in one step; `directory` is where the server keeps its data."""
        text = TEMPLATE.format(host=HOST, port=self.port, password=self.password, directory=_quote(directory))
        write_draft(path, text.encode("ascii")).replace(path)

    @property
    def url(self) -> str:
        """The server's URL. It holds the password: never print it."""
        return f"redis://:{self.password}@{HOST}:{self.port}/0"


def _quote(path: Path) -> str:
    r"""A path in the syntax of the file: in double quotes, with \xHH in place of every byte that is not in
    _UNQUOTED."""
    parts = (chr(byte) if chr(byte) in _UNQUOTED else f"\\x{byte:02x}" for byte in os.fsencode(path))
    return f'"{"".join(parts)}"'
