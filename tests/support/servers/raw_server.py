"""A server on loopback that answers each request with bytes, whatever they are, and then hangs up."""

import socket
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Self

TIMEOUT = 30.0

Answer = Callable[[], Iterable[bytes]]


class RawServer:
    """`answer` makes the pieces of the next answer; it may be replaced. `requests` are what came, as bytes."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.requests: list[bytes] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        # Its client may hang up whenever it has had enough.
        with connection, suppress(OSError):
            connection.settimeout(TIMEOUT)
            self.requests.append(_read_request(connection))
            for piece in self.answer():
                connection.sendall(piece)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(65536):
                pass

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        # Not close alone, which would leave the thread in its accept.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(TIMEOUT)


def _read_request(connection: socket.socket) -> bytes:
    """Head and body."""
    request = b""
    while b"\r\n\r\n" not in request:
        request += connection.recv(65536)
    head, _, body = request.partition(b"\r\n\r\n")
    length = next(
        (int(line.partition(b":")[2]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0
    )
    while len(body) < length:
        body += connection.recv(65536)
    return head + b"\r\n\r\n" + body
