"""TLS in front of a Valkey, as a server of its own."""

from __future__ import annotations

import sys
from pathlib import Path

from support.servers import tls_proxy
from support.servers.server import Server
from support.servers.valkey import ValkeyServer


class TlsServer(Server):
    """Shows this certificate, and passes everything on to the port behind it."""

    stop_signal = ValkeyServer.stop_signal

    def __init__(self, certificate: Path, key: Path, backend_port: int) -> None:
        super().__init__()
        self._arguments = [str(certificate), str(key), f"127.0.0.1:{backend_port}"]

    def argv(self) -> list[str]:
        return [sys.executable, "-I", str(tls_proxy.__file__), str(self.port), *self._arguments]

    def answers(self) -> bool:
        return "listens" in self.log.read_text()
