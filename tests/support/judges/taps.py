"""Listening in on what passes: every command that reaches the broker, every access token that is handed out."""

from __future__ import annotations

import json
import socket
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self
from urllib.parse import urlsplit

import httpx

TIMEOUT = 30.0


class Monitor:
    """Records MONITOR of a server, from its entry to its exit; again after the server was restarted."""

    def __init__(self, url: str) -> None:
        self._url = urlsplit(url)
        self._connection: socket.socket | None = None
        self._thread: threading.Thread | None = None
        self._heard = bytearray()

    @property
    def heard(self) -> bytes:
        return bytes(self._heard)

    def listen(self) -> None:
        """From now on, until the server ends the connection or `stop`."""
        self.stop()
        connection = socket.create_connection((self._url.hostname, self._url.port), timeout=TIMEOUT)
        connection.sendall(f"AUTH {self._url.password}\r\nMONITOR\r\n".encode())
        answer = connection.recv(100)
        assert answer.startswith(b"+OK"), answer
        connection.settimeout(None)
        self._connection, self._thread = connection, threading.Thread(target=self._record, args=(connection,))
        self._thread.start()

    def stop(self) -> None:
        if self._connection is not None and self._thread is not None:
            # Not close, which would leave the thread in its recv.
            with suppress(OSError):
                self._connection.shutdown(socket.SHUT_RDWR)
            self._thread.join(TIMEOUT)
            self._connection.close()
            self._connection = None

    def _record(self, connection: socket.socket) -> None:
        try:
            while data := connection.recv(65536):
                self._heard += data
        except OSError:
            return

    def __enter__(self) -> Self:
        self.listen()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


class TokenTap:
    """Stands before a token endpoint, passes everything on, and keeps the access tokens that come back."""

    def __init__(self, token_url: str) -> None:
        tap = self
        self.access_tokens: list[str] = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                kept = {name: self.headers[name] for name in ("Authorization", "Content-Type") if name in self.headers}
                answer = httpx.post(token_url, content=body, headers=kept, trust_env=False, verify=False)
                if answer.is_success:
                    tap.access_tokens.append(json.loads(answer.content)["access_token"])
                self.send_response(answer.status_code)
                self.send_header("Content-Type", answer.headers["Content-Type"])
                self.send_header("Content-Length", str(len(answer.content)))
                self.end_headers()
                self.wfile.write(answer.content)

            def log_message(self, *_: object) -> None:
                """Log nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self.url = f"http://127.0.0.1:{self._server.server_port}/as/token"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join(TIMEOUT)
        self._server.server_close()
