"""A PingOne environment, and real servers on loopback that behave as badly as a test asks."""

import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from http.client import parse_headers
from io import BufferedReader
from pathlib import Path
from socketserver import BaseRequestHandler, ThreadingTCPServer
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest
import redis
from support.data.recorded_answers import recorded
from support.servers.tls_server import make_certificate

from worker.config.environment import Environment
from worker.config.settings import Settings
from worker.pace.license_paces import Paces
from worker.pace.search import RateGroup
from worker.pingone.clients import Clients

# Nothing on loopback takes longer; a test that would wait for more fails instead.
PATIENCE = 10.0


def http(status: int, body: bytes = b"", **headers: str) -> bytes:
    """Make the bytes of an HTTP response."""
    lines = [f"HTTP/1.1 {status} Whatever", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def answer(name: str) -> bytes:
    """Make the bytes of a recorded answer."""
    status, headers, body = recorded(name)
    return http(status, body, **headers)


def granted(**fields: object) -> bytes:
    """Make a token endpoint's answer, with an access token that lives for an hour unless the fields say otherwise."""
    return http(200, json.dumps({"access_token": "access-token-1", "expires_in": 3600} | fields).encode())


@dataclass(frozen=True)
class Received:
    """A request as it arrived. Header names are in lower case; `connection` counts from 1."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    connection: int


@dataclass
class Conversation:
    """One accepted connection: what a test's server reads from it and writes to it."""

    number: int
    connection: socket.socket
    reader: BufferedReader
    stopped: threading.Event
    # The latest one.
    request: Received | None = None

    def read_request(self) -> Received | None:
        """The next request; None once the client has hung up."""
        line = self.reader.readline().decode("latin-1").split()
        if not line:
            return None
        headers = {name.lower(): value for name, value in parse_headers(self.reader).items()}
        body = self.reader.read(int(headers.get("content-length", 0)))
        self.request = Received(line[0], line[1], headers, body, self.number)
        return self.request

    def write(self, content: bytes) -> None:
        self.connection.sendall(content)


# What is answered to a request: bytes, or what a function returns that may also do anything else with the connection.
Answer = bytes | Callable[[Conversation], bytes | None]


def reset(conversation: Conversation) -> NoReturn:
    """Hang up so that the client sees a reset, not an end."""
    conversation.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
    conversation.connection.close()
    # The reader keeps it open as long as anybody may read.
    raise ConnectionAbortedError


def hang_up(conversation: Conversation) -> None:
    """Hang up in order."""
    conversation.connection.shutdown(socket.SHUT_RDWR)


def hang(conversation: Conversation) -> None:
    """Say nothing for longer than any deadline."""
    conversation.stopped.wait(60)


class LocalServer(ThreadingTCPServer):
    """Answers requests one after the other with `answers`, the last of them for ever; keeps what it received. `talk`
    takes a connection over before its first request."""

    def __init__(
        self, *answers: Answer, tls: ssl.SSLContext | None = None, talk: Callable[[Conversation], None] | None = None
    ) -> None:
        super().__init__(("127.0.0.1", 0), BaseRequestHandler)
        self.answers, self.tls, self.talk = list(answers), tls, talk or self._answer_all
        self.received, self.stopped = list[Received](), threading.Event()
        self.port = self.server_address[1]
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"
        self._lock, self._open, self._numbers = threading.Lock(), list[socket.socket](), dict[object, int]()
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def connections(self) -> int:
        return len(self._numbers)

    def stop(self) -> None:
        """Hang up, and wait for the threads that serve."""
        self.stopped.set()
        self.shutdown()
        for connection in self._open:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self.server_close()

    def get_request(self) -> tuple[socket.socket, object]:
        connection, address = super().get_request()
        connection.settimeout(PATIENCE)
        self._numbers[address] = len(self._numbers) + 1
        self._open.append(connection)
        return connection, address

    def finish_request(self, request: Any, client_address: Any) -> None:
        with suppress(OSError, ValueError), ExitStack() as stack:
            if self.tls:
                request = stack.enter_context(self.tls.wrap_socket(request, server_side=True))
                self._open.append(request)
            reader = stack.enter_context(request.makefile("rb"))
            self.talk(Conversation(self._numbers[client_address], request, reader, self.stopped))

    def _answer_all(self, conversation: Conversation) -> None:
        while (request := conversation.read_request()) is not None:
            with self._lock:
                self.received.append(request)
                answer = self.answers[0] if len(self.answers) == 1 else self.answers.pop(0)
            said = answer if isinstance(answer, bytes) else answer(conversation)
            conversation.write(said or b"")


Serve = Callable[..., LocalServer]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Starts a server that answers as told."""
    with ExitStack() as stack:

        def start(*answers: Answer, **options: object) -> LocalServer:
            server = LocalServer(*answers, **options)  # type: ignore[arg-type]
            stack.callback(server.stop)
            return server

        yield start


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that is its own authority, and its key."""
    return make_certificate(tmp_path_factory.mktemp("tls"), "elsewhere.example")


@pytest.fixture
def tls(certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """A server's side of TLS, whose certificate the process trusts."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    return context


@pytest.fixture(autouse=True)
def _no_proxy_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def make_environment(url: str = "https://api.pingone.eu", **changes: object) -> Environment:
    """An environment whose URLs lead to this server."""
    fields: dict[str, object] = {
        "name": "default",
        "environment_id": "5a5b7c9d-0e1f-4a2b-8c3d-4e5f6a7b8c9d",
        "client_id": "made-up-client",
        "client_secret": "s3cret:with%odd+signs",
        "api_url": f"{url}/v1",
        "token_url": f"{url}/{{env}}/as/token",
    }
    return Environment.model_validate(fields | changes)


@pytest.fixture
def paces(valkey_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Paces]:
    """Paces that are faster than any test, so that nothing but holds delays a request."""
    monkeypatch.setattr("worker.pace.license_paces.choose_rates", lambda *_: (100_000.0, 100_000.0))
    nobody: Callable[..., None] = lambda *_: None  # noqa: E731
    # It remembers no limit.
    memory = SimpleNamespace(recall_search=nobody)
    with redis.Redis.from_url(valkey_url) as client:
        yield Paces(client, memory, Settings(), on_alone=nobody, on_lifted=nobody)  # type: ignore[arg-type]


# The clients of a process, an environment, and the server of its API.
Connected = tuple[Clients, Environment, LocalServer]


@pytest.fixture
def connect_clients(serve: Serve, paces: Paces) -> Iterator[Callable[..., Connected]]:
    """Makes the clients of an environment whose API gives these answers, and whose token endpoint grants."""
    with ExitStack() as stack:

        def make(*answers: Answer) -> Connected:
            api = serve(*answers)
            environment = make_environment(api.url, token_url=f"{serve(granted()).url}/as/token")
            clients = Clients(Settings(), paces)
            for group in RateGroup:
                stack.callback(clients.client(environment, group).close)
            return clients, environment, api

        yield make
